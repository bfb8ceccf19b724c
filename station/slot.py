"""The life of one place on the bench: what is plugged in, what the light shows, and when a visit begins and ends.

All state of a slot lives on the event loop and changes only through the one table `TRANSITIONS`. Its line has one owner at a
time, in a thread of its own: a visit, a watch (where boards move while the programmer stays), or a single look whether a
board is still there. When the plug ends, the first thing that happens is that this line is taken away. PASS is reached from
a job row that was read back after its commit, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from station.config import FlashingSection
from station.lineowners import LET_GO_S, LineOwners
from station.lookout import Listener, Lookout, Looks
from station.model import CommittedJob, Light, Plug, Programmer, StopCause, chip_id_from_mac, format_chip_id
from station.ports import Clock
from station.presence import Seen
from station.properties import SlotProperties, in_words
from station.reasons import MEANINGS, Reason
from station.slotwords import Texts, texts_of
from station.transitions import LIGHTS, RESULTS, TRANSITIONS, Blocked, Shown, SlotEvent, SlotState, event_of, reason_of
from station.views import Progress, SlotView
from station.visit import Finding, Held, VisitResult
from station.visiting import StartVisit, Visiting, VisitListener

RETRY_S = 2.0
_BARE = (SlotState.EMPTY, SlotState.READY, SlotState.LIFTED)
# Left early: what is said of such a board stays until the next one comes, although the socket is empty.
_PULLED_EARLY = (Reason.UNPLUGGED, Reason.TEST_INTERRUPTED, Reason.HUB_DISTURBED)
_LEFT_EARLY = (*_PULLED_EARLY, Reason.BOARD_REMOVED)
_BROKEN_OFF = (*_LEFT_EARLY, Reason.LINK_LOST, Reason.NO_ANSWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a slot needs from the station around it; every callable is called on the event loop."""

    blocked: Callable[[str], Blocked | None]
    """Why the slot with this label may not start a visit now; None when it may."""
    start_visit: StartVisit
    """Run a visit in the slot's thread; `tell` may be called from that thread."""
    looks: Looks
    changed: Callable[[Slot], None]
    ended: Callable[[Slot, Plug, VisitResult], None]
    """A visit ended; called after the slot's state has changed."""
    broken: Callable[[Slot, BaseException], None]
    """A visit or a watch died of a mistake in the program itself."""
    stuck: Callable[[Slot], None]
    """Whoever has the line of this slot does not give it back: nothing goes on here, and everywhere else."""
    released: Callable[[str], None]
    """The board of the slot with this label is not there any more."""
    settings: FlashingSection
    clock: Clock
    now: Callable[[], datetime]
    free_slot: Callable[[str], str] = lambda _label: ""
    """Name an empty slot other than this one, for a board that shall be tried elsewhere; empty when there is none."""
    barred: Callable[[str], Blocked | None] = lambda _label: None
    """Why the slot with this label may make no boards; said while it is empty."""


