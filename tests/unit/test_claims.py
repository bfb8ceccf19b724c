"""One MAC in two slots: who is asked, who waits for whom, and what a board that merely moved costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from station.claims import CONFIRM_S, Claims
from station.errors import JobEnded, LineStopped
from station.model import StopCause
from station.ports import Stop
from station.reasons import Reason
from tests.unit.scripted_board import Clock, InstantStop

MAC, OTHER = "5c:cf:7f:dd:c1:42", "5c:cf:7f:00:00:07"
PATIENCE_S = 30.0


class Bench:
    """Claims, and slots that answer as the test says; a slot without an answer yet has everybody waiting."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.claims.confirm = self._confirm
        self.claims.on_contest = lambda had, has: self.contests.append((had, has))
        self.claims.on_lifted = lambda slot, mac: self.lifted.append((slot, mac))
        self.answers: dict[str, bool] = {}
        self.asked: list[tuple[str, str]] = []
        self.open: dict[str, Future[bool]] = {}
        self.contests: list[tuple[str, str]] = []
        self.lifted: list[tuple[str, str]] = []

    def _confirm(self, slot: str, mac: str) -> Future[bool]:
        self.asked.append((slot, mac))
        answer: Future[bool] = Future()
        self.open[slot] = answer
        if slot in self.answers:
            answer.set_result(self.answers[slot])
        return answer

    def claim(self, slot: str, mac: str = MAC, stop: Stop | None = None) -> None:
        """A board answers in this slot."""
        self.claims.claim(mac, slot, stop or InstantStop(Clock()))

    def refused(self, slot: str, mac: str = MAC) -> JobEnded:
        """A board answers in this slot, and is not the only one."""
        with pytest.raises(JobEnded) as ended:
            self.claim(slot, mac)
        assert ended.value.reason is Reason.DUPLICATE_MAC
        return ended.value


def until(true: Callable[[], object]) -> None:
    """Wait for it."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < PATIENCE_S, "it never happened"
        time.sleep(0.005)


def test_two_boards_that_both_answer_are_both_held() -> None:
    """The second is refused, the first hears of it at its next sign of progress, and each names the other's slot."""
    bench = Bench()
    bench.answers["A1"] = True
    bench.claim("A1")
    assert bench.refused("A2").detail == "A2 and A1"
    with pytest.raises(JobEnded, match="A1 and A2"):
        bench.claims.check("A1")
    assert (bench.asked, bench.contests, bench.lifted) == ([("A1", MAC)], [("A1", "A2")], [])


def test_a_board_that_moved_is_no_duplicate_and_its_old_place_hears_that_it_is_gone() -> None:
    """The old slot does not answer: the job goes on, the old claim is gone, and a third place asks only the new one."""
    bench = Bench()
    bench.answers = {"A1": False, "A2": True}
    bench.claim("A1")
    bench.claim("A2")
    bench.claims.check("A2")
    assert (bench.lifted, bench.contests) == ([("A1", MAC)], [])
    bench.refused("A3")
    assert bench.asked == [("A1", MAC), ("A2", MAC)]


def test_nobody_is_asked_about_another_mac_or_a_place_that_let_go() -> None:
    """Claims of other boards, the slot's own earlier claim and released ones concern nobody."""
    bench = Bench()
    bench.claim("A1", OTHER)
    bench.claim("A2")
    bench.claim("A2")
    bench.claims.release("A2")
    bench.claim("A3")
    assert bench.asked == []


def test_a_place_that_never_answers_is_gone_after_ten_seconds() -> None:
    """The wait is bounded: then the job goes on, and whoever was asked need not answer any more."""
    bench = Bench()
    clock = Clock()
    bench.claim("A1")
    began = clock.now_s
    bench.claim("A2", stop=InstantStop(clock))
    assert clock.now_s - began == pytest.approx(CONFIRM_S, abs=0.2)
    assert bench.lifted == [("A1", MAC)]
    assert bench.open["A1"].cancelled()


def test_a_place_that_was_not_heard_and_speaks_again_is_a_rival_all_the_same() -> None:
    """Its visit was in a long erase: at its next sign of progress both boards are held."""
    bench = Bench()
    bench.answers["A1"] = False
    bench.claim("A1")
    bench.claim("A2")
    with pytest.raises(JobEnded, match="A1 and A2"):
        bench.claims.check("A1")
    with pytest.raises(JobEnded, match="A2 and A1"):
        bench.claims.check("A2")
    assert bench.contests == [("A2", "A1")]


