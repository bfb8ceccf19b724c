"""Who looks into a slot's socket while no visit runs there: a watch, or one look whether a board is still in it.

At most one of them owns the line, in the slot's own thread (`station.presence`); whoever wants the line takes it by
`interrupt` and gets it when `free` says so. It decides nothing about states: what it saw goes to the slot. A stopped look is
no news, and a look that dies of a mistake of ours is begun again only after the next plug.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from station import presence
from station.errors import LineStopped
from station.model import CommittedJob, Programmer, StopCause
from station.ports import Stop
from station.presence import Left, Seated, Seen, Socket
from station.properties import SlotProperties
from station.reasons import Reason
from station.transitions import RESULTS, Shown, SlotState, reason_of
from station.visit import Finding, Held, Tools

# Only another plug helps, so nothing is looked for behind these.
_UNTIL_REPLUGGED = (Reason.ADAPTER_DEAF, Reason.ADAPTER_HUNG)
_FIRMWARE_RUNS = (Reason.NOT_IN_DOWNLOAD_MODE, Reason.NO_PENDING_JOB, Reason.NOT_FLASHED_HERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """The three of `station.presence`, each begun on the event loop and run in the slot's thread."""

    await_board: Callable[[Programmer, SlotProperties, Stop], Awaitable[Seen]]
    await_departure: Callable[[Programmer, SlotProperties, Stop, Seated], Awaitable[Seen]]
    still_there: Callable[[Programmer, SlotProperties, Stop, str], Awaitable[bool]]


