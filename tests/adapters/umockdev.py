"""A mocked /sys for one child process: real libudev and real netlink messages, without hardware.

`in_testbed(scenario)` runs a function of a test module in a child under Debian's `umockdev-wrapper`, which redirects /sys
and uevents for it alone, and returns what the function returned (as JSON). The function gets a `Testbed`.

umockdev 0.17.16 aborts when a node it made itself is plugged in twice, announces what should stay unannounced and leaves
dangling links behind. So only its redirection and its `uevent` are used: the tree under /sys is ours, made and removed like
the kernel's, with an address that counts up and a udev time that never comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import inspect
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WRAPPER = "umockdev-wrapper"

Scenario = Callable[["Testbed"], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Host:
    """A USB host controller and the devices above it."""

    id_path: str
    """What udev's path_id says of it."""
    parents: dict[str, str]
    """Sysfs path below /sys -> subsystem, outermost first; the last is the controller."""

    @property
    def path(self) -> str:
        """Where the controller stands below /sys."""
        return list(self.parents)[-1]


PC = Host(id_path="pci-0000:00:14.0", parents={"devices/pci0000:00/0000:00:14.0": "bus/pci"})
_PI_PCIE = "devices/platform/scb/fd500000.pcie"
RASPBERRY_PI_4 = Host(
    id_path="platform-fd500000.pcie-pci-0000:01:00.0",
    parents={
        "devices/platform/scb": "bus/platform",
        _PI_PCIE: "bus/platform",
        f"{_PI_PCIE}/pci0000:00/0000:00:00.0": "bus/pci",
        f"{_PI_PCIE}/pci0000:00/0000:00:00.0/0000:01:00.0": "bus/pci",
    },
)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is plugged in where; the defaults are a CH340G on its udev-processed tty."""

    port: str = "2.3"
    """The chain of hub ports, e.g. `2.3`."""
    ttys: tuple[str, ...] = ("ttyUSB0",)
    usb_serial: bool = True
    """Whether the ttys are ports of the kernel's usb-serial core (else children of the interface, like CDC-ACM's)."""
    attributes: dict[str, bytes] = field(default_factory=dict)
    """Overrides of the usb_device's attributes; an empty value leaves the attribute out."""
    id_path: str | None = "right"
    """`right`: what udev's path_id says; None: no ID_PATH."""
    initialized: bool = True
    """Whether udev is done with it."""
    host: Host = PC

    @property
    def interface(self) -> str:
        """Sysfs name of the USB interface."""
        return f"1-{self.port}:1.0"

    @property
    def right_id_path(self) -> str:
        """What udev's path_id says."""
        return f"{self.host.id_path}-usb-0:{self.port}:1.0"

    @property
    def directory(self) -> str:
        """Where the usb_device stands below /sys."""
        return f"{self.host.path}/usb1/1-{self.port}"

    def port_directory(self, tty: str) -> str:
        """Where the parent of a tty stands below /sys."""
        interface = f"{self.directory}/{self.interface}"
        return f"{interface}/{tty}" if self.usb_serial else interface

    def tty_directory(self, tty: str) -> str:
        """Where a tty stands below /sys."""
        return f"{self.port_directory(tty)}/tty/{tty}"


def as_udev_writes(said: bytes) -> str:
    """Encode text for a property as udev does (`encode_devnode_name`): valid UTF-8 stays, all else that is odd is escaped."""
    # Bytes that are no UTF-8 become lone surrogates, U+DC80 to U+DCFF, whose low byte is the byte.
    return "".join(
        char
        if (char.isascii() and (char.isalnum() or char in "#+-.:=@_"))
        or (char > "\x7f" and not "\udc80" <= char <= "\udcff")
        else f"\\x{ord(char) & 0xFF:02x}"
        for char in said.decode("utf-8", errors="surrogateescape")
    )


