"""The udev watcher against real libudev and real netlink messages, under umockdev; and our rules under real udevadm."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
import types
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pyudev

from station.adapters import udev
from station.adapters.udev import UdevWatcher
from station.config import DEFAULT_USB_IDS
from station.model import Programmer
from station.ports import ProgrammerWatcher
from tests.adapters.umockdev import PC, RASPBERRY_PI_4, ROOT, Adapter, Testbed, in_testbed

RULES = ROOT / "deploy/udev/70-flashing-station.rules"
DEADLINE_S = 60.0
FEW = 10


class Watch:
    """A started watcher that counts its hints."""

    def __init__(self, **options: Any) -> None:
        # No udev daemon stands behind umockdev; /sys exists in every testbed and takes the part of its socket.
        defaults: dict[str, Any] = {"usb_ids": DEFAULT_USB_IDS, "udev_control": Path("/sys")}
        self.watcher = UdevWatcher(**(defaults | options))
        self.hints = 0
        self._hinted = asyncio.Event()
        self.watcher.start(self._hint)

    def _hint(self) -> None:
        self.hints += 1
        self._hinted.set()

    async def hinted(self) -> None:
        """Wait for a hint that was not waited for yet."""
        await asyncio.wait_for(self._hinted.wait(), DEADLINE_S)
        self._hinted.clear()

    async def settle(self) -> None:
        """Let the loop call whatever is readable now; events that are waiting make the fd readable at every turn."""
        for _ in range(5):
            await asyncio.sleep(0)

    def seen(self) -> list[dict[str, str]]:
        """Take a snapshot, as JSON takes it."""
        return [asdict(programmer) for programmer in self.watcher.snapshot()]

    def places(self) -> list[str]:
        """Take a snapshot and name its places."""
        return [programmer.place for programmer in self.watcher.snapshot()]


def open_fds() -> int:
    """Count this process's file descriptors; umockdev's own thread opens and closes a few (`FEW`) at any time."""
    return len(list(Path("/proc/self/fd").iterdir()))


def only(programmers: tuple[Programmer, ...]) -> Programmer:
    """Return the one programmer there is."""
    (programmer,) = programmers
    return programmer


async def _present_at_start(testbed: Testbed) -> Any:
    testbed.plug(Adapter(port="4", ttys=("ttyUSB0",)), announce=False)
    testbed.plug(Adapter(port="2.3", ttys=("ttyUSB1",)), announce=False)
    watch = Watch()
    seen = watch.seen()
    watch.watcher.stop()
    return seen


@pytest.mark.umockdev
def test_programmers_that_are_plugged_in_before_the_start_are_in_the_first_snapshot() -> None:
    """Boards that sit on the bench when the station starts are found, with everything the records want to know."""
    first, second = in_testbed(_present_at_start)
    assert first.pop("generation") != second.pop("generation")
    assert first == {
        "place": "pci-0000:00:14.0-usb-0:2.3:1.0",
        "node": "/dev/ttyUSB1",
        "sysfs_path": f"/sys/{PC.path}/usb1/1-2.3/1-2.3:1.0/ttyUSB1/tty/ttyUSB1",
        "usb_id": "1a86:7523",
        "adapter_version": "0262",
        "product": "USB Serial",
        "hub_path": "2.3",
    }
    assert (second["place"], second["node"], second["hub_path"]) == (
        "pci-0000:00:14.0-usb-0:4:1.0",
        "/dev/ttyUSB0",
        "4",
    )


async def _plug_and_unplug(testbed: Testbed) -> Any:
    watch = Watch()
    steps = [watch.places()]
    adapter = Adapter()
    for change in (testbed.plug, testbed.unplug):
        change(adapter)
        await watch.hinted()
        steps.append(watch.places())
    heard = watch.watcher.heard()
    watch.watcher.stop()
    return {"steps": steps, "heard": [heard, watch.watcher.heard()]}


@pytest.mark.umockdev
def test_plugging_and_unplugging_give_a_hint_and_the_right_snapshot() -> None:
    """A uevent of a tty comes through netlink as a hint, and the snapshot taken then is right."""
    result = in_testbed(_plug_and_unplug)
    assert result == {"steps": [[], [Adapter().right_id_path], []], "heard": [True, False]}


async def _ten_at_once(testbed: Testbed) -> Any:
    watch = Watch()
    for number in range(10):
        testbed.plug(Adapter(port=f"1.{number}", ttys=(f"ttyUSB{number}",)))
    await watch.hinted()
    await watch.settle()
    return {"hints": watch.hints, "found": len(watch.places())}


@pytest.mark.umockdev
def test_a_bunch_of_events_is_one_hint() -> None:
    """All waiting events are taken at once and asked about once, so that a hub full of boards costs one look."""
    assert in_testbed(_ten_at_once) == {"hints": 1, "found": 10}


async def _replugged(testbed: Testbed) -> Any:
    watch = Watch()
    adapter = Adapter()
    generations = []
    for address in (None, None, 9, 9):
        testbed.plug(adapter, address=address)
        await watch.hinted()
        programmer = only(watch.watcher.snapshot())
        again = only(watch.watcher.snapshot())
        generations.append([programmer.place, programmer.node, programmer.generation, again.generation])
        testbed.unplug(adapter)
        await watch.hinted()
    return generations


@pytest.mark.umockdev
def test_every_attach_is_another_generation() -> None:
    """The same adapter in the same place with the same node is another plug, even when its USB address comes again."""
    generations = in_testbed(_replugged)
    assert {(place, node) for place, node, _, _ in generations} == {(Adapter().right_id_path, "/dev/ttyUSB0")}
    assert len({generation for _, _, generation, _ in generations}) == len(generations)
    assert all(first == second for _, _, first, second in generations)


async def _renumbered(testbed: Testbed) -> Any:
    left, right = Adapter(port="2.1", ttys=("ttyUSB0",)), Adapter(port="2.2", ttys=("ttyUSB1",))
    testbed.plug(left)
    testbed.plug(right)
    watch = Watch()
    before = {programmer.place: programmer.node for programmer in watch.watcher.snapshot()}
    testbed.unplug(left)
    testbed.unplug(right)
    testbed.plug(Adapter(port="2.2", ttys=("ttyUSB0",)))
    testbed.plug(Adapter(port="2.1", ttys=("ttyUSB1",)))
    return [before, {programmer.place: programmer.node for programmer in watch.watcher.snapshot()}]


@pytest.mark.umockdev
def test_a_place_keeps_its_name_when_the_ttys_are_renumbered() -> None:
    """After a replug in another order the places are the same and only the nodes have changed hands."""
    left, right = Adapter(port="2.1").right_id_path, Adapter(port="2.2").right_id_path
    assert in_testbed(_renumbered) == [
        {left: "/dev/ttyUSB0", right: "/dev/ttyUSB1"},
        {left: "/dev/ttyUSB1", right: "/dev/ttyUSB0"},
    ]


async def _several_ports(testbed: Testbed) -> Any:
    adapter = Adapter(ttys=("ttyUSB0", "ttyUSB1"), attributes={"idProduct": b"55d8"})
    testbed.plug(adapter)
    watch = Watch()
    both = {programmer.place: programmer.node for programmer in watch.watcher.snapshot()}
    shutil.rmtree(testbed.sys / adapter.tty_directory("ttyUSB1"))
    (testbed.sys / "class/tty/ttyUSB1").unlink()
    unfinished = watch.places()  # port 1 is known to the kernel and not yet to udev
    testbed.add_tty(adapter, "ttyUSB1")
    testbed.remove_tty(adapter, "ttyUSB0")
    return {"both": both, "unfinished": unfinished, "vanishing": watch.places()}


@pytest.mark.umockdev
def test_each_port_of_an_adapter_with_several_is_a_place_of_its_own() -> None:
    """Ports that share an ID_PATH are told apart by number, and no moment of coming or going changes a place's name."""
    base = Adapter().right_id_path
    assert in_testbed(_several_ports) == {
        "both": {f"{base}:0": "/dev/ttyUSB0", f"{base}:1": "/dev/ttyUSB1"},
        "unfinished": [f"{base}:0"],
        "vanishing": [f"{base}:1"],
    }


