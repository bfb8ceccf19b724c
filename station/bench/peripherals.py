"""What the interpreter of a virtual board asks its hardware for: identity, flash, files, the radio's settings, a reset.

Promises that every answer comes from this board's chip and flash at the moment of the question, and that every question,
however wrong, gets one: what a chip would refuse is an errno. It must never wait; how long the flash was busy is for the
caller to play.
"""

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from station.bench.chip import Chip, ResetCause
from station.bench.filesystem import Entry, FlashFilesystem
from station.bench.flash import SECTOR_BYTES
from station.bench.image import MIB, TRAILER_BYTES, FirmwareDescription, check_trailer

SDK_RELEASE = "2.2.0-dev(9422289)"
"""What os.uname().release says: the SDK's own version (identity.md, section 1.1)."""
CORRUPT_INTERVAL_S = 3.0
LEAST_INTERVAL_S = 0.05
CPU_FREQUENCY_HZ = 80_000_000
WRONG_FREQUENCY_HZ = 52_000_000
SETTINGS_FROM_END_BYTES = 0x3000
"""The SDK keeps its Wi-Fi settings in the third sector from the end."""
SETTINGS_MAGIC = b"SDK\0"
MAX_TRANSFER_BYTES = 16384
LITTLE_HEAP_LOST_BYTES = 30_000
WEAKER_DB = 45
AccessPoint = tuple[str, str, int, int, int, str | None]
"""Name, BSSID in hex, channel, dBm, security, and the key (None: any will do)."""
AIR: tuple[AccessPoint, ...] = (
    ("bench", "020000000001", 6, -48, 3, "bench-key"),
    ("workshop", "020000000002", 1, -63, 4, None),
    ("MicroPython-0badc0", "020000000003", 1, -71, 4, None),
)
"""The access points around the bench, unless somebody says otherwise."""
PULLED_UP_PINS = (0, 2)
_SDK_REASONS = {
    ResetCause.POWER_ON: 0,
    ResetCause.EXTERNAL: 6,
    ResetCause.SOFTWARE: 4,
    ResetCause.WATCHDOG: 1,
    ResetCause.BROWNOUT: 0,
}
"""rst_info.reason of the SDK, which machine.reset_cause() gives; it is not the number that the ROM prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: JSON for the interpreter, None when the board has just been reset, and how long the flash was busy."""

    text: str | None
    busy_s: float