def test_a_place_that_was_not_heard_gets_its_claim_back_when_the_other_has_gone() -> None:
    """The second board was pulled meanwhile: the first goes on, and a third one with its MAC asks it again."""
    bench = Bench()
    bench.answers["A1"] = False
    bench.claim("A1")
    bench.claim("A2")
    bench.claims.release("A2")
    bench.claims.check("A1")
    bench.answers["A1"] = True
    bench.refused("A3")


def test_an_unplug_ends_the_wait_at_once() -> None:
    """Whoever waits for another place is stopped like anybody else, and leaves its question behind."""
    bench, stop, ended = Bench(), Stop(), threading.Event()
    bench.claim("A1")

    def ask() -> None:
        with pytest.raises(LineStopped):
            bench.claim("A2", stop=stop)
        ended.set()

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: bench.open)
    began = time.monotonic()
    stop.request(StopCause.UNPLUGGED)
    assert ended.wait(PATIENCE_S)
    assert time.monotonic() - began < CONFIRM_S / 2
    asking.join()
    assert bench.open["A1"].cancelled()
    assert bench.lifted == []


def test_a_place_that_lets_go_while_it_is_asked_is_not_waited_for() -> None:
    """The other plug ends, or another board sits there now: the question is answered by that."""
    for let_go in ("release", "another board"):
        bench = Bench()
        bench.claim("A1")
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(bench.claim, "A2", MAC, Stop())
            until(lambda bench=bench: bench.open)  # type: ignore[misc]
            if let_go == "release":
                bench.claims.release("A1")
            else:
                bench.claim("A1", OTHER)
            asking.result(PATIENCE_S)
        assert (bench.contests, bench.lifted) == ([], [])


@pytest.mark.parametrize("slots", [2, 3, 5])
def test_claims_of_the_same_moment_never_wait_for_each_other(slots: int) -> None:
    """However many boards show one MAC at once, everybody is answered, and all but one are refused, or hear of it."""
    for _ in range(20):
        bench = Bench()
        labels = [f"A{number}" for number in range(slots)]
        bench.answers = dict.fromkeys(labels, True)
        together = threading.Barrier(slots)

        def ask(label: str, bench: Bench = bench, together: threading.Barrier = together) -> bool:
            together.wait(PATIENCE_S)
            try:
                bench.claim(label, stop=Stop())
            except JobEnded:
                return False
            return True

        with ThreadPoolExecutor(slots) as threads:
            won = [future.result(PATIENCE_S) for future in [threads.submit(ask, label) for label in labels]]
        assert sum(won) <= 1
        for label in labels:
            with pytest.raises(JobEnded):
                bench.claims.check(label)


def test_boards_that_changed_places_at_the_same_moment_both_go_on() -> None:
    """A1 and A2 exchanged their boards: each asks the other about the board it no longer has, and nobody waits long."""
    bench = Bench()
    bench.claim("A1", MAC)
    bench.claim("A2", OTHER)
    together = threading.Barrier(2)

    def ask(label: str, mac: str) -> None:
        together.wait(PATIENCE_S)
        bench.claim(label, mac, Stop())

    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(ask, "A1", OTHER), threads.submit(ask, "A2", MAC)]:
            future.result(PATIENCE_S)
    assert time.monotonic() - began < CONFIRM_S / 2
    assert bench.contests == []


def test_a_place_that_is_waiting_itself_is_not_taken_for_silent() -> None:
    """A1 waits for an old place that is slow; A2 waits for A1 so much longer, and is right to."""
    bench, clock = Bench(), Clock()
    bench.claim("OLD")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(bench.claim, "A1", MAC, Stop())
        until(lambda: "OLD" in bench.open)
        slow = bench.open["OLD"]
        bench.answers["OLD"] = True

        class Impatient(InstantStop):
            """Time flies for A2; after twice the patience the old place answers A1 at last."""

            def wait(self, timeout_s: float) -> None:
                """Let it pass."""
                super().wait(timeout_s)
                if clock.now_s > 1000.0 + 2 * CONFIRM_S and not slow.done():
                    slow.set_result(True)
                    assert first.exception(PATIENCE_S) is not None
                    bench.open["A1"].set_result(True)

        second = threads.submit(bench.claim, "A2", MAC, Impatient(clock))
        with pytest.raises(JobEnded):
            second.result(PATIENCE_S)
    assert bench.lifted == []
    assert ("A1", "A2") in bench.contests


def test_without_anybody_to_ask_a_claim_stands() -> None:
    """One board by hand: there is no floor that could look, and two claims of one MAC are two boards."""
    claims = Claims()
    claims.claim(MAC, "A1", Stop())
    with pytest.raises(JobEnded):
        claims.claim(MAC, "A2", Stop())
