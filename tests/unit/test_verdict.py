"""The one mapping from exceptions to outcomes: nothing falls through it, and nothing in it can become a PASS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import errors
from station.errors import JobEnded, StationError
from station.model import JobState, Outcome, Phase, PhaseOutcome, StopCause
from station.reasons import Reason
from station.verdict import (
    DETAIL_CAP_CHARACTERS,
    PASSED,
    Verdict,
    never_flashed,
    over_a_bad_line,
    phase_outcome,
    same_in_two_slots,
    verdict_of,
    verdict_of_bug,
    verdict_of_stop,
)

# error, outcome (None where the reason has none: a finding before a job exists), reason, detail. By hand.
EXPECTED: tuple[tuple[StationError, str | None, str, str], ...] = (
    (errors.PortBusy("/dev/ttyUSB0", "brltty (77)"), None, "port_busy", "brltty (77)"),
    (errors.PortDenied("/dev/ttyUSB0"), None, "port_denied", "/dev/ttyUSB0"),
    (errors.AdapterHung("no answer"), None, "adapter_hung", "no answer"),
    (errors.PortGone("gone"), "ABORTED", "unplugged", "gone"),
    (errors.PortMissing("no such"), "ABORTED", "unplugged", "no such"),
    (errors.LineError("else"), "ABORTED", "unplugged", "else"),
    (errors.LinkSilent("silence"), None, "no_answer", "silence"),
    (errors.LoaderMute("mute"), None, "no_answer", "mute"),
    (errors.LinkCorrupt("noise"), "ERROR", "link_unreliable", "noise"),
    (errors.LinkEcho("echo"), None, "adapter_echo", "echo"),
    (errors.FirmwareAnswers("MPY"), None, "not_in_download_mode", "MPY"),
    (errors.BoardRestarted("ets"), "ERROR", "board_reset", "ets"),
    (errors.LoaderRefused("0107", 0x0107), "ERROR", "link_unreliable", "0107"),
    (errors.LinkError("else"), "ERROR", "link_unreliable", "else"),
    (errors.WrongChip("ESP32"), "FAIL", "wrong_chip", "ESP32"),
    (errors.IdentityInvalid("zero", observed="00:00:00:00:00:00"), "FAIL", "identity_invalid", "00:00:00:00:00:00"),
    (errors.ReplSilent("quiet"), "FAIL", "repl_silent", "quiet"),
    (errors.ReplGarbage("noise"), "FAIL", "repl_garbage", "noise"),
    (errors.CheckRaised("Traceback\nValueError: x"), "FAIL", "check_raised", "ValueError: x"),
    (errors.BoardRestartedInTest("ets"), "FAIL", "brownout", "ets"),
    (errors.BootLooping("again"), "FAIL", "boot_loop", "again"),
    (errors.FilesystemCorrupt("corrupt"), "FAIL", "filesystem_corrupt", "corrupt"),
    (errors.NothingBoots("dark"), "FAIL", "no_boot", "dark"),
    (errors.ReplError("else"), "FAIL", "repl_garbage", "else"),
    (errors.RecordsUnwritable("full"), None, "records_unwritable", "full"),
    (errors.ImageChanged("other"), None, "image_changed", "other"),
    (errors.SecretUnusable("wifi", "cannot be read"), None, "secret_missing", "wifi cannot be read"),
    (errors.JobEnded(Reason.FLASH_TOO_SMALL, "512 KB"), "FAIL", "flash_too_small", "512 KB"),
    (
        errors.ConfigurationError(file="f", problem="p", fix="x"),
        "ERROR",
        "station_bug",
        "ConfigurationError: f: p. Fix: x",
    ),
    (
        errors.BackupFailed(file="f", problem="p", fix="x"),
        "ERROR",
        "station_bug",
        "BackupFailed: f: p. Fix: x",
    ),
    (errors.PrinterTrouble("no paper", sent=False), "ERROR", "station_bug", "PrinterTrouble: no paper"),
    (StationError("who knows"), "ERROR", "station_bug", "StationError: who knows"),
)


def _all_kinds(kind: type[StationError] = StationError) -> Iterator[type[StationError]]:
    yield kind
    for derived in kind.__subclasses__():
        if derived.__module__ == errors.__name__:
            yield from _all_kinds(derived)


def test_every_exception_of_the_tree_is_in_the_table_here() -> None:
    """Whoever adds an exception must say here by hand what it means for a job."""
    assert {type(row[0]) for row in EXPECTED} == set(_all_kinds())


@pytest.mark.parametrize(
    ("error", "outcome", "reason", "detail"), EXPECTED, ids=[type(row[0]).__name__ for row in EXPECTED]
)
def test_an_error_means_its_outcome(error: StationError, outcome: str | None, reason: str, detail: str) -> None:
    """Each exception closes the job with the outcome, the reason and the particulars that the list of outcomes gives it."""
    assert verdict_of(error) == Verdict(
        state=JobState.CLOSED, outcome=Outcome(outcome) if outcome else None, reason=Reason(reason), detail=detail
    )


def test_an_exception_nobody_foresaw_is_the_stations_error() -> None:
    """A StationError that is not in the table blames the station's own program, never the board."""

    class Unforeseen(StationError):
        """Not in the table."""

    verdict = verdict_of(Unforeseen("surprise"))
    assert (verdict.outcome, verdict.reason, verdict.detail) == (
        Outcome.ERROR,
        Reason.STATION_BUG,
        "Unforeseen: surprise",
    )