class Peripherals:
    """The hardware of one board, from one start of its firmware to its end.

    `reset` is called with the cause when the program asks for a reset or brings one about; `pace` scales the bench's
    own waits; `air` is what is there to be heard.
    """

    def __init__(
        self,
        chip: Chip,
        firmware: FirmwareDescription,
        *,
        pace: float,
        reset: Callable[[ResetCause], None],
        air: Sequence[AccessPoint] = AIR,
    ) -> None:
        self._chip = chip
        self._flash = chip.flash
        self._firmware = firmware
        self._pace = pace
        self._reset = reset
        self._around = air
        self._busy_s = 0.0
        self._was_reset = False
        start, sectors = firmware.filesystem_sectors or (0, 0)
        self._files = FlashFilesystem(chip.flash, start_sector=start, sectors=sectors)
        self._operations = self._tabulate(self._files)

    def facts(self) -> dict[str, object]:
        """What does not change while the firmware runs, by the names that host.mjs and its board modules use."""
        frequency = CPU_FREQUENCY_HZ if self._chip.fault("out_of_limits") is None else WRONG_FREQUENCY_HZ
        return {
            "version": self._firmware.version,
            "release": self._firmware.release,
            "machine": self._firmware.machine,
            "build": self._firmware.build,
            "sdk": SDK_RELEASE,
            "unique_id": unique_id(self._chip.mac).hex(),
            "sta_mac": self._chip.mac.hex(),
            "ap_mac": access_point_mac(self._chip.mac).hex(),
            "flash_id": self._flash.jedec_id,
            "flash_size": self._firmware.flash_size_bytes,
            "user_start": self._firmware.user_start_bytes,
            "filesystem": self._firmware.filesystem_sectors,
            "reset_cause": _SDK_REASONS[self._chip.reset_cause],
            "frequency": None if self._chip.fault("traceback") is not None else frequency,
            "clock_stuck": self._chip.fault("slow_clock") is not None,
            "heap_lost": LITTLE_HEAP_LOST_BYTES if self._chip.fault("little_ram") is not None else 0,
            "radio_dead": self._chip.fault("radio_dead") is not None,
            "air": self._air(),
            "pins": self._pins(),
            "fake_pass": self._chip.fault("fake_pass") is not None,
            "always_corrupt": self._chip.fault("fs_corrupt") is not None,
            "corrupt_interval_ms": round(max(LEAST_INTERVAL_S, CORRUPT_INTERVAL_S * self._pace) * 1000),
        }

    def answer(self, text: str) -> Answer:
        """Answer one question: a JSON list of the operation's name and its arguments, bytes in hexadecimal."""
        try:
            name, *arguments = json.loads(text)
            value = self._operations[name](*arguments)
        except OSError as problem:
            reply: dict[str, object] = {"errno": problem.errno}
        except (TypeError, ValueError, AttributeError, LookupError):
            reply = {"errno": errno.EINVAL}
        else:
            reply = {"value": value.hex() if isinstance(value, bytes) else value}
        busy_s, self._busy_s = self._busy_s + self._files.take_busy_s(), 0.0
        return Answer(text=None if self._was_reset else json.dumps(reply), busy_s=busy_s)

    def _tabulate(self, files: FlashFilesystem) -> dict[str, Callable[..., object]]:
        """Every operation by its name."""
        return {
            "flash.read": self._read_flash,
            "flash.write": self._write_flash,
            "flash.erase": self._erase_flash,
            "firmware.check": self._check_firmware,
            "radio.settings": self._read_settings,
            "radio.keep": self._write_settings,
            "radio.start": self._start_radio,
            "rtc.read": lambda: self._chip.rtc_memory,
            "rtc.write": self._write_rtc,
            "pwm.set": self._set_pwm,
            "pwm.end": lambda pin: self._chip.pwm.pop(pin, None) and None,
            "board.reset": lambda: self._end(ResetCause.SOFTWARE),
            "board.soft_reset": self._soft_reset,
            "file.open": files.open,
            "file.read": lambda handle, length: files.read(handle, min(length, MAX_TRANSFER_BYTES)),
            "file.write": lambda handle, data: files.write(handle, bytes.fromhex(data)),
            "file.seek": files.seek,
            "file.flush": files.flush,
            "file.close": files.close,
            "files.stat": lambda path: _fields(files.stat(path))[1:],
            "files.listdir": lambda path: [_fields(entry) for entry in files.listdir(path)],
            "files.usage": lambda: [files.sectors, files.free_sectors()],
            "files.mkdir": files.mkdir,
            "files.remove": files.remove,
            "files.rename": files.rename,
            "files.mount": files.mount,
            "files.format": files.format,
            "files.unmount": files.unmount,
        }

    def _read_flash(self, address: int, length: int) -> bytes:
        self._need_room(address, length)
        return self._flash.read(address, length)

    def _write_flash(self, address: int, data: str) -> None:
        raw = bytes.fromhex(data)
        self._need_room(address, len(raw))
        self._busy_s += self._flash.program(address, raw)

    def _erase_flash(self, sector: int) -> None:
        self._need_room(sector * SECTOR_BYTES, SECTOR_BYTES)
        self._busy_s += self._flash.erase_sector(sector * SECTOR_BYTES)

    def _check_firmware(self) -> list[object]:
        found = check_trailer(self._flash.read(0, MIB + TRAILER_BYTES))
        return [found.length_bytes, found.digest.hex() if found.digest else None, found.holds]

    def _air(self) -> list[AccessPoint]:
        """What this board hears; an antenna that is torn off hears a little of it."""
        less = WEAKER_DB if self._chip.fault("weak_radio") is not None else 0
        return [
            (name, bssid, channel, rssi - less, security, key)
            for name, bssid, channel, rssi, security, key in self._around
        ]

    def _pins(self) -> dict[str, tuple[int | None, bool]]:
        """By pin: the level that it is tied to (None: to nothing), and whether a resistor pulls it up."""
        pins: dict[str, tuple[int | None, bool]] = {str(pin): (None, True) for pin in PULLED_UP_PINS}
        if self._chip.gpio0_was_low:
            pins["0"] = (0, False)
        fault = self._chip.fault("gpio")
        if fault is not None and fault.argument is not None:
            levels: dict[str, int | None] = {"low": 0, "high": 1, "floating": None}
            pins[fault.argument[0]] = (levels[fault.argument[1:]], False)
        return pins

    def _write_rtc(self, data: str) -> None:
        self._chip.rtc_memory = bytes.fromhex(data)

    def _set_pwm(self, pin: int, frequency_hz: int, share: int) -> None:
        self._chip.pwm[pin] = frequency_hz, share

    def _start_radio(self) -> None:
        if self._chip.fault("brownout_wifi") is not None:
            self._end(ResetCause.BROWNOUT)
        elif self._chip.fault("brownout_once") is not None and not self._chip.spent("brownout_once"):
            self._chip.spend("brownout_once")
            self._end(ResetCause.BROWNOUT)

    def _end(self, cause: ResetCause) -> None:
        self._was_reset = True
        self._reset(cause)

    def _soft_reset(self) -> None:
        """MicroPython's own: its sweep closes what is still open (main.c), then the filesystem is mounted afresh."""
        try:
            self._files.close_all()
        finally:
            self._files.unmount()
            self._flash.board_resets()
            self._flash.firmware_starts()

    def _need_room(self, address: int, length: int) -> None:
        """The SDK refuses what lies beyond the size in the image header, whatever the chip has."""
        if address < 0 or not 0 <= length <= MAX_TRANSFER_BYTES or address + length > self._firmware.flash_size_bytes:
            raise OSError(errno.EIO, "beyond the flash")

    def _read_settings(self) -> dict[str, object]:
        """The radio's settings in the flash, the SDK's own when there are none: its access point is open to everybody."""
        sector = self._flash.read(self._settings_address, SECTOR_BYTES)
        length = int.from_bytes(sector[4:6], "little")
        if sector.startswith(SETTINGS_MAGIC) and length <= SECTOR_BYTES - 6:
            try:
                kept = json.loads(sector[6 : 6 + length])
            except ValueError:
                kept = None
            if isinstance(kept, dict):
                return self._default_settings() | kept
        return self._default_settings()

    def _default_settings(self) -> dict[str, object]:
        ssid = f"ESP_{access_point_mac(self._chip.mac)[3:].hex().upper()}"
        access_point = {"ap_active": True, "ap_ssid": ssid, "ap_key": "", "ap_security": 0, "ap_channel": 1}
        return access_point | {"ap_hidden": False, "sta_active": False, "sta_ssid": "", "sta_key": ""}

    def _write_settings(self, settings: dict[str, object]) -> None:
        if self._chip.fault("ap_stays") is not None:
            settings |= {"ap_active": True}
        if self._chip.fault("forgets_network") is not None:
            settings |= {"sta_ssid": "", "sta_key": ""}
        raw = json.dumps(settings).encode()
        if len(raw) > SECTOR_BYTES - 6:
            raise OSError(errno.EINVAL, "settings too long")
        record = SETTINGS_MAGIC + len(raw).to_bytes(2, "little") + raw
        self._busy_s += self._flash.erase_sector(self._settings_address)
        self._busy_s += self._flash.program(self._settings_address, record)

    @property
    def _settings_address(self) -> int:
        return self._firmware.flash_size_bytes - SETTINGS_FROM_END_BYTES


def _fields(entry: Entry) -> list[object]:
    """A file or directory as the interpreter wants it."""
    return [entry.name, entry.is_directory, entry.size_bytes]


def unique_id(mac: bytes) -> bytes:
    """What machine.unique_id() gives: the 24-bit chip ID, little-endian, and a zero (identity.md, section 1.1)."""
    return bytes((mac[5], mac[4], mac[3], 0))


def access_point_mac(mac: bytes) -> bytes:
    """The access point's MAC: the local bit set, or, where it is set already, another low bit flipped."""
    return bytes((mac[0] ^ (0x04 if mac[0] & 0x02 else 0x02),)) + mac[1:]
