"""Whose turn it is where only so many may do something at once: boards behind one hub that start their radios.

Who waits does so in its own slot's thread, says so, and gives way at once when its plug ends. It must never hold a turn
beyond the `with` block that took it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from station.ports import Stop

LOOK_S = 0.1


class Turns:
    """So many at once, by name of what they share. Thread-safe."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, shared: str, at_once: int, stop: Stop, waiting: Callable[[], None]) -> Iterator[None]:
        """Take a turn, waiting until fewer than `at_once` have one; `waiting` is called again and again meanwhile.

        Raises `LineStopped` as soon as `stop` ends the visit that waits, and what `waiting` raises.
        """
        while not self._take(shared, at_once):
            waiting()
            stop.wait(LOOK_S)
        try:
            yield
        finally:
            with self._lock:
                self._taken[shared] -= 1

    def _take(self, shared: str, at_once: int) -> bool:
        with self._lock:
            if self._taken[shared] >= at_once:
                return False
            self._taken[shared] += 1
            return True
