"""The life of one place on the bench: what is plugged in, what the light shows, and when a visit begins and ends.

All state of a slot lives on the event loop and changes only through the one table `TRANSITIONS`. A visit runs in a thread
of its own and is bound to one plug; when that plug ends, the first thing that happens is that its line is taken away. PASS
is reached from a job row that was read back after its commit, and from nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from station.config import FlashingSection
from station.model import (
    CommittedJob,
    JobState,
    Light,
    Outcome,
    Plug,
    Programmer,
    Progress,
    SlotView,
    StopCause,
    Tray,
    format_chip_id,
)
from station.ports import Clock, Stop
from station.reasons import MEANINGS, Reason, cause_of, words_for
from station.visit import Finding, Held, VisitResult


class SlotState(StrEnum):
    """Where a slot is in its life."""

    EMPTY = "EMPTY"
    WAITING = "WAITING"
    """A programmer is there, but the bench may not work now (no work order, no recipe, no records)."""
    BUSY = "BUSY"
    CLOSING = "CLOSING"
    """The programmer is gone; its visit is being brought to its record."""
    PASS = "PASS"
    FAIL = "FAIL"
    ACTION = "ACTION"
    FAULT = "FAULT"
    PULLED = "PULLED"
    """Pulled too early: empty, but says so until the next plug."""


class SlotEvent(StrEnum):
    """What can happen to a slot."""

    PLUGGED = "plugged"
    STARTED = "started"
    PASSED = "passed"
    FAILED = "failed"
    NEEDS_HAND = "needs_hand"
    NEEDS_TECHNICIAN = "needs_technician"
    NOTHING = "nothing"
    """The visit ended without anything to say about a board."""
    CONTESTED = "contested"
    """The MAC of the board in this slot answers in another slot too."""
    UNPLUGGED = "unplugged"
    VANISHED = "vanished"
    """The programmer is gone, and the visit had already ended because of that: its line broke before the uevent came."""


TRANSITIONS: dict[tuple[SlotState, SlotEvent], SlotState] = {
    (SlotState.EMPTY, SlotEvent.PLUGGED): SlotState.WAITING,
    (SlotState.PULLED, SlotEvent.PLUGGED): SlotState.WAITING,
    (SlotState.WAITING, SlotEvent.STARTED): SlotState.BUSY,
    (SlotState.WAITING, SlotEvent.UNPLUGGED): SlotState.EMPTY,
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
    (SlotState.PASS, SlotEvent.UNPLUGGED): SlotState.EMPTY,
    (SlotState.PASS, SlotEvent.CONTESTED): SlotState.FAULT,
    (SlotState.FAIL, SlotEvent.UNPLUGGED): SlotState.EMPTY,
    (SlotState.ACTION, SlotEvent.UNPLUGGED): SlotState.EMPTY,
    (SlotState.ACTION, SlotEvent.VANISHED): SlotState.PULLED,
    (SlotState.FAULT, SlotEvent.UNPLUGGED): SlotState.EMPTY,
    # A result that the records could not take at first is on record now, and the plug it belongs to is still there.
    (SlotState.FAULT, SlotEvent.PASSED): SlotState.PASS,
    (SlotState.FAULT, SlotEvent.FAILED): SlotState.FAIL,
    (SlotState.FAULT, SlotEvent.NEEDS_HAND): SlotState.ACTION,
    (SlotState.FAULT, SlotEvent.NEEDS_TECHNICIAN): SlotState.FAULT,
}
"""The whole life of a slot; a pair that is not here is a mistake in the program and changes nothing."""

LIGHTS: dict[SlotState, Light] = {
    SlotState.EMPTY: Light.EMPTY,
    SlotState.WAITING: Light.ACTION,
    SlotState.BUSY: Light.BUSY,
    SlotState.CLOSING: Light.ACTION,
    SlotState.PASS: Light.PASS,
    SlotState.FAIL: Light.FAIL,
    SlotState.ACTION: Light.ACTION,
    SlotState.FAULT: Light.FAULT,
    SlotState.PULLED: Light.ACTION,
}

_EVENT_OF_LIGHT = {
    Light.FAIL: SlotEvent.FAILED,
    Light.ACTION: SlotEvent.NEEDS_HAND,
    Light.FAULT: SlotEvent.NEEDS_TECHNICIAN,
}
# What keeps the bench from working; the visit of a slot begins by itself as soon as it is gone.
GATES = (Reason.NO_RECIPE, Reason.IMAGE_CHANGED, Reason.RECORDS_UNWRITABLE, Reason.NO_WORK_ORDER, Reason.UNKNOWN_PLACE)


RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a slot may not work now."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a slot needs from the station around it; every callable is called on the event loop."""

    blocked: Callable[[str], Blocked | None]
    """Why the slot with this label may not start a visit now; None when it may."""
    start_visit: Callable[[Plug, Stop, Callable[[Progress], None]], Awaitable[VisitResult]]
    """Run a visit in the slot's thread; `tell` may be called from that thread."""
    changed: Callable[[Slot], None]
    ended: Callable[[Slot, Plug, VisitResult], None]
    """A visit ended; called after the slot's state has changed."""
    broken: Callable[[Slot, BaseException], None]
    """A visit died of a mistake in the program itself."""
    released: Callable[[str], None]
    """The plug of the slot with this label ended."""
    settings: FlashingSection
    clock: Clock
    now: Callable[[], datetime]
    free_slot: Callable[[str], str] = lambda _label: ""
    """Name an empty slot other than this one, for a board that shall be tried elsewhere; empty when there is none."""


