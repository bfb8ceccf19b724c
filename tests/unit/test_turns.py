"""Only so many radios at once behind one hub: who waits, who goes on, and who gives way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from station.errors import LineStopped
from station.model import StopCause
from station.ports import Stop
from station.turns import Turns


@contextmanager
def many(turns: Turns, threads: int, at_once: int, hubs: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """So many threads that each take a turn; yields the most that were seen at once, by hub, when all are done."""
    running, most, lock = dict.fromkeys(hubs, 0), dict.fromkeys(hubs, 0), threading.Lock()

    def work(hub: str) -> None:
        with turns.turn(hub, at_once, Stop(), lambda: None):
            with lock:
                running[hub] += 1
                most[hub] = max(most[hub], running[hub])
            Stop().wait(0.02)
            with lock:
                running[hub] -= 1

    started = [threading.Thread(target=work, args=(hubs[number % len(hubs)],)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    yield most


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_never_more_than_so_many_behind_one_hub(at_once: int) -> None:
    """Whatever the number of slots: no hub ever sees more than its share, and everybody gets a turn."""
    with many(Turns(), 12, at_once, ("hub 1", "hub 2")) as most:
        assert max(most.values()) <= at_once
        assert min(most.values()) >= 1


def test_who_waits_says_so_and_gives_way_when_its_plug_ends() -> None:
    """A visit that waits shows signs of life, and is out at once when it is stopped; the turn is not taken for it."""
    turns, stop, waits = Turns(), Stop(), []

    def waiting() -> None:
        waits.append(True)
        if len(waits) == 2:
            stop.request(StopCause.UNPLUGGED)

    with turns.turn("hub", 1, Stop(), lambda: None):
        with pytest.raises(LineStopped), turns.turn("hub", 1, stop, waiting):
            pytest.fail("there was no turn to have")
        assert len(waits) == 2
    with turns.turn("hub", 1, Stop(), lambda: pytest.fail("nobody has it any more")):
        pass


def test_a_turn_is_given_back_whatever_ends_it() -> None:
    """A check that raises gives its turn back."""
    turns = Turns()
    with pytest.raises(ValueError, match="board"), turns.turn("hub", 1, Stop(), lambda: None):
        raise ValueError("board")
    with turns.turn("hub", 1, Stop(), lambda: pytest.fail("it was not given back")):
        pass
