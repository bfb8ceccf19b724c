"""Measures the station on the virtual bench and prints one table: `python -m tests.benchmarks.bench`, or `make bench`.

Nothing here passes or fails: a shared machine says little about another one. Times are those of the whole real program, of
esptool and of the emulated chip at pace 1 (docs/bench.md says what that is worth); the CPU of the bench's own thread and of
the boards' interpreters is taken off what a board, or an idle slot, costs the station. Names of benchmarks as arguments
(`hands batches cycles seatings plugs idle seated`) take only those.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import queue
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from station.adapters.logs import configure_logging
from station.adapters.records import Database, new_id
from station.bench.bench import BenchLine, BenchOpener, VirtualBench
from station.config import DEFAULT_BAUD_LADDER, Config
from station.demo import write_demo_recipe
from station.model import Light, Phase, Plug, Programmer, VisitEnd
from station.ports import Stop
from tests.benchmarks.cycle import cycles
from tests.benchmarks.figures import HEAD, Figure, Shown, milliseconds
from tests.benchmarks.idle import idle_figures
from tests.benchmarks.presence import plugs, seatings
from tests.e2e.workbench import Workbench, a_board, at_work, config_for

PLUGS = 30
PULLS = 10
COMMITS = 300
BOARDS = 8


class Stopwatch(Shown):
    """When each light was shown, and when each line was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed_s = 0.0

    def opener(self, bench: VirtualBench) -> BenchOpener:
        """An opener whose lines tell when they are closed."""
        watch = self

        class TimedOpener(BenchOpener):
            def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> BenchLine:
                line = super().open(programmer, baud, stop, may_reset=may_reset)
                close = line.close

                def timed_close() -> None:
                    close()
                    watch.closed_s = time.perf_counter()

                line.close = timed_close  # type: ignore[method-assign]
                return line

        return TimedOpener(bench)


async def plug_to_busy(work: Workbench, watch: Stopwatch) -> list[float]:
    """From the hand at the socket to the BUSY light."""
    took = []
    for _ in range(PLUGS):
        watch.at_s.clear()
        chip, began_s = a_board(), time.perf_counter()
        await work.plug("A1", chip)
        await work.until(lambda: ("A1", Light.BUSY) in watch.at_s)
        took.append(milliseconds(began_s, watch.at_s["A1", Light.BUSY]))
        await work.unplug("A1")
        await work.until(lambda: work.view().light in (Light.EMPTY, Light.ACTION) and not work.floor.slots["A1"].busy)
    return took


async def unplug_to_closed(work: Workbench, watch: Stopwatch) -> list[float]:
    """From the hand at the socket to the closed tty, in mid-write."""
    took = []
    for _ in range(PULLS):
        await work.plug("A1", a_board())
        await work.until_flashing()
        began_s = time.perf_counter()
        await work.unplug("A1")
        await work.until(lambda: not work.floor.slots["A1"].busy)
        took.append(milliseconds(began_s, watch.closed_s))
    return took


Arrivals = queue.SimpleQueue[tuple[float, set[str]]]
"""When each event came, and which lights it told."""


@contextlib.asynccontextmanager
async def page_events(work: Workbench) -> AsyncIterator[Arrivals]:
    """Read the page's events in a thread, as a browser does."""
    arrivals: Arrivals = queue.SimpleQueue()
    with socket.create_connection(work.address, timeout=30) as connection:
        connection.sendall(f"GET /events HTTP/1.1\r\nHost: {work.address}\r\n\r\n".encode())

        def read() -> None:
            with connection.makefile("rb") as lines:
                for line in lines:
                    if line.startswith(b'data: {"station_id"'):
                        came_s = time.perf_counter()
                        arrivals.put((came_s, {slot["light"] for slot in json.loads(line[6:])["slots"]}))

        reader = asyncio.create_task(asyncio.to_thread(read))
        try:
            yield arrivals
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            await reader


async def light_to_page(work: Workbench, watch: Stopwatch) -> list[float]:
    """From the light to the browser: how much later the event with the same light arrives."""
    took = []
    async with page_events(work) as arrivals:
        for _ in range(PULLS):
            await asyncio.sleep(0.3)  # events that come close together are sent as one
            watch.at_s.clear()
            while not arrivals.empty():
                arrivals.get()
            await work.plug("A1", a_board())
            lights: set[str] = set()
            while Light.BUSY not in lights:
                came_s, lights = await asyncio.to_thread(arrivals.get)
            took.append(milliseconds(watch.at_s["A1", Light.BUSY], came_s))
            await work.unplug("A1")
            await work.until(lambda: not work.floor.slots["A1"].busy)
    return took


def commits(directory: Path) -> list[float]:
    """One committed row after the other, as a job's thread sees it."""
    took = []
    programmer = Programmer(place="p", node="/dev/null", sysfs_path="", generation="1")
    with Database.open(f"sqlite:///{directory / 'commits.db'}", station_id="bench") as records:
        for number in range(COMMITS):
            visit = new_id()
            began_s = time.perf_counter()
            records.begin_visit(visit, Plug(slot="A1", programmer=programmer, number=number))
            took.append(milliseconds(began_s, time.perf_counter()))
            records.end_visit(visit, VisitEnd(ended_at=records._now(), job_id=None, finding="", detail=""))
    return took


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """So many boards at once, at pace 1."""

    wall_s: float
    jobs_s: list[float]
    phases_s: dict[str, list[float]]
    cpu_per_board_s: float


