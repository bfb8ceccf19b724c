"""What 32 idle board-moving slots cost: each kind of station in a process of its own (`idle_station` says what is counted).

Its ttys, where nobody ever answers, are held and emptied by this process, so that nothing but the station is counted.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.idle_station import SLOTS

TARGET_PERCENT = 5.0


@contextmanager
def empty_programmers(count: int) -> Iterator[tuple[list[str], list[int]]]:
    """So many ttys where nobody answers, and the descriptors from which what is sent there must be taken."""
    pairs = [os.openpty() for _ in range(count)]
    for _, tty_fd in pairs:
        tty.setraw(tty_fd)
    try:
        # Our own ends of the ttys stay open: without a client a pty is hung up for as long as that lasts.
        yield [os.ttyname(tty_fd) for _, tty_fd in pairs], [master for master, _ in pairs]
    finally:
        for descriptor in (end for pair in pairs for end in pair):
            os.close(descriptor)


def _start(kind: str, directory: Path, ttys: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.idle_station", kind, str(directory)]
    station = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert station.stdin is not None
    with station.stdin as given:
        json.dump(ttys, given)
    return station


def _empty_until_ended(masters: Sequence[int], station: subprocess.Popen[str]) -> None:
    poller = select.poll()
    for master in masters:
        poller.register(master, select.POLLIN)
    while station.poll() is None:
        for master, _ in poller.poll(200):
            os.read(master, 4096)


def idle_station(kind: str, directory: Path) -> dict[str, Any]:
    """Run one idle station for a minute and return what it said."""
    with empty_programmers(SLOTS) as (ttys, masters):
        station = _start(kind, directory, ttys)
        try:
            _empty_until_ended(masters, station)
            assert station.stdout is not None
            with station.stdout as said:
                measured: dict[str, Any] = json.load(said)
        finally:
            station.kill()
            station.wait()
    return measured


def idle_figures(directory: Path, kinds: Sequence[str]) -> list[Figure]:
    """One minute for each of these kinds, one after the other."""
    figures = []
    for kind in kinds:
        measured = idle_station(kind, directory / kind)
        what = f"{SLOTS} idle empty sockets, reset {kind}: CPU of one core"
        if kind == "seated":
            what = f"{SLOTS} finished boards in their sockets, reset lines: CPU of one core"
        target = Target(at_most=TARGET_PERCENT)
        figures.append(Figure(what=what, values=[measured["percent"]], unit="%", target=target))
        figures.append(Figure(what="  bytes sent to each, a second", values=[measured["bytes_a_second"]], unit="/s"))
    return figures
