"""A CH340 as the kernel's `ch341` driver sees it: descriptors, standard and vendor requests, registers. Sans-IO.

Promises to answer the requests that Linux makes of a real one, byte for byte, to know from its registers what baud and
which modem lines were asked for, and to stall whatever else it is asked. It must never keep time or touch data:
the port around it does. Sources: Linux drivers/usb/serial/ch341.c (6.1), `lsusb -v` of real chips.
"""

from __future__ import annotations

import struct

VENDOR_ID, PRODUCT_ID = 0x1A86, 0x7523
CHIP_VERSION = 0x31
DEVICE_RELEASE = 0x0264
PRODUCT_NAME = "USB Serial"
IN_ENDPOINT, OUT_ENDPOINT, INTERRUPT_ENDPOINT = 2, 2, 1
PACKET_BYTES = 32
"""What one transfer of a bulk endpoint carries at most."""

DEVICE_DESCRIPTOR = struct.pack(
    "<BBHBBBBHHHBBBB", 18, 1, 0x0110, 0xFF, 0, 0, 8, VENDOR_ID, PRODUCT_ID, DEVICE_RELEASE, 0, 2, 0, 1
)
"""USB 1.10, vendor class, 8-byte EP0; a product name and, as with every CH340, no serial number."""
CONFIGURATION_DESCRIPTOR = bytes.fromhex(
    "0902270001010080 31"  # 39 bytes in all, one interface, bus-powered, 98 mA
    "09040000 03FF0102 00"
    "07058202 2000 00"  # bulk IN, 32 bytes
    "07050202 2000 00"  # bulk OUT, 32 bytes
    "07058103 0800 01"  # interrupt IN, 8 bytes
)
LANGUAGES_DESCRIPTOR = bytes.fromhex("04030904")

# Registers; a request names two of them, the one in the low byte first.
PRESCALER, DIVISOR, LCR, BREAK, MODEM_STATUS = 0x12, 0x13, 0x18, 0x05, 0x06
QUIRK_PROBE = bytes.fromhex("c0 95 0500 0000 0200")
"""The last request of the driver's probe: reads register 0x05, and one that stalls it is taken for a limited clone."""
CLEAR_HALT = bytes.fromhex("02 01")
"""How a request begins that clears the halt of an endpoint."""
_RESET_REGISTERS = {PRESCALER: 0x82, DIVISOR: 0xB2, LCR: 0xC3, BREAK: 0x01, MODEM_STATUS: 0xFF, 0x07: 0xEE}
"""9600 baud, 8N1, no break, no modem line active (those bits are inverted)."""
_DTR, _RTS = 0x20, 0x40
_VENDOR = 0x40
"""This bit of bmRequestType."""
_BREAK_OFF = 0x01
_CLOCK_HZ = 48_000_000
_SETUP = struct.Struct("<BBHHH")


class Ch340:
    """One chip. `dtr` and `rts` are True while asserted, which is the pin at 0 V.

    With `stalls_probe` the version request is stalled, so that the driver gives up; with `limited` the read by which the
    driver tells a limited clone is.
    """

    def __init__(self, *, stalls_probe: bool = False, limited: bool = False) -> None:
        self.dtr = self.rts = False
        self._stalls_probe = stalls_probe
        self._limited = limited
        self._configuration = 0
        self._registers = dict(_RESET_REGISTERS)
        self.baud = self._decode_baud()

    @property
    def break_on(self) -> bool:
        """Whether the host holds TX low."""
        return not self._registers[BREAK] & _BREAK_OFF

    @property
    def line_control(self) -> int:
        """The LCR register: 0xC3 is 8N1 with transmitter and receiver on."""
        return self._registers[LCR]

    def control(self, setup: bytes) -> bytes | None:
        """Do what the 8 bytes of a setup packet ask; returns the answer's data (empty for an OUT), None for a stall."""
        kind, request, value, index, length = _SETUP.unpack(setup)
        vendor = kind & _VENDOR
        answer = self._vendor(setup, kind, request, value, index) if vendor else self._standard(kind, request, value)
        return None if answer is None else answer[:length]

    def _standard(self, kind: int, request: int, value: int) -> bytes | None:
        match kind, request:
            case 0x80, 0x06:  # GET_DESCRIPTOR
                return _descriptor(value >> 8, value & 0xFF)
            case ((0x80 | 0x81 | 0x82), 0x00):  # GET_STATUS
                return bytes(2)
            case 0x80, 0x08:  # GET_CONFIGURATION
                return bytes((self._configuration,))
            case 0x00, 0x09:  # SET_CONFIGURATION
                self._configuration = value & 0xFF
                return b""
            case (0x01, 0x0B) | (0x02, 0x01):  # SET_INTERFACE, CLEAR_FEATURE of an endpoint
                return b""
            case _:
                return None

    def _vendor(self, setup: bytes, kind: int, request: int, value: int, index: int) -> bytes | None:
        answer: bytes | None = b""
        match kind, request:
            case 0xC0, 0x5F:  # READ_VERSION
                answer = None if self._stalls_probe else bytes((CHIP_VERSION, 0))
            case 0xC0, 0x95:  # READ_REG
                registers = bytes(self._registers.get(register, 0) for register in (value & 0xFF, value >> 8))
                answer = None if self._limited and setup == QUIRK_PROBE else registers
            case 0x40, 0x9A:  # WRITE_REG
                self._registers |= {value & 0xFF: index & 0xFF, value >> 8: index >> 8}
                self.baud = self._decode_baud()
            case 0x40, 0xA4:  # MODEM_CTRL; asserted is low
                self.dtr, self.rts = not value & _DTR, not value & _RTS
            case 0x40, 0xA1:  # SERIAL_INIT
                pass
            case _:
                answer = None
        return answer

    def _decode_baud(self) -> int:
        """The rate of divisor and prescaler, in bit/s: 48 MHz / (2^(12 - 3 ps - fact) * div)."""
        prescaler, divisor = self._registers[PRESCALER], 0x100 - self._registers[DIVISOR]
        shift = 12 - 3 * (prescaler & 3) - (prescaler >> 2 & 1)
        return round(_CLOCK_HZ / ((1 << shift) * divisor))


def _descriptor(kind: int, number: int) -> bytes | None:
    """The descriptor of this kind; None for those it has not, the device qualifier of a high-speed device included."""
    match kind, number:
        case 1, _:
            return DEVICE_DESCRIPTOR
        case 2, 0:
            return CONFIGURATION_DESCRIPTOR
        case 3, 0:
            return LANGUAGES_DESCRIPTOR
        case 3, 2:
            text = PRODUCT_NAME.encode("utf-16-le")
            return bytes((len(text) + 2, 3)) + text
        case _:
            return None