async def _other_things(testbed: Testbed) -> Any:
    testbed.plug(Adapter(port="1", ttys=("ttyUSB0",)))
    testbed.plug(Adapter(port="2", ttys=("ttyUSB1",), attributes={"idVendor": b"0403", "idProduct": b"6001"}))
    testbed.plug(Adapter(port="3", ttys=("ttyACM0",), attributes={"idProduct": b"55d4"}, usb_serial=False))
    testbed.plug(Adapter(port="4", ttys=("ttyCH341USB0",), usb_serial=False))
    (testbed.sys / "devices/virtual/tty/tty1").mkdir(parents=True)
    (testbed.sys / "devices/virtual/tty/tty1/uevent").write_text("DEVNAME=tty1\n")
    (testbed.sys / "class/tty/tty1").symlink_to("../../devices/virtual/tty/tty1")
    usual, chosen = Watch(), Watch(usb_ids=["0403:6001"])
    hidden = Watch(excluded_places=[Adapter(port="1").right_id_path])
    return {name: nodes(watch) for name, watch in {"usual": usual, "chosen": chosen, "hidden": hidden}.items()}


def nodes(watch: Watch) -> list[str]:
    """Take a snapshot and name its nodes."""
    return [programmer.node for programmer in watch.watcher.snapshot()]


