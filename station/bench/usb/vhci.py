"""The kernel's virtual USB host controller: which sockets it has, and how a device is put into one.

Promises that what is not there or not allowed is told in one sentence with the fix, and that a socket is named as udev will
name it. Closing the returned stream pulls the device. It must never load a module or take a socket that is in use.
Source: Linux drivers/usb/usbip/vhci_sysfs.c; ports by controller as in `status`, `status.1` and so on.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from station.errors import ConfigurationError

CONTROLLER = Path("/sys/devices/platform/vhci_hcd.0")
FULL_SPEED = 2
ATTACH_PATIENCE_S = 10.0
"""How long the kernel may take to let go of the device that was pulled out of the same socket."""
TTY_PATIENCE_S = 20.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class VhciSocket:
    """One socket of the virtual hub: `number` is what the kernel's `attach` calls it, `id_path` what udev does."""

    number: int
    bus: int
    """Which of the virtual controllers."""
    root_port: int
    """From 1."""

    @property
    def id_path(self) -> str:
        """ID_PATH of a CH340 in it."""
        return f"platform-vhci_hcd.{self.bus}-usb-0:{self.root_port}:1.0"


def sockets(count: int, controller: Path = CONTROLLER) -> tuple[VhciSocket, ...]:
    """Return the first `count` sockets for full-speed devices; ConfigurationError when there are not so many, or not for us."""
    attach = controller / "attach"
    if not attach.exists():
        raise ConfigurationError(
            file=str(controller),
            problem="this kernel has no virtual USB host controller",
            fix="sudo modprobe vhci_hcd (a kernel that was built without it cannot run --usb)",
        )
    if not os.access(attach, os.W_OK):
        raise ConfigurationError(
            file=str(attach), problem="only root may attach virtual USB devices", fix="run it with sudo"
        )
    found: list[VhciSocket] = []
    for bus in range(64):
        status = controller / (f"status.{bus}" if bus else "status")
        if len(found) >= count or not status.exists():
            break
        # hub port sta spd dev sockfd local_busid: `hs` is the USB 2 half of a controller, which takes full speed too.
        numbers = [int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("hs")]
        found += [VhciSocket(number=number, bus=bus, root_port=place) for place, number in enumerate(numbers, start=1)]
    if len(found) < count:
        raise ConfigurationError(
            file=str(controller), problem=f"it has {len(found)} sockets, not {count}", fix="ask for fewer slots"
        )
    return tuple(found[:count])


def attach(place: VhciSocket, controller: Path = CONTROLLER) -> socket.socket:
    """Plug a full-speed device in; returns the stream on which the kernel will talk to it. Blocks; OSError when it is refused.

    The kernel needs a moment to give a socket free after a pull: so long it is asked again.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline_s = time.monotonic() + ATTACH_PATIENCE_S
    with theirs:
        # The device's number is any but 0.
        order = f"{place.number} {theirs.fileno()} {place.number + 1} {FULL_SPEED}"
        while True:
            try:
                (controller / "attach").write_text(order)
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline_s:
                    ours.close()
                    raise OSError(error.errno, f"cannot attach to vhci port {place.number}: {error.strerror}") from None
                time.sleep(POLL_S)
            else:
                return ours


def await_tty(place: VhciSocket, controller: Path = CONTROLLER) -> str:
    """Wait until the driver has made a tty of what is in this socket; returns its path. Blocks; OSError when none comes."""
    bus = controller.with_name(f"vhci_hcd.{place.bus}")
    deadline_s = time.monotonic() + TTY_PATIENCE_S
    while time.monotonic() < deadline_s:
        found = sorted(bus.glob(f"usb*/*-{place.root_port}/*-{place.root_port}:1.0/ttyUSB*"))
        if found and Path("/dev", found[0].name).exists():
            return f"/dev/{found[0].name}"
        time.sleep(POLL_S)
    raise OSError(errno.ENODEV, f"no tty came at {place.id_path}; is the ch341 module there?")