class Slot:
    """One place on the bench."""

    def __init__(
        self, label: str, place: str, bench: Bench, *, properties: SlotProperties | None = None, known: bool = True
    ) -> None:
        self.label = label
        self.place = place
        self.properties = properties or SlotProperties()
        self.known = known
        self.state = SlotState.EMPTY
        self.plug: Plug | None = None
        """The plug of the last visit; where boards move, each seating of a board is one."""
        self.visits_ended = 0
        """How many visits of this slot have ended since the station started, whether or not well."""
        self._bench = bench
        self._plugs = 0
        self._programmer: Programmer | None = None
        self._next: Programmer | None = None
        self._visiting = Visiting(
            bench.start_visit,
            VisitListener(progressed=self._progressed, ended=self._visit_ended, died=self._visit_died, over=self._over),
            settings=bench.settings,
            clock=bench.clock,
        )
        self._lookout = Lookout(
            bench.looks,
            Listener(saw=self._saw, broken=self._look_died, freed=self._go_on, changed=lambda: bench.changed(self)),
        )
        self._line = LineOwners(self._visiting, self._lookout, bench.clock)
        self._seated = self._closing = False
        self._not_before = 0.0
        self._rival = self._elsewhere = ""
        self._result: Shown = None
        self._changed_at = bench.now()
        self._mac = self._chip_id = ""

    @property
    def light(self) -> Light:
        """What the light of this slot shows; where there is an obstacle, how urgent that is."""
        shown = self._bar or (self._result if self.state is SlotState.WAITING else None)
        return LIGHTS[self.state] if shown is None else MEANINGS[reason_of(shown)[0]].light

    @property
    def busy(self) -> bool:
        """Whether a visit is running or being brought to its record."""
        return self.state in (SlotState.BUSY, SlotState.CLOSING)

    @property
    def free(self) -> bool:
        """Whether the next board may be put here."""
        return self.state in (SlotState.EMPTY, SlotState.READY) and not self._line.stuck and self._bar is None

    @property
    def line_is_back(self) -> bool:
        """Whether no thread of this slot has its line."""
        return self._line.back

    @property
    def programmer(self) -> Programmer | None:
        """What is plugged in here now; while a visit is still being closed, what came after it."""
        return self._programmer or self._next

    @property
    def texts(self) -> Texts:
        """What a person reads of this slot: page, terminal and log take it from here."""
        state, shown = (SlotState.WAITING, self._bar) if self._bar else (self.state, self._result)
        return texts_of(state, shown, self.properties, self._elsewhere)

    @property
    def _bar(self) -> Blocked | None:
        """What an empty slot has to say."""
        return self._bench.barred(self.label) if self.state in (SlotState.EMPTY, SlotState.READY) else None

    # -- what happens to a slot ------------------------------------------------------------------------------------

    def become(self, properties: SlotProperties) -> None:
        """Something about this slot is known that was not."""
        if properties != self.properties:
            self.properties = properties
            self._bench.changed(self)

    def plugged(self, programmer: Programmer) -> None:
        """A programmer appeared in this place."""
        if self.state is SlotState.CLOSING:
            self._next = programmer
            return
        self._programmer = programmer
        self._not_before, self._lookout.died = 0.0, False
        self._forget_board()
        if not self.properties.board_moves:
            self._count_plug(programmer)
        self._apply(SlotEvent.PLUGGED)
        self.try_to_start()

    def unplugged(self) -> None:
        """The programmer is gone: its line is released before anything else happens in this slot."""
        self._line.take(StopCause.UNPLUGGED)
        self._next = None
        if self._programmer is None:
            return
        self._programmer = self.plug = None
        self._bench.released(self.label)
        self._apply(SlotEvent.VANISHED if self._left_early else SlotEvent.UNPLUGGED)

    def try_to_start(self) -> None:
        """Begin the visit of a waiting slot, or the watch of its socket, unless the bench is blocked; else harmless."""
        if self.state is not SlotState.WAITING or self._bench.clock() < self._not_before:
            return
        if not self._line_is_free and not self._line.stuck:
            return
        blocked = Blocked(Reason.ADAPTER_HUNG, _STUCK) if self._line.stuck else self._bench.blocked(self.label)
        if blocked is not None:
            self._seated = False
            if blocked != self._result:
                self._result = blocked
                self._touch()
            return
        self._result = None
        if self.properties.board_moves and not self._seated:
            self._apply(SlotEvent.WATCHED)
            self._go_on()
        else:
            self._start_visit()

    def tick(self) -> None:
        """End a visit that is past its deadline, and give up one that does not end; called about twice a second."""
        if self.busy and self._visiting.overdue:
            self._line.take(StopCause.DEADLINE)
        if self._line.kept:
            self._give_up()

    def contested(self, other: str) -> None:
        """The MAC of this slot's board answers in slot `other` too: a green light goes out, or does not come on."""
        self._rival = other
        if self.state is SlotState.PASS:
            self._result = self._duplicate()
            self._apply(SlotEvent.CONTESTED)

    def lifted(self, mac: str) -> None:
        """The board with this MAC was asked for and did not answer here: its light goes out if it still shows."""
        if self.state not in RESULTS or self._mac != mac:
            return
        if not self.properties.board_moves:
            self._bench.released(self.label)
            self._apply(SlotEvent.LIFTED)
            return
        self._socket_is_empty()
        self._lookout.interrupt(StopCause.SHUTDOWN)
        self._go_on()

    def recorded(self, plug: Plug, committed: CommittedJob) -> None:
        """A held result of `plug` is on record now; it is shown if that board is still there."""
        if self.state is SlotState.FAULT and self.plug == plug and isinstance(self._result, Held):
            self._apply_result(committed)

    async def answers(self, mac: str) -> bool:
        """Whether the board with this MAC is in this slot now, by a fresh sign of it."""
        while self.state is SlotState.BUSY:
            seen = await self._visiting.sign()
            if seen is not None:
                return seen == mac
            if self.state is not SlotState.BUSY and reason_of(self._result)[0] in _BROKEN_OFF:
                return False
        return await self._lookout.ask(mac, lambda: self._where(mac))

    async def stop(self, cause: StopCause) -> None:
        """End visit and watch, begin none again, and wait until the visit is on record, unless it is stuck already."""
        self._closing = True
        self._line.take(cause)
        if not self._line.stuck:
            await self.finished()
            await self._lookout.ended()

    def abandon(self) -> None:
        """The station ends: nothing is waited for here any more."""
        self._visiting.abandon()

    async def finished(self) -> None:
        """Wait until no visit is running."""
        await self._visiting.finished()

    def view(self) -> SlotView:
        """Return what a person sees of this slot."""
        texts, bare = self.texts, self.state in _BARE
        job = self._result if isinstance(self._result, CommittedJob) and not bare else None
        progress = self._visiting.progress if self.state is SlotState.BUSY else None
        return SlotView(
            slot=self.label,
            place=self.place,
            known=self.known,
            light=self.light,
            headline=texts.headline,
            words=texts.words,
            deed=texts.deed,
            phase=progress.phase if progress else None,
            fraction=progress.fraction if progress else None,
            note=progress.note if progress else "",
            mac="" if bare else self._mac,
            chip_id="" if bare else self._chip_id,
            outcome=job.outcome if job else None,
            reason=texts.reason,
            cause=texts.cause,
            job_id=job.id if job else "",
            values=job.values if job else (),
            changed_at=self._changed_at.isoformat(timespec="milliseconds"),
            unwatched=self._lookout.unwatched and self.state in RESULTS,
            properties=in_words(self.properties) if self.known else "",
        )

    # -- visits ----------------------------------------------------------------------------------------------------

    def _start_visit(self) -> None:
        assert self._programmer is not None  # noqa: S101 - WAITING has one
        if self.properties.board_moves:
            self._count_plug(self._programmer)
        assert self.plug is not None  # noqa: S101 - counted here or when the programmer came
        self._seated = False
        self._apply(SlotEvent.STARTED)
        self._visiting.begin(self.plug)

    def _progressed(self, progress: Progress) -> None:
        if progress.mac is not None and progress.chip_id is not None:
            self._mac, self._chip_id = progress.mac, format_chip_id(progress.chip_id)
        self._bench.changed(self)

    def _visit_ended(self, plug: Plug, result: VisitResult) -> None:
        given_up = self._line.stuck
        self._line.came_back()
        # A line that broke before the uevent came: most likely unplugged, so give the uevent time before trying again.
        self._not_before = self._bench.clock() + RETRY_S
        # What comes after the slot was given up is on record, and changes nothing here: another plug does.
        if not given_up:
            self._apply_result(result)
        self.visits_ended += 1
        self._bench.ended(self, plug, result)

    def _visit_died(self, error: BaseException) -> None:
        """A mistake of ours outside the job itself costs this slot only."""
        self._line.came_back()
        if self.busy:
            self._result = _bug(error)
            self._apply(SlotEvent.NEEDS_TECHNICIAN)
            self.visits_ended += 1
        self._bench.broken(self, error)

    def _over(self) -> None:
        if self._programmer is None:
            # The visit may have claimed its board's MAC after the plug had ended.
            self._bench.released(self.label)
        self._plug_next()
        self._go_on()

    def _duplicate(self) -> Finding:
        detail = f"{self.label} and {self._rival}"
        return Finding(visit_id="", reason=Reason.DUPLICATE_MAC, detail=detail, mac=self._mac)

    def _apply_result(self, result: VisitResult) -> None:
        """Show what came of a visit; a PASS whose MAC answers elsewhere too is not green for a moment."""
        event = event_of(result)
        match result:
            case CommittedJob():
                self._mac = result.mac or ""
                self._chip_id = format_chip_id(result.chip_id) if result.chip_id is not None else ""
            case Finding() if result.mac:
                self._mac, self._chip_id = result.mac, format_chip_id(chip_id_from_mac(result.mac))
            case _:
                pass
        if event is SlotEvent.PASSED and self._rival:
            result, event = self._duplicate(), SlotEvent.NEEDS_TECHNICIAN
        self._result, self._elsewhere = result, self._bench.free_slot(self.label)
        self._apply(event)

    # -- looking into the socket -----------------------------------------------------------------------------------

    @property
    def _line_is_free(self) -> bool:
        return self._programmer is not None and not self._closing and not self.busy and self.line_is_back

    @property
    def _left_early(self) -> bool:
        early = _LEFT_EARLY if self.properties.board_moves else _PULLED_EARLY
        return self.state is SlotState.ACTION and reason_of(self._result)[0] in early

    def _go_on(self) -> None:
        """The line is free: begin what this state asks for."""
        if self.line_is_back:
            self._line.came_back()
        programmer = self._programmer
        if programmer is None or not self._line_is_free:
            return
        if self.state is SlotState.WAITING:
            self.try_to_start()
        if not self.properties.board_moves or self._lookout.died or not self._line_is_free:
            return
        if self._left_early:
            self._socket_is_empty()
        self._lookout.watch(programmer, self.properties, self.state, self._result, self._mac)

    def _saw(self, seen: Seen) -> None:
        if self._programmer is None or self.busy:
            return
        if seen is Seen.GONE:
            if self.state in RESULTS:
                self._socket_is_empty()
        elif (self.state, SlotEvent.SEATED) in TRANSITIONS:
            self._bench.released(self.label)
            self._forget_board()
            self._seated, self._not_before = True, 0.0
            self._apply(SlotEvent.SEATED)

    def _socket_is_empty(self) -> None:
        """The board is out, its programmer stays; a board that left too early is spoken of until the next one comes."""
        self._bench.released(self.label)
        if self._left_early:
            self._apply(SlotEvent.VANISHED)
        else:
            self._forget_board()
            self._apply(SlotEvent.TAKEN)

    def _look_died(self, error: BaseException) -> None:
        if (self.state, SlotEvent.NEEDS_TECHNICIAN) in TRANSITIONS and self.state not in RESULTS and not self.busy:
            self._result = _bug(error)
            self._apply(SlotEvent.NEEDS_TECHNICIAN)
        self._bench.broken(self, error)

    def _where(self, mac: str) -> tuple[Programmer, SlotProperties] | None:
        """Where to look for the board with this MAC; None when it cannot be in this slot."""
        may_be_here = self._mac == mac and self.state in (*RESULTS, SlotState.WAITING)
        if self._programmer is None or not may_be_here or self._closing or not self._visiting.free:
            return None
        return self._programmer, self.properties

    # -- the line --------------------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        """Whoever has the line does not come back: this slot calls the technician, and no other knows of it."""
        self._line.stuck = True
        if self.busy:
            self._result = Finding(visit_id="", reason=Reason.ADAPTER_HUNG, detail=_STUCK)
            self._apply(SlotEvent.NEEDS_TECHNICIAN)
        self._bench.stuck(self)
        self._plug_next()
        self.try_to_start()

    def _plug_next(self) -> None:
        if self._next is not None:
            programmer, self._next = self._next, None
            self.plugged(programmer)

    # -- small steps -----------------------------------------------------------------------------------------------

    def _count_plug(self, programmer: Programmer) -> None:
        self._plugs += 1
        self.plug = Plug(slot=self.label, programmer=programmer, number=self._plugs)

    def _forget_board(self) -> None:
        """Nothing of the last board is left in this slot."""
        self._result, self._visiting.progress, self._mac, self._chip_id = None, None, "", ""
        self._rival, self._seated = "", False

    def _apply(self, event: SlotEvent) -> None:
        self.state = TRANSITIONS[self.state, event]
        self._touch()

    def _touch(self) -> None:
        self._changed_at = self._bench.now()
        self._bench.changed(self)


_STUCK = f"the port was not given back within {LET_GO_S:.0f} s"


def _bug(error: BaseException) -> Finding:
    return Finding(visit_id="", reason=Reason.STATION_BUG, detail=f"{type(error).__name__}: {error}")
