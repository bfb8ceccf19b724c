"""What a slot has to prove before it may make boards: golden boards judged good, red ones bad, and no bad run of its own.

Pure: rows of the records in, words out. Nothing here opens anything, knows the time by itself, or talks to a board. It must
never take one board for another: a red board proves by the reason that it was enrolled with, and by no other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum

from station.model import BoardMark, Measurement, Outcome
from station.reasons import Reason, words_for

ENROLLABLE = (
    Reason.FLASH_NO_ANSWER,
    Reason.FLASH_REJECTED,
    Reason.NO_BOOT,
    Reason.BOOT_LOOP,
    Reason.BROWNOUT,
    Reason.FILESYSTEM_LOST_DATA,
    Reason.FILESYSTEM_CORRUPT,
    Reason.REPL_SILENT,
    Reason.REPL_GARBAGE,
    Reason.CHECK_RAISED,
    Reason.CHECK_HUNG,
    Reason.OUT_OF_LIMITS,
    Reason.ACCESS_POINT_OPEN,
    Reason.NETWORK_NOT_SET,
)
"""What a red board can be enrolled with: what is found without a write, on a board that says who it is."""
_NAMES_WHAT = (Reason.CHECK_RAISED, Reason.CHECK_HUNG, Reason.OUT_OF_LIMITS)
_JUDGES_NOBODY = (
    Reason.HUB_DISTURBED,
    Reason.STATION_BUG,
    Reason.EVIDENCE_MISSING,
    Reason.DUPLICATE_MAC,
    Reason.MAC_REUSED,
    Reason.IDENTITY_MISMATCH,
)
"""ERRORs that say nothing about the slot, nor about the board that was meant: not even that it was this one."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A known board that is judged in this visit instead of made."""

    mark: BoardMark
    """GOLDEN or RED."""
    enrolled: str = ""
    """Of a red one, `REASON` or `REASON:NAME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a slot made of a known board, as it goes on record."""

    id: str
    visit_id: str
    slot: str
    mac: str
    sample: Sample
    observed: str
    """The value of the reason that was found, with its detail; empty for a pass."""
    finding: Reason
    """GOLDEN_PASSED, GOLDEN_FAILED, RED_CAUGHT or RED_MISSED."""
    recipe_hash: str
    lot_id: str
    measurements: Sequence[Measurement]

    @property
    def holds(self) -> bool:
        """Whether the slot judged as it must."""
        return self.finding in (Reason.GOLDEN_PASSED, Reason.RED_CAUGHT)


