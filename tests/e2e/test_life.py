"""The life of the station itself: signs of life only while it works, and an end that no hung programmer can prevent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.bench.bench import BenchWatcher, VirtualBench
from station.config import Config, UsbSection
from station.model import Light, Programmer
from station.recipe import Recipe
from tests.e2e.workbench import at_work, config_for, rows_of

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0


class Manager:
    """A service manager that wants a sign of life every 0.3 s, and counts them."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def signs(self, within_s: float) -> int:
        """Count the signs of life that come from now on; blocks, so call it in a thread."""
        self._channel.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._channel.recv(4096)
        until, count = time.monotonic() + within_s, 0
        while (left_s := until - time.monotonic()) > 0:
            self._channel.settimeout(left_s)
            with contextlib.suppress(TimeoutError):
                count += self._channel.recv(4096) == b"WATCHDOG=1"
        return count


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """It listens where NOTIFY_SOCKET says, and asks as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        monkeypatch.setattr("station.daemon.LOOKS_MISSED_S", 0.5)
        yield Manager(channel)


class MoodyWatcher(BenchWatcher):
    """A watcher that cannot say what is attached, or does not come back, as long as the test wants it."""

    error: OSError | None = None
    gate: threading.Event | None = None

    def snapshot(self) -> tuple[Programmer, ...]:
        """What is attached, if it can be said."""
        if self.gate is not None:
            self.gate.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return super().snapshot()


def test_an_idle_station_lives_and_one_that_sees_nothing_does_not(
    manager: Manager, recipe_of_the_bench: Recipe, tmp_path: Path
) -> None:
    """Signs come while nothing is plugged in; none while nobody can say what is; they come again when somebody can."""
    watchers: list[MoodyWatcher] = []

    def make(bench: VirtualBench) -> MoodyWatcher:
        watchers.append(MoodyWatcher(bench))
        return watchers[0]

    config = config_for(tmp_path, Path(recipe_of_the_bench.file), usb=UsbSection(reconcile_s=0.1))

    async def main() -> None:
        async with at_work(config, watcher=make) as work:
            assert await asyncio.to_thread(manager.signs, 2.0) > 0
            watchers[0].error = OSError("too many open files")
            await asyncio.sleep(1.5)
            assert await asyncio.to_thread(manager.signs, 1.5) == 0
            assert (await work.get("/healthz"))[0] == 200
            watchers[0].error = None
            assert await asyncio.to_thread(manager.signs, 2.0) > 0

    asyncio.run(main())


def test_a_look_that_hangs_stops_the_signs_of_life(
    manager: Manager, recipe_of_the_bench: Recipe, tmp_path: Path
) -> None:
    """A look at sysfs that does not come back holds the loop, and the signs come from the loop."""
    watchers: list[MoodyWatcher] = []

    def make(bench: VirtualBench) -> MoodyWatcher:
        watchers.append(MoodyWatcher(bench))
        return watchers[0]

    config = config_for(tmp_path, Path(recipe_of_the_bench.file), usb=UsbSection(reconcile_s=0.1))
    seen: list[int] = []
    gate = threading.Event()

    def count() -> None:
        time.sleep(0.5)
        seen.append(manager.signs(1.0))
        gate.set()

    async def main() -> None:
        async with at_work(config, watcher=make):
            watchers[0].gate = gate
            counting = threading.Thread(target=count)
            counting.start()
            await asyncio.sleep(1.0)
            await asyncio.to_thread(counting.join)
            assert await asyncio.to_thread(manager.signs, 2.0) > 0

    asyncio.run(main())
    assert seen == [0]


def test_nobody_who_asks_for_no_signs_gets_any(
    manager: Manager, recipe_of_the_bench: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without WATCHDOG_USEC, or with one that is meant for another process, there is nothing to say."""
    monkeypatch.setenv("WATCHDOG_PID", "1")
    config = config_for(tmp_path, Path(recipe_of_the_bench.file))

    async def main() -> None:
        async with at_work(config):
            assert await asyncio.to_thread(manager.signs, 1.0) == 0

    asyncio.run(main())


HUNG_STATION = """
import asyncio, pathlib, sys, threading
from station import floor, slot
from station.bench.bench import BenchLine, BenchOpener, BenchWatcher, VirtualBench
from station.daemon import finish_on_signals, run_station
from tests.e2e.workbench import a_board, config_for

floor.GIVE_BACK_S = 1.0
directory, recipe = map(pathlib.Path, sys.argv[1:])


class HungLine(BenchLine):
    def close(self):
        if threading.current_thread().name == "slot":
            threading.Event().wait()  # for ever
        super().close()


class HungOpener(BenchOpener):
    def open(self, *args, **kwargs):
        line = super().open(*args, **kwargs)
        line.__class__ = HungLine
        return line


async def main():
    finish = asyncio.Event()
    finish_on_signals(finish)
    with VirtualBench(slots=1, pace=1.0, seed=1) as bench:
        async def work(floor):
            await asyncio.to_thread(bench.plug, "A1", a_board())
            while not floor.view().slots[0].fraction:
                await asyncio.sleep(0.05)
            print("writing", flush=True)

        tasks = []
        await run_station(
            config_for(directory, recipe), file="test", watcher=BenchWatcher(bench), opener=HungOpener(bench),
            finish=finish, ready=lambda floor, _address: tasks.append(asyncio.create_task(work(floor))),
        )

asyncio.run(main())
print("ended", flush=True)
"""


def test_a_station_ends_although_a_port_is_never_given_back(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """SIGTERM with a close that blocks for ever: the process ends by itself, and its job is ABORTED at the next start."""
    recipe = Path(recipe_of_the_bench.file)
    command = [sys.executable, "-c", HUNG_STATION, str(tmp_path), str(recipe)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as station:
        try:
            assert station.stdout is not None
            assert any(line == "writing\n" for line in station.stdout), station.communicate()[1]
            station.send_signal(signal.SIGTERM)
            out, err = station.communicate(timeout=60)
        finally:
            station.kill()
    assert (station.returncode, out.splitlines()[-1]) == (0, "ended"), err
    config: Config = config_for(tmp_path, recipe)
    assert rows_of(config, "SELECT state FROM job") == [("running",)]

    async def main() -> None:
        async with at_work(config) as work:
            assert work.view().light is Light.EMPTY

    asyncio.run(main())
    assert rows_of(config, "SELECT state, outcome, reason FROM job") == [("closed", "ABORTED", "station_restarted")]
