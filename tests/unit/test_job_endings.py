"""How a visit ends that does not pass: findings, results that wait for the records, stops, requests, and our own bugs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.claims import Claims
from station.errors import (
    AdapterHung,
    FilesystemCorrupt,
    FirmwareAnswers,
    ImageChanged,
    JobEnded,
    LineStopped,
    LinkCorrupt,
    LinkEcho,
    LinkSilent,
    NothingBoots,
    PortBusy,
    PortDenied,
    PortGone,
    ReplGarbage,
    ReplSilent,
    StationError,
    WrongChip,
)
from station.jobrun import TRANSCRIPT_CAP_BYTES
from station.model import CommittedJob, JobState, Outcome, Phase, StopCause
from station.ports import Stop
from station.reasons import Reason
from station.visit import Finding, Held
from tests.unit.job_rig import UNTOUCHED, image, visited
from tests.unit.scripted_board import MAC, MIB, OTHER_MAC, Act, InstantStop, ScriptedBoard, at, for_ever
from tests.unit.scripted_talk import ScriptedLine
from tests.unit.small_image import small_recipe, write_recipe

# -- one MAC in two slots ----------------------------------------------------------------------------------------------


def test_one_mac_in_two_slots_ends_both_jobs() -> None:
    """The slot that had it is told, and its own next word ends its job; so does the claim of the second slot."""
    told: list[tuple[str, str]] = []
    claims = Claims()
    claims.on_contest = lambda slot, other: told.append((slot, other))
    board = ScriptedBoard()

    def second_board() -> None:
        with pytest.raises(JobEnded, match="duplicate_mac: B2 and A1"):
            claims.claim(MAC, "B2", Stop())

    shown = visited(board.on("write", [second_board]), claims=claims)
    assert (shown.job.outcome, shown.job.reason, shown.job.particulars) == (
        Outcome.ERROR,
        "duplicate_mac",
        "A1 and B2",
    )
    assert told == [("A1", "B2")]


def test_a_duplicate_found_in_the_last_moment_is_no_pass() -> None:
    """The claim is looked at once more after the last check."""
    claims, board = Claims(), ScriptedBoard()

    def second_board(event: str) -> None:
        if event == "leave" and board.count("leave") == 2:
            with pytest.raises(JobEnded):
                claims.claim(MAC, "B2", Stop())

    board.watch = second_board
    assert visited(board, claims=claims).job.reason == "duplicate_mac"


# -- visits without a job ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "error", "reason"),
    [
        ("connect", LinkSilent("silence"), Reason.NO_ANSWER),
        ("connect", FirmwareAnswers("MicroPython"), Reason.NOT_IN_DOWNLOAD_MODE),
        ("connect", LinkEcho("echo"), Reason.ADAPTER_ECHO),
        ("connect", LinkCorrupt("noise"), Reason.LINK_UNRELIABLE),
        ("open", PortBusy("/dev/x", "screen (1)"), Reason.PORT_BUSY),
        ("open", PortDenied("/dev/x"), Reason.PORT_DENIED),
        ("open", PortGone("gone"), Reason.UNPLUGGED),
        ("open", AdapterHung("hung"), Reason.ADAPTER_HUNG),
    ],
)
def test_a_visit_that_never_got_to_a_board_is_a_finding(step: str, error: StationError, reason: Reason) -> None:
    """No identified board, no job: the visit's row has the finding, and there is nothing in any yield."""
    shown = visited(ScriptedBoard().on(step, for_ever(error)))
    assert isinstance(shown.result, Finding)
    assert shown.result.reason is reason
    ended = shown.records.visits["visit-1"]
    assert ended is not None
    assert (ended.finding, ended.job_id) == (reason, None)
    assert shown.records.starts == {}
    assert shown.board.journal.count("open") - 1 <= shown.board.journal.count("close") or step == "open"


def test_a_changed_image_opens_no_port(tmp_path: Path) -> None:
    """The files are looked at again before each job (D-10): changed ones end the visit before the board is touched."""
    recipe = small_recipe(tmp_path)
    write_recipe(tmp_path, recipe.image[:-1] + b"!")
    shown = visited(recipe=recipe)
    assert isinstance(shown.result, Finding)
    assert shown.result.reason is Reason.IMAGE_CHANGED
    assert "thing." in shown.result.detail
    assert "open" not in shown.board.journal


# -- records that cannot be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["begin_visit", "known_board", "begin_job"])
def test_records_that_refuse_the_beginning_leave_the_board_untouched(call: str) -> None:
    """Without a durable row nothing is begun: a finding, and the flash as it was."""
    shown = visited(refuse={call})
    assert isinstance(shown.result, Finding)
    assert shown.result.reason is Reason.RECORDS_UNWRITABLE
    assert bytes(shown.board.flash) == UNTOUCHED
    assert shown.records.starts == {}


