"""What went wrong with a tty, in our words: an errno becomes one exception of ours, a busy port names its holder.

Promises that everything a device, a cable or another program can do to an open tty has one exception here, and that
what is the station's own doing (no more descriptors, say) has none and stays what it is. It must never open a device.
The numbers are those seen with Linux's ch341 driver: EIO and ETIMEDOUT when the adapter answers no control request.
"""

from __future__ import annotations

import errno
import os
import termios
from contextlib import suppress
from pathlib import Path

from station.errors import AdapterHung, LineError, PortBusy, PortDenied, PortGone, PortMissing


def line_error(node: str, number: int | None, *, hung_up: bool) -> LineError | None:  # noqa: PLR0911 - a table
    """Return our error for an errno that the device is to blame for; None for one that is the station's own."""
    says = f"{node}: {os.strerror(number)}" if number else node
    match number:
        case _ if hung_up:
            return PortGone(says)
        case errno.ENOENT | errno.ENOTDIR:
            return PortMissing(f"there is no {node}")
        case errno.ENOTTY | errno.EINVAL | errno.EISDIR:
            return PortMissing(f"{node} is not a serial port")
        case errno.EACCES | errno.EPERM:
            return PortDenied(says)
        case errno.EBUSY | errno.EAGAIN:
            return PortBusy(node, holder_of(node))
        case errno.ENODEV | errno.ENXIO:
            return PortGone(says)
        case errno.EIO | errno.ETIMEDOUT | errno.EPROTO | errno.EPIPE | errno.EREMOTEIO:
            return AdapterHung(says)
        case _:
            return None


def error_number(error: BaseException) -> int | None:
    """Return the errno in `error`, or in what it was made of: pyserial drops it from some of its exceptions."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        if isinstance(cause, termios.error):
            return int(cause.args[0])
        cause = cause.__cause__ or cause.__context__
    return None


def holder_of(node: str) -> str:
    """Return who has `node` open, as `NAME (PID)`; `another program` when that cannot be seen."""
    target = os.path.realpath(node)
    holders = [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and _holds(pid, target)]
    # Ourselves last: on a bench our own process has the other end's descriptors too.
    for pid in sorted(holders, key=lambda pid: (int(pid.name) == os.getpid(), int(pid.name))):
        with suppress(OSError):
            name = (pid / "comm").read_bytes().strip().decode("ascii", "backslashreplace")
            return f"{name} ({pid.name})"
    return "another program"


def _holds(pid: Path, target: str) -> bool:
    """Whether the process has `target` open; False where we may not look or it has ended."""
    with suppress(OSError):
        for descriptor in (pid / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) == target:
                    return True
    return False
