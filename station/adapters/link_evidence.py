"""What the bytes on a line say about a conversation with the loader that did not come off.

Pure: bytes in, one of our link errors out. Promises to judge by what was really received and sent, never by a message
that a library made of it. It must never claim more than the bytes show: what is neither silence, nor our own words, nor
those of a firmware is only a corrupt link.
"""

from __future__ import annotations

import re

from station.errors import BoardRestarted, FirmwareAnswers, LinkCorrupt, LinkEcho, LinkError, LinkSilent, LoaderMute

PROBE = b"\r\n\x02"
"""Sent where no loader answers: an empty line makes any REPL or command interpreter say something; the Ctrl-B after it
brings a MicroPython that was left in its raw REPL, where an empty line is no command, back to its prompt."""

_SYNC_HEAD = b"\xc0\x00\x08"
"""SLIP's start, direction 0 (to the board), command SYNC: only an echo can say this."""
_ECHO_BYTES = 512
_SYNC_TAIL = b"U" * 8
"""The end of a SYNC frame is 32 times this letter: a terminal echoes only that much of it."""
_BOOT_MODE = re.compile(rb"boot mode:\((\d+),")
_BOOT_MODE_LOADER = b"1"
_MICROPYTHON = re.compile(rb">>> |MicroPython v|raw REPL; CTRL-B|Performing initial setup|MPY: soft reboot")
_COMMAND_ANSWER = re.compile(rb"(?<![A-Za-z])(?:ready|OK|ERROR|FAIL)\r\n")
"""What the AT firmware of a factory-fresh board says: at its start, and to a line that is no command."""
_ROM_BANNER = re.compile(rb"ets Jan  8 2013|rst cause:\d|ets_main\.c")
BOOT_MESSAGE_BYTES = 40
"""The ROM's boot message has at least so many; the loader's longest answer, an MD5, has fewer. Noise damages bytes but
makes none, so a longer burst is a boot message, at the wrong rate perhaps: the board restarted."""
_FRAME = re.compile(rb"\xc0[^\xc0]+\xc0")
_TEXT = re.compile(rb"[\t\r\n\x20-\x7e]{16,}")
_SHOWN_BYTES = 48


def is_micropython(received: bytes) -> bool:
    """Whether these are the words of a MicroPython: its prompt, its banner, or what it says at its first start."""
    return _MICROPYTHON.search(received) is not None


def why_no_loader(*, sent: bytes, received: bytes) -> LinkError:
    """Return why nobody synchronised, from everything that was sent and received meanwhile, the probe included."""
    if not received:
        return LinkSilent("nothing came back at any rate")
    if prompt := _MICROPYTHON.search(received):
        return FirmwareAnswers(f"MicroPython answers: {_show(received[prompt.start() :])}", micropython=True)
    if _is_echo(sent, received):
        return LinkEcho("exactly our own bytes came back")
    modes = _BOOT_MODE.findall(received)
    if modes and modes[-1] == _BOOT_MODE_LOADER:
        return LoaderMute("the board starts into its loader and answers nothing")
    text = _TEXT.search(received.replace(_SYNC_TAIL, b"")) or _COMMAND_ANSWER.search(received)
    if modes or text:
        return FirmwareAnswers(f"a firmware answers: {_show(text[0] if text else received)}")
    return LinkCorrupt(f"{len(received)} bytes came back, and no answer among them: {_show(received)}")


def why_broken(doing: str, *, sent: bytes, answer: bytes, before: bytes = b"") -> LinkError:
    """Return why a conversation that had begun broke off while `doing` something.

    `answer` is what came after the request `sent`, `before` what came after the one before it: of that, bytes that are
    no frame were waiting to be read when the request went out, and count as well.
    """
    answer = _FRAME.sub(b"", before) + answer
    if not answer:
        return LinkSilent(f"{doing}: no answer")
    if said := _ROM_BANNER.search(answer) or _MICROPYTHON.search(answer):
        return BoardRestarted(f"{doing}: the board started anew: {_show(answer[said.start() :])}")
    if _is_echo(sent, answer):
        return LinkEcho(f"{doing}: exactly our own bytes came back")
    if len(answer) >= BOOT_MESSAGE_BYTES:
        return BoardRestarted(f"{doing}: {len(answer)} bytes that nobody asked for: {_show(answer)}")
    return LinkCorrupt(f"{doing}: {len(answer)} bytes came back, and no answer among them: {_show(answer)}")


def _is_echo(sent: bytes, received: bytes) -> bool:
    """Whether what came is what went out, and no mere terminal echo of its printable end."""
    tail = received[-_ECHO_BYTES:]
    return _SYNC_HEAD in received and tail in sent


def _show(received: bytes) -> str:
    """The beginning of it, short and harmless to print."""
    return ascii(received[:_SHOWN_BYTES])[1:]