@pytest.mark.parametrize("call", ["finish_job", "end_visit"])
def test_records_that_refuse_the_end_hold_the_result(call: str) -> None:
    """A finished job that cannot be written is held whole, counted nowhere, and is no committed row."""
    shown = visited(refuse={call})
    assert isinstance(shown.result, Held)
    (row,) = shown.result.rows
    assert (row.begun, row.end.outcome) == (True, Outcome.PASS)
    assert row.start == shown.start
    assert not any(event.startswith("counted") for event in shown.board.journal)
    assert shown.board.journal.count("close") == shown.board.journal.count("open")


def test_both_rows_of_an_exchanged_board_are_held() -> None:
    """When the records cannot take the end, neither the flashed board's row nor that of the one in its place is lost."""
    shown = visited(ScriptedBoard(run_mac=OTHER_MAC), refuse={"finish_job"})
    assert isinstance(shown.result, Held)
    flashed, other = shown.result.rows
    assert (flashed.begun, flashed.end.state, flashed.start.observed_mac) == (True, JobState.PENDING, MAC)
    assert (other.begun, other.end.outcome, other.start.observed_mac) == (False, Outcome.ERROR, OTHER_MAC)


def test_a_fail_without_a_row_is_held_with_its_beginning() -> None:
    """A board that fails before its row exists is held too, and says that the row must be begun."""
    shown = visited(ScriptedBoard().on("connect", [WrongChip("ESP32")]), refuse={"begin_job"})
    assert isinstance(shown.result, Held)
    (row,) = shown.result.rows
    assert (row.begun, row.end.outcome) == (False, Outcome.FAIL)


def test_a_finding_that_cannot_be_written_says_so() -> None:
    """When even the finding cannot be written the technician is called for the records first."""
    shown = visited(ScriptedBoard().on("connect", for_ever(LinkSilent("x"))), refuse={"end_visit"})
    assert isinstance(shown.result, Finding)
    assert shown.result.reason is Reason.RECORDS_UNWRITABLE


# -- stopped -----------------------------------------------------------------------------------------------------------

STOPPED_AT = {
    "open": False,
    "connect": False,
    "identity": False,
    "stub": False,
    "chip": False,
    "erase": True,
    "half": True,
    "md5": False,
    "prompt": True,
    "run": True,
}


@pytest.mark.parametrize(
    ("cause", "outcome", "reason"),
    [
        (StopCause.UNPLUGGED, Outcome.ABORTED, Reason.UNPLUGGED),
        (StopCause.SHUTDOWN, Outcome.ABORTED, Reason.STATION_STOPPED),
        (StopCause.DEADLINE, Outcome.ERROR, Reason.DEADLINE),
    ],
)
@pytest.mark.parametrize("step", STOPPED_AT)
def test_a_line_taken_away_ends_the_visit_at_once(
    step: str, cause: StopCause, outcome: Outcome, reason: Reason
) -> None:
    """At whatever step: what was begun is closed with the cause's outcome, what was not is a finding; the port is free."""
    board = ScriptedBoard()
    stop = InstantStop(board.clock)
    board.on(step, [lambda: stop.request(cause)])
    shown = visited(board, change=lambda visit: replace(visit, stop=stop))
    if STOPPED_AT[step]:
        assert (shown.job.state, shown.job.outcome, shown.job.reason) == (JobState.CLOSED, outcome, reason)
    elif isinstance(shown.result, Finding):
        assert shown.result.reason is reason
        assert shown.records.starts == {}
    else:
        # A deadline of a board that is known already is an ERROR on record, before its flash was touched.
        assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, Reason.DEADLINE)
    if not shown.records.ends or not shown.end.flash_touched:
        assert bytes(board.flash) == UNTOUCHED
    assert board.count("close") == board.count("open")


def test_nothing_in_between_can_swallow_a_stop() -> None:
    """A library that catches every Exception on the way cannot keep a line that was taken away."""
    board = ScriptedBoard()
    stop = InstantStop(board.clock)

    def a_stubborn_library() -> None:
        stop.request(StopCause.UNPLUGGED)
        while True:
            with contextlib.suppress(Exception):
                stop.check()

    shown = visited(board.on("half", [a_stubborn_library]), change=lambda visit: replace(visit, stop=stop))
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ABORTED, "unplugged")
    assert not issubclass(LineStopped, Exception)


@pytest.mark.parametrize(
    ("until", "state", "outcome", "last"),
    [
        (Phase.CONNECT, JobState.CLOSED, Outcome.ABORTED, Phase.CONNECT),
        (Phase.FLASH, JobState.CLOSED, Outcome.ABORTED, Phase.FLASH),
        (Phase.VERIFY, JobState.PENDING, None, Phase.VERIFY),
        (Phase.BOOT, JobState.PENDING, None, Phase.BOOT),
        (Phase.PROVISION, JobState.PENDING, None, Phase.PROVISION),
    ],
)
def test_until_stops_after_that_phase_and_is_never_a_pass(
    until: Phase, state: JobState, outcome: Outcome | None, last: Phase
) -> None:
    """The asked phase is done whole and nothing after it; the record says it was asked for."""
    shown = visited(until=until)
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (state, outcome, "stopped_by_request")
    assert shown.job.particulars == until
    assert shown.job.phases[-1].phase is last
    assert shown.job.phases[-1].outcome in ("PASS", "SKIPPED")
    assert bytes(shown.board.flash) == (UNTOUCHED if until is Phase.CONNECT else image())


