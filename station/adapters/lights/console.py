"""A light without a lamp: one line on a stream for every change.

For benches without LEDs, and for watching what a lamp would do. It never raises, whatever becomes of the stream (a closed
pipe, a terminal that cannot print a shape), and it never repeats a line for a light that has not changed.
"""

from __future__ import annotations

from typing import TextIO

from station.adapters.lights import APPEARANCES
from station.model import Light


class ConsoleLight:
    """The `LightDriver` that writes `A1 ✔ PASS green`; used on the event loop."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which stays the caller's to close."""
        self._stream = stream
        self._shown: dict[str, Light] = {}
        self._healthy = True

    def show(self, slot: str, light: Light) -> None:
        """Print `light` for `slot` if it is another one than before."""
        if self._shown.get(slot) is light:
            return
        self._shown[slot] = light
        look = APPEARANCES[light]
        blinking = ", blinking" if look.blinks else ""
        self._print(f"{slot} {look.shape} {light} {look.colour}{blinking}\n")

    def healthy(self) -> bool:
        """Whether the last line could be printed."""
        return self._healthy

    def close(self) -> None:
        """Forget what was shown."""
        self._shown.clear()

    def _print(self, line: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(line.encode(encoding, errors="replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._healthy = False
        else:
            self._healthy = True
