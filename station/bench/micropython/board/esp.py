# mypy: ignore-errors
"""The ESP8266's own functions: the flash chip and the firmware in it.

Runs inside MicroPython. Everything is read from the emulated flash at the moment of the call.
"""

from _link import call, facts, read_bytes

SLEEP_NONE = 0
SLEEP_LIGHT = 1
SLEEP_MODEM = 2
_CHUNK_BYTES = 2048


def osdebug(level):
    """The SDK is silent anyway."""


def sleep_type(kind=None):
    """Modem sleep, whatever is asked for."""
    return SLEEP_MODEM if kind is None else None


def flash_id():
    """The flash chip's RDID word, vendor in the low byte."""
    return facts["flash_id"]


def flash_size():
    """What the image header says of the flash, in bytes."""
    return facts["flash_size"]


def flash_user_start():
    """Where the firmware ends, in bytes."""
    return facts["user_start"]


def flash_read(offset, length_or_buffer):
    """Read the flash into a buffer, or that many bytes."""
    if isinstance(length_or_buffer, int):
        buffer = bytearray(length_or_buffer)
        flash_read(offset, buffer)
        return bytes(buffer)
    for start in range(0, len(length_or_buffer), _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, len(length_or_buffer) - start)
        length_or_buffer[start : start + length] = read_bytes("flash.read", offset + start, length)
    return None


def flash_write(offset, data):
    """Program the flash: bits go from 1 to 0 only."""
    if len(data) % 4:
        raise ValueError("len must be multiple of 4")
    data = bytes(data)
    for start in range(0, len(data), _CHUNK_BYTES):
        call("flash.write", offset + start, data[start : start + _CHUNK_BYTES].hex())


def flash_erase(sector):
    """Erase one sector of 4096 bytes."""
    call("flash.erase", sector)


def check_fw():
    """Whether the firmware's MD5 trailer holds; prints what it computed."""
    size, digest, holds = call("firmware.check")
    print("size:", size)
    if digest is None:
        print("Invalid size")
    else:
        print("md5:", digest)
    return holds


def freemem():
    """Free bytes of the SDK's heap, about as on a chip."""
    return 27_000
