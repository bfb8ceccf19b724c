"""What the tests of the virtual firmware share: boards with MicroPython in their flash, and a session with one of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from littlefs import LittleFS, UserContext

from station.bench.chip import Chip, ResetCause, make_chip
from station.bench.faults import parse_fault
from station.bench.firmware import MicroPythonHost
from station.bench.image import Variant, make_image
from station.bench.programmer import RunningFirmware

MAC = bytes.fromhex("5ccf7fddc142")
FRIENDLY = b">>> "
RAW = b"raw REPL; CTRL-B to exit\r\n>"
PATIENCE_S = 30.0
FILESYSTEM_START = 0x99000
FILESYSTEM_BYTES = 98 * 4096


def board(*tokens: str, variant: Variant = "1M", image: bytes | None = None) -> Chip:
    """A board with MicroPython in its flash and these faults."""
    content = make_image(variant=variant) if image is None else image
    return make_chip(mac=MAC, faults=tuple(parse_fault(token) for token in tokens), image=content)


class Session:
    """One board and what it says; `resets` are the causes it asked to be reset for."""

    def __init__(self, host: MicroPythonHost, chip: Chip) -> None:
        self.chip = chip
        self.heard = bytearray()
        self.resets: list[str] = []
        self._host = host
        self._news = asyncio.Event()
        self._firmware: RunningFirmware | None = None

    def boot(self) -> None:
        """Start what is in the flash, as after a reset: whatever ran ends first."""
        self.cut_power()
        self.chip.flash.board_resets()
        self.chip.flash.firmware_starts()
        self._firmware = self._host.boot(self.chip, self._hear, self._reset)

    def cut_power(self) -> None:
        """Everything in RAM is lost."""
        if self._firmware is not None:
            self._firmware.power_off()
        self._firmware = None

    def type(self, data: bytes) -> None:
        """Bytes at the board's RX."""
        assert self._firmware is not None
        self._firmware.receive(data)

    async def until(self, text: bytes) -> bytes:
        """All that was said up to and with `text`, in plain bytes."""
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.heard:
                self._news.clear()
                await self._news.wait()
        end = self.heard.index(text) + len(text)
        said = bytes(self.heard[:end])
        del self.heard[:end]
        return said

    async def until_reset(self) -> str:
        """The cause of the next reset it asks for."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.resets:
                self._news.clear()
                await self._news.wait()
        return self.resets.pop(0)

    async def to_raw_repl(self) -> None:
        """Boot, and enter the raw REPL."""
        self.boot()
        await self.until(FRIENDLY)
        self.type(b"\x01")
        await self.until(RAW)

    async def run(self, code: str) -> tuple[bytes, bytes]:
        """Run code in the raw REPL: what it printed, and its traceback."""
        self.type(code.encode() + b"\x04")
        await self.until(b"OK")
        printed = (await self.until(b"\x04"))[:-1]
        return printed, (await self.until(b"\x04>"))[:-2]

    async def line(self, text: bytes) -> bytes:
        """Type a line at the prompt; what it answered, without echo and prompt."""
        self.type(text + b"\r")
        await self.until(text + b"\r\n")
        return (await self.until(FRIENDLY))[: -len(FRIENDLY)]

    def _hear(self, data: bytes) -> None:
        self.heard += data
        self._news.set()

    def _reset(self, cause: str) -> None:
        self.resets.append(ResetCause(cause))
        self._news.set()


@asynccontextmanager
async def boards(*chips: Chip, pace: float = 0.0) -> AsyncIterator[list[Session]]:
    """A session with each of these boards, not booted yet; afterwards nothing runs."""
    host = MicroPythonHost(pace=pace)
    await host.start()
    sessions = [Session(host, chip) for chip in chips]
    try:
        yield sessions
    finally:
        for session in sessions:
            session.cut_power()
        await host.close()


def on(chip: Chip, scene: Callable[[Session], Awaitable[None]], *, pace: float = 0.0) -> None:
    """Play a scene with one board."""

    async def play() -> None:
        async with boards(chip, pace=pace) as (session,):
            await scene(session)

    asyncio.run(play())


def files_in(chip: Chip) -> dict[str, bytes]:
    """What a fresh LittleFS reads in the bytes of the flash."""
    region = bytearray(chip.flash.data[FILESYSTEM_START : FILESYSTEM_START + FILESYSTEM_BYTES])
    files = LittleFS(context=UserContext(buffer=region), block_size=4096, block_count=98)
    found = {}
    for name in files.listdir("/"):
        with files.open(name, "rb") as file:
            found[name] = file.read()
    return found
