"""The conversation with one ESP8266's loader, ROM and flasher stub, through esptool: `ports.Flasher` and `ports.Loader`.

Promises that every broken conversation is judged by the bytes that were seen on the line, that a value which would
blame the board (wrong chip, no MAC, flash id) was read twice, and that an unplug ends any of it at once: `LineStopped`
and `PortGone` are no errors that esptool knows, so none of its retries can eat them. It resets the board itself and
never lets esptool do so, never guesses after a failure, and never retries on its own what the job must see and record.
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
from station.adapters.link_evidence import PROBE, why_broken, why_no_loader
from station.errors import IdentityInvalid, LinkCorrupt, LinkError, LoaderRefused, WrongChip
from station.model import BootInto, FlashChip, Identity, chip_id_from_mac, format_mac
from station.ports import Line

ROM_BAUD = 115200
"""The ROM finds our rate by itself; stub "2" takes this one for granted when it is asked for another."""
BOOT_LOG_BAUD = 74880
"""What the ROM's 115200 comes out as with the 26 MHz crystal that every ESP-01 has."""
SYNCS_PER_RESET = 5
LONG_SETTLE_S = 0.55
"""Every second reset holds GPIO0 longer, for boards with a large capacitor at EN (as esptool does)."""
LISTEN_S = 0.5
PRESENCE_BYTES = 8
"""The boot message has at least 40 bytes; a line that hangs in the air may catch a stray one."""
CHECKSUM_REFUSED = 0xC100
BLOCK_ATTEMPTS = 3
SECTOR_BYTES = 4096
STATUS_PROTECTION = 0xFC
"""The bits of the flash's status register that are neither BUSY nor WRITE ENABLED."""

