"""The one place where exceptions become outcomes: what ended a job, said in the closed list of reasons.

FAIL is the board's fault, ERROR the station's or nobody's yet, ABORTED a hand's (`docs/architecture.md`). The table is
read top down, first match wins, and whatever is not in it is a mistake of the station's own program: ERROR, never a PASS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from station import errors
from station.errors import JobEnded, StationError
from station.model import JobState, Outcome, Phase, PhaseOutcome, StopCause
from station.reasons import MEANINGS, Reason

DETAIL_CAP_CHARACTERS = 500
_FLASHED_BUT_NOT_TESTED = (Phase.VERIFY, Phase.BOOT, Phase.PROVISION)

_REASON_OF_ERROR: tuple[tuple[type[StationError], Reason], ...] = (
    (errors.PortBusy, Reason.PORT_BUSY),
    (errors.PortDenied, Reason.PORT_DENIED),
    (errors.AdapterHung, Reason.ADAPTER_HUNG),
    (errors.LineError, Reason.UNPLUGGED),
    (errors.LinkEcho, Reason.ADAPTER_ECHO),
    (errors.FirmwareAnswers, Reason.NOT_IN_DOWNLOAD_MODE),
    (errors.LinkSilent, Reason.NO_ANSWER),
    (errors.BoardRestarted, Reason.BOARD_RESET),
    (errors.LinkError, Reason.LINK_UNRELIABLE),
    (errors.WrongChip, Reason.WRONG_CHIP),
    (errors.IdentityInvalid, Reason.IDENTITY_INVALID),
    (errors.BoardRestartedInTest, Reason.BROWNOUT),
    (errors.BootLooping, Reason.BOOT_LOOP),
    (errors.FilesystemCorrupt, Reason.FILESYSTEM_CORRUPT),
    (errors.NothingBoots, Reason.NO_BOOT),
    (errors.ReplSilent, Reason.REPL_SILENT),
    (errors.CheckRaised, Reason.CHECK_RAISED),
    (errors.ReplError, Reason.REPL_GARBAGE),
    (errors.RecordsUnwritable, Reason.RECORDS_UNWRITABLE),
    (errors.ImageChanged, Reason.IMAGE_CHANGED),
    (errors.SecretUnusable, Reason.SECRET_MISSING),
)

_SAID_OVER_THE_LINE = (
    Reason.NO_BOOT,
    Reason.BOOT_LOOP,
    Reason.BROWNOUT,
    Reason.REPL_SILENT,
    Reason.REPL_GARBAGE,
    Reason.CHECK_RAISED,
    Reason.CHECK_HUNG,
    Reason.OUT_OF_LIMITS,
    Reason.IDENTITY_MISMATCH,
    Reason.FILESYSTEM_LOST_DATA,
    Reason.ACCESS_POINT_OPEN,
    Reason.NETWORK_NOT_SET,
)

SILENCES = (Reason.NO_BOOT, Reason.REPL_SILENT, Reason.CHECK_HUNG)
"""A board that was lifted says as little as one that does not work."""

_SLOT_OR_BOARD = (
    Reason.LINK_UNRELIABLE,
    Reason.LINK_LOST,
    Reason.DEADLINE,
    Reason.BOARD_RESET,
    Reason.VERIFY_UNSTABLE,
)

_CUT_OFF = (Reason.UNPLUGGED, Reason.ADAPTER_HUNG)

# What a hub that goes, or sags, can do to a visit: none of it says anything about board, slot or hand then.
_BY_THE_HUB = (*_CUT_OFF, *_SLOT_OR_BOARD, Reason.ADAPTER_DEAF, Reason.BOARD_REMOVED, Reason.NO_ANSWER)

_REASON_OF_STOP = {
    StopCause.UNPLUGGED: Reason.UNPLUGGED,
    StopCause.SHUTDOWN: Reason.STATION_STOPPED,
    StopCause.DEADLINE: Reason.DEADLINE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a job ended, before it is on record."""

    state: JobState
    outcome: Outcome | None
    reason: Reason | None
    detail: str


PASSED = Verdict(state=JobState.CLOSED, outcome=Outcome.PASS, reason=None, detail="")


def verdict_of(error: StationError, *, in_run_mode: bool = False) -> Verdict:
    """Return what `error` means for the job.

    `in_run_mode`: the firmware had been started; another board answering there leaves the flashed one pending.
    """
    reason, detail = _reason_of(error)
    pending = (
        reason in (Reason.AWAITS_RUN_MODE, Reason.AWAITS_TEST_SLOT)
        or (reason is Reason.IDENTITY_MISMATCH and in_run_mode)
        or (reason is Reason.STOPPED_BY_REQUEST and detail in _FLASHED_BUT_NOT_TESTED)
    )
    if pending:
        return Verdict(state=JobState.PENDING, outcome=None, reason=reason, detail=_one_line(detail))
    outcome = Outcome.ABORTED if reason is Reason.STOPPED_BY_REQUEST else MEANINGS[reason].outcome
    return Verdict(state=JobState.CLOSED, outcome=outcome, reason=reason, detail=_one_line(detail))


