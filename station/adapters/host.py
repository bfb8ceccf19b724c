"""The machine the station runs on: what every record says about it, and the lock that keeps a second daemon away.

Reads /proc and the kernel's clock state; never writes anything but the lock file.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from station.errors import ConfigurationError
from station.model import HostFacts

# adjtimex(2): the clock state TIME_ERROR means that the kernel's clock is not synchronised.
_TIME_ERROR = 5
_TIMEX_BYTES = 512  # struct timex is 208 bytes on 64-bit Linux


def host_facts(station_id: str, esptool_version: str) -> HostFacts:
    """Return the facts of this moment; the clock's state is read anew each time."""
    return HostFacts(
        station_id=station_id,
        station_version=station_version(),
        esptool_version=esptool_version,
        kernel_version=platform.release(),
        boot_id=_boot_id(),
        clock_synchronised=_clock_synchronised(),
    )


@cache
def station_version() -> str:
    """Return the version of the program that runs: looked up once, for the files of another one may be written any time."""
    return version("flashing-station")


@contextmanager
def only_daemon(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for one daemon; a second one gets a `ConfigurationError` that names the first."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        # The lock file is never deleted: a deleted one could be locked twice, once by name and once by a stale handle.
        handle = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(
            file=str(state_dir),
            key="station.state_dir",
            problem=f"cannot be written ({error.strerror})",
            fix="make it belong to the station's user, or name another directory",
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigurationError(
                file=str(state_dir),
                problem=f"another station (PID {holder}) is running on this state directory",
                fix="stop it first, or give this one its own station.state_dir",
            ) from None
        os.truncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _clock_synchronised() -> bool | None:
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR
