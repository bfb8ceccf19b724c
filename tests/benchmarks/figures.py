"""The lines of the benchmark's table, and how they are printed.

A figure may have a target, which is printed beside what was measured. It must never pass or fail anything.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from station.model import Light
from tests.e2e.workbench import WatchedLight

WIDTH = 66


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure should be at most, in the figure's unit; of the median, or of the worst value."""

    at_most: float
    of_worst: bool = False

    def beside(self, values: Sequence[float]) -> str:
        """The target, and whether these values meet it."""
        value = max(values) if self.of_worst else statistics.median(values)
        which = "worst" if self.of_worst else "median"
        return f"{which} <= {self.at_most:g}: {'met' if value <= self.at_most else 'MISSED'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    what: str
    values: Sequence[float]
    unit: str = "ms"
    target: Target | None = None

    def __str__(self) -> str:
        middle, worst = statistics.median(self.values), max(self.values)
        beside = self.target.beside(self.values) if self.target else ""
        line = f"{self.what:<{WIDTH}} {middle:>9.2f} {worst:>9.2f}  {self.unit:<3} {len(self.values):>4}  {beside}"
        return line.rstrip()


HEAD = f"{'':<{WIDTH}} {'median':>9} {'worst':>9}  {'':<3} {'of':>4}  target"


def milliseconds(began_s: float, ended_s: float) -> float:
    """How long that was."""
    return 1000 * (ended_s - began_s)


class Shown:
    """When each light was last shown, to the moment of the light driver's call."""

    def __init__(self) -> None:
        self.at_s: dict[tuple[str, Light], float] = {}
        self.light = WatchedLight(self._show)

    def _show(self, slot: str, light: Light) -> None:
        self.at_s[slot, light] = time.perf_counter()
