"""A visit on a disturbed hub: nobody is blamed for it, whatever it ended with, and a PASS stays a PASS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from station.errors import AdapterHung, JobEnded, LinkSilent, NothingBoots, PortGone, StationError
from station.hubs import Hubs
from station.job import run_visit
from station.model import CommittedJob, JobState, Outcome, Programmer, StopCause
from station.ports import Stop
from station.reasons import Reason
from station.visit import Finding, VisitResult
from tests.unit.job_rig import recipe_for
from tests.unit.memory_records import MemoryRecords, tools_for, visit_for
from tests.unit.scripted_board import PROGRAMMER, Clock, ScriptedBoard

HUB = "pci-0000:00:14.0-usb-0:2"
HERE, SECOND, THIRD = (f"{HUB}.{number}:1.0" for number in (1, 2, 3))
PORT: Programmer = replace(PROGRAMMER, place=HERE)


class Bench:
    """Three sockets of one hub; a scripted board is in the first."""

    def __init__(self, *, occupied: tuple[str, ...] = (HERE, SECOND, THIRD)) -> None:
        self.board = ScriptedBoard()
        self.records = MemoryRecords(self.board)
        self.clock = Clock()
        self.hubs = Hubs(self.clock)
        for place in occupied:
            self.hubs.plugged(place)
        self.clock.now_s += 100.0

    def lose(self, *places: str) -> None:
        """Programmers vanish from under their visits."""
        for place in places:
            self.hubs.unplugged(place, lost=True, in_visit=True)

    def visit(self, stop: Stop | None = None) -> VisitResult:
        """Visit the board."""
        tools = replace(tools_for(self.board, self.records), hubs=self.hubs, clock=self.clock)
        visit = visit_for(self.board, recipe_for())
        visit = replace(visit, plug=replace(visit.plug, programmer=PORT), stop=stop or visit.stop)
        return run_visit(visit, tools)

    def breaks(self, step: str, error: StationError, then: Callable[[], None] = lambda: None) -> None:
        """At this step `then` happens, and it ends with this error for ever."""

        def happen() -> None:
            then()
            raise error

        self.board.on(step, [happen] * 50)


def job(result: VisitResult) -> tuple[JobState, Outcome | None, str, str]:
    """How the job ended."""
    assert isinstance(result, CommittedJob), result
    return result.state, result.outcome, result.reason, result.particulars


@pytest.mark.parametrize("error", [PortGone("pulled"), AdapterHung("no answer")])
def test_a_job_that_a_hub_cut_off_is_an_error_of_nobody(error: StationError) -> None:
    """With a job row, cut off in mid-write together with two neighbours: ERROR hub_disturbed, and what it looked like."""
    bench = Bench()
    bench.breaks("half", error, lambda: bench.lose(SECOND, THIRD))
    state, outcome, reason, detail = job(bench.visit())
    assert (state, outcome, reason) == (JobState.CLOSED, Outcome.ERROR, "hub_disturbed")
    assert str(error) in detail
    assert bench.board.journal.index("close") < bench.board.journal.index("job row closed")


def test_before_the_job_row_it_is_a_finding() -> None:
    """Nothing was touched yet: no job comes of it, although the board had told who it is."""
    bench = Bench()
    bench.breaks("chip", PortGone("pulled"), lambda: bench.lose(SECOND, THIRD))
    result = bench.visit()
    assert isinstance(result, Finding)
    assert result.reason is Reason.HUB_DISTURBED
    assert bench.records.starts == {}


def test_it_waits_for_the_neighbours_and_no_longer() -> None:
    """Cut off first, it waits with its port released; the third loss makes it an event of the hub."""
    bench = Bench()
    bench.breaks("half", PortGone("pulled"))
    neighbours = threading.Timer(0.2, lambda: bench.lose(SECOND, THIRD))
    neighbours.start()
    try:
        assert job(bench.visit())[1:3] == (Outcome.ERROR, "hub_disturbed")
    finally:
        neighbours.join()


def test_a_port_that_closes_slowly_keeps_the_event_from_nobody() -> None:
    """Closing takes 31 s: its neighbours learn of the loss before, and the job itself is told of the event afterwards."""
    bench = Bench()
    bench.breaks("half", PortGone("pulled"))
    seen: list[str] = []

    def closing(event: str) -> None:
        if event == "close" and not seen:
            bench.lose(SECOND, THIRD)
            seen.append(bench.hubs.disturbed(SECOND))
            bench.clock.now_s += 31.0
            assert bench.hubs.disturbed(SECOND) == ""

    bench.board.watch = closing
    assert job(bench.visit())[1:3] == (Outcome.ERROR, "hub_disturbed")
    assert seen == [HUB]


def test_alone_it_is_a_pull() -> None:
    """Nobody else is lost within two seconds: ABORTED unplugged, as ever."""
    bench = Bench()

    def time_passes() -> None:
        bench.clock.now_s += 2.1

    bench.breaks("half", PortGone("pulled"))
    later = threading.Timer(0.2, time_passes)
    later.start()
    try:
        assert job(bench.visit())[1:3] == (Outcome.ABORTED, "unplugged")
    finally:
        later.join()


def test_a_programmer_that_seemed_to_hang_and_is_gone_was_pulled() -> None:
    """The kernel tells of a pull late, and until then nothing can be written: known to be gone, it is a pull and no FAULT."""
    for gone, outcome, reason in ((True, Outcome.ABORTED, "unplugged"), (False, Outcome.ERROR, "adapter_hung")):
        bench = Bench(occupied=(HERE, SECOND))
        stop = Stop()
        bench.breaks("half", AdapterHung("takes no bytes"))
        bench.board.watch = lambda event, stop=stop, gone=gone: (  # type: ignore[misc]
            stop.request(StopCause.UNPLUGGED) if event == "close" and gone else None
        )
        assert job(bench.visit(stop))[1:3] == (outcome, reason)


def test_where_two_are_plugged_in_nobody_waits() -> None:
    """The hub holds no third programmer, so a pull is on record at once: the clock of this test stands still."""
    bench = Bench(occupied=(HERE, SECOND))
    bench.breaks("half", PortGone("pulled"))
    assert job(bench.visit())[1:3] == (Outcome.ABORTED, "unplugged")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("prompt", NothingBoots("silence")),
        ("half", JobEnded(Reason.VERIFY_MISMATCH, "the same twice")),
        ("half", JobEnded(Reason.LINK_LOST)),
        ("half", JobEnded(Reason.BOARD_RESET)),
        ("half", JobEnded(Reason.BOARD_REMOVED)),
        ("half", JobEnded(Reason.VERIFY_UNSTABLE)),
    ],
    ids=str,
)
def test_nothing_is_held_against_a_board_on_a_disturbed_hub(step: str, error: StationError) -> None:
    """Its own programmer stayed, and it failed or was lost while three neighbours vanished: no FAIL, no count, no blame."""
    fourth = f"{HUB}.4:1.0"
    bench = Bench(occupied=(HERE, SECOND, THIRD, fourth))
    bench.breaks(step, error, lambda: bench.lose(SECOND, THIRD, fourth))
    assert job(bench.visit())[1:3] == (Outcome.ERROR, "hub_disturbed")


def test_a_pass_on_a_disturbed_hub_is_a_pass() -> None:
    """The evidence is there: whatever happened to the neighbours, it is what it is."""
    bench = Bench()
    bench.board.on("prompt", [lambda: bench.lose(SECOND, THIRD, f"{HUB}.4:1.0")])
    assert job(bench.visit())[1] is Outcome.PASS
    assert bench.hubs.disturbed(HERE) == HUB


def test_what_is_nothing_to_do_with_a_hub_stays_what_it_is() -> None:
    """A duplicate MAC on a disturbed hub is a duplicate MAC."""
    bench = Bench()
    bench.lose(SECOND, THIRD, f"{HUB}.4:1.0")
    bench.breaks("chip", JobEnded(Reason.DUPLICATE_MAC, "A1 and A2"))
    assert job(bench.visit())[1:3] == (Outcome.ERROR, "duplicate_mac")


def test_without_a_hub_a_fail_is_a_fail() -> None:
    """The rule above is about the hub: the same board fails where all is still."""
    bench = Bench()
    bench.breaks("prompt", NothingBoots("silence"))
    assert job(bench.visit())[1:3] == (Outcome.FAIL, "no_boot")
    bench = Bench()
    bench.breaks("half", LinkSilent("s"))
    assert job(bench.visit())[2] != "hub_disturbed"
