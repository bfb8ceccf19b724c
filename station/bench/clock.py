"""The virtual clock of one board: seconds as the silicon sees them, and when things happen on it.

Promises that events happen in the order of their virtual times at every pace. At pace 1 virtual and real seconds are
the same, at 0.1 everything is ten times faster, at 0 nothing ever waits and time is whatever the events say.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable


class Clock:
    """Runs on the event loop it is made on; use it only from there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pace: float) -> None:
        self.pace = pace
        self._loop = loop
        self._started = loop.time()
        self._latest_s = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._timer: asyncio.Handle | None = None

    def now_s(self) -> float:
        """Virtual seconds since the clock was made."""
        if self.pace > 0:
            self._latest_s = max(self._latest_s, (self._loop.time() - self._started) / self.pace)
        return self._latest_s

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        """Do this at that virtual time, or as soon as possible when it has passed."""
        event = (when_s, next(self._order), act)
        heapq.heappush(self._events, event)
        if self._timer is None or (self.pace > 0 and self._events[0] is event):
            self._arm()

    def stop(self) -> None:
        """Forget everything that has not happened yet."""
        self._events.clear()
        self._disarm()

    def _arm(self) -> None:
        """Wake when the first event is due."""
        self._disarm()
        if not self._events:
            return
        if self.pace > 0:
            self._timer = self._loop.call_at(self._started + self._events[0][0] * self.pace, self._run)
        else:
            self._timer = self._loop.call_soon(self._run)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        """Do what is due; at pace 0 one event at a time, so that bytes can come in between."""
        self._timer = None
        now_s = self.now_s()
        while self._events and (self.pace == 0 or self._events[0][0] <= now_s):
            when_s, _, act = heapq.heappop(self._events)
            self._latest_s = max(self._latest_s, when_s)
            act()
            if self.pace == 0:
                break
        self._arm()
