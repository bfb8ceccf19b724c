"""The virtual bench: sockets, programmers and boards, and the two seams through which the real station sees them.

`VirtualBench` runs its programmers on an event loop in a thread of its own. `BenchWatcher` says who is plugged in and
`BenchOpener` how to open it; nothing else of the station is replaced. The methods of `VirtualBench` are what hands do:
plug in and pull out programmers, seat and lift boards, set jumpers. A board is a `Chip`: it keeps its flash wherever it is
put. The bench must never tell the station anything that a real one would not, a board that comes or goes included.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from station.adapters.line import SerialLine
from station.bench.chip import Chip
from station.bench.faults import Fault
from station.bench.firmware import MicroPythonHost
from station.bench.peripherals import AIR, AccessPoint
from station.bench.programmer import (
    EN_RISE_S,
    FIRMWARE_BAUD,
    BootFirmware,
    ProgrammerKind,
    RunningFirmware,
    VirtualProgrammer,
)
from station.errors import AdapterHung, PortGone
from station.model import Programmer
from station.ports import Stop
from station.slotmap import label_number

T = TypeVar("T")
ROOT_HUB = "virtual-bench-usb-0"
PORTS_PER_HUB = 8
# What a real open of a hung CH340 takes: three control requests of 1 s each (ch340-usb.md §2.8).
HUNG_OPEN_S = 3.1
_HOLD_PORT = (
    "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); "
    "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
)


@dataclass(slots=True, kw_only=True)
class _Socket:
    """One USB socket of the bench, the programmer that belongs to it, and what is plugged in."""

    label: str
    place: str
    hub_path: str
    kind: ProgrammerKind
    jumper_low: bool | None
    """How the jumper of its programmer is set, in the socket or in the hand."""
    hand: SwappingHand
    programmer: VirtualProgrammer | None = None
    """None while it is unplugged."""
    attached: Programmer | None = None
    holder: subprocess.Popen[bytes] | None = None


class VirtualBench:
    """So many sockets, a thread that plays what is in them, and the hands. Use it as a context manager.

    `kinds` says, by slot label, how programmers are built; those of other labels have both lines. `air` is what boards hear.
    """

    def __init__(
        self,
        *,
        slots: int,
        pace: float,
        seed: int,
        kinds: Mapping[str, ProgrammerKind] | None = None,
        air: Sequence[AccessPoint] = AIR,
    ) -> None:
        self.pace, self.seed = pace, seed
        self._host = MicroPythonHost(pace=pace, air=air)
        self.sockets = {
            label: _socket(label, place, _hub_path(number), (kinds or {}).get(label, ProgrammerKind()), self._host)
            for number, (label, place) in enumerate(self.places(slots).items())
        }
        self.on_hand_fault: Callable[[str, Fault], None] = lambda _label, _fault: None
        """Called on the bench's thread after a board or a programmer was pulled by a fault."""
        self._generation = 0
        self._hint: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="virtual bench", daemon=True)

    @staticmethod
    def places(slots: int) -> dict[str, str]:
        """Label -> place of the sockets of a bench with so many slots, as the station's slot map has it."""
        return {label_number(number): f"{ROOT_HUB}:{_hub_path(number)}:1.0" for number in range(slots)}

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._on_loop(self._host.start())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for label in self.sockets:
            self.unplug(label)
        self._on_loop(self._host.close())
        self._on_loop(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- the hands; from any thread but the bench's own ------------------------------------------------------------

    def plug(self, label: str, chip: Chip | None, *, exchange: Chip | None = None) -> None:
        """Plug the programmer in with this board (None: empty); a hand puts `exchange` there when the firmware starts.

        RuntimeError when it is plugged in already, or the board is in another one.
        """
        self._on_loop(self._plug(self.sockets[label], chip, exchange))

    def unplug(self, label: str) -> Chip | None:
        """Pull the programmer out and return the board that was in it; harmless when it is out."""
        return self._on_loop(self._unplug(self.sockets[label]))

    def seat(self, label: str, chip: Chip, *, exchange: Chip | None = None) -> None:
        """Put a board into the plugged and empty programmer: power for the board, and not a word to the station.

        RuntimeError when there is no such programmer, or the board is in another one.
        """
        self._on_loop(self._seat(self.sockets[label], chip, exchange))

    def lift(self, label: str) -> Chip | None:
        """Take the board out, the programmer stays; returns None when there is none. The station is told nothing."""
        return self._on_loop(self._lift(self.sockets[label]))

    def set_jumper(self, label: str, *, low: bool) -> None:
        """Set the jumper between GPIO0 and GND, in the socket or in the hand; the board looks when it next gets power."""
        self._on_loop(self._set_jumper(self.sockets[label], low=low))

    def chip(self, label: str) -> Chip | None:
        """The board that sits in this socket's programmer now."""
        programmer = self.sockets[label].programmer
        return programmer.chip if programmer is not None else None

    # -- what the seams ask ----------------------------------------------------------------------------------------

    def attached(self) -> tuple[Programmer, ...]:
        """The programmers that are plugged in now. From any thread."""
        with self._lock:
            return tuple(socket.attached for socket in self.sockets.values() if socket.attached is not None)

    def on_hint(self, hint: Callable[[], None]) -> None:
        """Call `hint` on the bench's thread after every plug and unplug."""
        self._hint = hint

    def socket_of(self, programmer: Programmer) -> _Socket | None:
        """The socket in which this very plug still is."""
        with self._lock:
            for socket in self.sockets.values():
                if socket.attached == programmer:
                    return socket
        return None

    # -- on the bench's thread -------------------------------------------------------------------------------------

    async def _plug(self, socket: _Socket, chip: Chip | None, exchange: Chip | None) -> None:
        if socket.programmer is not None:
            raise RuntimeError(f"the programmer of {socket.label} is plugged in already")
        self._check_free(chip)
        self._generation += 1
        programmer = VirtualProgrammer(
            chip=chip,
            boot_firmware=socket.hand.boot,
            kind=socket.kind,
            pace=self.pace,
            seed=self.seed + self._generation,
        )
        programmer.jumper_low = socket.jumper_low
        programmer.on_progress_fault = lambda fault: self._pull(socket, fault)
        socket.programmer = programmer
        socket.hand.take(programmer, exchange)
        node = programmer.plug()
        if chip is not None and chip.fault("port_busy") is not None:
            socket.holder = await asyncio.get_running_loop().run_in_executor(None, hold, node)
        with self._lock:
            socket.attached = Programmer(
                place=socket.place,
                node=node,
                sysfs_path=f"virtual:{socket.place}",
                generation=str(self._generation),
                usb_id="1a86:7523",
                adapter_version="0264",
                product="USB Serial",
                hub_path=socket.hub_path,
            )
        self._hint()

    async def _unplug(self, socket: _Socket) -> Chip | None:
        with self._lock:
            socket.attached = None
        programmer, socket.programmer = socket.programmer, None
        chip = None
        if programmer is not None:
            programmer.unplug()
            chip = programmer.chip
        holder, socket.holder = socket.holder, None
        if holder is not None:
            holder.communicate()
        self._hint()
        return chip

    async def _seat(self, socket: _Socket, chip: Chip, exchange: Chip | None) -> None:
        if socket.programmer is None:
            raise RuntimeError(f"no programmer is plugged in at {socket.label}")
        self._check_free(chip)
        if socket.programmer.chip is not None:
            raise RuntimeError(f"there is a board in {socket.label} already")
        socket.hand.take(socket.programmer, exchange)
        socket.programmer.seat(chip)

    async def _lift(self, socket: _Socket) -> Chip | None:
        return socket.programmer.lift() if socket.programmer is not None else None

    async def _set_jumper(self, socket: _Socket, *, low: bool) -> None:
        socket.jumper_low = low
        if socket.programmer is not None:
            socket.programmer.jumper_low = low

    def _check_free(self, chip: Chip | None) -> None:
        """RuntimeError when this board is in a programmer already."""
        for socket in self.sockets.values():
            if chip is not None and socket.programmer is not None and socket.programmer.chip is chip:
                raise RuntimeError(f"this board is in {socket.label} already")

    def _pull(self, socket: _Socket, fault: Fault) -> None:
        if fault.token == "unplug":
            task = self._loop.create_task(self._unplug(socket))
            task.add_done_callback(lambda _: self.on_hand_fault(socket.label, fault))
        else:
            self.on_hand_fault(socket.label, fault)

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result()


class BenchWatcher:
    """Who is plugged into the virtual bench; implements `ports.ProgrammerWatcher`."""

    def __init__(self, bench: VirtualBench) -> None:
        self._bench = bench
        self._listening = False

    def start(self, on_hint: Callable[[], None]) -> None:
        """Pass hints on to the running event loop from now on."""
        loop = asyncio.get_running_loop()
        self._listening = True

        def hint() -> None:
            if self._listening and not loop.is_closed():
                loop.call_soon_threadsafe(on_hint)

        self._bench.on_hint(hint)

    def snapshot(self) -> tuple[Programmer, ...]:
        """Return what is plugged in."""
        return self._bench.attached()

    def heard(self) -> bool:
        """Whether hints arrive."""
        return self._listening

    def stop(self) -> None:
        """Pass no more hints on."""
        self._listening = False
        self._bench.on_hint(lambda: None)


class BenchOpener:
    """Opens virtual programmers; implements `ports.LineOpener`."""

    def __init__(self, bench: VirtualBench) -> None:
        self._bench = bench

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> BenchLine:
        """Open the pty behind this plug; raises as the real opener does."""
        stop.check()
        socket = self._bench.socket_of(programmer)
        virtual = socket.programmer if socket is not None else None
        if socket is None or virtual is None:
            # The kernel gives the number of a pty out again, as it does with ttyUSB: never open what came after it.
            raise PortGone(f"{programmer.node} belongs to another device now")
        if virtual.control_hung:
            stop.wait(HUNG_OPEN_S * self._bench.pace)
            raise AdapterHung(f"{programmer.node}: open failed after 3.1 s (Input/output error)")
        try:
            line = BenchLine(programmer.node, baud=baud, may_reset=may_reset, pace=self._bench.pace, programmer=virtual)
        except AdapterHung as error:
            if self._bench.socket_of(programmer) is None:
                raise PortGone(str(error)) from None
            raise
        if self._bench.socket_of(programmer) is None:
            line.close()
            raise PortGone(f"{programmer.node} belongs to another device now")
        line.plug = f"{programmer.node} {programmer.generation}"
        stop.attach(line)
        return line


class BenchLine(SerialLine):
    """The real line over the programmer's pty; only DTR and RTS, which a pty has not, go to the programmer directly."""

    def __init__(self, node: str, *, baud: int, may_reset: bool, pace: float, programmer: VirtualProgrammer) -> None:
        self._programmer = programmer
        # The capacitor at EN is played in real time, so GPIO0 must be held for longer than that at any pace.
        en_low_s, settle_s = max(0.1 * pace, 0.01), max(0.05 * pace, 4 * EN_RISE_S)
        super().__init__(node, baud=baud, may_reset=may_reset, en_low_s=en_low_s, settle_s=settle_s)

    def close(self) -> None:
        """Close as the real line does: the kernel lets go of both lines (HUPCL)."""
        was_open = self.is_open
        super().close()
        if was_open:
            with suppress(OSError):  # it was pulled
                self._programmer.set_lines(dtr=False, rts=False)

    def _apply_lines(self, *, dtr: bool, rts: bool) -> None:
        self._programmer.set_lines(dtr=dtr, rts=rts)


class SwappingHand:
    """Starts the firmware of a programmer's boards; where there is another board (`swapped`), a hand puts it in first, once."""

    def __init__(self, boot: BootFirmware) -> None:
        self._boot = boot
        self._programmer: VirtualProgrammer | None = None
        self._other: Chip | None = None

    def take(self, programmer: VirtualProgrammer, other: Chip | None) -> None:
        """Wait at this programmer with this board, None for no board."""
        self._programmer, self._other = programmer, other

    def boot(self, chip: Chip, emit: Callable[[bytes], None], on_reset: Callable[[str], None]) -> RunningFirmware:
        """Start the firmware in `chip.flash`, or exchange the board, which then starts by itself."""
        other, self._other = self._other, None
        if other is None:
            return self._boot(chip, emit, on_reset)
        asyncio.get_running_loop().call_soon(self._exchange, other)
        return _NoFirmware()

    def _exchange(self, other: Chip) -> None:
        lifted = self._programmer.lift() if self._programmer is not None else None
        if self._programmer is not None and lifted is not None:
            other.flash.data[:] = lifted.flash.data
            self._programmer.seat(other)


class _NoFirmware:
    """What runs on a board that is being lifted."""

    baud = FIRMWARE_BAUD

    def receive(self, data: bytes) -> None:
        """Nobody listens."""

    def power_off(self) -> None:
        """Nothing to end."""


def _socket(label: str, place: str, hub_path: str, kind: ProgrammerKind, host: MicroPythonHost) -> _Socket:
    hand = SwappingHand(host.boot)
    return _Socket(label=label, place=place, hub_path=hub_path, kind=kind, jumper_low=kind.jumper_low, hand=hand)


def _hub_path(number: int) -> str:
    hub, port = divmod(number, PORTS_PER_HUB)
    return f"{hub + 1}.{port + 1}"


def hold(node: str) -> subprocess.Popen[bytes]:
    """Let another process hold the tty, as a forgotten terminal program would."""
    holder = subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", _HOLD_PORT, node], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if holder.stdout is not None:
        holder.stdout.readline()  # `held`, or nothing when the process has ended
    return holder
