"""Which processes run, and which of them holds a port: read from /proc, where each shows its open files as links.

Without root only one's own processes show theirs; how many did not is part of the answer. A process that ends meanwhile is
left out. Nobody is ever signalled from here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_COMMAND_CHARS_MAX = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that has a port open."""

    pid: int
    command: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who holds which port."""

    found: tuple[Holder, ...]
    unseen: int
    """So many processes did not show what they have open."""


def holders_of(root: Path, nodes: Collection[str]) -> Holders:
    """Return every process that has one of `nodes` open."""
    found: list[Holder] = []
    unseen = 0
    for process in _processes(root):
        try:
            links = {_target(entry) for entry in (process / "fd").iterdir()}
        except PermissionError:
            unseen += 1
            continue
        except OSError:
            continue  # it ended
        held = sorted(links & set(nodes))
        found += [
            Holder(pid=int(process.name), command=command_of(root, int(process.name)), node=node) for node in held
        ]
    return Holders(found=tuple(found), unseen=unseen)


def command_of(root: Path, pid: int) -> str:
    """Return the command line of a process for people, else its name; empty when it is gone."""
    directory = root / "proc" / str(pid)
    for name in ("cmdline", "comm"):
        try:
            words = (directory / name).read_bytes().replace(b"\0", b" ").decode("utf-8", errors="replace").strip()
        except OSError:
            continue
        if words:
            return "".join(char if char.isprintable() else "?" for char in words)[:_COMMAND_CHARS_MAX]
    return ""


def is_running(root: Path, name: str) -> bool:
    """Whether a process of this name (at most 15 characters, as the kernel keeps it) runs."""
    for process in _processes(root):
        try:
            if (process / "comm").read_text("utf-8", errors="replace").strip() == name:
                return True
        except OSError:
            continue
    return False


def _processes(root: Path) -> Iterator[Path]:
    yield from (entry for entry in (root / "proc").iterdir() if entry.name.isdecimal())


def _target(entry: Path) -> str:
    """What an open file is; empty for one that was closed meanwhile, which its process goes on without."""
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""
