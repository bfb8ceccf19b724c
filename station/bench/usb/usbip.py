"""USB/IP as the kernel's virtual host controller speaks it: requests in, answers out, over one byte stream. Sans-IO.

Promises to find the same requests however the stream is cut into pieces. Only what a full-speed device without isochronous
endpoints needs is here; the import handshake belongs to the user-space tools and does not occur. It must never guess: a
stream that is not USB/IP raises `BrokenStream`. Source: Linux Documentation/usb/usbip_protocol.rst.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER_BYTES = 48
CMD_SUBMIT, CMD_UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4
DONE = 0
STALLED = -32
"""EPIPE: the endpoint is halted."""
UNLINKED = -104
"""ECONNRESET: what an unlinked transfer that had not been completed ends with."""
MOST_OUT_BYTES = 1 << 20
"""No driver of ours submits more; a longer one is no USB/IP."""
# The same 48 bytes hold both commands; where a submit has its transfer flags, an unlink has its victim.
_COMMAND = struct.Struct(">IIIIIIi12x8s")
_RET_SUBMIT = struct.Struct(">IIIIIiiiii8x")
_RET_UNLINK = struct.Struct(">IIIIIi24x")


class BrokenStream(ValueError):
    """What came is not USB/IP."""


# Tuples, not dataclasses: under an emulated processor one is made for every 32 bytes that a board is sent.
class Submit(NamedTuple):
    """The host asks for a transfer: `length_bytes` of room for an IN, `data` for an OUT; `setup` counts on endpoint 0."""

    seqnum: int
    is_in: bool
    endpoint: int
    length_bytes: int
    setup: bytes
    data: bytes


class Unlink(NamedTuple):
    """The host wants the transfer `victim` back."""

    seqnum: int
    victim: int


class Framing:
    """Finds requests in a stream that comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Submit | Unlink]:
        """Take a piece of the stream; returns the requests that are whole now. Raises BrokenStream."""
        stream = self._rest + data if self._rest else data
        found: list[Submit | Unlink] = []
        at, end = 0, len(stream)
        while end - at >= HEADER_BYTES:
            command, seqnum, _, is_in, endpoint, victim, length, setup = _COMMAND.unpack_from(stream, at)
            after = at + HEADER_BYTES
            if command == CMD_SUBMIT:
                if not 0 <= length <= MOST_OUT_BYTES:
                    raise BrokenStream(f"a transfer of {length} bytes")
                if is_in:
                    found.append(Submit(seqnum, True, endpoint, length, setup, b""))
                else:
                    if end - after < length:
                        break
                    found.append(Submit(seqnum, False, endpoint, length, setup, stream[after : after + length]))
                    after += length
            elif command == CMD_UNLINK:
                found.append(Unlink(seqnum, victim))
            else:
                raise BrokenStream(f"command {command:#x}")
            at = after
        self._rest = stream[at:]
        return found


def ret_submit(seqnum: int, status: int, actual_bytes: int, data: bytes = b"") -> bytes:
    """The end of a transfer: `status` 0 or a negative errno, how many bytes went, and for an IN those bytes."""
    return _RET_SUBMIT.pack(RET_SUBMIT, seqnum, 0, 0, 0, status, actual_bytes, 0, 0, 0) + data


def ret_unlink(seqnum: int, *, was_pending: bool) -> bytes:
    """The answer to an unlink; a transfer that was pending then gets no end of its own."""
    return _RET_UNLINK.pack(RET_UNLINK, seqnum, 0, 0, 0, UNLINKED if was_pending else DONE)