@pytest.mark.umockdev
def test_only_configured_usb_ids_in_places_that_are_not_excluded_are_programmers() -> None:
    """The id list decides, not the node's name; a tower light with a CH340's id is kept out by its place."""
    assert in_testbed(_other_things) == {
        "usual": ["/dev/ttyUSB0", "/dev/ttyACM0", "/dev/ttyCH341USB0"],
        "chosen": ["/dev/ttyUSB1"],
        "hidden": ["/dev/ttyACM0", "/dev/ttyCH341USB0"],
    }


async def _unfinished(testbed: Testbed) -> Any:
    adapter = Adapter(initialized=False)
    testbed.plug(adapter)
    watch, container = Watch(), Watch(udev_control=Path("/sys/absent"))
    early, in_container = watch.places(), container.places()
    testbed.add_tty(Adapter(), "ttyUSB0")
    await watch.hinted()
    return {
        "early": early,
        "later": watch.places(),
        "container": in_container,
        "container heard": container.watcher.heard(),
    }


@pytest.mark.umockdev
def test_a_tty_is_not_reported_before_udev_is_done_with_it() -> None:
    """Without udev's word neither place nor permissions are right; where no udev is (a container), sysfs must do."""
    place = Adapter().right_id_path
    result = in_testbed(_unfinished)
    assert result == {"early": [], "later": [place], "container": [place], "container heard": False}


async def _without_id_path(testbed: Testbed) -> Any:
    testbed.plug(Adapter(port="1.4", ttys=("ttyCH341USB0",), usb_serial=False, id_path=None))
    testbed.plug(Adapter(port="1.4", ttys=("ttyCH341USB1",), usb_serial=False, id_path=None, host=RASPBERRY_PI_4))
    testbed.plug(Adapter(port="2", ttys=("ttyUSB0",), id_path=Adapter(port="3").right_id_path))
    return Watch().places()


@pytest.mark.umockdev
def test_the_place_is_where_the_adapter_is_and_not_where_udev_remembers_one() -> None:
    """A missing ID_PATH is derived from sysfs; one of the previous owner of the tty's number is not believed."""
    derived = [Adapter(port="1.4", host=host).right_id_path for host in (PC, RASPBERRY_PI_4)]
    assert in_testbed(_without_id_path) == derived


