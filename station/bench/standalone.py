"""`station bench`: only the virtual boards, their ttys linked as `DIR/<slot label>`, for any serial client.

A pty has no modem lines, so closing the port is the power cycle unless the person at standard input does that by hand: one
command per line, `typed.COMMANDS`. On SIGUSR1 and at the end each board's flash is written to `DIR/<slot label>.flash`, by the
slot in which it began, then the counts of all programmers to `DIR/stats.json`; each file appears whole. It must never take
away a file in DIR that is not a link.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from station.bench.chip import Chip
from station.bench.faults import Fault
from station.bench.firmware import MicroPythonHost
from station.bench.image import make_image
from station.bench.linked_port import LinkedPort
from station.bench.programmer import ProgrammerKind
from station.bench.scenario import plan
from station.bench.typed import COMMANDS, typed_lines
from station.errors import ConfigurationError
from station.model import format_mac
from station.properties import Gpio0, Reset
from station.slotmap import label_number

BootSwitch = Literal["rom", "run", "auto"]
_JUMPER = {"on": True, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneRequest:
    """What the command line asks for.

    `boot` is how the jumper of every programmer is set at first: `rom` at GND, `run` off, `auto` a hand that grounds GPIO0
    for a board without a bootable image. With `keep_power` closing a port is nothing to its board, as with a real one.
    """

    slots: int
    directory: Path
    boot: BootSwitch
    pace: float
    seed: int
    faults: Sequence[tuple[str, Fault]]
    keep_power: bool = False

    @property
    def kind(self) -> ProgrammerKind:
        """How the programmers are built: what a pty can carry, so no lines."""
        return ProgrammerKind(
            reset=Reset.NONE,
            gpio0=Gpio0.HAND,
            jumper_low={"rom": True, "run": False, "auto": None}[self.boot],
            close_cuts_power=not self.keep_power,
        )


async def run_standalone(
    request: StandaloneRequest, *, finish: asyncio.Event, say: Callable[[str], None] = lambda _: None
) -> None:
    """Serve the boards, and do what is typed at standard input, until `finish` is set; `say` gets what was done.

    Raises `ConfigurationError` for a directory that cannot be used or a missing interpreter, and what `check_faults` raises.
    """
    labels = [label_number(number) for number in range(request.slots)]
    boards = plan(labels, request.slots, request.seed, request.faults, make_image()).boards
    links = _clear_directory(request.directory, labels)
    host = MicroPythonHost(pace=request.pace)
    await host.start()
    # `reused_mac` is the last of its two boards: the one that wears the MAC of an earlier run with the same seed.
    first = {label: boards[label][-1] for label in labels}
    ports = {
        label: LinkedPort(
            links[label],
            first[label].chip,
            first[label].exchange,
            boot_firmware=host.boot,
            kind=request.kind,
            pace=request.pace,
            seed=request.seed + number,
        )
        for number, label in enumerate(labels)
    }
    table = _Table(ports, {label: board.chip for label, board in first.items()}, request.directory)
    loop = asyncio.get_running_loop()
    # Before the first link: whoever sees a link may ask for the counts.
    loop.add_signal_handler(signal.SIGUSR1, table.dump)
    try:
        with ExitStack() as stack:
            for port in ports.values():
                stack.callback(port.unplug)
                await port.plug()
            async with asyncio.TaskGroup() as hands:
                person = hands.create_task(_obey(table, say))
                await finish.wait()
                person.cancel()
            table.dump()
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


async def _obey(table: _Table, say: Callable[[str], None]) -> None:
    """Do what is typed, line by line, and say what came of it."""
    async for line in typed_lines():
        if not line.split():
            continue
        try:
            say(await table.do(line))
        except (ValueError, OSError) as refused:
            say(f"{line.strip()}: {refused}")


class _Table:
    """The programmers and boards that lie on the table, and what a hand can do with them."""

    def __init__(self, ports: dict[str, LinkedPort], boards: dict[str, Chip], directory: Path) -> None:
        self._ports, self._boards, self._directory = ports, boards, directory
        self._deeds = {"unplug": self._unplug, "lift": self._lift, "seat": self._seat, "jumper": self._jumper}

    async def do(self, line: str) -> str:
        """Do what one line says and return what was done; ValueError says why not."""
        verb, *words = line.split()
        if verb == "plug":
            (label,) = _words(words, "plug SLOT", 1)
            await self._port(label).plug()
            return f"{label}: plugged in"
        if verb not in self._deeds:
            raise ValueError(f"no such command; the commands are: {', '.join(COMMANDS)}")
        return self._deeds[verb](words)

    def _unplug(self, words: list[str]) -> str:
        (label,) = _words(words, "unplug SLOT", 1)
        self._port(label).unplug()
        return f"{label}: unplugged"

    def _lift(self, words: list[str]) -> str:
        (label,) = _words(words, "lift SLOT", 1)
        chip = self._port(label).programmer.lift()
        if chip is None:
            raise ValueError(f"there is no board in {label}")
        return f"{label}: empty, the board {format_mac(chip.mac)} is in your hand"

    def _seat(self, words: list[str]) -> str:
        label, name = _words(words * 2 if len(words) == 1 else words, "seat SLOT [BOARD]", 2)
        port, chip = self._port(label), self._boards.get(name)
        if chip is None:
            raise ValueError(f"there is no board {name}; boards are called by the slots in which they began")
        if port.programmer.chip is not None:
            raise ValueError(f"there is a board in {label} already")
        for other, its_port in self._ports.items():
            if its_port.programmer.chip is chip:
                raise ValueError(f"the board {name} is in {other}")
        port.programmer.seat(chip)
        return f"{label}: has the board {name}, {format_mac(chip.mac)}"

    def _jumper(self, words: list[str]) -> str:
        label, setting = _words(words, "jumper SLOT on|off", 2)
        port = self._port(label)
        if setting not in _JUMPER:
            raise ValueError(f"the jumper is on or off, not {setting!r}")
        port.programmer.jumper_low = _JUMPER[setting]
        return f"{label}: GPIO0 is {'at GND' if _JUMPER[setting] else 'free'} when the board next gets power"

    def _port(self, label: str) -> LinkedPort:
        if label not in self._ports:
            raise ValueError(f"there is no slot {label}; the slots are: {', '.join(self._ports)}")
        return self._ports[label]

    def dump(self) -> None:
        """Write what is in every flash, and last the counts."""
        for label, chip in self._boards.items():
            _write(self._directory / f"{label}.flash", bytes(chip.flash.data))
        stats = {label: asdict(port.programmer.stats) for label, port in self._ports.items()}
        _write(self._directory / "stats.json", msgspec.json.format(msgspec.json.encode(stats), indent=2) + b"\n")


def _words(words: list[str], usage: str, count: int) -> list[str]:
    """The words after a command; ValueError when there are not so many."""
    if len(words) != count:
        raise ValueError(f"write {usage}")
    return words


def _write(path: Path, content: bytes) -> None:
    """Replace the file, whole: who waits for it must never see half of it."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