_OTP_ADDRESSES = (0x3FF00050, 0x3FF00054, 0x3FF00058, 0x3FF0005C)
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

    It also remembers, per node, the rate at which a stub was last spoken to: over a port that cannot reset, the next
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
        self._esp: Any = None

    # --- ports.Loader ----------------------------------------------------------------------------------------------

    def connect(self, attempts: int) -> None:
        """Reset the board into its loader where the line can, and synchronise, at most `attempts` times.

        A board that cannot be reset may still run a stub: that one is found too, also at the rate it was left at.
        Raises `WrongChip`, `LinkSilent`, `LinkEcho`, `FirmwareAnswers` and `LinkCorrupt`; before the last four one
        empty line was sent at 115200 and the board was listened to at its boot message's rate.
        """
        began = self._line.mark()
        for attempt in range(attempts):
            self._line.set_baud(ROM_BAUD)
            self._line.reset_board(BootInto.LOADER, LONG_SETTLE_S if attempt % 2 else None)
            if self._synchronise_somewhere():
                self._check_chip()
                return
        self._line.set_baud(ROM_BAUD)
        self._line.send(PROBE)
        self._listen()
        self._line.set_baud(BOOT_LOG_BAUD)
        self._line.reset_board(BootInto.LOADER)
        self._listen()
        self._line.set_baud(ROM_BAUD)
        raise why_no_loader(sent=self._line.sent_since(began), received=self._line.received_since(began))

    def read_identity(self) -> Identity:
        """Read the OTP words; raises `IdentityInvalid` when the same unusable words came twice."""
        words = self._read_otp()
        try:
            return identity_from_otp(words)
        except IdentityInvalid:
            if self._read_otp() != words:
                raise LinkCorrupt("the identity words read differently each time") from None
            raise

    def start_stub(self) -> None:
        """Upload and start the flasher stub; one that runs already is kept."""
        if not self._esp.IS_STUB:
            with self._asking("start the flasher stub"):
                self._esp = self._esp.run_stub(self._library.stub_program)

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
        self._stub_rates[self._line.node] = baud
        self._line.set_baud(baud)
        self._line.pause(0.05)
        with self._asking(f"answer at {baud} baud"):
            esp.flush_input()
            esp.read_reg(esp.CHIP_DETECT_MAGIC_REG_ADDR)

    def read_flash_chip(self) -> FlashChip:
        """Read the flash chip's JEDEC id, twice and not from a cache, and derive its size.

        A flash that does not answer reads as 0xFFFFFF or 0x000000, with size None.
        """
        esp = self._esp
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
            self._esp.write_status(0, num_bytes=2, set_non_volatile=True)

    # --- beyond ports.Loader ---------------------------------------------------------------------------------------

    def read_write_protection(self) -> int:
        """Return the protection bits of the flash's status register (0x1C: blocks, 0x80: locked); 0 is unprotected."""
        with self._asking("read the write protection"):
            return int(self._esp.read_status(num_bytes=1)) & STATUS_PROTECTION

    def answers_as(self) -> Literal["stub", "rom"] | None:
        """Return who answers a SYNC now, without a reset: tried at 115200, then at the rate the stub was last told.

        After a break, "rom" where the stub was means that the board reset itself; None means neither (it may run its
        firmware, hang, or be gone: `probe_presence` tells). After "stub" or "rom" this loader may be used on as after
        `start_stub` or `connect`. Raises `PortGone`, `AdapterHung`, `LineStopped`.
        """
        if not self._synchronise_somewhere():
            return None
        if not self._esp.sync_stub_detected:
            return "rom"
        self._esp = self._esp.STUB_CLASS(self._esp)
        return "stub"

    def probe_presence(self) -> bool | None:
        """Return whether there is a board: pulse the reset line and hear whether it says its boot message.

        None when this line cannot reset. Afterwards the board is in its loader and needs `connect`. Raises as above.
        """
        self._line.set_baud(BOOT_LOG_BAUD)
        self._line.discard_input()
        began = self._line.mark()
        can_reset = self._line.reset_board(BootInto.LOADER)
        if can_reset:
            self._listen()
        self._line.set_baud(ROM_BAUD)
        return len(self._line.received_since(began)) >= PRESENCE_BYTES if can_reset else None

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

    def _stub(self) -> Any:
        if self._esp is None or not self._esp.IS_STUB:
            raise RuntimeError("this needs the flasher stub; call connect() and start_stub() first")
        return self._esp

    def _synchronise_somewhere(self) -> bool:
        """Whether a loader answers our SYNC at the ROM's rate, or at the one a stub was last spoken to at."""
        rates = dict.fromkeys((ROM_BAUD, self._stub_rates.get(self._line.node, ROM_BAUD)))
        return any(self._synchronise(baud) for baud in rates)

    def _synchronise(self, baud: int) -> bool:
        """Whether a loader answers our SYNC at `baud`."""
        self._line.set_baud(baud)
        self._esp = self._library.rom(self._line, baud)
        for _ in range(SYNCS_PER_RESET):
            try:
                self._esp.flush_input()
                self._esp.sync()
            except (self._library.fatal_error, IndexError, LinkCorrupt):
                self._line.pause(0.05)
            else:
                return True
        return False

    def _listen(self) -> None:
        """Let the board speak for a while; what it says is in the transcript."""
        self._line.pause(LISTEN_S)
        self._line.discard_input()

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
        with self._asking("read the identity words"):
            first, second, third, fourth = (self._esp.read_reg(address) for address in _OTP_ADDRESSES)
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
                else:
                    return

    def _work_timeout_s(self, block: Block) -> float:
        """How long the stub may work on a block, erasing ahead; the rule of esptool's write_flash."""
        erases = -(-block.inflated_bytes // _STUB_INFLATE_BYTES) + 1
        megabytes = (block.inflated_bytes + erases * _ERASE_BLOCK_BYTES) / 1e6
        return max(self._library.default_timeout_s, self._library.erase_write_timeout_s_per_mb * megabytes)


def identity_from_otp(words: tuple[int, int, int, int]) -> Identity:
    """Return the identity that the words at 0x3FF00050, 54, 58 and 5C name; raises `IdentityInvalid`.

    The rule is that of esptool's `ESP8266ROM.read_mac`; beyond it a MAC is refused that no factory gave: multicast,
    or an OUI or a board number of only zeros or only ones (words that were never written, or that do not read).
    """
    low, middle, _, high = words
    observed = " ".join(f"{word:08x}" for word in words)
    selector = (middle >> 16) & 0xFF
    if high:
        oui = (high & 0xFFFFFF).to_bytes(3, "big")
    elif selector in _OLD_OUIS:
        oui = _OLD_OUIS[selector]
    else:
        raise IdentityInvalid(f"unknown OUI selector {selector:#04x}", observed)
    number = bytes(((middle >> 8) & 0xFF, middle & 0xFF, low >> 24))
    mac = format_mac(oui + number)
    if oui[0] & 1 or {oui, number} & {bytes(3), b"\xff\xff\xff"}:
        raise IdentityInvalid(f"{mac} is no board's address", mac)
    return Identity(mac=mac, chip_id=chip_id_from_mac(mac), otp_words=words)


_OLD_OUIS = {0: b"\x18\xfe\x34", 1: b"\xac\xd0\x74"}
"""The two OUIs that are not stored but named by a selector byte."""
