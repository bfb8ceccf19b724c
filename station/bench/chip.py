"""The silicon of a virtual ESP-01: identity in OTP, the boot pin's latch, and what its ROM does at a reset.

Promises that a board boots what is in its flash if and only if the ROM's own conditions hold (header, segments,
checksum, and a flash mode this board can run), and that the boot pin counts only when EN rises: a software reset keeps
the mode of the last hardware reset. It must never talk to a line or keep time: the programmer it sits in does that.
"""

import random
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from operator import xor

from station.bench.faults import Fault
from station.bench.flash import PUYA_TIMING, FlashTiming, NorFlash

ESP8266_MAGIC = 0xFFF0C101
"""What an ESP8266 holds at 0x40001000."""
ESP32_MAGIC = 0x00F01D83
"""What an ESP32 holds there."""
ROM_BAUD = 74880
"""The ROM believes in a 40 MHz crystal: its 115200 comes out as this with the 26 MHz one that is there."""
UART_CLOCK_HZ = 52_000_000
"""The UART's clock with a 26 MHz crystal: baud = this / an integer divider."""

IMAGE_MAGIC = 0xE9
CHECKSUM_SEED = 0xEF
MAX_SEGMENTS = 16
FLASH_MODE_DOUT = 3
"""Header byte 2: 0 qio, 1 qout, 2 dio, 3 dout."""

LOADER_MODE = "(1,7)"
"""The boot mode that the ROM prints when GPIO0 was low."""

WINBOND_1M = 0x1440EF
PUYA_1M = 0x146085
WINBOND_512K = 0x1340EF
WINBOND_2M = 0x1540EF
UNKNOWN_SIZE = 0x7F40EF
LOSES_ABOVE_BYTES = 48 * 1024
"""What a flash with the fault `loses_much` takes from the firmware without losing it: the usual test file, not a filling."""
KIB = 1024


class ResetCause(StrEnum):
    """Why the chip starts again; `number` is what its ROM prints."""

    POWER_ON = "power_on"
    EXTERNAL = "external"
    SOFTWARE = "software"
    WATCHDOG = "watchdog"
    BROWNOUT = "brownout"

    @property
    def number(self) -> int:
        """The N of `rst cause:N`; a brownout is a power-on to the ROM."""
        return {"power_on": 1, "external": 2, "software": 3, "watchdog": 4, "brownout": 1}[self.value]

    @property
    def samples_pins(self) -> bool:
        """Whether the boot pins are read again: only when EN or the supply rose."""
        return self in (ResetCause.POWER_ON, ResetCause.EXTERNAL, ResetCause.BROWNOUT)


class BootTo(StrEnum):
    """Where a reset ends."""

    LOADER = "loader"
    FIRMWARE = "firmware"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One start of the chip: where it ends and the ROM's words on the way, sent at 74880 baud."""

    to: BootTo
    chatter: bytes