class Slot:
    """One place on the bench."""

    def __init__(self, label: str, place: str, bench: Bench, *, known: bool = True) -> None:
        self.label = label
        self.place = place
        self.known = known
        self.state = SlotState.EMPTY
        self.plug: Plug | None = None
        self.visits_ended = 0
        """How many visits of this slot have ended since the station started, whether or not well."""
        self._bench = bench
        self._plugs = 0
        self._next: Programmer | None = None
        self._stop: Stop | None = None
        self._task: asyncio.Task[None] | None = None
        self._progress: Progress | None = None
        self._deadline = self._hard_deadline = float("inf")
        self._not_before = 0.0
        self._rival = self._elsewhere = ""
        self._result: VisitResult | Blocked | None = None
        self._changed_at = bench.now()
        self._mac = ""
        self._chip_id = ""

    @property
    def light(self) -> Light:
        """What the light of this slot shows; a slot that waits shows how urgent its obstacle is."""
        if self.state is SlotState.WAITING and self._result is not None:
            return MEANINGS[_reason_of(self._result)[0]].light
        return LIGHTS[self.state]

    @property
    def busy(self) -> bool:
        """Whether a visit is running or being brought to its record."""
        return self.state in (SlotState.BUSY, SlotState.CLOSING)

    @property
    def programmer(self) -> Programmer | None:
        """What is plugged in here now; while a visit is still being closed, what came after it."""
        return self._next if self.plug is None else self.plug.programmer

    def plugged(self, programmer: Programmer) -> None:
        """A programmer appeared in this place."""
        if self.state is SlotState.CLOSING:
            self._next = programmer
            return
        self._plugs += 1
        self.plug = Plug(slot=self.label, programmer=programmer, number=self._plugs)
        self._result, self._progress, self._mac, self._chip_id = None, None, "", ""
        self._not_before, self._rival = 0.0, ""
        self._apply(SlotEvent.PLUGGED)
        self.try_to_start()

    def unplugged(self) -> None:
        """The programmer is gone: its line is released before anything else happens in this slot."""
        if self._stop is not None:
            self._stop.request(StopCause.UNPLUGGED)
        self._next = None
        if self.plug is None:
            return
        self.plug = None
        self._bench.released(self.label)
        early = self.state is SlotState.ACTION and _reason_of(self._result)[0] is Reason.UNPLUGGED
        self._apply(SlotEvent.VANISHED if early else SlotEvent.UNPLUGGED)

    def try_to_start(self) -> None:
        """Begin the visit of a waiting slot unless the bench is blocked; harmless in any other state."""
        if self.state is not SlotState.WAITING or self.plug is None or self._bench.clock() < self._not_before:
            return
        blocked = self._bench.blocked(self.label)
        if blocked is not None:
            if blocked != self._result:
                self._result = blocked
                self._touch()
            return
        self._result = None
        self._stop = Stop()
        now = self._bench.clock()
        self._deadline = now + self._bench.settings.progress_deadline_s
        self._hard_deadline = now + self._bench.settings.job_deadline_s
        self._apply(SlotEvent.STARTED)
        self._task = asyncio.create_task(self._run(self.plug, self._stop), name=f"visit in {self.label}")
        self._task.add_done_callback(self._after_run)

    def tick(self) -> None:
        """End a visit that is past its deadline; called about twice a second."""
        if self._stop is not None and self.busy and self._bench.clock() >= min(self._deadline, self._hard_deadline):
            self._stop.request(StopCause.DEADLINE)

    def contested(self, other: str) -> None:
        """The MAC of this slot's board answers in slot `other` too: a green light goes out, or does not come on."""
        self._rival = other
        if self.state is SlotState.PASS:
            self._result = self._duplicate()
            self._apply(SlotEvent.CONTESTED)

    def recorded(self, plug: Plug, committed: CommittedJob) -> None:
        """A held result of `plug` is on record now; it is shown if that plug is still there."""
        if self.state is SlotState.FAULT and self.plug == plug and isinstance(self._result, Held):
            self._apply_result(committed)

    async def stop(self, cause: StopCause) -> None:
        """End a running visit and wait until it is on record."""
        if self._stop is not None and self.busy:
            self._stop.request(cause)
        await self.finished()

    async def finished(self) -> None:
        """Wait until no visit is running."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def view(self) -> SlotView:
        """Return what a person sees of this slot."""
        headline, words, deed, reason, cause = self._texts()
        job = self._result if isinstance(self._result, CommittedJob) and self.state is not SlotState.EMPTY else None
        progress = self._progress if self.state is SlotState.BUSY else None
        return SlotView(
            slot=self.label,
            place=self.place,
            known=self.known,
            light=self.light,
            headline=headline,
            words=words,
            deed=deed,
            phase=progress.phase if progress else None,
            fraction=progress.fraction if progress else None,
            note=progress.note if progress else "",
            mac=self._mac if self.state is not SlotState.EMPTY else "",
            chip_id=self._chip_id if self.state is not SlotState.EMPTY else "",
            outcome=job.outcome if job else None,
            reason=reason,
            cause=cause,
            job_id=job.id if job else "",
            changed_at=self._changed_at.isoformat(timespec="milliseconds"),
        )

    async def _run(self, plug: Plug, stop: Stop) -> None:
        loop = asyncio.get_running_loop()

        def tell(progress: Progress) -> None:
            loop.call_soon_threadsafe(self._note_progress, plug, progress)

        result = await self._bench.start_visit(plug, stop, tell)
        self._stop = None
        # A line that broke before the uevent came: most likely unplugged, so give the uevent time before trying again.
        self._not_before = self._bench.clock() + RETRY_S
        self._apply_result(result)
        self.visits_ended += 1
        self._bench.ended(self, plug, result)

    def _after_run(self, task: asyncio.Task[None]) -> None:
        """A mistake of ours outside the job itself, while recording it for instance, costs this slot only."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if self.busy and task is self._task:
                self._stop = None
                detail = f"{type(error).__name__}: {error}"
                self._result = Finding(visit_id="", reason=Reason.STATION_BUG, detail=detail)
                self._apply(SlotEvent.NEEDS_TECHNICIAN)
                self.visits_ended += 1
            self._bench.broken(self, error)
        if self.plug is None:
            # The visit may have claimed its board's MAC after the plug had ended.
            self._bench.released(self.label)
        if self._next is not None:
            programmer, self._next = self._next, None
            self.plugged(programmer)

    def _note_progress(self, plug: Plug, progress: Progress) -> None:
        if plug is not self.plug:
            return
        previous, self._progress = self._progress, progress
        if progress.mac is not None and progress.chip_id is not None:
            self._mac, self._chip_id = progress.mac, format_chip_id(progress.chip_id)
        if previous != progress:
            allowed = progress.allow_s or self._bench.settings.progress_deadline_s
            self._deadline = self._bench.clock() + allowed
            self._bench.changed(self)

    def _duplicate(self) -> Finding:
        detail = f"{self.label} and {self._rival}"
        return Finding(visit_id="", reason=Reason.DUPLICATE_MAC, detail=detail)

    def _apply_result(self, result: VisitResult) -> None:
        """Show what came of a visit; a PASS whose MAC answers elsewhere too is not green for a moment."""
        event = event_of(result)
        if isinstance(result, CommittedJob):
            self._mac = result.mac or ""
            self._chip_id = format_chip_id(result.chip_id) if result.chip_id is not None else ""
        if event is SlotEvent.PASSED and self._rival:
            result, event = self._duplicate(), SlotEvent.NEEDS_TECHNICIAN
        self._result, self._elsewhere = result, self._bench.free_slot(self.label)
        self._apply(event)

    def _apply(self, event: SlotEvent) -> None:
        self.state = TRANSITIONS[self.state, event]
        self._touch()

    def _touch(self) -> None:
        self._changed_at = self._bench.now()
        self._bench.changed(self)

    def _texts(self) -> tuple[str, str, str, str, str]:
        """Headline, words, deed, reason and cause, all from the one table of reasons."""
        match self.state:
            case SlotState.EMPTY:
                return "EMPTY", "", "", "", ""
            case SlotState.BUSY:
                return "BUSY", "", "", "", ""
            case SlotState.PASS:
                return Tray.GOOD, "passed", "unplug, put the board into GOOD", "", ""
            case SlotState.CLOSING:
                return _texts_of(Reason.UNPLUGGED, "")
            case _:
                return self._texts_of_result()

    def _texts_of_result(self) -> tuple[str, str, str, str, str]:
        headline, words, deed, reason, cause = _texts_of(*_reason_of(self._result))
        if isinstance(self._result, CommittedJob) and self._result.outcome is Outcome.FAIL:
            # An ERROR that the same board met in two slots is the board's: another tray than the reason's own.
            headline, deed = Tray.BAD, MEANINGS[Reason.OUT_OF_LIMITS].deed
        if self._elsewhere:
            words, deed = (text.replace("another slot", f"slot {self._elsewhere}") for text in (words, deed))
        return headline, words, deed, reason, cause


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
            return _EVENT_OF_LIGHT[MEANINGS[_reason_of(result)[0]].light]


def _reason_of(result: VisitResult | Blocked | None) -> tuple[Reason, str]:
    match result:
        case Finding() | Blocked():
            return result.reason, result.detail
        case Held():
            return Reason.RECORDS_UNWRITABLE, ""
        case CommittedJob():
            return Reason(result.reason or Reason.STATION_BUG), result.particulars
        case None:
            return Reason.STATION_BUG, "a slot without a result"


def _texts_of(reason: Reason, detail: str) -> tuple[str, str, str, str, str]:
    meaning = MEANINGS[reason]
    headline = {Reason.NO_WORK_ORDER: "NO WORK ORDER", Reason.NO_RECIPE: "NO RECIPE"}.get(
        reason, meaning.tray if meaning.tray is not Tray.NONE else "ACTION"
    )
    return headline, words_for(reason, detail), meaning.deed, reason, cause_of(reason, detail)