async def _odd_devices(testbed: Testbed) -> Any:
    absent = {"bcdDevice": b"", "product": b"", "busnum": b"", "devnum": b""}
    testbed.plug(Adapter(port="1", ttys=("ttyUSB0",), attributes=absent))
    testbed.plug(Adapter(port="2", ttys=("ttyUSB1",), attributes={"product": b"\xff\x1b[31m" + b"A" * 200}))
    testbed.plug(Adapter(port="3", ttys=("ttyUSB2",), attributes={"idVendor": b"", "idProduct": b""}))
    (testbed.sys / "class/tty/ttyUSB3").symlink_to("../../devices/gone")
    vanished = Adapter(port="4", ttys=("ttyUSB4",))
    testbed.plug(vanished)
    shutil.rmtree(testbed.sys / vanished.directory)
    broken = Adapter(port="5", ttys=("ttyUSB5",))
    testbed.plug(broken)
    (testbed.sys / broken.tty_directory("ttyUSB5") / "uevent").write_bytes(
        b"DEVNAME=ttyUSB5\nID_PATH=\xff\xfe\nUSEC_INI\x00"
    )
    testbed.plug(Adapter(port="6", ttys=("ttyUSB6",)))
    return [[programmer["node"], programmer["product"]] for programmer in Watch().seen()]


@pytest.mark.umockdev
def test_one_odd_device_does_not_hide_the_others() -> None:
    """Missing attributes, hostile text, a device that vanishes in the middle: the rest of the bench is still there."""
    assert in_testbed(_odd_devices) == [
        ["/dev/ttyUSB0", "7523"],
        ["/dev/ttyUSB1", "\N{REPLACEMENT CHARACTER}" * 2 + "[31m" + "A" * 58],
        ["/dev/ttyUSB6", "USB Serial"],
    ]


async def _on_its_way_out(testbed: Testbed) -> Any:
    going, coming = Adapter(port="1", ttys=("ttyUSB0",)), Adapter(port="2", ttys=("ttyUSB1",))
    testbed.plug(going)
    watch = Watch()
    await asyncio.to_thread(watch.places)
    files = [path for path in (testbed.sys / going.directory).rglob("*") if path.is_file() and not path.is_symlink()]
    for path in files:
        path.unlink()
        os.mkfifo(path)
    testbed.plug(coming)
    seen: list[list[str]] = []
    # A thread that nobody waits for at the end: when this fails, it fails, and does not hang.
    looking = threading.Thread(target=lambda: seen.append(watch.places()), daemon=True)
    looking.start()
    await asyncio.to_thread(looking.join, 10)
    return {"files that wait": len(files) > FEW, "seen": seen}


@pytest.mark.umockdev
def test_a_device_that_is_being_taken_away_keeps_nobody_waiting() -> None:
    """The kernel lets readers of a vanishing device wait for half a minute; what is known of it already is not read again."""
    places = [Adapter(port="1").right_id_path, Adapter(port="2").right_id_path]
    assert in_testbed(_on_its_way_out) == {"files that wait": True, "seen": [places]}


NAMES: tuple[tuple[str, bytes], ...] = (
    ("USB Serial", b"USB Serial"),
    ("Kabel für Ä1", "Kabel für Ä1".encode()),
    ("串口 x41", "串口 x41".encode()),
    (r"back\x41slash", rb"back\x41slash"),
    ("cut \N{REPLACEMENT CHARACTER}", "cut 串".encode()[:-1]),
    ("\N{REPLACEMENT CHARACTER}[31m", b"\x1b[31m "),
)


async def _names(testbed: Testbed) -> Any:
    for number, (_, product) in enumerate(NAMES):
        testbed.plug(Adapter(port=str(number + 1), ttys=(f"ttyUSB{number}",), attributes={"product": product}))
    return [programmer["product"] for programmer in Watch().seen()]


