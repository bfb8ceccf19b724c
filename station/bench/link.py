"""One plug of a virtual programmer: its port, the wire to its board, and the clock both run on.

Promises that bytes take the time they take at the pace asked for, that bad contact and wrong bauds corrupt them, and
that what a board had begun is forgotten when it is cut off. From plug to unplug there is one Link.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from station.bench.clock import Clock
from station.bench.port import OpenPort, PortEvents
from station.bench.wire import BAUD_TOLERANCE, USB_IN_S, USB_OUT_S, Noise, byte_s

BACKLOG_S, LOW_BACKLOG_S = 0.06, 0.02
"""How far a client may write ahead of the wire, in virtual seconds, before the port stops taking its bytes, and from where on
it takes them again: some at a time, because waking up is what costs most."""
PIECE_BYTES = 256
"""What the board says reaches the host in pieces of this size; what comes in smaller ones to the board, without a pause, is
heard in such."""


@dataclass(slots=True)
class LinkCounts:
    """Bytes that a client wrote, bytes it was given."""

    from_host: int = 0
    to_host: int = 0


@dataclass(slots=True, kw_only=True)
class _OnTheWire:
    """Bytes that are on their way to the board: when the first began and the last will have arrived."""

    data: bytes
    begun_s: float
    end_s: float
    baud: int
    life: int


class Link:
    """The line from a client of the tty to a board.

    `hear` is called with what has arrived at the chip's RX, the time its first byte began and the host's baud; `closed`
    when the last client has closed the tty and all it wrote has arrived. `noise` is the probability of a corrupted byte
    at 460800. A `deaf` link gives the client nothing any more. `life` counts how often the board was cut off. `lines` is
    called when a client moves DTR or RTS, where the port that `open_port` makes has them. Make it on the loop's thread.
    """

    def __init__(
        self,
        *,
        pace: float,
        to_board: Noise,
        to_host: Noise,
        counts: LinkCounts,
        hear: Callable[[bytes, float, int], None],
        closed: Callable[[], None],
        lines: Callable[[bool, bool], None],
        open_port: OpenPort,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.noise = 0.0
        self.deaf = False
        self._pace = pace
        self._to_board = to_board
        self._to_host = to_host
        self._counts = counts
        self._hear = hear
        self._closed = closed
        self._clock = Clock(self.loop, pace)
        self.life = 0
        self._rx_free_s = 0.0
        self._latest: _OnTheWire | None = None
        self._tx_free_s = 0.0
        self._port = open_port(self.loop, PortEvents(take=self._take, closed=self._client_closed, lines=lines))

    @property
    def path(self) -> str:
        """Where clients find the port."""
        return self._port.path

    @property
    def now_s(self) -> float:
        """Virtual seconds since the plug."""
        return self._clock.now_s()

    @property
    def quiet_s(self) -> float:
        """When everything the board has said so far has left it."""
        return max(self.now_s, self._tx_free_s)

    def later(self, when_s: float, act: Callable[[], None]) -> None:
        """Do this at that virtual time, unless the board is cut off before."""
        self._clock.at(when_s, self.guarded(act))

    def guarded(self, act: Callable[[], None]) -> Callable[[], None]:
        """The same deed, not done once the board has been cut off."""
        life = self.life

        def act_if_alive() -> None:
            if self.life == life:
                act()

        return act_if_alive

    def cut_off(self) -> None:
        """The board loses power or is held in reset: nothing that it had begun happens any more."""
        self.life += 1
        self._tx_free_s = 0.0

    def transmit(self, data: bytes, at_s: float, baud: float) -> None:
        """Bytes leave the chip's TX at `at_s`, or after those before them."""
        if self.deaf:
            return
        size = PIECE_BYTES if self._pace > 0 else max(1, len(data))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._tx_free_s = max(at_s, self._tx_free_s) + len(piece) * byte_s(baud)
            self.later(self._tx_free_s + USB_IN_S, partial(self._arrive, piece, baud))

    def close(self) -> None:
        """Pull the programmer."""
        self.cut_off()
        self._clock.stop()
        self._port.close()

    def garble(self, data: bytes) -> bytes:
        """What the chip makes of bytes at another baud than its own."""
        return self._to_board.garble(data)

    def _take(self, data: bytes) -> bool:
        """Put what a client wrote on the wire; False when it is far enough ahead of it."""
        self._counts.from_host += len(data)
        baud = self._host_baud
        now_s = self.now_s
        begun_s = max(now_s + USB_OUT_S, self._rx_free_s)
        self._rx_free_s = begun_s + len(data) * byte_s(baud)
        self._send(self._to_board.corrupt(data, self.noise, baud) if self.noise else data, begun_s, baud)
        if self._pace == 0 or self._rx_free_s - now_s <= BACKLOG_S:
            return True
        self._clock.at(self._rx_free_s - LOW_BACKLOG_S, self._port.resume)
        return False

    def _send(self, data: bytes, begun_s: float, baud: int) -> None:
        """These bytes are on the wire until it is free; what follows another piece closely is heard with it."""
        latest = self._latest
        if (
            latest is not None
            and (latest.end_s, latest.baud, latest.life) == (begun_s, baud, self.life)
            and len(latest.data) < PIECE_BYTES
            and self._pace > 0
        ):
            latest.data += data
            latest.end_s = self._rx_free_s
            return
        self._latest = _OnTheWire(data=data, begun_s=begun_s, end_s=self._rx_free_s, baud=baud, life=self.life)
        self.later(self._rx_free_s, partial(self._deliver, self._latest))

    def _deliver(self, piece: _OnTheWire) -> None:
        """The board hears a piece as soon as its last byte is there."""
        if piece.end_s > self.now_s and self._pace > 0:
            self.later(piece.end_s, partial(self._deliver, piece))
            return
        if self._latest is piece:
            self._latest = None
        self._hear(piece.data, piece.begun_s, piece.baud)

    def _client_closed(self) -> None:
        self._clock.at(self._rx_free_s, self._closed)

    def _arrive(self, data: bytes, baud: float) -> None:
        """Bytes come out of the adapter at the host."""
        if abs(baud / self._host_baud - 1) > BAUD_TOLERANCE:
            data = self._to_host.garble(data)
        elif self.noise:
            data = self._to_host.corrupt(data, self.noise, baud)
        self._counts.to_host += len(data) - self._port.write(data)

    @property
    def _host_baud(self) -> int:
        return max(1, self._port.baud)
