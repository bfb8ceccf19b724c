"""The programmers and boards that lie on the table of `station bench`, and what a hand can do with them by typed commands.

Promises one sentence for every command, of what was done or of what is wrong with it, and that a file it writes appears whole.
It must never do half of a command that it refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import msgspec

from station.bench.chip import Chip
from station.bench.faults import Fault, parse_fault
from station.bench.scenario import PlannedBoard
from station.bench.table_port import TablePort
from station.bench.typed import COMMANDS
from station.model import format_mac

FreshBoard = Callable[[str, tuple[Fault, ...], Mapping[str, bytes]], PlannedBoard]
"""Fetch another board: for this slot, with these faults, where there are boards with these MACs, by slot."""
_JUMPER = {"on": True, "off": False}


class Table:
    """Programmers by slot, boards by the slot in which they began; `more_stats` is what else stands in the counts."""

    def __init__(
        self,
        ports: Mapping[str, TablePort],
        boards: Mapping[str, Chip],
        directory: Path,
        *,
        fresh: FreshBoard,
        more_stats: Callable[[], Mapping[str, Mapping[str, int]]] = dict,
    ) -> None:
        self._ports, self._boards, self._directory = ports, dict(boards), directory
        self._fresh, self._more_stats = fresh, more_stats
        self._deeds = {
            "unplug": self._unplug,
            "lift": self._lift,
            "seat": self._seat,
            "jumper": self._jumper,
            "board": self._board,
        }

    async def do(self, line: str) -> str:
        """Do what one line says and return what was done; ValueError says why not."""
        verb, *words = line.split()
        if verb == "plug":
            ports = self._some(words, "plug SLOT…")
            already = [label for label, port in zip(words, ports, strict=True) if port.plugged]
            if already:
                raise ValueError(f"{already[0]} is plugged in already")
            await asyncio.gather(*(port.plug() for port in ports))
            return f"{', '.join(words)}: plugged in"
        if verb not in self._deeds:
            raise ValueError(f"no such command; the commands are: {', '.join(COMMANDS)}")
        return self._deeds[verb](words)

    def _unplug(self, words: list[str]) -> str:
        for port in self._some(words, "unplug SLOT…"):
            port.unplug()
        return f"{', '.join(words)}: unplugged"

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

    def _board(self, words: list[str]) -> str:
        if not words:
            raise ValueError("write board SLOT [FAULT…]")
        label, *tokens = words
        port, faults = self._port(label), tuple(parse_fault(token) for token in tokens)
        board = self._fresh(label, faults, {name: chip.mac for name, chip in self._boards.items()})
        port.put(board.chip, board.exchange)
        self._boards[label] = board.chip
        return f"{label}: has a fresh board, {format_mac(board.chip.mac)}"

    def _some(self, labels: list[str], usage: str) -> list[TablePort]:
        """The programmers of one or more slots; ValueError before anything is done when one of them is not there."""
        if not labels:
            raise ValueError(f"write {usage}")
        return [self._port(label) for label in labels]

    def _port(self, label: str) -> TablePort:
        if label not in self._ports:
            raise ValueError(f"there is no slot {label}; the slots are: {', '.join(self._ports)}")
        return self._ports[label]

    def dump(self) -> None:
        """Write what is in every flash, and last the counts."""
        for label, chip in self._boards.items():
            write_whole(self._directory / f"{label}.flash", bytes(chip.flash.data))
        stats = {label: asdict(port.programmer.stats) for label, port in self._ports.items()} | dict(self._more_stats())
        write_whole(self._directory / "stats.json", msgspec.json.format(msgspec.json.encode(stats), indent=2) + b"\n")


def _words(words: list[str], usage: str, count: int) -> list[str]:
    """The words after a command; ValueError when there are not so many."""
    if len(words) != count:
        raise ValueError(f"write {usage}")
    return words


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file, whole: who waits for it must never see half of it."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