@pytest.mark.umockdev
def test_an_adapter_is_called_what_it_calls_itself() -> None:
    """The record of udev is read back to the maker's own bytes, and those as UTF-8, a character of several bytes being one."""
    assert in_testbed(_names) == [name for name, _ in NAMES]


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (r"K\xc3\xa4se", "Käse"),
        (r"\xe4\xb8\xb2\xe5\x8f\xa3", "串口"),
        (r"\xff\x1b\x5b31m", "\N{REPLACEMENT CHARACTER}" * 2 + "[31m"),
        (r"USB\x20Serial\x20", "USB Serial"),
        (r"back\x5cx41", r"back\x41"),
        (r"\xZZ \x", r"\xZZ \x"),
        ("7523", "7523"),
        ("", ""),
        (None, ""),
        ("A" * 200, "A" * udev.TEXT_CHARS_MAX),
    ],
)
def test_a_name_in_udevs_record_is_bytes_first_and_text_then(record: str | None, name: str) -> None:
    """Also where every byte of a character is escaped, as other encoders of such records do; a half escape stays text."""
    tty = SimpleNamespace(properties={} if record is None else {"ID_MODEL_ENC": record})
    assert udev._product(tty) == name


# drivers/usb/core/sysfs.c: `show` of these takes the USB device's lock, which the kernel may hold for half a minute.
LOCKED = {
    *("product", "manufacturer", "serial", "configuration", "bConfigurationValue"),
    *("bNumInterfaces", "bmAttributes", "bMaxPower", "supports_autosuspend"),
}


