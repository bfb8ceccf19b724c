"""What ends a second visit besides a PASS: only a FAIL closes the job, after all else the board is flashed and not tested."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from station.errors import (
    BoardRestartedInTest,
    CheckRaised,
    JobEnded,
    LinkCorrupt,
    LinkSilent,
    PortBusy,
    PortGone,
    RecordsUnwritable,
    ReplGarbage,
    ReplSilent,
    StationError,
)
from station.model import JobState, Outcome, Phase, StopCause
from station.ports import Stop
from station.properties import Gpio0, Reset, Role, SlotProperties
from tests.unit.job_rig import Shown, Station, image, writes
from tests.unit.memory_records import AUTO, STICK
from tests.unit.scripted_board import MAC, InstantStop, ScriptedBoard, for_ever

FLASH_ONLY = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW, role=Role.FLASH)
STEPS = ("prompt", "run")


def flashed() -> tuple[Station, ScriptedBoard]:
    """A board that waits, plugged in for its test without the jumper."""
    station, board = Station(), ScriptedBoard(lines=False)
    assert station.visit(board, FLASH_ONLY, slot="F1", test_slots=("T1",)).job.state is JobState.PENDING
    return station, board.plug_in("free")


def waits_on(station: Station, shown: Shown, reason: str, detail: str | None = None) -> None:
    """The finding belongs to the job, which is as it was; the next visit passes."""
    assert shown.finding.reason == reason
    assert (shown.row.job_id, shown.row.mac) == ("job-1", MAC)
    assert detail is None or shown.finding.detail == detail
    end = station.records.ends["job-1"]
    assert (end.state, end.outcome, end.reason) == (JobState.PENDING, None, "awaits_test_slot")
    assert list(station.records.starts) == ["job-1"]
    assert not any(event.startswith("counted") for event in shown.board.journal)
    assert writes(shown.board) == 0
    assert bytes(shown.board.flash) == image()
    shown.board.script.clear()
    shown.board.checks.clear()
    assert station.visit(shown.board.plug_in("free", lines=False), STICK).job.outcome is Outcome.PASS


# -- taken away --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("cause", "reason", "detail"),
    [
        (StopCause.UNPLUGGED, "test_interrupted", "unplugged"),
        (StopCause.SHUTDOWN, "test_interrupted", "station_stopped"),
        (StopCause.DEADLINE, "deadline", ""),
    ],
)
def test_a_test_that_is_cut_short_judges_nobody(step: str, cause: StopCause, reason: str, detail: str) -> None:
    """A pull, a shutdown, a deadline: a finding, and the job waits as before."""
    station, board = flashed()
    stop = InstantStop(board.clock)
    # The first two runs ask who it is: before that nobody knows whose job it could be.
    acts = [lambda: stop.request(cause)] if step == "prompt" else [None, None, None, lambda: stop.request(cause)]
    board.on(step, acts)
    shown = station.visit(board, STICK, stop=stop)
    if step == "prompt":
        assert (shown.row.job_id, shown.row.mac) == (None, "")
        assert shown.finding.reason == {"unplugged": "unplugged", "station_stopped": "station_stopped"}.get(
            detail, "deadline"
        )
        assert station.records.pending_macs() == {MAC}
    else:
        waits_on(station, shown, reason, detail)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(PortGone("gone"), "test_interrupted"), (ZeroDivisionError("oops"), "station_bug")],
    ids=["port", "bug"],
)
@pytest.mark.parametrize("check", ["identity", "free_ram", "filesystem_read"])
def test_an_accident_in_the_test_judges_nobody(check: str, error: Exception, reason: str) -> None:
    """A line that breaks and a mistake of ours: the board is as it was."""
    station, board = flashed()
    asked = iter((True,)) if check == "identity" else iter(())

    def break_down() -> bytes:
        if next(asked, None):  # the first time its name is asked for the job is not known yet
            return b'["5ccf7fddc142","42c1dd00"]'
        raise error

    board.checks[check] = break_down
    waits_on(station, station.visit(board, STICK), reason)


@pytest.mark.parametrize(
    ("step", "error", "reason"),
    [
        ("chip", LinkSilent("silence"), "link_lost"),
        ("chip", LinkCorrupt("noise"), "link_unreliable"),
        ("stub", PortGone("gone"), "test_interrupted"),
        ("prompt", PortGone("gone"), "test_interrupted"),
        ("run", PortGone("gone"), "test_interrupted"),
        ("run", RuntimeError("oops"), "station_bug"),
    ],
)
def test_a_link_that_breaks_in_an_automatic_slot_judges_nobody(step: str, error: Exception, reason: str) -> None:
    """The second visit by the loader: whatever the link does, the job waits."""
    station, board = flashed()
    board.plug_in("lines", lines=True).on(step, for_ever(error))
    shown = station.visit(board, AUTO)
    waits_on(station, shown, reason)


def test_a_busy_port_is_no_boards_finding() -> None:
    """A visit that never saw a board belongs to no job."""
    station, board = flashed()
    board.on("open", for_ever(PortBusy("/dev/x", "screen (1)")))
    shown = station.visit(board, STICK)
    assert (shown.finding.reason, shown.row.job_id, shown.row.mac) == ("port_busy", None, "")


def test_a_lifted_board_is_no_judgement() -> None:
    """Lifted between its name and its test in a slot where boards move: the job waits."""
    station, board = flashed()

    def lift() -> None:
        board.present = False

    board.plug_in("lines", lines=True).on("md5", [lift])
    shown = station.visit(board, AUTO)
    assert shown.finding.reason in ("adapter_deaf", "test_interrupted")
    assert (shown.row.job_id, shown.row.mac) == ("job-1", MAC)
    assert station.records.ends["job-1"].state is JobState.PENDING


def test_records_that_vanish_in_the_test_leave_the_job_waiting() -> None:
    """When even the finding cannot be written, the job still waits in the records."""
    station, board = flashed()

    def full() -> None:
        station.records.refuse = {"end_visit", "finish_job"}
        raise RecordsUnwritable("full")

    board.checks["free_ram"] = full
    shown = station.visit(board, STICK)
    assert shown.result.reason == "records_unwritable"  # type: ignore[union-attr]
    assert station.records.pending_macs() == {MAC}


@pytest.mark.parametrize("event", ["file written", "leave"])
def test_a_twin_that_turns_up_in_the_test_leaves_the_job_waiting(event: str) -> None:
    """Of two boards with one MAC nobody knows which was flashed: both are held, and neither passes."""
    station, board = flashed()

    def twin(happened: str) -> None:
        if happened == event:
            with contextlib.suppress(JobEnded):
                station.claims.claim(MAC, "B2", Stop())

    board.watch = twin
    shown = station.visit(board, STICK)
    assert (shown.finding.reason, shown.row.job_id) == ("duplicate_mac", "job-1")
    assert station.records.ends["job-1"].state is JobState.PENDING


# -- a FAIL closes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        ("cpu_frequency", b"52000000", "out_of_limits"),
        ("filesystem_read", b"null", "filesystem_lost_data"),
        ("free_ram", b"<script>", "repl_garbage"),
        ("free_ram", CheckRaised("Traceback\nMemoryError: x"), "check_raised"),
        ("wifi_start", BoardRestartedInTest("ets"), "brownout"),
        ("wifi_start", ReplSilent("never ended"), "repl_silent"),
    ],
)
def test_a_board_that_fails_its_test_is_closed(check: str, answer: bytes | StationError, reason: str) -> None:
    """What a board does wrong in the second visit is held against it, in the row of its job."""
    station, board = flashed()
    board.checks[check] = answer
    shown = station.visit(board, STICK)
    assert (shown.job.id, shown.job.state, shown.job.outcome, shown.job.reason) == (
        "job-1",
        JobState.CLOSED,
        Outcome.FAIL,
        reason,
    )
    assert (shown.row.job_id, shown.row.finding) == ("job-1", "")
    assert shown.end.transcript != b""
    assert shown.board.count("counted FAIL") == 1


@pytest.mark.parametrize(
    ("jedec_id", "size_bytes", "reason"),
    [(0xFFFFFF, None, "flash_no_answer"), (0x1340EF, 512 << 10, "flash_too_small")],
)
def test_a_flash_that_died_meanwhile_is_closed(jedec_id: int, size_bytes: int | None, reason: str) -> None:
    """In a slot that reads the chip again a dead flash is a FAIL, and nothing is written."""
    station, board = flashed()
    board.jedec_id, board.claimed_bytes = jedec_id, size_bytes
    shown = station.visit(board.plug_in("lines", lines=True), AUTO)
    assert (shown.job.id, shown.job.outcome, shown.job.reason) == ("job-1", Outcome.FAIL, reason)
    assert writes(board) == 0


# -- nothing of this is a judgement over a board without a name --------------------------------------------------------


@pytest.mark.parametrize("role", [Role.MAKE, Role.TEST])
@pytest.mark.parametrize(
    "says",
    [
        {"identity": b"noise"},
        {"flash": b"[]"},
        {"identity": CheckRaised("Traceback\nImportError: network")},
        {"flash": ReplSilent("never ended")},
        {"identity": ReplGarbage("no mark")},
        {"flash": BoardRestartedInTest("ets")},
    ],
    ids=["noise", "form", "raised", "silent", "garbage", "restarted"],
)
def test_a_firmware_that_does_not_tell_who_it_is_is_never_a_fail(role: Role, says) -> None:
    """A board in run mode that cannot be named is a finding: no row, no yield, also while others wait."""
    station, board = flashed()
    board.checks.update(says)
    shown = station.visit(board, replace(STICK, role=role))
    assert shown.finding.reason == ("not_in_download_mode" if role is Role.MAKE else "no_answer")
    assert (shown.row.job_id, station.records.pending_macs()) == (None, {MAC})
    assert list(station.records.starts) == ["job-1"]


# -- stopped on request ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", [phase for phase in Phase if phase is not Phase.SELF_TEST])
@pytest.mark.parametrize("properties", [STICK, AUTO], ids=["by hand", "by lines"])
def test_until_never_ends_in_a_pass_of_a_second_visit(until: Phase, properties: SlotProperties) -> None:
    """A visit that is asked to stop at a phase that lies behind it already stops before the next one, and says so."""
    station, board = flashed()
    board.plug_in("free" if properties is STICK else "lines", lines=properties is AUTO)
    waits_on(station, station.visit(board, properties, until=until), "stopped_by_request", until)


# -- what the boot pin says ----------------------------------------------------------------------------------------------


def test_a_board_whose_latch_still_says_loader_is_not_blamed() -> None:
    """A firmware that a start by software left running answers, GPIO0 still low: its restart ends in the loader, no FAIL."""
    station, board = flashed()
    board.gpio0 = "low"
    board.latch_low = True
    shown = station.visit(board, STICK)
    waits_on(station, shown, "awaits_run_mode")
