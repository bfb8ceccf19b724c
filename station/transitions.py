"""The states of a slot and the one table by which they change; what a result means for it, and what its light shows then.

Pure: no clock, no thread, no line. A pair of state and event that is not in `TRANSITIONS` is a mistake in the program. PASS
is reached by `PASSED` alone, and `event_of` makes that of nothing but a closed row that says PASS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from station.model import CommittedJob, JobState, Light, Outcome
from station.reasons import MEANINGS, Reason
from station.visit import Finding, Held, VisitResult


class SlotState(StrEnum):
    """Where a slot is in its life."""

    EMPTY = "EMPTY"
    WAITING = "WAITING"
    """A programmer is there, but the bench may not work now (no work order, no recipe, no records)."""
    READY = "READY"
    """A programmer is there that stays while boards come and go, and no board in it: the socket is watched."""
    BUSY = "BUSY"
    CLOSING = "CLOSING"
    """The programmer is gone; its visit is being brought to its record."""
    PASS = "PASS"
    FAIL = "FAIL"
    ACTION = "ACTION"
    FAULT = "FAULT"
    PULLED = "PULLED"
    """Pulled or lifted too early: empty, but says so until the next board."""
    LIFTED = "LIFTED"
    """The board was taken out of a programmer that should have gone with it: nothing is shown of it any more."""


class SlotEvent(StrEnum):
    """What can happen to a slot."""

    PLUGGED = "plugged"
    WATCHED = "watched"
    """Nothing is in the way, and the socket is watched for a board."""
    SEATED = "seated"
    """A board answers in a socket that was watched: the first one, or another one than before."""
    STARTED = "started"
    PASSED = "passed"
    FAILED = "failed"
    NEEDS_HAND = "needs_hand"
    NEEDS_TECHNICIAN = "needs_technician"
    NOTHING = "nothing"
    """The visit ended without anything to say about a board."""
    CONTESTED = "contested"
    """The MAC of the board in this slot answers in another slot too."""
    TAKEN = "taken"
    """The board was taken out, and the programmer stays."""
    LIFTED = "lifted"
    """The board is not there any more, although its programmer is and should not be without it."""
    UNPLUGGED = "unplugged"
    VANISHED = "vanished"
    """Board or programmer is gone, and the visit had already ended because of that."""


RESULTS = (SlotState.PASS, SlotState.FAIL, SlotState.ACTION, SlotState.FAULT)
"""The states that show what came of a board that is still there."""

TRANSITIONS: dict[tuple[SlotState, SlotEvent], SlotState] = {
    (SlotState.EMPTY, SlotEvent.PLUGGED): SlotState.WAITING,
    (SlotState.PULLED, SlotEvent.PLUGGED): SlotState.WAITING,
    (SlotState.WAITING, SlotEvent.WATCHED): SlotState.READY,
    (SlotState.WAITING, SlotEvent.STARTED): SlotState.BUSY,
    (SlotState.WAITING, SlotEvent.UNPLUGGED): SlotState.EMPTY,
    (SlotState.READY, SlotEvent.SEATED): SlotState.WAITING,
    (SlotState.READY, SlotEvent.NEEDS_TECHNICIAN): SlotState.FAULT,
    (SlotState.READY, SlotEvent.UNPLUGGED): SlotState.EMPTY,
    (SlotState.BUSY, SlotEvent.PASSED): SlotState.PASS,
    (SlotState.BUSY, SlotEvent.FAILED): SlotState.FAIL,
    (SlotState.BUSY, SlotEvent.NEEDS_HAND): SlotState.ACTION,
    (SlotState.BUSY, SlotEvent.NEEDS_TECHNICIAN): SlotState.FAULT,
    (SlotState.BUSY, SlotEvent.NOTHING): SlotState.WAITING,
    (SlotState.BUSY, SlotEvent.UNPLUGGED): SlotState.CLOSING,
    (SlotState.CLOSING, SlotEvent.PASSED): SlotState.EMPTY,
    (SlotState.CLOSING, SlotEvent.FAILED): SlotState.PULLED,
    (SlotState.CLOSING, SlotEvent.NEEDS_HAND): SlotState.PULLED,
    (SlotState.CLOSING, SlotEvent.NEEDS_TECHNICIAN): SlotState.PULLED,
    (SlotState.CLOSING, SlotEvent.NOTHING): SlotState.EMPTY,
    (SlotState.PASS, SlotEvent.CONTESTED): SlotState.FAULT,
    **{(state, SlotEvent.UNPLUGGED): SlotState.EMPTY for state in (*RESULTS, SlotState.LIFTED)},
    **{(state, SlotEvent.SEATED): SlotState.WAITING for state in (*RESULTS, SlotState.PULLED)},
    **{(state, SlotEvent.TAKEN): SlotState.READY for state in RESULTS},
    **{(state, SlotEvent.LIFTED): SlotState.LIFTED for state in RESULTS},
    (SlotState.ACTION, SlotEvent.VANISHED): SlotState.PULLED,
    (SlotState.PULLED, SlotEvent.UNPLUGGED): SlotState.PULLED,
    (SlotState.PULLED, SlotEvent.NEEDS_TECHNICIAN): SlotState.FAULT,
    # A result that the records could not take at first is on record now, and the board it belongs to is still there.
    (SlotState.FAULT, SlotEvent.PASSED): SlotState.PASS,
    (SlotState.FAULT, SlotEvent.FAILED): SlotState.FAIL,
    (SlotState.FAULT, SlotEvent.NEEDS_HAND): SlotState.ACTION,
    (SlotState.FAULT, SlotEvent.NEEDS_TECHNICIAN): SlotState.FAULT,
}
"""The whole life of a slot; a pair that is not here is a mistake in the program and changes nothing."""

LIGHTS: dict[SlotState, Light] = {
    SlotState.EMPTY: Light.EMPTY,
    SlotState.WAITING: Light.ACTION,
    SlotState.READY: Light.EMPTY,
    SlotState.BUSY: Light.BUSY,
    SlotState.CLOSING: Light.ACTION,
    SlotState.PASS: Light.PASS,
    SlotState.FAIL: Light.FAIL,
    SlotState.ACTION: Light.ACTION,
    SlotState.FAULT: Light.FAULT,
    SlotState.PULLED: Light.ACTION,
    SlotState.LIFTED: Light.EMPTY,
}

_EVENT_OF_LIGHT = {
    Light.FAIL: SlotEvent.FAILED,
    Light.ACTION: SlotEvent.NEEDS_HAND,
    Light.FAULT: SlotEvent.NEEDS_TECHNICIAN,
}
# What keeps the bench, or a part of it, from working; the visit of a slot begins by itself as soon as it is gone.
GATES = (
    Reason.NO_RECIPE,
    Reason.IMAGE_CHANGED,
    Reason.RECORDS_UNWRITABLE,
    Reason.NO_WORK_ORDER,
    Reason.UNKNOWN_PLACE,
    Reason.HUB_DISTURBED,
    Reason.FIRST_ARTICLE_RUNS,
)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a slot may not work now."""

    reason: Reason
    detail: str = ""


