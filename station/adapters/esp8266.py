"""The conversation with one ESP8266's loader, ROM and flasher stub, through esptool: `ports.Flasher` and `ports.Loader`.

Promises that every broken conversation is judged by the bytes that were seen on the line, that a value which would
blame the board (wrong chip, no MAC, flash id) was read twice, and that an unplug ends any of it at once: `LineStopped`
and `PortGone` are no errors that esptool knows, so none of its retries can eat them. It must never guess after a failure,
nor retry on its own what the job must see and record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal

from station.adapters.compressed import Block, CompressedImages
from station.adapters.esptool_library import library
from station.adapters.line import SerialLine
from station.adapters.link_evidence import why_broken
from station.adapters.loader_peek import peek_at
from station.adapters.loader_search import ROM_BAUD, LoaderSearch
from station.adapters.otp import OTP_ADDRESSES, identity_from_otp
from station.errors import IdentityInvalid, LinkCorrupt, LinkError, LinkSilent, LoaderRefused, WrongChip
from station.model import Answer, FlashChip, Identity, Peek
from station.ports import Line

CHECKSUM_REFUSED = 0xC100
BLOCK_ATTEMPTS = 3
SECTOR_BYTES = 4096

_UART_CLOCKS_HZ = range(40_000_000, 100_000_000)
"""52 MHz with a 26 MHz crystal, 80 MHz with 40 MHz; anything else was misread."""
_STUB_INFLATE_BYTES = 32 * 1024
_ERASE_BLOCK_BYTES = 64 * 1024
_ROM_ERROR = 0x01
_STUB_ERRORS = (*range(0xC0, 0xCC), 0xFF)
_DAMAGED = frozenset({0x0105, 0x0107, 0xC000, CHECKSUM_REFUSED, 0xC300, 0xC700, 0xC800, 0xC900})
"""The codes by which a loader says that what arrived is not what one sends: format, length, checksum, command, deflate."""


class EsptoolFlasher:
    """Makes loaders; they share the compressed images. Implements `ports.Flasher`.

    It also remembers, per plug, the rate at which a stub was last spoken to: over a port that cannot reset, the next
    conversation finds it there. A node that was given to another board since costs a few more SYNCs.
    """

    def __init__(self) -> None:
        self._images = CompressedImages()
        self._stub_rates: dict[str, int] = {}

    @property
    def version(self) -> str:
        """The version of esptool."""
        return version("esptool")

    def loader(self, line: Line) -> Esp8266Loader:
        """Return a loader conversation over `line`, which must be a `SerialLine`; nothing is sent yet."""
        if not isinstance(line, SerialLine):
            raise TypeError(f"esptool needs a SerialLine to talk through, not a {type(line).__name__}")
        return Esp8266Loader(line, self._images, self._stub_rates)


class Esp8266Loader:
    """One conversation, over one open line. Implements `ports.Loader`. Used from one thread."""

    def __init__(self, line: SerialLine, images: CompressedImages, stub_rates: dict[str, int]) -> None:
        self._line, self._images, self._stub_rates = line, images, stub_rates
        self._library = library()
        self._search = LoaderSearch(line, self._library, stub_rates)
        self._esp: Any = None
        self._ignores_start = False
        self.blocks_repeated = 0
        """So many blocks were sent again, since the stub refused their checksum."""

    # --- ports.Loader ----------------------------------------------------------------------------------------------

    def connect(self, attempts: int) -> None:
        """Reset the board into its loader where the line can, and synchronise, at most `attempts` times.

        A board that cannot be reset may still run a stub: that one is found too, also at the rate it was left at.
        Raises `WrongChip`, `LinkSilent`, `LinkEcho`, `FirmwareAnswers` and `LinkCorrupt`; before the last four `PROBE`
        was sent at 115200, and a board that can be reset was listened to at its boot message's rate unless its
        MicroPython answered. No attempt is made that cannot help: `LinkSilent` comes after the first when not a byte
        did, and so do an echo, and a firmware on a line by which it was not reset.
        """
        self._esp = None
        self._esp = self._search.connect(attempts)
        self._check_chip()

    def read_identity(self) -> Identity:
        """Read the OTP words; raises `IdentityInvalid` when the same unusable words came twice."""
        words = self._read_otp()
        try:
            return identity_from_otp(words)
        except IdentityInvalid:
            if self._read_otp() != words:
                raise LinkCorrupt("the identity words read differently each time") from None
            raise

    def start_stub(self, *, legacy: bool = False) -> None:
        """Upload and start the flasher stub; one that runs already is kept, whichever it is.

        Stub "2" is the better writer; only the `legacy` one leaves into the firmware when `start_firmware` asks it to.
        """
        esp = self._loader()
        if esp.IS_STUB:
            return
        program = self._library.legacy_stub_program if legacy else self._library.stub_program
        if not esp.sync_stub_detected:
            self._ignores_start = not legacy
        with self._asking("start the flasher stub"):
            self._esp = esp.run_stub(program)

    def start_firmware(self) -> None:
        """Let ROM or legacy stub start what is in flash, without a reset; our side is at 115200 afterwards.

        Nothing answers: whether the firmware came up only its own words tell. The stub is brought down to 115200 first,
        so that no rate has to be changed while the order is on its way. Afterwards the loader is gone: `connect` is
        needed. Raises `RuntimeError` when this conversation uploaded a stub "2", which takes the order and ignores it.
        """
        esp = self._loader()
        if esp.IS_STUB and self._ignores_start:
            raise RuntimeError('stub "2" cannot start the firmware; call start_stub(legacy=True)')
        if esp.IS_STUB:
            self.set_baud(ROM_BAUD)
        with self._asking("start the firmware"):
            if esp.IS_STUB:
                esp.command(esp.ESP_CMDS["RUN_USER_CODE"], wait_response=False)
            else:
                # As esptool's soft_reset(), but without waiting for an answer: with it came the firmware's first words.
                esp.flash_begin(0, 0, logging=False)
                esp.command(esp.ESP_CMDS["FLASH_END"], struct.pack("<I", 1), wait_response=False)
        self._esp = None
        self._stub_rates.pop(self._line.plug, None)

    def peek(self, *, knock: bool) -> Peek:
        """Look who is there, without a reset: one SYNC at 115200, and at the rate where a stub was left, if any was.

        `knock` sends `PROBE` as well where no loader answers. Of a loader the MAC is read, twice; it stays empty when
        it is none or reads differently. What was waiting to be read is discarded first. Our side is at 115200 then,
        and this object as if new: whoever wants more of the loader calls `connect`.
        """
        self._esp = None
        stub_baud = self._stub_rates.get(self._line.plug, ROM_BAUD)
        # Twice at the stub's: what it made of the SYNC at another rate may have opened a frame, which the next one ends.
        bauds = (ROM_BAUD,) if stub_baud == ROM_BAUD else (ROM_BAUD, stub_baud, stub_baud)
        seen, baud = peek_at(self._line, bauds, knock=knock)
        if baud == ROM_BAUD or seen.answer is Answer.FIRMWARE:
            self._stub_rates.pop(self._line.plug, None)
        if self._line.baudrate != ROM_BAUD:
            self._line.set_baud(ROM_BAUD)
        return seen

    def set_baud(self, baud: int) -> None:
        """Change the rate on both sides and hear the board at the new one; needs the stub."""
        esp, current = self._stub(), self._line.baudrate
        if baud == current:
            return
        with self._asking(f"change to {baud} baud"):
            divider = esp.read_reg(esp.UART_CLKDIV_REG) & esp.UART_CLKDIV_MASK
        if divider * current not in _UART_CLOCKS_HZ:
            raise LinkCorrupt(f"the UART's divider reads {divider} at {current} baud")
        # Both stubs set divider * 115200 // asked (the legacy one with the rate it is told instead of 115200): asking
        # for a little less than `baud` rounds where they truncate, and is right from any other rate as well.
        wanted = max(1, round(divider * current / baud))
        with self._asking(f"change to {baud} baud"):
            esp.command(esp.ESP_CMDS["CHANGE_BAUDRATE"], struct.pack("<II", divider * ROM_BAUD // wanted, ROM_BAUD))
        self._stub_rates[self._line.plug] = baud
        self._line.set_baud(baud)
        self._line.pause(0.05)
        with self._asking(f"answer at {baud} baud"):
            esp.flush_input()
            esp.read_reg(esp.CHIP_DETECT_MAGIC_REG_ADDR)

    def read_flash_chip(self) -> FlashChip:
        """Read the flash chip's JEDEC id, twice and not from a cache, and derive its size.

        A flash that does not answer reads as 0xFFFFFF or 0x000000, with size None.
        """
        esp = self._loader()
        with self._asking("read the flash id"):
            self._library.attach_flash(esp)
            first, second = esp.flash_id(cache=False), esp.flash_id(cache=False)
            if first != second:
                raise LinkCorrupt(f"the flash id reads {first:06x}, then {second:06x}")
            size_bytes = self._library.flash_size_bytes(self._library.detect_flash_size(esp))
            if size_bytes is not None:
                esp.flash_set_parameters(size_bytes)
        return FlashChip(jedec_id=second, size_bytes=size_bytes)

    def erase_chip(self) -> None:
        """Erase the whole flash chip; needs the stub. Silent for up to 120 s, typically 2 to 8."""
        esp = self._stub()
        with self._asking("erase the flash"):
            esp.erase_flash()

    def write(self, offset: int, data: bytes, on_progress: Callable[[int], None]) -> None:
        """Write `data` at `offset` (whole sectors), compressed, erasing as it goes; needs the stub.

        `on_progress` gets the bytes of `data` that are in flash: the stub takes a block before it works on it and
        gathers 32 KiB before it programs them, so this lags behind what was sent, says some numbers twice, and reaches
        `len(data)` only when the stub says that all is done.
        """
        if offset % SECTOR_BYTES:
            raise ValueError(f"offset {offset:#x} is not at the start of a sector")
        if not data:
            return
        esp, image = self._stub(), self._images.of(data)
        with self._asking("begin the write"):
            esp.flash_defl_begin(image.size_bytes, image.compressed_bytes, offset)
        timeout_s, done = self._library.default_timeout_s, 0
        for number, block in enumerate(image.blocks):
            self._send_block(block, number, timeout_s)
            on_progress(done // _STUB_INFLATE_BYTES * _STUB_INFLATE_BYTES)
            done += block.inflated_bytes
            timeout_s = self._work_timeout_s(block)
        with self._asking("end the write"):
            esp.flash_defl_finish(reboot=False, timeout=timeout_s)
        on_progress(len(data))

    def md5(self, offset: int, length: int) -> str:
        """Return the MD5 of a region of flash, computed by the chip, 32 lower-case hex digits; needs the stub."""
        esp = self._stub()
        with self._asking("compute an MD5"):
            return str(esp.flash_md5sum(offset, length))

    def clear_write_protection(self) -> None:
        """Write 0 to the flash status register, for good: the firmware has to write, too."""
        with self._asking("clear the write protection"):
            self._loader().write_status(0, num_bytes=2, set_non_volatile=True)

    def read_flash(self, offset: int, length: int, on_progress: Callable[[int], None]) -> bytes:
        """Return a region of flash; needs the stub. `on_progress` gets the bytes that have come so far.

        The stub computes an MD5 over what it reads and sends it along; what does not agree is `LinkCorrupt`.
        """
        esp, doing = self._stub(), f"read the flash at {offset:#x}"
        if not length:
            return b""
        with self._asking(doing):
            try:
                return bytes(esp.read_flash(offset, length, lambda done, _length, _offset: on_progress(done)))
            except self._library.refused:
                raise
            except (self._library.fatal_error, IndexError) as broken:
                # Not judged by its words as other answers are: what is in a flash may look like a banner or a prompt.
                if not self._line.answer:
                    raise LinkSilent(f"{doing}: no answer") from broken
                raise LinkCorrupt(f"{doing}: bytes arrive damaged") from broken

    def answers_as(self) -> Literal["stub", "rom"] | None:
        """Return who answers a SYNC now, without a reset: tried at 115200, then at the rate the stub was last told.

        After a break, "rom" where the stub was means that the board reset itself; None means neither (it may run its
        firmware, hang, or be gone: `probe_presence` tells). After "stub" or "rom" this loader may be used on as after
        `start_stub` or `connect`. Raises `PortGone`, `AdapterHung`, `LineStopped`.
        """
        self._esp = self._search.synchronise()
        if self._esp is None:
            return None
        if not self._esp.sync_stub_detected:
            return "rom"
        self._esp = self._esp.STUB_CLASS(self._esp)
        return "stub"

    def probe_presence(self) -> bool | None:
        """Return whether there is a board: pulse the reset line and hear whether it says its boot message.

        None when this line cannot reset. Afterwards the board is in its loader and needs `connect`. Raises as above.
        """
        return self._search.probe_presence()

    # --- what only a qualification needs (`station.qualifying.probing.ProbingLoader`) -----

    def connect_at(self, baud: int) -> bool:
        """Reset the board into its loader and synchronise at `baud` from the first byte on; False when it does not answer.

        As after `connect`, at this rate, when it does; else `connect` is needed. Only where a line resets the board: without
        one a ROM that took this rate keeps it until its power goes.
        """
        self._esp = self._search.connect_at(baud)
        return self._esp is not None

    def erase_region(self, offset: int, length: int) -> None:
        """Erase a region of flash, whole sectors, by blocks of 64 KiB where it can; needs the stub."""
        esp = self._stub()
        with self._asking(f"erase {length} bytes at {offset:#x}"):
            esp.erase_region(offset, length)

    # --- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn what esptool raises about the conversation into our errors, by the evidence on the line."""
        try:
            yield
        except self._library.refused as refused:
            raise self._refusal(str(refused), refused.code) from None  # type: ignore[attr-defined]
        except (self._library.fatal_error, IndexError) as broken:
            # IndexError: esptool 5.6 looks into an answer without a body when its opcode is not the one awaited.
            line = self._line
            raise why_broken(doing, sent=line.request, answer=line.answer, before=line.answer_before) from broken

    @staticmethod
    def _refusal(message: str, code: int) -> LinkError:
        """Judge a status: an answer has no checksum, so a code that no loader knows is noise, too."""
        high, low = divmod(code, 0x100)
        known = high == _ROM_ERROR or (high in _STUB_ERRORS and low == 0)
        if not known or code in _DAMAGED:
            return LinkCorrupt(f"{message}: bytes arrive damaged")
        return LoaderRefused(message, code)

    def _loader(self) -> Any:
        if self._esp is None:
            raise RuntimeError("nobody was synchronised with; call connect() first")
        return self._esp

    def _stub(self) -> Any:
        if self._esp is None or not self._esp.IS_STUB:
            raise RuntimeError("this needs the flasher stub; call connect() and start_stub() first")
        return self._esp

    def _check_chip(self) -> None:
        """Raise `WrongChip` unless this is an ESP8266; one wrong reading is not believed."""
        expected = self._esp.MAGIC_VALUE
        for last in (False, True):
            with self._asking("read the chip's kind"):
                magic = self._esp.read_reg(self._esp.CHIP_DETECT_MAGIC_REG_ADDR)
            if magic == expected:
                return
            if last:
                raise WrongChip(f"chip magic {magic:#010x}, an ESP8266 has {expected:#010x}")

    def _read_otp(self) -> tuple[int, int, int, int]:
        esp = self._loader()
        with self._asking("read the identity words"):
            first, second, third, fourth = (esp.read_reg(address) for address in OTP_ADDRESSES)
        return first, second, third, fourth

    def _send_block(self, block: Block, number: int, timeout_s: float) -> None:
        """Send one block; one whose checksum the stub refuses is sent again.

        Not esptool's `flash_defl_block`: that also repeats a block whose answer was lost, and so inflates it twice.
        """
        esp = self._esp
        header = struct.pack("<IIII", len(block.payload), number, 0, 0)
        with self._asking(f"write block {number}"):
            for left in reversed(range(BLOCK_ATTEMPTS)):
                try:
                    esp.check_command(
                        "write compressed data",
                        esp.ESP_CMDS["FLASH_DEFL_DATA"],
                        header + block.payload,
                        esp.checksum(block.payload),
                        timeout=timeout_s,
                    )
                except self._library.refused as refused:
                    if refused.code != CHECKSUM_REFUSED or not left:  # type: ignore[attr-defined]
                        raise
                    self.blocks_repeated += 1
                else:
                    return

    def _work_timeout_s(self, block: Block) -> float:
        """How long the stub may work on a block, erasing ahead; the rule of esptool's write_flash."""
        erases = -(-block.inflated_bytes // _STUB_INFLATE_BYTES) + 1
        megabytes = (block.inflated_bytes + erases * _ERASE_BLOCK_BYTES) / 1e6
        return max(self._library.default_timeout_s, self._library.erase_write_timeout_s_per_mb * megabytes)