def test_a_phase_that_fails_before_the_asked_one_is_still_a_failure() -> None:
    """`until` excuses nothing: a board that fails VERIFY fails, also when BOOT was to be the end."""
    shown = visited(ScriptedBoard(protected="for good"), until=Phase.BOOT)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "flash_write_protected")


# -- mistakes of ours --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["open", "connect", "chip", "erase", "half", "md5", "prompt", "run"])
def test_a_bug_costs_one_job_and_blames_the_station(step: str) -> None:
    """An exception nobody foresaw, wherever it comes from, is an ERROR on record with its name, never a FAIL or a PASS."""
    shown = visited(ScriptedBoard().on(step, for_ever(ZeroDivisionError("oops"))))
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "station_bug")
    assert shown.job.particulars == "ZeroDivisionError: oops"
    assert shown.board.count("close") == shown.board.count("open") or step == "open"


def test_the_transcript_of_a_job_that_did_not_pass_is_kept_and_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last 64 KiB from the board are in the record of a failure, and of a finding; a PASS has none."""
    long = b"noise" * 100_000
    original = ScriptedLine.__init__

    def noisy(line: ScriptedLine, *args, **more) -> None:
        original(line, *args, **more)
        line.transcript = long

    monkeypatch.setattr(ScriptedLine, "__init__", noisy)
    failed = visited(ScriptedBoard(checks={"free_ram": b"5"}))
    assert failed.end.transcript == long[-TRANSCRIPT_CAP_BYTES:]
    found = visited(ScriptedBoard().on("connect", for_ever(LinkSilent("x"))))
    ended = found.records.visits["visit-1"]
    assert ended is not None
    assert ended.transcript == long[-TRANSCRIPT_CAP_BYTES:]
    assert visited().end.transcript == b""


# -- whatever happens --------------------------------------------------------------------------------------------------

ERRORS: tuple[Act, ...] = (
    None,
    None,
    LinkSilent("s"),
    LinkCorrupt("c"),
    PortGone("g"),
    FilesystemCorrupt("f"),
    NothingBoots("n"),
    ReplGarbage("r"),
    ImageChanged("i"),
    KeyError("bug"),
    LineStopped(StopCause.UNPLUGGED),
)
STEPS = ("open", "connect", "identity", "stub", "chip", "erase", "half", "written", "md5", "prompt", "run")
CALLS = ("begin_visit", "end_visit", "known_board", "begin_job", "finish_job")


@given(
    faults=st.dictionaries(st.sampled_from(STEPS), st.lists(st.sampled_from(ERRORS), max_size=5), max_size=3),
    lift_at=st.none() | st.tuples(st.sampled_from(STEPS), st.integers(1, 4)),
    refuse=st.sets(st.sampled_from(CALLS), max_size=1) | st.just(set()),
    real_bytes=st.sampled_from([MIB, MIB, MIB, MIB // 2]),
)
@settings(max_examples=200, deadline=None)
def test_whatever_happens_a_pass_is_a_good_board_on_record(
    faults: dict[str, list[Act]], lift_at: tuple[str, int] | None, refuse: set[str], real_bytes: int
) -> None:
    """Any faults anywhere: the visit ends with a result, and PASS means the flash is right, proved and committed."""
    board = ScriptedBoard(real_bytes=real_bytes)
    stop = InstantStop(board.clock, deadline_s=120)

    def lift() -> None:
        board.present = False

    for step, acts in faults.items():
        board.on(step, acts)
    if lift_at is not None:
        board.on(lift_at[0], at(lift_at[1], lift))
    shown = visited(board, refuse=set(refuse), change=lambda visit: replace(visit, stop=stop))
    if isinstance(shown.result, CommittedJob) and shown.result.outcome is Outcome.PASS:
        assert bytes(board.flash) == image()
        assert not refuse
        assert shown.records.ends[shown.result.id].outcome is Outcome.PASS
    if bytes(board.flash) != UNTOUCHED[:real_bytes]:
        assert shown.records.starts, "flash was touched without a row"
    assert all(end.outcome is not None or end.state is JobState.PENDING for end in shown.records.ends.values())


@pytest.mark.parametrize(
    ("breaks_with", "outcome", "reason"),
    [(LinkSilent("no word"), Outcome.FAIL, "repl_silent"), (KeyError("bug"), Outcome.ERROR, "station_bug")],
    ids=["nobody can tell", "a bug of ours"],
)
def test_a_look_for_a_lifted_board_that_breaks_leaves_a_record(
    breaks_with: Exception, outcome: Outcome, reason: str
) -> None:
    """The last look, whether a silent board is still there, may break as well: its job ends on record all the same."""
    board = ScriptedBoard().on("prompt", [ReplSilent("silent")] * 9).on("presence", [breaks_with] * 9)
    shown = visited(board)
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (JobState.CLOSED, outcome, reason)
    assert board.count("close") == board.count("open")
