"""One cheap look at who is at the other end of a line: nothing is reset, nothing is started, no program is disturbed.

Promises one SYNC per rate, an end after about 0.2 s whatever a board says, and so little work that 32 slots can look once
a second: the frames are made here by hand, since esptool reads eight answers with a time limit each and needs four times
the processor time for silence. It must never raise for what a board says, nor decide what an answer means for a slot.
"""

from __future__ import annotations

import re
import struct
import time

from station.adapters.line import SerialLine
from station.adapters.link_evidence import PROBE, is_micropython, why_no_loader
from station.adapters.otp import OTP_ADDRESSES, identity_from_otp
from station.errors import FirmwareAnswers, IdentityInvalid, LinkEcho, LinkSilent, LoaderMute
from station.model import Answer, Peek

ANSWER_S = 0.08
"""A loader answers a SYNC within 6 ms of wire and adapter, a prompt an empty line within 20; the rest is our own scheduling."""

_SYNC, _READ_REG = 0x08, 0x0A
_FRAME = re.compile(rb"\xc0([^\xc0]{10,20})\xc0")
"""An answer without data: 8 bytes of head and 2 of status, at most all of them escaped."""
_KEPT_BYTES = 256
_REQUEST = struct.Struct("<BBHI")
_ANSWER = struct.Struct("<BBHIH")
"""Direction (1: from the board), opcode, length of what follows the word, word, status (0: done)."""
_STATUS_BYTES = 2


def _request(op: int, body: bytes) -> bytes:
    payload = _REQUEST.pack(0, op, len(body), 0) + body
    return b"\xc0" + payload.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


_SYNC_REQUEST = _request(_SYNC, b"\x07\x07\x12\x20" + b"U" * 32)
_OTP_REQUESTS = tuple(_request(_READ_REG, struct.pack("<I", address)) for address in OTP_ADDRESSES)


def peek_at(line: SerialLine, bauds: tuple[int, ...], *, knock: bool) -> tuple[Peek, int | None]:
    """Return who answers on `line`, and the rate of the loader that did; None when none did.

    `bauds` are tried in their order, an empty line (`knock`) only at the first. Our side stays at the last rate tried.
    Raises `PortGone`, `AdapterHung`, `LineStopped`.
    """
    line.discard_input()
    began, said = line.mark(), Answer.NOTHING
    for number, baud in enumerate(bauds):
        if line.baudrate != baud:
            line.set_baud(baud)
        if _ask(line, _SYNC, _SYNC_REQUEST) is not None:
            return Peek(answer=Answer.LOADER, mac=_read_mac(line)), baud
        if knock and number == 0:
            _knock(line)
        said = _classify(sent=line.sent_since(began), received=line.received_since(began))
        if said in (Answer.FIRMWARE, Answer.ECHO):
            break
    return Peek(answer=said), None


def _ask(line: SerialLine, op: int, request: bytes) -> int | None:
    """Send a request and return the word of its answer; None when none comes in time, or a refusal."""
    line.send(request)
    heard, deadline = b"", time.monotonic() + ANSWER_S
    while (left_s := deadline - time.monotonic()) > 0:
        heard = (heard + line.read_some(left_s))[-_KEPT_BYTES:]
        for frame in _FRAME.finditer(heard):
            payload = frame[1].replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
            if len(payload) == _ANSWER.size:
                direction, answered, length, word, status = _ANSWER.unpack(payload)
                if (direction, answered, length, status) == (1, op, _STATUS_BYTES, 0):
                    return int(word)
    return None


def _read_mac(line: SerialLine) -> str:
    """Return the MAC of the board whose loader answers; empty when it has none, or does not read the same twice."""
    first = _read_otp(line)
    if first is None or _read_otp(line) != first:  # an answer has no checksum, and a wrong MAC would be another board
        return ""
    try:
        return identity_from_otp(first).mac
    except IdentityInvalid:
        return ""


def _read_otp(line: SerialLine) -> tuple[int, int, int, int] | None:
    words = []
    for request in _OTP_REQUESTS:
        word = _ask(line, _READ_REG, request)
        if word is None:
            return None
        words.append(word)
    return words[0], words[1], words[2], words[3]


def _knock(line: SerialLine) -> None:
    """Send an empty line and let the answer come."""
    began = line.mark()
    line.send(PROBE)
    deadline = time.monotonic() + ANSWER_S
    while (left_s := deadline - time.monotonic()) > 0 and not is_micropython(line.received_since(began)):
        line.read_some(left_s)


def _classify(*, sent: bytes, received: bytes) -> Answer:
    """Say in one word what came back where no loader answered."""
    match why_no_loader(sent=sent, received=received):
        case LoaderMute():
            return Answer.NOISE
        case LinkSilent():
            return Answer.NOTHING
        case FirmwareAnswers():
            return Answer.FIRMWARE
        case LinkEcho():
            return Answer.ECHO
        case _:
            return Answer.NOISE