Shown = VisitResult | Blocked | None
"""What a slot has to show: a result, an obstacle, or nothing."""


def event_of(result: VisitResult) -> SlotEvent:
    """Return what a result means for the slot; PASSED only for a closed job whose committed row says PASS."""
    match result:
        case CommittedJob(state=JobState.CLOSED, outcome=Outcome.PASS):
            return SlotEvent.PASSED
        case CommittedJob(outcome=Outcome.FAIL):
            return SlotEvent.FAILED
        case Held():
            return SlotEvent.NEEDS_TECHNICIAN
        case Finding(reason=Reason.UNPLUGGED):
            return SlotEvent.NOTHING
        case Finding(reason=reason) if reason in GATES:
            return SlotEvent.NOTHING
        case _:
            return _EVENT_OF_LIGHT[MEANINGS[reason_of(result)[0]].light]


def reason_of(shown: Shown) -> tuple[Reason, str]:
    """Return the reason that a slot shows, and its particulars."""
    match shown:
        case Finding() | Blocked():
            return shown.reason, shown.detail
        case Held():
            return Reason.RECORDS_UNWRITABLE, ""
        case CommittedJob():
            return Reason(shown.reason or Reason.STATION_BUG), shown.particulars
        case None:
            return Reason.STATION_BUG, "a slot without a result"
