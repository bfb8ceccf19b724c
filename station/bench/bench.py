"""The virtual bench: sockets, programmers and boards, and the two seams through which the real station sees them.

`VirtualBench` runs its programmers on an event loop in a thread of its own. `BenchWatcher` says who is plugged in and
`BenchOpener` how to open it; nothing else of the station is replaced. The methods of `VirtualBench` are what hands do:
plug in, pull out, lift and exchange boards. It must never tell the station anything that a real bench would not.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from station.adapters.line import SerialLine
from station.bench.chip import Chip
from station.bench.faults import Fault
from station.bench.firmware import MicroPythonHost
from station.bench.programmer import EN_RISE_S, VirtualProgrammer
from station.errors import AdapterHung, PortGone
from station.model import BootInto, Programmer, Wiring
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
    """One USB socket of the bench and what is plugged into it."""

    label: str
    place: str
    hub_path: str
    programmer: VirtualProgrammer | None = None
    attached: Programmer | None = None
    exchange: Chip | None = None
    """The board that a hand puts there as soon as the firmware is to be started (`swapped`)."""
    holder: subprocess.Popen[bytes] | None = None


class VirtualBench:
    """So many sockets, a thread that plays what is in them, and the hands. Use it as a context manager."""

    def __init__(self, *, slots: int, pace: float, seed: int) -> None:
        self.pace, self.seed = pace, seed
        self.sockets = {
            label: _Socket(
                label=label,
                place=place,
                hub_path=_hub_path(number),
            )
            for number, (label, place) in enumerate(self.places(slots).items())
        }
        self.on_hand_fault: Callable[[str, Fault], None] = lambda _label, _fault: None
        """Called on the bench's thread after a board or a programmer was pulled by a fault."""
        self._generation = 0
        self._hint: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._host = MicroPythonHost(pace=pace)
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
        """Plug a programmer with this board (None: empty) into the socket."""
        self._on_loop(self._plug(self.sockets[label], chip, exchange))

    def unplug(self, label: str) -> None:
        """Pull the programmer out; harmless when there is none."""
        self._on_loop(self._unplug(self.sockets[label]))

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

    def exchange_board(self, socket: _Socket) -> None:
        """A hand exchanges the board in mid-job, once; from any thread but the bench's own."""
        other, socket.exchange = socket.exchange, None
        if other is not None:
            self._on_loop(self._exchange(socket, other))

    # -- on the bench's thread -------------------------------------------------------------------------------------

    async def _plug(self, socket: _Socket, chip: Chip | None, exchange: Chip | None) -> None:
        self._generation += 1
        programmer = VirtualProgrammer(
            chip=chip,
            boot_firmware=self._host.boot,
            wiring="lines",
            boot="rom",
            pace=self.pace,
            seed=self.seed + self._generation,
        )
        programmer.on_progress_fault = lambda fault: self._pull(socket, fault)
        node = programmer.plug()
        socket.programmer, socket.exchange = programmer, exchange
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

    async def _unplug(self, socket: _Socket) -> None:
        with self._lock:
            socket.attached = None
        programmer, socket.programmer = socket.programmer, None
        if programmer is not None:
            programmer.unplug()
        holder, socket.holder = socket.holder, None
        if holder is not None:
            holder.communicate()
        self._hint()

    async def _exchange(self, socket: _Socket, other: Chip) -> None:
        if socket.programmer is None:
            return
        lifted = socket.programmer.lift()
        if lifted is not None:
            other.flash.data[:] = lifted.flash.data
        socket.programmer.seat(other)

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

    def open(self, programmer: Programmer, baud: int, stop: Stop) -> BenchLine:
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
        line = BenchLine(programmer.node, baud=baud, bench=self._bench, socket=socket, programmer=virtual)
        if self._bench.socket_of(programmer) is None:
            line.close()
            raise PortGone(f"{programmer.node} belongs to another device now")
        stop.attach(line)
        return line


class BenchLine(SerialLine):
    """The real line over the programmer's pty; only DTR and RTS, which a pty has not, go to the programmer directly."""

    def __init__(
        self, node: str, *, baud: int, bench: VirtualBench, socket: _Socket, programmer: VirtualProgrammer
    ) -> None:
        self._bench, self._socket, self._programmer = bench, socket, programmer
        # The capacitor at EN is played in real time, so GPIO0 must be held for longer than that at any pace.
        en_low_s, settle_s = max(0.1 * bench.pace, 0.01), max(0.05 * bench.pace, 4 * EN_RISE_S)
        super().__init__(node, baud=baud, wiring=Wiring.AUTO, en_low_s=en_low_s, settle_s=settle_s)

    def reset_board(self, into: BootInto, settle_s: float | None = None) -> bool:
        """Reset as the real line does; before the firmware starts, the hand of `swapped` exchanges the board."""
        if into is BootInto.FIRMWARE:
            self._bench.exchange_board(self._socket)
        return super().reset_board(into, settle_s)

    def _apply_lines(self, *, dtr: bool, rts: bool) -> None:
        self._programmer.set_lines(dtr=dtr, rts=rts)


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