class Chip:
    """One board.

    `mac` are the 6 bytes esptool and the firmware read, `flash` its flash, `faults` what is wrong with it, `otp` its
    OTP words by address. `can_run_modes` are the flash modes (header byte 2) it starts from. `hung` says that
    its loader answers no more, for good. `reset_cause` is that of the last boot.
    """

    def __init__(
        self,
        *,
        mac: bytes,
        flash: NorFlash,
        faults: tuple[Fault, ...] = (),
        otp: dict[int, int] | None = None,
        magic: int = ESP8266_MAGIC,
        can_run_modes: frozenset[int] = frozenset(range(4)),
    ) -> None:
        self.mac = mac
        self.flash = flash
        self.faults = faults
        self.otp = otp_words(mac) if otp is None else otp
        self.magic = magic
        self.can_run_modes = can_run_modes
        self.hung = False
        self.reset_cause = ResetCause.POWER_ON
        self.gpio0_was_low = False
        """What GPIO0 was when EN or the supply rose last: a jumper is still there then."""
        self.rtc_memory = b""
        self.pwm: dict[int, tuple[int, int]] = {}
        """Pin -> frequency in Hz and share of 1023 at which it blinks by itself; every reset ends it."""
        self._spent: set[str] = set()

    def fault(self, token: str) -> Fault | None:
        """The fault of this token, None when the board does not have it."""
        return next((fault for fault in self.faults if fault.token == token), None)

    def spend(self, token: str) -> None:
        """The fault of this token has happened and will not happen again."""
        self._spent.add(token)

    def spent(self, token: str) -> bool:
        """Whether the fault of this token has happened for good."""
        return token in self._spent

    def boot(self, *, gpio0_low: bool, cause: ResetCause) -> Boot:
        """Start the chip: sample the boot pin when the cause is a rise of EN or of the supply, else use the latch.

        So a board whose firmware was started by its loader is back in the loader after a reset by software, or, with
        `soft_reset_hangs`, nowhere.
        """
        self.flash.board_resets()
        self.pwm.clear()
        self.reset_cause = cause
        if cause.samples_pins:
            self.gpio0_was_low = gpio0_low and self.fault("run_mode") is None
            self.rtc_memory = b""
        if self.fault("no_answer") is not None or self.fault("echo") is not None:
            return Boot(to=BootTo.NOWHERE, chatter=b"")
        if self.gpio0_was_low and not cause.samples_pins and self.fault("soft_reset_hangs") is not None:
            # As heard from real boards (esp8266/Arduino issues 793 and 1722): two boot messages, and then nothing.
            chatter = _banner(cause, LOADER_MODE) + _banner(ResetCause.WATCHDOG, LOADER_MODE) + b"wdt reset\r\n"
            return Boot(to=BootTo.NOWHERE, chatter=chatter)
        if self.gpio0_was_low:
            return Boot(to=BootTo.LOADER, chatter=_banner(cause, LOADER_MODE))
        return self.start_flash(_banner(cause, "(3,7)"))

    def start_flash(self, banner: bytes = b"") -> Boot:
        """Load and start the image in flash, as a reset does after its `banner` or a loader that is left."""
        boot = self._from_flash(banner)
        if boot.to is BootTo.FIRMWARE:
            self.flash.firmware_starts()
        return boot

    @property
    def bootable(self) -> bool:
        """Whether the ROM would be content with the image in flash."""
        return not self.flash.dead and not check_image(self.flash)[1]

    def _from_flash(self, banner: bytes) -> Boot:
        """What the ROM does and says with the image in flash."""
        if self.flash.dead:
            return Boot(to=BootTo.NOWHERE, chatter=banner + b"flash read err, 0\r\nets_main.c \r\n")
        loaded, problem = check_image(self.flash)
        if problem:
            return Boot(to=BootTo.NOWHERE, chatter=banner + loaded + problem)
        if self.flash.read(2, 1)[0] not in self.can_run_modes:
            # The ROM reads in slow single-bit mode and is content; it is the firmware that cannot fetch a thing.
            return Boot(to=BootTo.NOWHERE, chatter=banner + loaded)
        to = BootTo.NOWHERE if self.fault("no_boot") is not None else BootTo.FIRMWARE
        return Boot(to=to, chatter=banner + loaded)


def check_image(flash: NorFlash) -> tuple[bytes, bytes]:
    """Load the image at the start of `flash` as the ROM does: its words on the way, its complaint (empty: it boots).

    The conditions: magic 0xE9, 1 to 16 segments, none of them longer than the flash, and the XOR of their bytes.
    """
    header = flash.read(0, 8)
    if header[0] != IMAGE_MAGIC or not 1 <= header[1] <= MAX_SEGMENTS:
        return b"", b"ets_main.c \r\n"
    said = bytearray()
    position, checksum = 8, CHECKSUM_SEED
    for _ in range(header[1]):
        head = flash.read(position, 8)
        address, length = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
        if position + 8 + length > flash.size_bytes:
            return bytes(said), b"ets_main.c \r\n"
        checksum = reduce(xor, flash.read(position + 8, length), checksum)
        position += 8 + length
        said += f"load 0x{address:08x}, len {length}, room 16 \r\ntail 0\r\nchksum 0x{checksum:02x}\r\n".encode()
    stored = flash.read(position | 15, 1)[0]
    if stored != checksum:
        return bytes(said), f"csum 0x{stored:02x}\r\ncsum err\r\nets_main.c \r\n".encode()
    said += f"csum 0x{stored:02x}\r\n".encode()
    return bytes(said), b""


