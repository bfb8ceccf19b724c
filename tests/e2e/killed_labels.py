"""Prints the labels of given records in a process of its own that kills itself (SIGKILL) at a named moment.

Used by test_kill_labels.py. Arguments: database URL, printer, moment: `asked`, `begun`, `sent`, `printed` or `never`.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time

from station.adapters import label_lane, printer
from station.adapters.label_lane import LabelLane, label_maker
from station.adapters.records import Database, LabelBook
from station.config import Config


def die() -> None:
    """As power loss would have it: no handler, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(owner: type, name: str, *, before: bool) -> None:
    """Let the process die around this call."""
    whole = getattr(owner, name)

    def call(*arguments: object) -> object:
        if before:
            die()
        result = whole(*arguments)
        die()
        return result

    setattr(owner, name, call)


class Silent:
    """Nobody counts."""

    def labels_waiting(self, labels: int) -> None:
        """Not here."""

    def label_ended(self, state: str) -> None:
        """Nor here."""


def main() -> None:
    """Print what waits."""
    url, where, moment = sys.argv[1:]
    label_lane.LOOK_S = 0.05
    match moment:
        case "asked":
            deadly(LabelBook, "begin", before=True)
        case "begun":
            deadly(LabelBook, "begin", before=False)
        case "sent":
            deadly(printer._Link, "send", before=False)
        case "printed":
            deadly(LabelBook, "end", before=False)
    with Database.open(url, station_id="bench-1") as books:
        opened = functools.partial(printer.open_printer, where)
        make = label_maker(Config(), b"")
        with LabelLane(books.labels, open_printer=opened, render=make, gauges=Silent()):
            deadline = time.monotonic() + 30
            while books.labels.waiting() and time.monotonic() < deadline:
                time.sleep(0.05)


if __name__ == "__main__":
    main()
