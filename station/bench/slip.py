"""SLIP framing (RFC 1055) as the ESP8266's loaders speak it.

Promises the same frames for the same bytes however they are cut into chunks, where in the stream each frame began and
ended (the loaders' buffers depend on it), and that noise costs frames but never the stream: after a lost delimiter the
next two bring it back into step.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

END = b"\xc0"
ESCAPE = b"\xdb"
ESCAPED_END = b"\xdb\xdc"
ESCAPED_ESCAPE = b"\xdb\xdd"

MAX_FRAME_BYTES = 0x4000 * 2 + 256
"""A frame of 16 KB, every byte of it escaped, and its header; longer is noise."""

_BAD_ESCAPE = re.compile(rb"\xdb(?![\xdc\xdd])")


def encode(payload: bytes) -> bytes:
    """One frame with both its delimiters."""
    return END + payload.replace(ESCAPE, ESCAPED_ESCAPE).replace(END, ESCAPED_END) + END


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of a stream.

    `payload` is None when an escape in it was malformed or it was too long. `begun` and `ended` are the positions of
    its first byte and of its closing delimiter, counted from the start of the chunk that closed it: `begun` is negative
    when the frame began in an earlier chunk.
    """

    payload: bytes | None
    begun: int
    ended: int


class Decoder:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._inside = False
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that this chunk closes, in order."""
        position = 0
        while True:
            delimiter = chunk.find(END, position)
            piece = chunk[position:] if delimiter < 0 else chunk[position:delimiter]
            if self._inside and len(self._held) <= MAX_FRAME_BYTES:
                self._held += piece
            if delimiter < 0:
                return
            if self._inside and self._held:
                escaped = bytes(self._held)
                self._held.clear()
                self._inside = False
                yield Frame(payload=_unescaped(escaped), begun=delimiter - len(escaped), ended=delimiter)
            else:
                # An empty frame is two delimiters in a row: the second one opens, which is how lost step is regained.
                self._inside = True
            position = delimiter + 1


def _unescaped(escaped: bytes) -> bytes | None:
    """The payload, None when it is malformed."""
    if len(escaped) > MAX_FRAME_BYTES or _BAD_ESCAPE.search(escaped):
        return None
    return escaped.replace(ESCAPED_END, END).replace(ESCAPED_ESCAPE, ESCAPE)
