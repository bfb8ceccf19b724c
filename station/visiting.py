"""The visit that runs in a slot: begun, watched over and stopped from the event loop, worked in a thread of its own.

At most one runs at a time. It has two deadlines, one from its last sign of progress and one from its start; who keeps them
calls `overdue`. Stopping it takes its line away at once, and no more than that: its thread still has to come back, and until
then the line is not free. It decides nothing about states: how it ended goes to the slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from station.config import FlashingSection
from station.model import Plug, StopCause
from station.ports import Clock, Stop
from station.views import Progress
from station.visit import VisitResult

StartVisit = Callable[[Plug, Stop, Callable[[Progress], None]], Awaitable[VisitResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitListener:
    """What the slot wants to hear; each is called on the event loop."""

    progressed: Callable[[Progress], None]
    ended: Callable[[Plug, VisitResult], None]
    """The thread is back, and the line is free."""
    died: Callable[[BaseException], None]
    """A mistake of ours outside the job itself, while it was recorded for instance; the line is free."""
    over: Callable[[], None]
    """Called last, whatever ended the visit."""


class Visiting:
    """The visits of one slot, one at a time. Used on the event loop."""

    def __init__(self, start: StartVisit, listener: VisitListener, *, settings: FlashingSection, clock: Clock) -> None:
        self._start, self._listener, self._settings, self._clock = start, listener, settings, clock
        self.progress: Progress | None = None
        """What the visit said last; the slot forgets it with its board."""
        self._plug: Plug | None = None
        self._stop: Stop | None = None
        self._task: asyncio.Task[None] | None = None
        self._signs: list[asyncio.Future[str]] = []
        self._deadline = self._hard_deadline = float("inf")

    @property
    def free(self) -> bool:
        """Whether the line belongs to nobody here."""
        return self._stop is None

    @property
    def overdue(self) -> bool:
        """Whether the visit that runs is past one of its deadlines."""
        return not self.free and self._clock() >= min(self._deadline, self._hard_deadline)

    def begin(self, plug: Plug) -> None:
        """Begin the visit of this plug."""
        now = self._clock()
        self._plug, self._stop = plug, Stop()
        self._deadline = now + self._settings.progress_deadline_s
        self._hard_deadline = now + self._settings.job_deadline_s
        self._task = asyncio.create_task(self._run(plug, self._stop), name=f"visit in {plug.slot}")
        self._task.add_done_callback(self._after_run)

    def interrupt(self, cause: StopCause) -> None:
        """Take the line away at once; what a visit says after its unplug is nobody's."""
        if cause is StopCause.UNPLUGGED:
            self._plug = None
        if self._stop is not None:
            self._stop.request(cause)

    async def finished(self) -> None:
        """Wait until no visit is running."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def abandon(self) -> None:
        """Wait for nothing any more; whatever its thread brings is lost."""
        if self._task is not None:
            self._task.cancel()

    async def sign(self) -> str | None:
        """Return the MAC in the next sign of life of the board that is visited; None when the visit ends without one."""
        if self._task is None:
            return None
        sign: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._signs.append(sign)
        ends: list[asyncio.Future[Any]] = [sign, self._task]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return sign.result() if sign.done() else None

    async def _run(self, plug: Plug, stop: Stop) -> None:
        loop = asyncio.get_running_loop()

        def tell(progress: Progress) -> None:
            loop.call_soon_threadsafe(self._note, plug, progress)

        result = await self._start(plug, stop, tell)
        self._stop = None
        self._listener.ended(plug, result)

    def _after_run(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._stop = None
            self._listener.died(error)
        self._listener.over()

    def _note(self, plug: Plug, progress: Progress) -> None:
        if plug is not self._plug:
            return
        previous, self.progress = self.progress, progress
        if progress.mac is not None:
            for sign in self._signs:
                if not sign.done():
                    sign.set_result(progress.mac)
            self._signs.clear()
        if previous != progress:
            self._deadline = self._clock() + (progress.allow_s or self._settings.progress_deadline_s)
            self._listener.progressed(progress)
