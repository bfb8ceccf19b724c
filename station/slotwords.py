"""What a person reads of a slot: headline, words and deed, by its state, its result and what the slot is.

The words of every reason come from `station.reasons`; here stand only those of the states that have no reason. Page,
terminal, `/api/slots` and log all show what `texts_of` returns. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from station.model import CommittedJob, Outcome, Tray
from station.properties import Role, SlotProperties
from station.reasons import MEANINGS, Reason, cause_of, deed_for, headline_for, words_for
from station.transitions import Shown, SlotState, reason_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What stands on one tile."""

    headline: str
    """The one big word."""
    words: str = ""
    """What happened, in a few words."""
    deed: str = ""
    """What the hand does next; empty when nothing is to be done."""
    reason: str = ""
    """The value of the `Reason` behind it; empty where there is none."""
    cause: str = ""
    """The likely cause, for the technician."""


def texts_of(state: SlotState, shown: Shown, properties: SlotProperties, elsewhere: str = "") -> Texts:
    """Return what a slot in this state says; `elsewhere` names a slot where the board can be tried, empty for none."""
    match state:
        case SlotState.EMPTY | SlotState.BUSY:
            return Texts(headline=state)
        case SlotState.READY:
            words = "seat a flashed board" if properties.role is Role.TEST else "seat a board"
            return Texts(headline="EMPTY", words=words)
        case SlotState.LIFTED:
            return Texts(headline="EMPTY", words="board gone: plug in again", deed="plug in again")
        case SlotState.PASS:
            return _passed(shown, properties)
        case SlotState.CLOSING:
            return _because(Reason.UNPLUGGED, "", properties)
        case _:
            return _result(state, shown, properties, elsewhere)


def _passed(shown: Shown, properties: SlotProperties) -> Texts:
    attempt = shown.attempt if isinstance(shown, CommittedJob) else 1
    words = f"passed on attempt {attempt}" if attempt > 1 else "passed"
    taking = "take the board out, put it" if properties.board_moves else "unplug, put the board"
    return Texts(headline=Tray.GOOD, words=words, deed=f"{taking} into GOOD")


def _result(state: SlotState, shown: Shown, properties: SlotProperties, elsewhere: str) -> Texts:
    if state is SlotState.WAITING and shown is None:
        return Texts(headline="WAIT", words="one moment")
    reason, detail = reason_of(shown)
    texts = _because(reason, detail, properties)
    headline, words, deed = texts.headline, texts.words, texts.deed
    if isinstance(shown, CommittedJob) and shown.outcome is Outcome.FAIL and MEANINGS[reason].outcome is Outcome.ERROR:
        # An ERROR that the same board met in two slots is the board's: another tray than the reason's own.
        headline, deed = Tray.BAD, deed_for(Reason.OUT_OF_LIMITS, "", properties)
        words = f"{words.partition(':')[0]}, in two slots"
    elif elsewhere:
        words, deed = (text.replace("another slot", f"slot {elsewhere}") for text in (words, deed))
    return Texts(headline=headline, words=words, deed=deed, reason=texts.reason, cause=texts.cause)


def _because(reason: Reason, detail: str, properties: SlotProperties) -> Texts:
    return Texts(
        headline=headline_for(reason),
        words=words_for(reason, detail, properties),
        deed=deed_for(reason, detail, properties),
        reason=reason,
        cause=cause_of(reason, detail),
    )