class Opened:
    """Which files below some directories are opened while it is there, told by the kernel (inotify)."""

    IN_OPEN = 0x20
    EVENT = struct.Struct("=iIII")

    def __init__(self, root: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for directory in [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]:
            assert self._libc.inotify_add_watch(self._fd, os.fsencode(directory), self.IN_OPEN) >= 0

    def names(self) -> set[str]:
        """Take the names of what was opened since the last time."""
        found: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while told := os.read(self._fd, 65536):
                while told:
                    size = self.EVENT.unpack_from(told)[3]
                    end = self.EVENT.size + size
                    found.add(told[self.EVENT.size : end].rstrip(b"\0").decode())
                    told = told[end:]
        return found


async def _what_is_opened(testbed: Testbed) -> Any:
    locked = dict.fromkeys(LOCKED, b"1")
    named = Adapter(port="1", ttys=("ttyUSB0",), attributes=locked)
    without_udev = Adapter(port="2", ttys=("ttyUSB1",), attributes=locked, initialized=False, id_path=None)
    for adapter in (named, without_udev):
        testbed.plug(adapter)
        for name in LOCKED:
            (testbed.sys / adapter.directory / adapter.interface / name).write_bytes(b"1")
    opened = Opened(testbed.sys / PC.path)
    seen, found = [], set()
    for udev_control in (Path("/sys"), Path("/there is none")):
        watch = Watch(udev_control=udev_control)
        seen.append([programmer["product"] for programmer in watch.seen()])
        testbed.remove_tty(named, "ttyUSB0")
        await watch.hinted()
        seen.append(watch.places())
        watch.watcher.stop()
        found |= opened.names()
        (testbed.sys / named.port_directory("ttyUSB0")).mkdir()
        testbed.add_tty(named, "ttyUSB0")  # which reads, as udev does
        opened.names()
    (testbed.sys / named.directory / "product").read_bytes()
    return {"seen": seen, "opened": sorted(found), "trap": sorted(opened.names())}


@pytest.mark.umockdev
def test_the_watcher_opens_nothing_that_waits_for_the_devices_lock() -> None:
    """Not with udev nor without it, not at the start nor after an event: else one dying adapter stops the event loop."""
    result = in_testbed(_what_is_opened)
    assert not LOCKED & set(result["opened"])
    assert {"idVendor", "idProduct", "bcdDevice", "busnum", "devnum"} <= set(result["opened"])
    assert result["trap"] == ["product"]
    assert [len(each) for each in result["seen"]] == [1, 0, 2, 1]


async def _twenty_cycles(testbed: Testbed) -> Any:
    watch = Watch()
    generations, leftovers = set(), 0
    open_before = open_fds()
    for _ in range(20):
        testbed.plug(Adapter())
        await watch.hinted()
        generations.add(only(watch.watcher.snapshot()).generation)
        testbed.unplug(Adapter())
        await watch.hinted()
        leftovers += len(watch.places())
    return {
        "generations": len(generations),
        "leftovers": leftovers,
        "leaks": open_fds() - open_before > FEW,
    }


@pytest.mark.umockdev
def test_twenty_plug_cycles_in_one_place_are_twenty_plugs() -> None:
    """Plugging again and again gives a fresh generation each time, an empty place in between, and leaks no fds."""
    assert in_testbed(_twenty_cycles) == {"generations": 20, "leftovers": 0, "leaks": False}


async def _burst_of_forty(testbed: Testbed) -> Any:
    watch = Watch()
    adapters = [Adapter(port=f"1.{number}", ttys=(f"ttyUSB{number}",)) for number in range(40)]
    for number, adapter in enumerate(adapters):
        # umockdev's own socket takes about this many and aborts at the next, where a kernel drops it.
        testbed.plug(adapter, announce=number < 10)
    await watch.hinted()
    found = len(watch.places())
    for adapter in adapters[1:]:
        testbed.unplug(adapter, announce=False)
    return {"found": found, "left": watch.places()}


@pytest.mark.umockdev
def test_lost_events_lose_no_programmer() -> None:
    """Of forty plugs at once thirty announce nothing, of the unplugs none, and the snapshot is right all the same."""
    assert in_testbed(_burst_of_forty) == {"found": 40, "left": [Adapter(port="1.0").right_id_path]}


async def _stopped(testbed: Testbed) -> Any:
    open_before = open_fds()
    hints = 0
    for _ in range(20):
        watch = Watch()
        testbed.plug(Adapter())
        testbed.unplug(Adapter())  # all these events are waiting when the watcher stops
        watch.watcher.stop()
        watch.watcher.stop()
        await watch.settle()
        hints += watch.hints
    leaks = open_fds() - open_before > FEW
    successor = Watch()  # its socket has the number that the stopped ones had
    testbed.plug(Adapter())
    await successor.hinted()
    return {"hints": hints, "leaks": leaks, "places": successor.places()}


@pytest.mark.umockdev
def test_a_stopped_watcher_is_silent_and_holds_nothing() -> None:
    """Stopping, even twice, closes the netlink socket; no hint comes afterwards, but to a watcher started later."""
    assert in_testbed(_stopped) == {"hints": 0, "leaks": False, "places": [Adapter().right_id_path]}


class Socket:
    """In the place of a pyudev monitor: a socket whose events arrive as single bytes, and which can break."""

    def __init__(self, failures: list[OSError]) -> None:
        self.ours, self.kernel = socket.socketpair()
        self.ours.setblocking(False)
        self.failures = failures

    def fileno(self) -> int:
        """Return the fd for the event loop."""
        return self.ours.fileno()

    def filter_by(self, subsystem: str) -> None:
        """Accept what a monitor accepts."""

    def set_receive_buffer_size(self, _size: int) -> None:
        """Refuse, as for a process without CAP_NET_ADMIN."""
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def start(self) -> None:
        """Accept what a monitor accepts."""

    def poll(self, timeout: float) -> object | None:
        """Return an event, nothing, or the failure that is due."""
        try:
            event = self.ours.recv(1)
        except BlockingIOError:
            return None
        if event == b"!":
            raise self.failures.pop()
        return types.SimpleNamespace(sys_name="ttyUSB0")

    def __del__(self) -> None:
        self.ours.close()
        self.kernel.close()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[Socket | OSError]:
    """Replace the netlink monitors that will be opened, in this order."""
    queue: list[Socket | OSError] = []

    def from_netlink(_context: object, source: str) -> Socket:
        assert source == "udev"
        opened = queue.pop(0)
        if isinstance(opened, OSError):
            raise opened
        return opened

    monkeypatch.setattr(pyudev.Monitor, "from_netlink", from_netlink)
    monkeypatch.setattr(udev, "REOPEN_AFTER_S", 0.01)
    return queue


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOBUFS, "No buffer space available"), OSError("Error while polling fd: 7")]
)
def test_a_broken_socket_is_a_hint_and_is_opened_again(sockets: list[Socket | OSError], failure: OSError) -> None:
    """Events the kernel dropped (ENOBUFS, which pyudev's poll reports without errno) make us look, and listen on."""

    async def scenario() -> None:
        broken, fresh = Socket([failure]), Socket([])
        sockets.extend([broken, fresh])
        watch = Watch()
        broken.kernel.send(b"!")
        await watch.hinted()
        assert watch.watcher.heard()
        assert sockets == []
        fresh.kernel.send(b"e")
        await watch.hinted()
        watch.watcher.stop()

    asyncio.run(scenario())


