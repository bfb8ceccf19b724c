"""The USB tree as sysfs shows it: hubs, programmers and their ttys, and who shares which way to the host.

Reads /sys/bus/usb/devices and udev's records below /run/udev/data. A device that vanishes meanwhile is left out; attributes
are whatever a maker burnt in, so they are capped and printable before anybody sees them. Nothing is opened but sysfs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HIGH_SPEED_MBIT = 480.0
HUB_CLASS = 0x09
_SINGLE_TT, _MULTI_TT = 1, 2
_SELF_POWERED = 0x40
_DEVICE = re.compile(r"usb\d+|\d+-\d+(?:\.\d+)*")
_TEXT_CHARS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tty:
    """One serial port of an adapter."""

    node: str
    """e.g. `/dev/ttyUSB0`."""
    id_path: str
    """What udev calls the place; empty while it has not said."""
    port: str
    """The number of this port on its adapter; empty for adapters without numbers."""

    @property
    def places(self) -> frozenset[str]:
        """The names by which a configuration may mean it."""
        return frozenset((self.id_path, f"{self.id_path}:{self.port}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbDevice:
    """One USB device; a hub is one, too."""

    name: str
    """As the kernel calls it, e.g. `1-2.3`; `usb1` for the root hub."""
    usb_id: str
    version: str
    """bcdDevice, e.g. `0262`."""
    product: str
    speed_mbit: float
    device_class: int
    protocol: int
    """Of a high-speed hub: 1 one transaction translator for all ports, 2 one for each port."""
    max_power_ma: int | None
    """What it declares to draw from the bus; None where sysfs does not say."""
    self_powered: bool | None
    power_control: str
    """`on` or `auto`; empty where the kernel has no power management."""
    autosuspend_delay_ms: int | None
    ttys: tuple[Tty, ...] = ()

    @property
    def path(self) -> str:
        """The chain of ports, as people read it: `2.3`."""
        return self.name.partition("-")[2] or self.name

    @property
    def kind(self) -> str:
        """Which kind of adapter it is: `usb_id version`."""
        return f"{self.usb_id} {self.version}".strip()

    @property
    def is_root(self) -> bool:
        """Whether it is the root hub of a bus."""
        return self.name.startswith("usb")

    @property
    def parent(self) -> str:
        """The name of the hub it is plugged into; empty for a root hub."""
        if self.is_root:
            return ""
        bus, _, ports = self.name.partition("-")
        above = ports.rpartition(".")[0]
        return f"{bus}-{above}" if above else f"usb{bus}"


Tree = Mapping[str, UsbDevice]


def usb_tree(root: Path) -> dict[str, UsbDevice]:
    """Return name -> device of everything attached now; empty where the kernel shows no USB at all."""
    directory = root / "sys/bus/usb/devices"
    if not directory.is_dir():
        return {}
    names = sorted((entry.name for entry in directory.iterdir() if _DEVICE.fullmatch(entry.name)), key=_in_port_order)
    found = (_device(root, directory / name) for name in names)
    return {device.name: device for device in found if device is not None}


def programmers(tree: Tree, usb_ids: Sequence[str], excluded: Sequence[str]) -> tuple[UsbDevice, ...]:
    """Return the adapters that are programmers; one whose place is excluded, say a tower light, is none."""
    return tuple(
        device
        for device in tree.values()
        if device.usb_id in usb_ids and not any(tty.places & set(excluded) for tty in device.ttys)
    )


def above(device: UsbDevice, tree: Tree) -> Iterator[UsbDevice]:
    """Every hub between a device and the host, nearest first, the root hub last."""
    hub = tree.get(device.parent)
    while hub is not None:
        yield hub
        hub = tree.get(hub.parent)


def translator_of(device: UsbDevice, tree: Tree) -> str:
    """Return a name for the 12 Mbit/s that a full-speed device shares: devices with the same name share them.

    They are a transaction translator of the nearest high-speed hub: one for all its ports (`1-2`), or one for each
    (`1-2 port 3`). Below a root port everything is behind that port (`usb1 port 2`). A bus that is itself full speed
    is shared by all of it.
    """
    branch = device
    for hub in above(device, tree):
        if hub.speed_mbit >= HIGH_SPEED_MBIT:
            shared = hub.protocol != _MULTI_TT and not hub.is_root
            return hub.name if shared else f"{hub.name} port {branch.name.replace('-', '.').rpartition('.')[2]}"
        branch = hub
    return branch.name


def _device(root: Path, directory: Path) -> UsbDevice | None:
    vendor, product_id = _text(directory, "idVendor"), _text(directory, "idProduct")
    if not vendor or not product_id:
        return None
    attributes = _number(directory, "bmAttributes", 16)
    return UsbDevice(
        name=directory.name,
        usb_id=f"{vendor}:{product_id}".lower(),
        version=_text(directory, "bcdDevice"),
        product=_text(directory, "product"),
        speed_mbit=_speed(directory),
        device_class=_number(directory, "bDeviceClass", 16) or 0,
        protocol=_number(directory, "bDeviceProtocol", 16) or 0,
        max_power_ma=_number(directory, "bMaxPower", 10),
        self_powered=None if attributes is None else bool(attributes & _SELF_POWERED),
        power_control=_text(directory / "power", "control"),
        autosuspend_delay_ms=_number(directory / "power", "autosuspend_delay_ms", 10),
        ttys=tuple(_ttys(root, directory)),
    )


def _ttys(root: Path, directory: Path) -> Iterator[Tty]:
    """The ports of usb-serial lie one directory deeper than those of CDC-ACM."""
    for pattern in ("*:*/tty*/tty/tty*", "*:*/tty/tty*"):
        for tty in sorted(directory.glob(pattern)):
            yield Tty(
                node=f"/dev/{tty.name}",
                id_path=_id_path(root, _text(tty, "dev")),
                port=_text(tty.parent.parent, "port_number"),
            )


def _id_path(root: Path, number: str) -> str:
    try:
        record = (root / "run/udev/data" / f"c{number}").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    return next((line[len("E:ID_PATH=") :] for line in record.splitlines() if line.startswith("E:ID_PATH=")), "")


def _text(directory: Path, name: str) -> str:
    """Return an attribute as printable text; empty where there is none, or no longer."""
    try:
        raw = (directory / name).read_bytes()[: 4 * _TEXT_CHARS_MAX]
    except OSError:
        return ""
    text = raw.decode("utf-8", errors="replace").strip()
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)[:_TEXT_CHARS_MAX]


def _number(directory: Path, name: str, base: int) -> int | None:
    found = re.match(r"-?[0-9a-fA-F]+" if base == 16 else r"-?\d+", _text(directory, name))  # noqa: PLR2004 - hex
    return int(found[0], base) if found else None


def _speed(directory: Path) -> float:
    found = re.fullmatch(r"\d+(?:\.\d+)?", _text(directory, "speed"))
    return float(found[0]) if found else 0.0


def _in_port_order(name: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", name)]