def looks_with(tools: Tools, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> Looks:
    """Return the looks of a station with these tools; `in_thread` runs each in a thread of the slots."""

    def await_board(programmer: Programmer, properties: SlotProperties, stop: Stop) -> Awaitable[Seen]:
        socket = Socket(programmer=programmer, properties=properties, stop=stop, tools=tools)
        return in_thread(lambda: presence.await_board(socket))

    def await_departure(
        programmer: Programmer, properties: SlotProperties, stop: Stop, seated: Seated
    ) -> Awaitable[Seen]:
        socket = Socket(programmer=programmer, properties=properties, stop=stop, tools=tools)
        return in_thread(lambda: presence.await_departure(socket, seated))

    def still_there(programmer: Programmer, properties: SlotProperties, stop: Stop, mac: str) -> Awaitable[bool]:
        socket = Socket(programmer=programmer, properties=properties, stop=stop, tools=tools)
        return in_thread(lambda: presence.still_there(socket, mac))

    return Looks(await_board=await_board, await_departure=await_departure, still_there=still_there)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What the slot wants to hear; each is called on the event loop, with the line free again."""

    saw: Callable[[Seen], None]
    broken: Callable[[BaseException], None]
    """A look died of a mistake in the program itself."""
    freed: Callable[[], None]
    """Called last, whatever ended the look."""
    changed: Callable[[], None]
    """`unwatched` has changed, and the watch goes on."""


class Lookout:
    """The looks into one socket, one at a time. Used on the event loop."""

    def __init__(self, looks: Looks, listener: Listener) -> None:
        self._looks, self._listener = looks, listener
        self.unwatched = False
        """Whether the board that is watched may leave unseen."""
        self.died = False
        """Whether a watch died of a mistake of ours; the slot forgets it with the next plug."""
        self._look: asyncio.Future[Seen] | asyncio.Future[bool] | None = None
        self._stop: Stop | None = None
        self._wanted = False
        self._one_asks = asyncio.Lock()

    @property
    def free(self) -> bool:
        """Whether the line belongs to nobody here."""
        return self._look is None and not self._wanted

    def watch(
        self, programmer: Programmer, properties: SlotProperties, state: SlotState, shown: Shown, mac: str
    ) -> None:
        """Begin the watch that a slot in this state asks for: for a board, or until the one that is shown leaves."""
        if state in (SlotState.READY, SlotState.PULLED):
            self._watch_socket(programmer, properties)
        elif state in RESULTS and reason_of(shown)[0] not in _UNTIL_REPLUGGED:
            # What asks for a hand asks for this very board as well; a verdict on it stands until it is gone.
            seated = Seated(mac=mac, left=left_by(shown), seat_again=state is SlotState.ACTION)
            self._watch_board(programmer, properties, seated)

    def _watch_socket(self, programmer: Programmer, properties: SlotProperties) -> None:
        """Begin to wait for a board."""
        stop = Stop()
        self._watch(self._looks.await_board(programmer, properties, stop), stop)

    def _watch_board(self, programmer: Programmer, properties: SlotProperties, seated: Seated) -> None:
        """Begin to wait until this board leaves."""
        loop, stop = asyncio.get_running_loop(), Stop()

        def note(now: bool) -> None:  # noqa: FBT001 - the one thing it says
            loop.call_soon_threadsafe(self._note_unwatched, stop, now)

        watch = self._looks.await_departure(programmer, properties, stop, replace(seated, unwatched=note))
        self._watch(watch, stop)

    def interrupt(self, cause: StopCause) -> None:
        """Take the line away at once; what was going on is over a moment later."""
        if self._stop is not None:
            self._stop.request(cause)

    async def ended(self) -> None:
        """Wait until the line is released."""
        if self._look is not None:
            await asyncio.wait([self._look])

    async def ask(self, mac: str, of: Callable[[], tuple[Programmer, SlotProperties] | None]) -> bool:
        """Take the line from the watch and look once for this board; `of` says where, None when it cannot be there."""
        async with self._one_asks:
            self._wanted = True
            try:
                # No news of the next plug here: only the watch is interrupted, not the slot.
                self.interrupt(StopCause.SHUTDOWN)
                await self.ended()
                where = of()
                return where is not None and await self._look_once(*where, mac)
            finally:
                self._wanted = False
                self._listener.freed()

    async def _look_once(self, programmer: Programmer, properties: SlotProperties, mac: str) -> bool:
        self._stop = stop = Stop()
        look = asyncio.ensure_future(self._looks.still_there(programmer, properties, stop, mac))
        self._look = look
        look.add_done_callback(self._after_look)
        try:
            await asyncio.wait([look])
        finally:
            stop.request(StopCause.SHUTDOWN)
        return not look.cancelled() and look.exception() is None and look.result()

    def _watch(self, watch: Awaitable[Seen], stop: Stop) -> None:
        future = asyncio.ensure_future(watch)
        self._look, self._stop = future, stop
        future.add_done_callback(self._after_watch)

    def _after_watch(self, watch: asyncio.Future[Seen]) -> None:
        self.unwatched = False
        self._after_look(watch, seen=None if watch.cancelled() or watch.exception() else watch.result())

    def _after_look(self, look: asyncio.Future[Seen] | asyncio.Future[bool], seen: Seen | None = None) -> None:
        self._stop = self._look = None
        error = None if look.cancelled() else look.exception()
        if seen is not None:
            self._listener.saw(seen)
        elif error is not None and not isinstance(error, LineStopped):
            self.died = True
            self._listener.broken(error)
        self._listener.freed()

    def _note_unwatched(self, stop: Stop, unwatched: bool) -> None:  # noqa: FBT001 - as in _watch_board
        if stop is self._stop and unwatched != self.unwatched:
            self.unwatched = unwatched
            self._listener.changed()


def left_by(result: Shown) -> Left:
    """Return what the visit with this result left in the socket."""
    match result:
        case Finding(reason=Reason.PORT_BUSY | Reason.PORT_DENIED):
            return Left.PORT
        case Finding(reason=Reason.NO_ANSWER):
            return Left.NOBODY
        case Finding(reason=reason) if reason in _FIRMWARE_RUNS:
            return Left.FIRMWARE
        case CommittedJob(boot_evidence=evidence) if evidence is not None:
            return Left.FIRMWARE
        case Held(rows=rows) if rows[0].end.boot_evidence is not None:
            return Left.FIRMWARE
        case _:
            return Left.LOADER
