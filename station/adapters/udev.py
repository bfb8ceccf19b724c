"""Who is plugged in: USB-serial adapters as sysfs and udev describe them, through pyudev.

uevents are hints and nothing more (they get lost, doubled and reordered); what is attached is always looked up afresh in
/sys/class/tty, and each tty that is still the same device is read only once. The monitor listens to events that udev has
processed, never to raw kernel events, because ID_PATH and the node's permissions exist only afterwards. It must never report
a device that udev has not finished, never read the files of a device that may be on its way out (the kernel lets such a
reader wait, up to half a minute, and the event loop with it), and never let one odd device hide the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pyudev
import structlog

from station.model import Programmer

TTY_CLASS = Path("/sys/class/tty")
UDEV_CONTROL = Path("/run/udev/control")
RECEIVE_BUFFER_BYTES = 16 * 1024 * 1024
"""For bursts of a whole bench: the kernel's default holds about 500 events (systemd commit 99448c1f)."""
DRAIN_EVENTS_MAX = 1000
"""So many events are taken in one go; the loop calls again for the rest."""
REOPEN_AFTER_S = 1.0
TEXT_CHARS_MAX = 64
_UDEV_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# What a device that vanishes in the middle, or was never whole, can throw at its reader.
_ODD_DEVICE = (OSError, LookupError, ValueError, pyudev.DeviceNotFoundError)

_log = structlog.get_logger(__name__)


class UdevWatcher:
    """The real `ProgrammerWatcher`; used on the event loop only."""

    def __init__(
        self,
        *,
        usb_ids: Iterable[str],
        excluded_places: Iterable[str] = (),
        udev_control: Path = UDEV_CONTROL,
    ) -> None:
        """Watch for adapters with one of `usb_ids` (`vvvv:pppp`, lower-case hex).

        `excluded_places` are ID_PATHs (or places) that are never reported: a tower light may carry the CH340's own id.
        `udev_control` exists while a udev daemon serves this /dev.
        """
        self._usb_ids = frozenset(usb_ids)
        self._excluded_places = frozenset(excluded_places)
        self._udev_control = udev_control
        self._context = pyudev.Context()
        self._monitor: pyudev.Monitor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_hint: Callable[[], None] = _ignore_hint
        self._reopening: asyncio.TimerHandle | None = None
        self._read: dict[str, tuple[tuple[str, int], Programmer | None]] = {}
        """By name of the tty: which device it was when its files were read, and what they said; None: none of ours."""

    def start(self, on_hint: Callable[[], None]) -> None:
        """Begin to listen on the running event loop; raises OSError when udev's netlink group cannot be joined."""
        self._loop = asyncio.get_running_loop()
        self._on_hint = on_hint
        self._open_monitor(self._loop)

    def heard(self) -> bool:
        """Whether the monitor is up and a udev daemon is there to speak to it.

        False also in a container that lacks /run/udev (pyudev#362): there only the periodic snapshots find anything.
        """
        return self._monitor is not None and self._udev_control.exists()

    def stop(self) -> None:
        """Stop listening and close the monitor; harmless when it never started."""
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        self._close_monitor()
        self._on_hint = _ignore_hint
        self._loop = None

    def snapshot(self) -> tuple[Programmer, ...]:
        """Return what is attached and ready, ordered by place; single odd devices are left out, for a later snapshot."""
        try:
            names = sorted(entry.name for entry in TTY_CLASS.iterdir())
        except FileNotFoundError:
            return ()
        self._read = {name: known for name, known in self._read.items() if name in names}
        found: list[Programmer] = []
        for name in names:
            try:
                programmer = self._known(name)
            except _ODD_DEVICE as error:
                _log.debug("programmer.skipped", tty=name, why=repr(error))
                continue
            if programmer is not None:
                found.append(programmer)
        return tuple(sorted(found, key=lambda programmer: programmer.place))

    def _known(self, name: str) -> Programmer | None:
        """Return what this tty is, from memory where it is the same device as before.

        Whoever reads `uevent`, or any text of a USB device, waits for the device's lock (drivers/base/core.c, uevent_show;
        drivers/usb/core/sysfs.c). While an adapter that was pulled mid-write is taken away the kernel holds that for 31 s:
        so long its tty is still listed, and whatever is asked of it waits. `stat` does not.
        """
        directory = (TTY_CLASS / name).resolve(strict=True)
        device = (str(directory), directory.stat().st_ino)
        known = self._read.get(name)
        if known is not None and known[0] == device:
            return known[1]
        programmer, final = self._examine(pyudev.Devices.from_name(self._context, "tty", name))
        if final:
            self._read[name] = (device, programmer)
        return programmer

    def _examine(self, tty: pyudev.Device) -> tuple[Programmer | None, bool]:
        """Return the programmer, None where this is none of ours, and whether that will be so as long as the device lives."""
        # Careful with truth: a pyudev Device is a Mapping whose `len` warns, so always `is None`.
        adapter = tty.find_parent("usb", "usb_device")
        interface = tty.find_parent("usb", "usb_interface")
        if adapter is None or interface is None or tty.device_node is None:
            return None, True
        usb_id = f"{_text(adapter, 'idVendor')}:{_text(adapter, 'idProduct')}".lower()
        if usb_id not in self._usb_ids:
            return None, True
        initialized_usec = tty.properties.get("USEC_INITIALIZED")
        if initialized_usec is None and self._udev_control.exists():
            return None, False  # udev is still at it: neither ID_PATH nor the node's group are right yet
        id_path = tty.properties.get("ID_PATH")
        topology = interface.sys_name.partition("-")[2]  # "2.3:1.0" of "1-2.3:1.0"
        if id_path is None:
            id_path = _derive_id_path(interface, topology)
        elif not id_path.endswith(f":{topology}"):
            # udev's record is keyed by the tty's number, so for a moment it may still be that of the adapter that had
            # this number before, in another place. What was there is not what is here.
            return None, False
        place = id_path + _port_suffix(tty, interface)
        if not self._excluded_places.isdisjoint((id_path, place)):
            return None, True
        programmer = Programmer(
            place=place,
            node=tty.device_node,
            sysfs_path=tty.sys_path,
            generation=_generation(tty, adapter, initialized_usec),
            usb_id=usb_id,
            adapter_version=_text(adapter, "bcdDevice"),
            product=_product(tty),
            hub_path=adapter.sys_name.partition("-")[2],
        )
        return programmer, initialized_usec is not None

    def _open_monitor(self, loop: asyncio.AbstractEventLoop) -> None:
        monitor = pyudev.Monitor.from_netlink(self._context, source="udev")
        monitor.filter_by("tty")
        with contextlib.suppress(OSError):
            # Beyond net.core.rmem_max this takes CAP_NET_ADMIN; without it we get as much as is allowed.
            monitor.set_receive_buffer_size(RECEIVE_BUFFER_BYTES)
        monitor.start()
        loop.add_reader(monitor.fileno(), self._receive)
        self._monitor = monitor

    def _close_monitor(self) -> None:
        if self._monitor is not None and self._loop is not None:
            self._loop.remove_reader(self._monitor.fileno())
        self._monitor = None  # its last reference: pyudev closes the socket with it

    def _receive(self) -> None:
        if self._monitor is None:
            return
        received = 0
        try:
            while received < DRAIN_EVENTS_MAX and (device := self._monitor.poll(timeout=0)) is not None:
                received += 1
                self._read.pop(device.sys_name, None)  # udev has written something else about it
        except OSError as error:
            # ENOBUFS: the kernel has dropped events. Whatever else breaks a netlink socket has lost us some, too.
            _log.warning("watcher.lost_events", why=repr(error))
            self._reopen()
            return
        if received:
            self._on_hint()

    def _reopen(self) -> None:
        self._reopening = None
        if self._loop is None:
            return
        self._close_monitor()
        try:
            self._open_monitor(self._loop)
        except OSError as error:
            _log.warning("watcher.deaf", why=repr(error), retry_after_s=REOPEN_AFTER_S)
            self._reopening = self._loop.call_later(REOPEN_AFTER_S, self._reopen)
        self._on_hint()  # after opening, so that nothing slips in between the snapshot and the next event


