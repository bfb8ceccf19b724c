"""Threads that nobody has to wait for: one per piece of work, which the end of the process does not join.

A thread that closes a port whose output cannot drain, or sits in a driver that never answers, cannot be ended from outside.
The threads of an executor are joined when the process ends, so one of them would keep the station from ending; these do not.
Records are safe all the same: a row that was begun and never closed is ABORTED at the next start.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class OwnThreads:
    """Begins threads, each for one piece of work. Used on the event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads: dict[threading.Thread, Future[Any]] = {}

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Begin `work` in a thread of its own; its result or exception comes on the running event loop."""
        self.join_finished()
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()
        thread = threading.Thread(target=_do, args=(work, done), name=self._name, daemon=True)
        self._threads[thread] = done
        thread.start()
        return asyncio.wrap_future(done)

    def join_finished(self) -> int:
        """Join every thread whose work is done; return how many still work."""
        for thread in [thread for thread, done in self._threads.items() if done.done()]:
            thread.join()
            del self._threads[thread]
        return len(self._threads)


def _do(work: Callable[[], T], done: Future[T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who waits for the work
        done.set_exception(error)
    else:
        done.set_result(result)
    finally:
        del work, done  # an error's traceback holds this frame, which would hold the error