def test_a_socket_that_cannot_be_opened_again_is_tried_until_it_can(sockets: list[Socket | OSError]) -> None:
    """While the monitor is down the watcher says that it hears nothing, and it comes back by itself."""

    async def scenario() -> None:
        broken, fresh = Socket([OSError(errno.ENOBUFS, "")]), Socket([])
        sockets.extend([broken, OSError(errno.EMFILE, "Too many open files"), fresh])
        watch = Watch()
        broken.kernel.send(b"!")
        await watch.hinted()
        assert not watch.watcher.heard()
        await watch.hinted()
        assert watch.watcher.heard()
        fresh.kernel.send(b"e")
        await watch.hinted()
        watch.watcher.stop()

    asyncio.run(scenario())


def test_the_real_watcher_is_a_programmer_watcher() -> None:
    """The type checker holds the adapter to the seam's signature; here it also looks at this machine's own /sys."""
    watcher: ProgrammerWatcher = UdevWatcher(usb_ids=[])
    assert watcher.snapshot() == ()
    assert not watcher.heard()


USB_SERIAL = Adapter()
CDC_ACM = Adapter(ttys=("ttyACM0",), usb_serial=False)
WCH_DRIVER = Adapter(ttys=("ttyCH341USB0",), usb_serial=False)


def udevadm_test(tmp_path: Path, device: str, *, usb_id: str = "1a86:7523", adapter: Adapter = USB_SERIAL) -> str:
    """Run the machine's own udevadm with our rules on a mocked adapter; return what it says about `device`."""
    udevadm = shutil.which("udevadm")
    assert udevadm is not None, "udevadm is missing: run `make test-packages` (Debian package udev)"
    vendor, _, product = usb_id.partition(":")
    (tty,) = adapter.ttys
    parents = "".join(f"P: /{path}\nE: SUBSYSTEM={Path(bus).name}\n\n" for path, bus in adapter.host.parents.items())
    port = f"P: /{adapter.port_directory(tty)}\nE: SUBSYSTEM=usb-serial\nA: port_number=0\n\n"
    (tmp_path / "bench.umockdev").write_text(
        f"{parents}"
        f"P: /{adapter.host.path}/usb1\nE: DEVTYPE=usb_device\nE: SUBSYSTEM=usb\n\n"
        f"P: /{adapter.directory}\nE: DEVTYPE=usb_device\nE: SUBSYSTEM=usb\nA: idVendor={vendor}\nA: idProduct={product}\n\n"
        f"P: /{adapter.directory}/{adapter.interface}\nE: DEVTYPE=usb_interface\nE: SUBSYSTEM=usb\n\n"
        f"{port if adapter.usb_serial else ''}"
        f"P: /{adapter.tty_directory(tty)}\nE: DEVNAME=/dev/{tty}\nE: SUBSYSTEM=tty\nE: MAJOR=188\nE: MINOR=0\n"
        "A: dev=188:0\n"
    )
    path = f"/sys/{adapter.tty_directory(tty) if device == 'tty' else adapter.directory}"
    # udev reads rules from fixed directories and links what it finds below /dev. So it gets a mount namespace of its own,
    # with an empty /run for our rules and an empty /dev.
    script = """
        mount -t tmpfs tmpfs /run && mkdir -p /run/udev/rules.d /run/dev && cp "$1" /run/udev/rules.d/ &&
        touch /run/dev/null && mount --bind /dev/null /run/dev/null && mount --rbind /run/dev /dev &&
        shift && exec "$@"
    """
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    mocked = ["umockdev-run", "-d", str(tmp_path / "bench.umockdev"), "--", udevadm, "test", "--action=add", path]
    command = [*unshare, "sh", "-c", script, "sh", str(RULES), *mocked]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    own = [line for line in said.splitlines() if RULES.name in line]
    assert any("Reading rules file" in line for line in own), said
    # udev only logs what it does not understand in a rules file, and goes on.
    assert not [line for line in own if re.search("nvalid|nknown|ailed|gnoring", line)], said
    return said


