"""systemd's notification protocol (sd_notify(3)): readiness, status and the watchdog, in one datagram each.

Without `NOTIFY_SOCKET` in the environment nothing is sent. It never raises and never blocks.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(*lines: str) -> None:
    """Send `lines` (such as `READY=1`) to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A manager that does not listen, or an address that is none, is the manager's business.
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel,
    ):
        channel.connect(address)
        channel.send("\n".join(lines).encode())


def watchdog_s() -> float | None:
    """Return within how many seconds the manager wants to hear of us, None where it does not (sd_watchdog_enabled(3))."""
    wanted_of, wanted_usec = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if wanted_of not in ("", str(os.getpid())) or not (wanted_usec.isascii() and wanted_usec.isdecimal()):
        return None
    return int(wanted_usec) / 1e6 or None