def otp_words(mac: bytes) -> dict[int, int]:
    """The four OTP words, by address, of a chip with this MAC: the inverse of esptool's `read_mac()`.

    The two oldest OUIs are not stored but named by a selector byte; every other one stands in the last word.
    """
    selectors = {b"\x18\xfe\x34": 0, b"\xac\xd0\x74": 1}
    selector = selectors.get(mac[:3])
    oui = int.from_bytes(mac[:3], "big") if selector is None else 0
    return {
        0x3FF00050: mac[5] << 24,
        0x3FF00054: (selector or 0) << 16 | mac[3] << 8 | mac[4],
        0x3FF00058: 0x8000,
        0x3FF0005C: oui,
    }


def make_chip(
    *, mac: bytes, faults: tuple[Fault, ...] = (), seed: int = 0, jedec_id: int = WINBOND_1M, image: bytes = b""
) -> Chip:
    """A board with everything its faults say of silicon, flash and identity.

    `image` is what its flash holds from address 0 before it reaches the bench (empty: fresh from the factory); a board
    in run mode needs one. `jedec_id` is the id of a healthy flash, whose top byte says its size; a fault may put another
    chip in its place.
    """
    tokens = {fault.token: fault for fault in faults}
    flash = _flash_for(tokens, jedec_id, seed)
    flash.data[: len(image)] = image
    otp = None
    if "bad_mac" in tokens:
        mac, otp = _bad_identity(tokens["bad_mac"].argument or "zero", seed)
    return Chip(
        mac=mac,
        flash=flash,
        faults=faults,
        otp=otp,
        magic=ESP32_MAGIC if "wrong_chip" in tokens else ESP8266_MAGIC,
        can_run_modes=frozenset({FLASH_MODE_DOUT}) if "needs_dout" in tokens else frozenset(range(4)),
    )


def _flash_for(tokens: dict[str, Fault], jedec_id: int, seed: int) -> NorFlash:
    """The flash chip that these faults describe."""
    timing = FlashTiming()
    if "puya" in tokens or "puya_loses" in tokens:
        jedec_id, timing = PUYA_1M, PUYA_TIMING
    if "small_flash" in tokens:
        jedec_id = WINBOND_512K
    size = real = 1 << (jedec_id >> 16)
    if "fake_flash" in tokens:
        real = 512 * KIB
    if "flash_unknown" in tokens:
        jedec_id = UNKNOWN_SIZE
    if "flash_dead" in tokens:
        jedec_id = int(tokens["flash_dead"].argument or "ffffff", 16)
    return NorFlash(
        size_bytes=size,
        real_size_bytes=real,
        jedec_id=jedec_id,
        seed=seed,
        timing=timing.scaled(3.0) if "slow_flash" in tokens else timing,
        write_protected="write_protected" in tokens,
        worn="worn" in tokens,
        forgets_above_bytes=_forgets_above_bytes(tokens),
    )


def _forgets_above_bytes(tokens: dict[str, Fault]) -> int | None:
    """How much a firmware may write before all of it is lost at the next reset; None: as much as it likes."""
    if "puya_loses" in tokens:
        return 0
    return LOSES_ABOVE_BYTES if "loses_much" in tokens else None


def _bad_identity(variant: str, seed: int) -> tuple[bytes, dict[int, int]]:
    """A MAC that is none, and the OTP words from which esptool reads it (or refuses to)."""
    tail = random.Random(f"bad mac {seed}").randbytes(3)  # noqa: S311 - reproducible, not secret
    match variant:
        case "blank":  # OTP never written: esptool makes Espressif's first OUI of it
            return b"\x18\xfe\x34\0\0\0", dict.fromkeys((0x3FF00050, 0x3FF00054, 0x3FF00058, 0x3FF0005C), 0)
        case "ff":
            mac = b"\xff" * 6
        case "multicast":
            mac = b"\x01\x00\x5e" + tail
        case "oui":  # the OUI selector of no known OUI: esptool says "Unknown OUI"
            words = otp_words(b"\x18\xfe\x34" + tail)
            words[0x3FF00054] |= 0x02 << 16
            return b"\0\0\0" + tail, words
        case _:  # zero: a bit above the OUI makes the last word non-zero, and all six bytes are read as they are
            return bytes(6), otp_words(bytes(6)) | {0x3FF0005C: 0x01000000}
    return mac, otp_words(mac)


def _banner(cause: ResetCause, mode: str) -> bytes:
    """The first line of every boot, into the loader too."""
    return f"\r\n ets Jan  8 2013,rst cause:{cause.number}, boot mode:{mode}\r\n\r\n".encode()