def test_a_mistake_in_the_program_is_the_stations_error() -> None:
    """An exception that nobody raises on purpose is told by its kind and its text, in one line."""
    assert verdict_of_bug(KeyError("a\nb")) == Verdict(
        state=JobState.CLOSED, outcome=Outcome.ERROR, reason=Reason.STATION_BUG, detail=r"KeyError: 'a\nb'"
    )
    assert verdict_of_bug(ValueError("a\nb")).detail == "ValueError: a b"


@pytest.mark.parametrize("in_run_mode", [False, True])
@pytest.mark.parametrize("error", [row[0] for row in EXPECTED], ids=[type(row[0]).__name__ for row in EXPECTED])
def test_no_error_is_ever_a_pass(error: StationError, in_run_mode: bool) -> None:  # noqa: FBT001
    """Whatever is raised, the verdict is not a PASS and carries a reason, also over a bad line."""
    for verdict in (verdict_of(error, in_run_mode=in_run_mode), over_a_bad_line(verdict_of(error))):
        assert verdict.outcome is not Outcome.PASS
        assert verdict.reason is not None


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("in_run_mode", [False, True])
def test_only_what_waits_for_another_visit_is_pending(reason: Reason, in_run_mode: bool) -> None:  # noqa: FBT001
    """Pending are a flashed board that waits to be started, and one in whose place another answered; all else is closed."""
    waits = reason in (Reason.AWAITS_RUN_MODE, Reason.AWAITS_TEST_SLOT) or (
        reason is Reason.IDENTITY_MISMATCH and in_run_mode
    )
    verdict = verdict_of(JobEnded(reason, "d"), in_run_mode=in_run_mode)
    assert verdict.state is (JobState.PENDING if waits else JobState.CLOSED)
    if waits:
        assert verdict.outcome is None


@pytest.mark.parametrize(
    ("phase", "state", "outcome"),
    [
        (Phase.CONNECT, JobState.CLOSED, Outcome.ABORTED),
        (Phase.FLASH, JobState.CLOSED, Outcome.ABORTED),
        (Phase.VERIFY, JobState.PENDING, None),
        (Phase.BOOT, JobState.PENDING, None),
        (Phase.PROVISION, JobState.PENDING, None),
        (Phase.SELF_TEST, JobState.CLOSED, Outcome.ABORTED),
    ],
)
def test_stopping_on_request_is_never_a_pass(phase: Phase, state: JobState, outcome: Outcome | None) -> None:
    """A verified board waits for its test; one that was stopped earlier, or after its test, is nobody's pass."""
    verdict = verdict_of(JobEnded(Reason.STOPPED_BY_REQUEST, phase))
    assert (verdict.state, verdict.outcome, verdict.reason) == (state, outcome, Reason.STOPPED_BY_REQUEST)


@pytest.mark.parametrize(
    ("cause", "outcome", "reason"),
    [
        (StopCause.UNPLUGGED, Outcome.ABORTED, Reason.UNPLUGGED),
        (StopCause.SHUTDOWN, Outcome.ABORTED, Reason.STATION_STOPPED),
        (StopCause.DEADLINE, Outcome.ERROR, Reason.DEADLINE),
    ],
)
def test_a_line_that_was_taken_away_says_who_took_it(cause: StopCause, outcome: Outcome, reason: Reason) -> None:
    """A hand aborts, a deadline is an error; neither blames the board."""
    assert verdict_of_stop(cause) == Verdict(state=JobState.CLOSED, outcome=outcome, reason=reason, detail="")


HELD_AGAINST_NOBODY = {
    "no_boot",
    "boot_loop",
    "brownout",
    "repl_silent",
    "repl_garbage",
    "check_raised",
    "out_of_limits",
    "identity_mismatch",
    "filesystem_lost_data",
    "check_hung",
    "access_point_open",
    "network_not_set",
}