class Testbed:
    """The mocked /sys of this process; USB adapters and LEDs come and go in it."""

    __test__ = False  # not a test class for pytest

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libumockdev.so.0")
        self._gobject = ctypes.CDLL("libgobject-2.0.so.0")
        self._gobject.g_object_unref.argtypes = [ctypes.c_void_p]
        self._library.umockdev_testbed_new.restype = ctypes.c_void_p
        self._library.umockdev_testbed_get_root_dir.argtypes = [ctypes.c_void_p]
        self._library.umockdev_testbed_get_root_dir.restype = ctypes.c_char_p
        self._library.umockdev_testbed_uevent.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
        self._testbed = self._library.umockdev_testbed_new()
        self.root = Path(self._library.umockdev_testbed_get_root_dir(self._testbed).decode())
        self.sys = self.root / "sys"
        (self.sys / "class/tty").mkdir(parents=True)
        self._address = itertools.count(2)
        self._usec = itertools.count(81_000_000, 1_000)

    def close(self) -> None:
        """Remove the testbed's directory."""
        self._gobject.g_object_unref(self._testbed)

    def plug(self, adapter: Adapter, *, address: int | None = None, announce: bool = True) -> None:
        """Plug `adapter` in; with `announce` its uevents are sent, else they are lost."""
        attributes = {
            "idVendor": b"1a86",
            "idProduct": b"7523",
            "bcdDevice": b"0262",
            "product": b"USB Serial",
            "busnum": b"1",
            "devnum": str(address or next(self._address)).encode(),
        } | adapter.attributes
        interface = f"{adapter.directory}/{adapter.interface}"
        for path, subsystem in adapter.host.parents.items():
            self._device(path, subsystem, {}, {})
        self._device(f"{adapter.host.path}/usb1", "bus/usb", {"DEVTYPE": "usb_device"}, {"idVendor": b"1d6b"})
        self._device(adapter.directory, "bus/usb", {"DEVTYPE": "usb_device"}, attributes)
        self._device(interface, "bus/usb", {"DEVTYPE": "usb_interface"}, {})
        for number, tty in enumerate(adapter.ttys):
            if adapter.usb_serial:
                self._device(adapter.port_directory(tty), "bus/usb-serial", {}, {"port_number": str(number).encode()})
        if announce:
            self._announce("add", adapter.directory, interface)
        for tty in adapter.ttys:
            self.add_tty(adapter, tty, announce=announce)

    def add_tty(self, adapter: Adapter, tty: str, *, announce: bool = True) -> None:
        """Make one tty of an adapter that stands in sysfs already; also: let udev finish with it now."""
        minor = re.sub(r"^.*\D", "", tty)
        properties = {"MAJOR": "188", "MINOR": minor, "DEVNAME": tty}
        id_path = adapter.right_id_path if adapter.id_path == "right" else adapter.id_path
        if adapter.initialized:
            properties["USEC_INITIALIZED"] = str(next(self._usec))
            if id_path is not None:
                properties["ID_PATH"] = id_path
            properties["ID_MODEL_ENC"] = as_udev_writes(self._product(adapter))
        directory = adapter.tty_directory(tty)
        self._device(directory, "class/tty", properties, {"dev": f"188:{minor}".encode()})
        link = self.sys / "class/tty" / tty
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(self.sys / directory, link.parent))
        if announce:
            self._announce("add", directory)

    def remove_tty(self, adapter: Adapter, tty: str, *, announce: bool = True) -> None:
        """Take one tty away; as in the kernel's `device_del` it has left its class when the uevent is sent."""
        (self.sys / "class/tty" / tty).unlink()
        if announce:
            self._announce("remove", adapter.tty_directory(tty))
        self._bury(adapter.port_directory(tty) if adapter.usb_serial else adapter.tty_directory(tty))

    def unplug(self, adapter: Adapter, *, announce: bool = True) -> None:
        """Pull `adapter` out, leaves first like the kernel."""
        for tty in adapter.ttys:
            if (self.sys / "class/tty" / tty).is_symlink():
                self.remove_tty(adapter, tty, announce=announce)
        if announce:
            self._announce("remove", f"{adapter.directory}/{adapter.interface}", adapter.directory)
        self._bury(adapter.directory)

    def _bury(self, directory: str) -> None:
        """Take a directory out of /sys and keep it: the kernel numbers its directories anew, a disk gives numbers twice."""
        graves = self.sys.parent / "graves"
        graves.mkdir(exist_ok=True)
        (self.sys / directory).rename(graves / str(len(list(graves.iterdir()))))

    def led(self, name: str, *, max_brightness: int = 255) -> Path:
        """Make an LED of the LED class, off; return its directory under the testbed's root."""
        directory = f"devices/platform/leds/leds/{name}"
        attributes = {"max_brightness": b"%d\n" % max_brightness, "brightness": b"0\n", "trigger": b"[none] timer\n"}
        self._device(directory, "class/leds", {}, attributes)
        link = self.sys / "class/leds" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(os.path.relpath(self.sys / directory, link.parent))
        return self.sys / directory

    def _product(self, adapter: Adapter) -> bytes:
        """What udev's usb_id calls the adapter: what it says itself, else its product id."""
        for attribute in ("product", "idProduct"):
            with contextlib.suppress(FileNotFoundError):
                return (self.sys / adapter.directory / attribute).read_bytes()
        return b""

    def _device(self, path: str, subsystem: str, properties: dict[str, str], attributes: dict[str, bytes]) -> None:
        directory = self.sys / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "uevent").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        for name, value in attributes.items():
            if value:
                (directory / name).write_bytes(value)
        link = directory / "subsystem"
        link.unlink(missing_ok=True)
        (self.sys / subsystem).mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.sys / subsystem, directory))

    def _announce(self, action: str, *paths: str) -> None:
        for path in paths:
            self._library.umockdev_testbed_uevent(self._testbed, f"/sys/{path}".encode(), action.encode())


def in_testbed(scenario: Scenario) -> Any:
    """Run `scenario` in a child under umockdev and return its result; a failure there fails here, with its traceback."""
    if shutil.which(WRAPPER) is None:
        raise RuntimeError(f"{WRAPPER} is missing: run `make test-packages` (Debian package umockdev)")
    file = inspect.getsourcefile(scenario)
    command = [WRAPPER, sys.executable, "-W", "error", "-m", "tests.adapters.umockdev", str(file), scenario.__name__]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if child.returncode != 0:
        raise AssertionError(f"{scenario.__name__} ended with {child.returncode}:\n{child.stdout}{child.stderr}")
    return json.loads(child.stdout.splitlines()[-1])


def _main(file: str, name: str) -> None:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    testbed = Testbed()
    try:
        result = asyncio.run(getattr(module, name)(testbed))
    finally:
        testbed.close()
    print(json.dumps(result))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    _main(*sys.argv[1:])