def _ignore_hint() -> None:
    """Stand in for `on_hint` before start and after stop."""


def _text(device: pyudev.Device, attribute: str) -> str:
    """Return a sysfs attribute as printable text, capped: descriptors are whatever the adapter's maker burnt in."""
    return _printable(device.attributes.get(attribute) or b"")


def _product(tty: pyudev.Device) -> str:
    """Return what the adapter calls itself, as udev wrote it down (its product id if it has no name); empty without udev.

    Never from sysfs: the kernel's `product` waits for the device's lock (drivers/usb/core/sysfs.c, usb_string_attr). While
    an adapter that was pulled mid-write is taken away, somebody holds that for half a minute, and the event loop would
    stand still. In udev's record a byte that is odd, or part of no valid UTF-8, is escaped (systemd, encode_devnode_name).
    """
    encoded = os.fsencode(tty.properties.get("ID_MODEL_ENC") or "")
    return _printable(_UDEV_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), encoded))


def _printable(said: bytes) -> str:
    text = said[: 4 * TEXT_CHARS_MAX].decode("utf-8", errors="replace").strip()
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)[:TEXT_CHARS_MAX]


def _derive_id_path(interface: pyudev.Device, topology: str) -> str:
    """Return what udev's path_id would call the place, for ttys to which no udev rule gave an ID_PATH.

    Debian's 60-serial.rules names only ttyUSB* and ttyACM*, not the nodes of WCH's own driver; a container may have no
    udev at all. Follows systemd `udev-builtin-path_id.c`: of each bus the parent nearest to the device.
    """
    parts = [f"usb-0:{topology}"]
    missing = ["pci", "platform"]
    for parent in interface.ancestors:
        if parent.subsystem in missing:
            missing.remove(parent.subsystem)
            parts.insert(0, f"{parent.subsystem}-{parent.sys_name}")
    return "-".join(parts)


def _port_suffix(tty: pyudev.Device, interface: pyudev.Device) -> str:
    """Return `:N` for port N of an adapter that has several on one interface, else nothing."""
    port = tty.find_parent("usb-serial")
    if port is None:
        return ""
    # Siblings are counted in the kernel's tree and not among finished ttys, so that a place never changes its name
    # while udev works through the ports one by one; and of a vanishing adapter the last port may stand alone.
    ports = sum(1 for _ in Path(interface.sys_path).glob("*/port_number"))
    number = _text(port, "port_number")
    return f":{number}" if ports > 1 or number != "0" else ""


def _generation(tty: pyudev.Device, adapter: pyudev.Device, initialized_usec: str | None) -> str:
    """Return a text that no other attach has, not even of the same adapter in the same place.

    The USB address counts up with every attach but wraps at 127; a driver that is unbound and bound again keeps it, but
    gives udev a new device (microseconds since boot) and sysfs a new directory (inode).
    """
    address = f"{_text(adapter, 'busnum')}-{_text(adapter, 'devnum')}"
    return f"{address}.{initialized_usec or 0}.{Path(tty.sys_path).stat().st_ino}"