@pytest.mark.parametrize("reason", Reason)
def test_a_bad_line_is_no_witness(reason: Reason) -> None:
    """What the firmware said over a line that damages bytes becomes a link error; what the chip proved by MD5 stays."""
    verdict = verdict_of(JobEnded(reason, "d"))
    judged = over_a_bad_line(verdict)
    if reason.value in HELD_AGAINST_NOBODY:
        assert judged == Verdict(
            state=JobState.CLOSED, outcome=Outcome.ERROR, reason=Reason.LINK_UNRELIABLE, detail=f"{reason}: d"
        )
    else:
        assert judged == verdict


WORN = Verdict(state=JobState.CLOSED, outcome=Outcome.ERROR, reason=Reason.VERIFY_UNSTABLE, detail="MD5 x")


def test_the_same_error_in_two_slots_is_the_boards_fault() -> None:
    """A board that is unstable in A1 and in B2 is bad; the detail says where it was before."""
    assert same_in_two_slots(WORN, "B2", [("verify_unstable", "A1")]) == Verdict(
        state=JobState.CLOSED,
        outcome=Outcome.FAIL,
        reason=Reason.VERIFY_UNSTABLE,
        detail="MD5 x; the same in slot A1 before",
    )


@pytest.mark.parametrize("errors_before", [[], [("verify_unstable", "B2")], [("link_lost", "A1")]])
def test_an_error_in_one_slot_only_stays_nobodys_fault(errors_before: list[tuple[str, str]]) -> None:
    """The same slot twice, or another error elsewhere, proves nothing about the board."""
    assert same_in_two_slots(WORN, "B2", errors_before) == WORN


@pytest.mark.parametrize("reason", Reason)
def test_what_is_no_errors_class_of_slot_or_board_is_never_made_a_fail(reason: Reason) -> None:
    """Mistakes of the station, hands and duplicates blame no board, however often they happen; a PASS stays a PASS."""
    before = [(str(reason), "A1")]
    verdict = verdict_of(JobEnded(reason, "d"))
    judged = same_in_two_slots(verdict, "B2", before)
    slot_or_board = {"link_unreliable", "link_lost", "board_reset", "deadline", "verify_unstable"}
    if judged != verdict:
        assert reason.value in slot_or_board
        assert judged.outcome is Outcome.FAIL
    assert same_in_two_slots(PASSED, "B2", before) == PASSED


@given(detail=st.text(min_size=DETAIL_CAP_CHARACTERS, max_size=4 * DETAIL_CAP_CHARACTERS))
def test_no_detail_is_longer_than_the_cap(detail: str) -> None:
    """What a board says of itself is capped before it gets anywhere, in every state and in one line."""
    for reason, in_run_mode in itertools.product((Reason.NO_BOOT, Reason.IDENTITY_MISMATCH), (False, True)):
        verdict = verdict_of(JobEnded(reason, detail), in_run_mode=in_run_mode)
        assert len(verdict.detail) <= DETAIL_CAP_CHARACTERS
        assert len(over_a_bad_line(verdict).detail) <= DETAIL_CAP_CHARACTERS


def test_a_phase_ends_as_its_job_does() -> None:
    """The phase in which a job ended has the job's outcome; one that waits was skipped; without an outcome it is an ERROR."""
    assert phase_outcome(verdict_of(errors.NothingBoots("x"))) is PhaseOutcome.FAIL
    assert phase_outcome(verdict_of_stop(StopCause.UNPLUGGED)) is PhaseOutcome.ABORTED
    assert phase_outcome(verdict_of(errors.PortDenied("x"))) is PhaseOutcome.ERROR
    assert phase_outcome(verdict_of(JobEnded(Reason.AWAITS_RUN_MODE))) is PhaseOutcome.SKIPPED
    assert phase_outcome(PASSED) is PhaseOutcome.PASS


@pytest.mark.parametrize("reason", Reason)
def test_a_board_that_was_never_flashed_waits_for_nothing(reason: Reason) -> None:
    """What would leave a flashed board pending closes the job of one that was only tested: nobody's fault, never a PASS."""
    for in_run_mode in (False, True):
        judged = never_flashed(verdict_of(JobEnded(reason, "d"), in_run_mode=in_run_mode))
        assert judged == Verdict(
            state=JobState.CLOSED,
            outcome=Outcome.ABORTED if reason is Reason.STOPPED_BY_REQUEST else Outcome.ERROR,
            reason=reason,
            detail="d",
        )


@pytest.mark.parametrize("reason", [Reason.AWAITS_RUN_MODE, Reason.AWAITS_TEST_SLOT])
def test_what_waits_waits_over_a_bad_line_too(reason: Reason) -> None:
    """A verified flash was proved by the chip itself: damaged bytes take nothing from it."""
    verdict = verdict_of(JobEnded(reason, "T1"))
    assert over_a_bad_line(verdict) == verdict
    assert same_in_two_slots(verdict, "B2", [(str(reason), "A1")]) == verdict