def verdict_of_bug(error: Exception) -> Verdict:
    """Return what an exception that nobody raises on purpose means: a mistake in the station's own program."""
    reason, detail = Reason.STATION_BUG, _one_line(f"{type(error).__name__}: {error}")
    return Verdict(state=JobState.CLOSED, outcome=MEANINGS[reason].outcome, reason=reason, detail=detail)


def over_a_bad_line(verdict: Verdict) -> Verdict:
    """Return what `verdict` is worth when bytes were seen to arrive damaged in the same visit.

    What a REPL says carries no checksum: a damaged byte makes a check crash, a value deviate, a prompt vanish. None of that
    is held against the board then; another slot shall tell.
    """
    if verdict.reason not in _SAID_OVER_THE_LINE:
        return verdict
    detail = _one_line(f"{verdict.reason}: {verdict.detail}")
    reason = Reason.LINK_UNRELIABLE
    return Verdict(state=JobState.CLOSED, outcome=MEANINGS[reason].outcome, reason=reason, detail=detail)


def is_cut_off(verdict: Verdict) -> bool:
    """Whether the visit ended because its line did."""
    return verdict.reason in _CUT_OFF


def pulled_after_all(verdict: Verdict, stopped: StopCause | None) -> Verdict:
    """Return what `verdict` is worth where the programmer is known to be gone by now.

    The kernel may take half a minute to say that a programmer was pulled; until then it takes no bytes, as one that hangs.
    """
    if verdict.reason is Reason.ADAPTER_HUNG and stopped is StopCause.UNPLUGGED:
        return verdict_of_stop(stopped)
    return verdict


def may_be_the_hubs(verdict: Verdict) -> bool:
    """Whether a disturbed hub can be behind it: every FAIL, and every way to lose a board."""
    return verdict.outcome is Outcome.FAIL or verdict.reason in _BY_THE_HUB


def on_a_disturbed_hub(verdict: Verdict) -> Verdict:
    """Return what `verdict` is worth where the hub was disturbed meanwhile: nobody is blamed; the detail keeps what it was."""
    detail = _one_line(": ".join(part for part in (verdict.reason, verdict.detail) if part))
    reason = Reason.HUB_DISTURBED
    return Verdict(state=JobState.CLOSED, outcome=MEANINGS[reason].outcome, reason=reason, detail=detail)


def same_in_two_slots(verdict: Verdict, slot: str, errors: Iterable[tuple[str, str]]) -> Verdict:
    """Return FAIL where the same board met the same ERROR in another slot before: then it is the board, not the slot.

    `errors` are reason and slot of the board's ERRORs since its last PASS.
    """
    elsewhere = sorted(other for reason, other in errors if reason == verdict.reason and other != slot)
    if verdict.reason not in _SLOT_OR_BOARD or verdict.outcome is not Outcome.ERROR or not elsewhere:
        return verdict
    detail = "; ".join(part for part in (verdict.detail, f"the same in slot {elsewhere[0]} before") if part)
    return Verdict(state=verdict.state, outcome=Outcome.FAIL, reason=verdict.reason, detail=detail)


def by_the_supply(verdict: Verdict, slot: str) -> Verdict:
    """Return what a restart under load is worth where a golden board did the same, in this `slot`: nobody blames the board."""
    return replace(verdict, outcome=MEANINGS[Reason.SUPPLY_WEAK].outcome, reason=Reason.SUPPLY_WEAK, detail=slot)


def never_flashed(verdict: Verdict) -> Verdict:
    """Return what a verdict that leaves a flashed board waiting means for one that was only tested: its job is over."""
    outcome = Outcome.ABORTED if verdict.reason is Reason.STOPPED_BY_REQUEST else Outcome.ERROR
    return Verdict(state=JobState.CLOSED, outcome=outcome, reason=verdict.reason, detail=verdict.detail)


def verdict_of_stop(cause: StopCause) -> Verdict:
    """Return what it means that the job's line was taken away."""
    reason = _REASON_OF_STOP[cause]
    return Verdict(state=JobState.CLOSED, outcome=MEANINGS[reason].outcome, reason=reason, detail="")


def phase_outcome(verdict: Verdict) -> PhaseOutcome:
    """Return how the phase ended in which the job met `verdict`; what waits for another visit was skipped in this one."""
    if verdict.state is JobState.PENDING:
        return PhaseOutcome.SKIPPED
    return PhaseOutcome(verdict.outcome or Outcome.ERROR)


def _reason_of(error: StationError) -> tuple[Reason, str]:
    if isinstance(error, JobEnded):
        return error.reason, error.detail
    for kind, reason in _REASON_OF_ERROR:
        if isinstance(error, kind):
            return reason, _detail_of(error)
    return Reason.STATION_BUG, f"{type(error).__name__}: {error}"


def _one_line(detail: str) -> str:
    """What a board or a library said, capped, and in one line: what follows a line break in a record are notes."""
    return " ".join(detail[:DETAIL_CAP_CHARACTERS].splitlines())


def _detail_of(error: StationError) -> str:
    """The particulars that a reason's words speak of: the holder of a port, the MAC that was read, else the message."""
    match error:
        case errors.PortBusy():
            return error.holder
        case errors.IdentityInvalid():
            return error.observed
        case _:
            return str(error)