class SlotWord(StrEnum):
    """What is said about a slot."""

    QUARANTINE = "quarantine"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotEvent:
    """One thing said about a slot, by a person or by the station itself."""

    id: str
    slot: str
    word: SlotWord
    cause: str
    """In words, for people."""
    release_by: BoardMark = BoardMark.GOLDEN
    """Which known board ends a quarantine."""
    person: str = ""
    """Empty: the station."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the records say of one slot."""

    quarantine: str = ""
    """Why it may make nothing; empty: it may."""
    release_by: BoardMark = BoardMark.GOLDEN
    latest: Mapping[BoardMark, bool] = field(default_factory=dict)
    """By mark, whether the last known board of this lot and shift was judged as it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lately:
    """One job that is closed, as far as it says something about its slot."""

    slot: str
    mac: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """What was made of one golden board."""

    slot: str
    place: str
    """Of the programmer, in that visit."""
    observed: str
    """As in `Proof`."""


def enrolment(text: str) -> str:
    """Return `REASON` or `REASON:NAME` as it goes on record; raises ValueError with words for a person."""
    reason, colon, name = text.partition(":")
    if reason not in ENROLLABLE:
        raise ValueError(f"{reason!r} is none of {', '.join(ENROLLABLE)}")
    if colon and (not name.isidentifier() or reason not in _NAMES_WHAT):
        raise ValueError(f"only {', '.join(_NAMES_WHAT)} take the name of a check or measurement after a colon")
    return text


def finding_of(
    sample: Sample, outcome: Outcome | None, reason: Reason | None, detail: str
) -> tuple[Reason, str] | None:
    """Return what this end of a visit means for the slot, and its particulars; None where it proves nothing at all."""
    passed = outcome is Outcome.PASS
    if outcome in (None, Outcome.ABORTED) or reason in _JUDGES_NOBODY:
        return None
    if sample.mark is BoardMark.GOLDEN:
        words = words_for(reason, detail) if reason else ""
        return (Reason.GOLDEN_PASSED, "") if passed else (Reason.GOLDEN_FAILED, words)
    if passed or reason is None:
        return Reason.RED_MISSED, f"it passed, instead of {sample.enrolled}"
    if _is_enrolled(sample.enrolled, reason, detail):
        return Reason.RED_CAUGHT, ""
    return Reason.RED_MISSED, f"{words_for(reason, detail)} ({reason}) instead of {sample.enrolled}"


def _is_enrolled(enrolled: str, reason: Reason, detail: str) -> bool:
    """The very reason, and where a name belongs to it, that name: what is said of a check or value begins with its name."""
    wanted, _, name = enrolled.partition(":")
    found = detail.replace(":", " ").split()
    return reason == wanted and (not name or found[:1] == [name])


def after(proof: Proof, standing: Standing, detail: str, event_id: str) -> SlotEvent | None:
    """Return what a proof changes for its slot: a wrong verdict quarantines it, the right board releases it.

    `detail` are the particulars of the finding. What only a red board can release, a golden one that fails does not ease.
    """
    if not proof.holds:
        only_red = BoardMark.RED in (proof.sample.mark, standing.release_by if standing.quarantine else None)
        return SlotEvent(
            id=event_id,
            slot=proof.slot,
            word=SlotWord.QUARANTINE,
            cause=words_for(proof.finding, detail),
            release_by=BoardMark.RED if only_red else BoardMark.GOLDEN,
        )
    if standing.quarantine and standing.release_by is proof.sample.mark:
        return SlotEvent(id=event_id, slot=proof.slot, word=SlotWord.RELEASE, cause=words_for(proof.finding))
    return None


def bar_of(standing: Standing, prove: Collection[str]) -> tuple[Reason, str] | None:
    """Return why this slot may make no boards now, with the particulars; None when it may.

    `prove` are the marks that the recipe demands.
    """
    if standing.quarantine:
        return Reason.SLOT_QUARANTINED, standing.quarantine
    for mark in (BoardMark.GOLDEN, BoardMark.RED):
        if mark in prove and not standing.latest.get(mark, False):
            return Reason.PROOF_NEEDED, f"a {mark} board"
    return None


def says_something(outcome: Outcome | None, reason: str) -> bool:
    """Whether a job that ended so says anything about the slot where it did."""
    return outcome in (Outcome.PASS, Outcome.FAIL, Outcome.ERROR) and reason not in _JUDGES_NOBODY


def bad_run(slot: str, siblings: Collection[str], lately: Iterable[Lately], boards: int) -> str:
    """Return why this slot is to be quarantined, in words; empty when it is not.

    `lately`: newest first. So many *different* boards in a row that did not pass here, while the siblings made boards and at
    least half of those passed. Without siblings at work nobody can tell a bad slot from a bad batch.
    """
    failed: set[str] = set()
    theirs = passed = 0
    for job in lately:
        if job.slot == slot and job.passed:
            break
        if job.slot == slot:
            failed.add(job.mac)
        elif job.slot in siblings:
            theirs, passed = theirs + 1, passed + job.passed
        if len(failed) == boards:
            healthy = theirs > 0 and 2 * passed >= theirs
            return f"{boards} boards in a row did not pass, others did" if healthy else ""
    return ""


def shift_began(now: datetime, shifts: Sequence[str], zone: tzinfo | None = None) -> datetime | None:
    """Return when the shift of this moment began; None without shifts. `shifts` are `HH:MM`, of the machine or in `zone`."""
    local = now.astimezone(zone)
    # In UTC: two times of one zone are compared by the clock on the wall, which shows one hour twice a year.
    begins = [
        datetime.combine(day, time.fromisoformat(shift), tzinfo=zone).astimezone(UTC)
        for day in (local.date() - _DAY, local.date())
        for shift in shifts
    ]
    return max((begin for begin in begins if begin <= now), default=None)
