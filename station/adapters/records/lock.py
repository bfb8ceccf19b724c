"""The lock beside a database file that says whose running jobs it holds.

Only the station that holds it may take the file's running jobs for its own, dead ones; a second station on the same file
would abort what the first is doing right now. Advisory (flock), released by the kernel when its holder dies, and never
deleted: a deleted file could be locked twice, once by name and once by a stale handle.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from station.errors import ConfigurationError


class StationLock:
    """The lock of one database file; not taken yet. Used from one thread at a time."""

    def __init__(self, file: Path) -> None:
        # Resolved, so that two names of one file have one lock.
        resolved = file.resolve()
        self._file, self._path = file, resolved.with_name(f"{resolved.name}.lock")
        self._handle: int | None = None

    def take(self) -> None:
        """Take it unless it is ours already; raises `ConfigurationError` that names the PID of who holds it."""
        if self._handle is not None:
            return
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(
                file=str(self._path),
                problem=f"cannot be opened ({error.strerror})",
                fix="make it and its directory belong to the station's user",
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise ConfigurationError(
                file=str(self._file),
                key="database.url",
                problem=f"another station (PID {holder}) keeps its running jobs in this database",
                fix="stop it first, or name another database",
            ) from None
        except OSError as error:
            os.close(handle)
            raise ConfigurationError(
                file=str(self._path),
                problem=f"cannot be locked ({error.strerror})",
                fix="put the database on a local disk that has room",
            ) from None
        self._handle = handle

    def release(self) -> None:
        """Give it back, if it is ours."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