def properties(said: str) -> dict[str, str]:
    """Return the properties that `udevadm test` prints in the end."""
    return dict(re.findall(r"^(\w+)=(.*)$", said, flags=re.MULTILINE))


@pytest.mark.umockdev
@pytest.mark.parametrize(
    ("adapter", "usb_id"),
    [
        pytest.param(USB_SERIAL, "1a86:7523", id="ch341"),
        pytest.param(CDC_ACM, "1a86:55d4", id="cdc_acm"),
        pytest.param(WCH_DRIVER, "4348:5523", id="vendor driver"),
        pytest.param(Adapter(host=RASPBERRY_PI_4), "1a86:7523", id="raspberry pi 4"),
    ],
)
def test_udev_gives_a_programmers_tty_its_tag_its_place_and_no_modem_manager(
    tmp_path: Path, adapter: Adapter, usb_id: str
) -> None:
    """With our rules real udev tags the tty, names its place for every driver, and keeps ModemManager off it."""
    said = udevadm_test(tmp_path, "tty", adapter=adapter, usb_id=usb_id)
    found = properties(said)
    assert "flashing-station" in found["TAGS"].split(":")
    assert found["ID_PATH"] == adapter.right_id_path
    assert found["ID_MM_PORT_IGNORE"] == "1"
    assert re.search(rf"{RULES.name}:\d+ (GROUP|MODE)", said), said
    assert "run:" not in said


@pytest.mark.umockdev
def test_udev_keeps_modem_manager_off_the_whole_adapter(tmp_path: Path) -> None:
    """With our rules the USB device itself is marked, as older ModemManagers want it."""
    found = properties(udevadm_test(tmp_path, "adapter"))
    assert found["ID_MM_DEVICE_IGNORE"] == "1"


@pytest.mark.umockdev
@pytest.mark.parametrize("device", ["tty", "adapter"])
def test_udev_leaves_other_adapters_alone(tmp_path: Path, device: str) -> None:
    """Somebody's modem or FTDI cable on the same machine is not touched by our rules."""
    found = properties(udevadm_test(tmp_path, device, usb_id="0403:6001"))
    assert "flashing-station" not in found.get("TAGS", "")
    assert not {"ID_MM_PORT_IGNORE", "ID_MM_DEVICE_IGNORE"} & found.keys()


def rule_ids(keyword: str) -> set[str]:
    """Return the USB ids that the rules file names by ATTR or ATTRS."""
    pattern = re.compile(rf'^{keyword}{{idVendor}}=="(\w+)", {keyword}{{idProduct}}=="([\w|]+)"', flags=re.MULTILINE)
    found = pattern.findall(RULES.read_text(encoding="utf-8"))
    return {f"{vendor}:{product}" for vendor, products in found for product in products.split("|")}


@pytest.mark.parametrize("keyword", ["ATTR", "ATTRS"])
def test_the_rules_know_the_default_usb_ids(keyword: str) -> None:
    """The rules file and the configuration's default name the same adapters."""
    assert rule_ids(keyword) == set(DEFAULT_USB_IDS)


def test_the_rules_run_nothing() -> None:
    """Nothing is started from a udev rule, least of all as root."""
    assert not re.search(r"\b(RUN|PROGRAM|IMPORT\{program\}|SYSTEMD_WANTS)\b", RULES.read_text(encoding="utf-8"))