async def batch(config: Config, count: int) -> Batch:
    """Make `count` boards at once, as on a real bench."""
    async with at_work(config, pace=1.0) as work:
        labels = list(work.floor.slots)[:count]
        chips = {label: a_board() for label in labels}
        cpu_s = _station_cpu_s(work.bench)
        began_s = time.perf_counter()
        for label, chip in chips.items():
            await work.plug(label, chip)
        await work.until(lambda: all(work.view(label).light is Light.PASS for label in labels))
        wall_s = time.perf_counter() - began_s
        cpu_s = _station_cpu_s(work.bench) - cpu_s
        jobs = "SELECT duration_s FROM job ORDER BY sequence DESC"
        phases = (
            "SELECT phase.phase, phase.duration_s FROM phase JOIN job ON job.id = phase.job_id ORDER BY job.sequence"
        )
        by_phase: dict[str, list[float]] = {}
        for name, duration_s in work.rows(phases):
            by_phase.setdefault(name, []).append(duration_s)
        return Batch(
            wall_s=wall_s,
            jobs_s=[row[0] for row in work.rows(jobs)],
            phases_s=by_phase,
            cpu_per_board_s=cpu_s / count,
        )


def _station_cpu_s(bench: VirtualBench) -> float:
    """The CPU time of this process without the bench's own thread."""
    thread = bench._thread.ident
    assert thread is not None
    return time.process_time() - time.clock_gettime(time.pthread_getcpuclockid(thread))


async def hands(directory: Path, recipe: Path) -> list[Figure]:
    """How soon the station follows a hand that plugs and pulls programmers."""
    watch = Stopwatch()
    async with at_work(config_for(directory, recipe), pace=0.2, light=watch.light, opener=watch.opener) as work:
        return [
            Figure(what="plug to BUSY light", values=await plug_to_busy(work, watch)),
            Figure(what="unplug in mid-write to tty closed", values=await unplug_to_closed(work, watch)),
            Figure(what="BUSY light to the event at a browser", values=await light_to_page(work, watch)),
            Figure(what="one commit, synchronous=FULL", values=commits(directory)),
        ]


async def batches(directory: Path, recipe: Path) -> list[Figure]:
    """One board alone, and as many as the bench of a small order has."""
    alone = await batch(config_for(directory / "one", recipe), 1)
    together = await batch(config_for(directory / "eight", recipe, slots=BOARDS), BOARDS)
    shown = [phase for phase in Phase if phase is not Phase.PROVISION]
    return [
        Figure(what="one board alone, plug to PASS, pace 1", values=[alone.wall_s], unit="s"),
        Figure(what=f"{BOARDS} boards at once, plug to the last PASS, pace 1", values=[together.wall_s], unit="s"),
        Figure(what="  that many times one board alone", values=[together.wall_s / alone.wall_s], unit="x"),
        Figure(what="  one job", values=together.jobs_s, unit="s"),
        *(Figure(what=f"  phase {phase}", values=together.phases_s[phase], unit="s") for phase in shown),
        Figure(what="  CPU of the station per board", values=[together.cpu_per_board_s], unit="s"),
    ]


async def idle(directory: Path, _recipe: Path) -> list[Figure]:
    """What 32 slots cost that wait for a board."""
    return await asyncio.to_thread(idle_figures, directory, ("none", "unknown", "lines"))


async def seated(directory: Path, _recipe: Path) -> list[Figure]:
    """What 32 slots cost whose boards are done and not taken out yet."""
    return await asyncio.to_thread(idle_figures, directory, ("seated",))


BENCHMARKS: dict[str, Callable[[Path, Path], Coroutine[None, None, list[Figure]]]] = {
    "hands": hands,
    "batches": batches,
    "cycles": cycles,
    "seatings": seatings,
    "plugs": plugs,
    "idle": idle,
    "seated": seated,
}


def main() -> None:
    """Print the table; of the named benchmarks only, where some are named."""
    began_s = time.perf_counter()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    bauds = f"virtual boards at {DEFAULT_BAUD_LADDER[0]} baud, not silicon"
    _say(f"{machine}, Python {platform.python_version()}; {bauds}", HEAD)
    with (
        configure_logging("error", "console", sys.stderr),
        tempfile.TemporaryDirectory(prefix="station-bench-") as directory,
    ):
        recipe = write_demo_recipe(Path(directory) / "recipe")[0]
        for name in sys.argv[1:] or BENCHMARKS:
            _say(*map(str, asyncio.run(BENCHMARKS[name](Path(directory) / name, recipe))))
    _say(f"taken in {time.perf_counter() - began_s:.0f} s")


def _say(*lines: str) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201 - the table is the result


if __name__ == "__main__":
    main()
