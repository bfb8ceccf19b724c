"""`station bench`: only the virtual boards, their ttys linked as `DIR/<slot label>`, for any serial client.

A pty has no modem lines, so closing the port is the power cycle; `boot` says where a board comes up. On SIGUSR1 and at the
end each board's flash is written to `DIR/<slot label>.flash`, then the counts of all programmers to `DIR/stats.json`; each
file appears whole. It must never take away a file in DIR that is not a link.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import msgspec

from station.bench.bench import hold
from station.bench.chip import Chip
from station.bench.faults import Fault
from station.bench.firmware import MicroPythonHost
from station.bench.image import make_image
from station.bench.programmer import BootFirmware, BootSwitch, RunningFirmware, VirtualProgrammer
from station.bench.scenario import PlannedBoard, plan
from station.errors import ConfigurationError
from station.slotmap import label_number

TIOCSPTLCK = 0x40045431
"""The ioctl that locks a pty: whoever opens it gets EIO, as from an adapter that answers no control request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneRequest:
    """What the command line asks for."""

    slots: int
    directory: Path
    boot: BootSwitch
    pace: float
    seed: int
    faults: Sequence[tuple[str, Fault]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Socket:
    """One linked tty and what is behind it."""

    link: Path
    chip: Chip
    programmer: VirtualProgrammer


async def run_standalone(request: StandaloneRequest, *, finish: asyncio.Event) -> None:
    """Serve the boards until `finish` is set.

    Raises `ConfigurationError` for a directory that cannot be used or a missing interpreter, and what `check_faults` raises.
    """
    labels = [label_number(number) for number in range(request.slots)]
    boards = plan(labels, request.slots, request.seed, request.faults, make_image()).boards
    links = _clear_directory(request.directory, labels)
    host = MicroPythonHost(pace=request.pace)
    await host.start()
    # `reused_mac` is the last of its two boards: the one that wears the MAC of an earlier run with the same seed.
    sockets = [
        _socket(links[label], boards[label][-1], host, request, seed=request.seed + number)
        for number, label in enumerate(labels)
    ]
    dump = partial(_dump, request.directory, sockets)
    loop = asyncio.get_running_loop()
    # Before the first link: whoever sees a link may ask for the counts.
    loop.add_signal_handler(signal.SIGUSR1, dump)
    try:
        with ExitStack() as stack:
            for socket in sockets:
                await _plug(socket, stack)
            await finish.wait()
            dump()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        await host.close()


def _clear_directory(directory: Path, labels: Sequence[str]) -> dict[str, Path]:
    """Make the directory; return where the links will be, after taking away those of an earlier run."""
    links = {label: directory / label for label in labels}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for link in links.values():
            if link.is_symlink():
                link.unlink()
            elif link.exists():
                raise ConfigurationError(
                    file=str(link), problem="exists and is no link", fix="name another directory, or remove it"
                )
    except OSError as error:
        raise ConfigurationError(
            file=str(directory), problem=f"cannot be used ({error.strerror})", fix="name a directory you may write to"
        ) from None
    return links


def _socket(
    link: Path, board: PlannedBoard, host: MicroPythonHost, request: StandaloneRequest, *, seed: int
) -> _Socket:
    hand = _SwappingHand(host.boot, board.exchange)
    hand.programmer = VirtualProgrammer(
        chip=board.chip,
        boot_firmware=hand.boot,
        wiring="none",
        boot=request.boot,
        pace=request.pace,
        seed=seed,
    )
    return _Socket(link=link, chip=board.chip, programmer=hand.programmer)


async def _plug(socket: _Socket, stack: ExitStack) -> None:
    """Plug the programmer in and link its tty; `stack` undoes it."""
    if socket.programmer.control_hung:
        tty = _hung_tty(stack)
    else:
        tty = socket.programmer.plug()
        stack.callback(socket.programmer.unplug)
    if socket.chip.fault("port_busy") is not None:
        holder = await asyncio.to_thread(hold, tty)
        stack.callback(_let_go, holder)
    socket.link.symlink_to(tty)
    stack.callback(_unlink, socket.link, tty)
    socket.programmer.on_progress_fault = partial(_pull, socket, tty)


def _hung_tty(stack: ExitStack) -> str:
    """Return a tty that cannot be opened."""
    master, slave = os.openpty()
    stack.callback(os.close, master)
    tty = os.ttyname(slave)
    os.close(slave)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 1))
    return tty


def _let_go(holder: subprocess.Popen[bytes]) -> None:
    holder.communicate()


def _unlink(link: Path, tty: str) -> None:
    """Take the link away, unless another bench has put its own there meanwhile."""
    with suppress(OSError):
        if str(link.readlink()) == tty:
            link.unlink()


def _pull(socket: _Socket, tty: str, fault: Fault) -> None:
    if fault.token == "unplug":
        # The link first: the kernel gives the number of a pty out again, perhaps to somebody's terminal.
        _unlink(socket.link, tty)
        socket.programmer.unplug()


class _SwappingHand:
    """Starts the firmware of a socket's boards; where there is another board (`swapped`), a hand puts it in first, once."""

    programmer: VirtualProgrammer

    def __init__(self, boot: BootFirmware, other: Chip | None) -> None:
        self._boot, self._other = boot, other

    def boot(self, chip: Chip, emit: Callable[[bytes], None], on_reset: Callable[[str], None]) -> RunningFirmware:
        """Start the firmware in `chip.flash`, or exchange the board, which then starts by itself."""
        other, self._other = self._other, None
        if other is None:
            return self._boot(chip, emit, on_reset)
        asyncio.get_running_loop().call_soon(self._exchange, other)
        return _NoFirmware()

    def _exchange(self, other: Chip) -> None:
        lifted = self.programmer.lift()
        if lifted is not None:
            other.flash.data[:] = lifted.flash.data
        self.programmer.seat(other)


class _NoFirmware:
    """What runs on a board that is being lifted."""

    baud = 115_200

    def receive(self, data: bytes) -> None:
        """Nobody listens."""

    def power_off(self) -> None:
        """Nothing to end."""


def _dump(directory: Path, sockets: Sequence[_Socket]) -> None:
    """Write what is in every flash, and last the counts."""
    for socket in sockets:
        chip = socket.programmer.chip or socket.chip
        _write(directory / f"{socket.link.name}.flash", bytes(chip.flash.data))
    stats = {socket.link.name: asdict(socket.programmer.stats) for socket in sockets}
    _write(directory / "stats.json", msgspec.json.format(msgspec.json.encode(stats), indent=2) + b"\n")


def _write(path: Path, content: bytes) -> None:
    """Replace the file, whole: who waits for it must never see half of it."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
