"""The one-plug cycle without reset lines against that with them: the same board's way from the plug to green, at pace 1.

One board at a time, in turn with and without lines, so that what else the machine does hits both alike.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from station.model import Light
from tests.benchmarks.figures import Figure
from tests.benchmarks.presence import JUMPER, LINES, bench_with, config_with
from tests.e2e.workbench import Workbench, a_board, at_work

ROUNDS = 3


async def plug_to_pass(work: Workbench, label: str) -> float:
    """Make one board in this slot; seconds."""
    began_s = time.perf_counter()
    await work.plug(label, a_board())
    await work.until_light(label, Light.PASS)
    took_s = time.perf_counter() - began_s
    await work.unplug(label)
    await work.until_light(label, Light.EMPTY)
    return took_s


async def cycles(directory: Path, recipe: Path) -> list[Figure]:
    """Both cycles, phase by phase, and their ratio."""
    slots = {"A1": LINES, "A2": JUMPER}
    with bench_with(slots) as bench:
        async with at_work(config_with(directory, recipe, slots), bench=bench) as work:
            took: dict[str, list[float]] = {"A1": [], "A2": []}
            for _ in range(ROUNDS):
                for label, values in took.items():
                    values.append(await plug_to_pass(work, label))
            query = "SELECT job.slot, phase.phase, phase.duration_s FROM phase JOIN job ON job.id = phase.job_id"
            phases: dict[tuple[str, str], list[float]] = {}
            for slot, phase, duration_s in work.rows(f"{query} ORDER BY job.sequence, phase.position"):
                phases.setdefault((slot, phase), []).append(duration_s)
    figures: list[Figure] = []
    for label, wiring in (("A1", "with reset lines"), ("A2", "without reset lines")):
        figures.append(Figure(what=f"one-plug cycle {wiring}, plug to PASS", values=took[label], unit="s"))
        figures += [
            Figure(what=f"  phase {phase}", values=values, unit="s")
            for (slot, phase), values in phases.items()
            if slot == label and any(values)
        ]
    ratio = statistics.median(took["A2"]) / statistics.median(took["A1"])
    return [*figures, Figure(what="  without lines, so many times with lines", values=[ratio], unit="x")]
