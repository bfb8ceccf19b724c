"""One real station with 32 idle board-moving slots, alone in a process: `python -m tests.benchmarks.idle_station KIND DIR`.

Reads the ttys of its programmers from standard input, waits until every slot idles, then measures its own processor time for
a minute and prints it as JSON. With KIND `none` and `unknown` nothing of the bench is in this process. With `lines` the
programmers are the virtual bench's, and the processor time of the bench's own thread is taken off; so with `seated`, where
in each of them a board in its loader has its result on the light, and its MAC is asked for. The two seams are replaced, so
what udev's looks into sysfs cost is not in it; nor is a browser.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from station.adapters.line import SerialLine, TtyOpener
from station.adapters.logs import configure_logging
from station.bench.bench import BenchOpener, BenchWatcher, VirtualBench
from station.config import Config, HttpSection, SlotSection, StationSection, WorkSection
from station.daemon import run_station
from station.demo import write_demo_recipe
from station.floor import Floor
from station.model import Programmer
from station.ports import ProgrammerWatcher, Stop
from station.properties import Moves, Reset, Role
from station.transitions import SlotState
from tests.e2e.workbench import a_board

SLOTS = 32
IDLE_S = 60.0
SETTLE_S = 3.0
RESETS = {"none": Reset.NONE, "unknown": None, "lines": Reset.LINES, "seated": Reset.LINES}


class FixedWatcher:
    """The same programmers for ever; implements `ports.ProgrammerWatcher`."""

    def __init__(self, ttys: Sequence[str]) -> None:
        places = VirtualBench.places(len(ttys)).values()
        self._attached = tuple(
            Programmer(place=place, node=tty, sysfs_path="", generation="1", usb_id="1a86:7523")
            for place, tty in zip(places, ttys, strict=True)
        )

    def start(self, on_hint: Callable[[], None]) -> None:
        """Nothing ever changes."""

    def snapshot(self) -> tuple[Programmer, ...]:
        """Return all of them."""
        return self._attached

    def heard(self) -> bool:
        """Always."""
        return True

    def stop(self) -> None:
        """Nothing to release."""


class RememberingOpener:
    """Opens what another opener opens, and remembers the lines, which count what was sent."""

    def __init__(self, opener: TtyOpener | BenchOpener) -> None:
        self._opener = opener
        self._lines: list[SerialLine] = []

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> SerialLine:
        """Open the line."""
        line = self._opener.open(programmer, baud, stop, may_reset=may_reset)
        self._lines.append(line)
        return line

    @property
    def sent_bytes(self) -> int:
        """How much was said to the programmers; all of it asks who is there."""
        return sum(line.sent_bytes for line in self._lines)


def cpu_s() -> float:
    """User and system time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def thread_cpu_s(bench: VirtualBench | None) -> float:
    """The processor time of the bench's own thread; 0 where there is none."""
    if bench is None or bench._thread.ident is None:
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(bench._thread.ident))


def config_of(kind: str, directory: Path) -> Config:
    """The station's defaults, with 32 slots where boards move."""
    recipe, _ = write_demo_recipe(directory / "recipe")
    role = Role.INSPECT if kind == "seated" else Role.MAKE
    return Config(
        station=StationSection(id="idle", state_dir=str(directory / "state")),
        slots={
            label: SlotSection(place=place, reset=RESETS[kind], moves=Moves.BOARD, role=role)
            for label, place in VirtualBench.places(SLOTS).items()
        },
        work=WorkSection(recipe=str(recipe)),
        http=HttpSection(listen="127.0.0.1:0"),
    )


async def idle(
    floor: Floor, opener: RememberingOpener, bench: VirtualBench | None, state: SlotState
) -> dict[str, float]:
    """Wait until all slots idle in this state, then measure; SystemExit when one did not stay so."""
    seen = -1
    async with asyncio.timeout(60):
        while any(slot.state is not state for slot in floor.slots.values()):
            seen = await floor.wait_change(seen)
    await asyncio.sleep(SETTLE_S)
    began_s, sent, cpu, of_bench = time.monotonic(), opener.sent_bytes, cpu_s(), thread_cpu_s(bench)
    await asyncio.sleep(IDLE_S)
    cpu, of_bench = cpu_s() - cpu, thread_cpu_s(bench) - of_bench
    took_s = time.monotonic() - began_s
    if any(slot.state is not state for slot in floor.slots.values()):
        raise SystemExit("a slot did not stay idle")
    return {
        "percent": 100 * (cpu - of_bench) / took_s,
        "bench_percent": 100 * of_bench / took_s,
        "bytes_a_second": (opener.sent_bytes - sent) / SLOTS / took_s,
    }


async def measure(kind: str, directory: Path, ttys: Sequence[str]) -> dict[str, float]:
    """Run the station; return what it took."""
    finish, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    bench: VirtualBench | None = None
    with ExitStack() as stack:
        watcher: ProgrammerWatcher = FixedWatcher(ttys)
        opener = RememberingOpener(TtyOpener())
        if kind in ("lines", "seated"):
            bench = stack.enter_context(VirtualBench(slots=SLOTS, pace=1.0, seed=1))
            for label in bench.sockets:
                await asyncio.to_thread(bench.plug, label, a_board() if kind == "seated" else None)
            watcher, opener = BenchWatcher(bench), RememberingOpener(BenchOpener(bench))
        station = asyncio.create_task(
            run_station(
                config_of(kind, directory),
                file="benchmark",
                watcher=watcher,
                opener=opener,
                finish=finish,
                ready=lambda floor, _address: ready.set_result(floor),
            )
        )
        await asyncio.wait([station, ready], return_when=asyncio.FIRST_COMPLETED)
        try:
            if station.done():
                await station
            state = SlotState.ACTION if kind == "seated" else SlotState.READY
            return await idle(ready.result(), opener, bench, state)
        finally:
            finish.set()
            await station


def main() -> None:
    """Measure, and print it."""
    kind, directory = sys.argv[1], Path(sys.argv[2])
    ttys = json.load(sys.stdin)
    with configure_logging("error", "console", sys.stderr):
        measured = asyncio.run(measure(kind, directory, ttys))
    print(json.dumps(measured))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
