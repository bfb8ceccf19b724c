"""A recipe's own checks, tried on a virtual board before a real one: real MicroPython, in a process that is ended with it.

The tree's files lie on the board, `boot.py` and `main.py` aside: nothing of the product runs but what the checks call. Each
is sent and heard in the very frame in which a real board gets it. What a virtual board measures says nothing about a real
one, so limits are not judged here; what is found is what would go wrong on every board: an exception, an answer that is none,
a required value that is missing, a restart, a check that does not end.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from station.adapters.repl import PROMPT, Run
from station.bench.chip import make_chip
from station.bench.firmware import MicroPythonHost
from station.bench.image import make_image
from station.bench.programmer import RunningFirmware
from station.errors import BoardRestartedInTest, CheckRaised, ReplError
from station.recipe import FilesPlan, Image, Recipe
from station.recipe.template import fill_for_parsing
from station.selftest import Check, parse
from station.selftest.own import own_checks, with_own_lines

MAC = bytes.fromhex("5ccf7fc0ffee")
START_S = 60.0
"""For the interpreter's process on a machine that is busy; no check's time counts in it."""
GRACE_S = 5.0
NOT_RUN = ("boot.py", "main.py")
_CHUNK_BYTES = 1024
_NO_MODULE = re.compile(r"no module named '([^'.]+)")
# Of these the virtual board plays what the station needs; MicroPython's own modules are whole.
_NO_NAME = re.compile(r"AttributeError: module '(machine|esp|network|os)' has no attribute '(\w+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What became of one check."""

    name: str
    problem: str = ""
    """What would go wrong on every board, with the traceback; empty: nothing."""
    excuse: str = ""
    """Why it could not be tried here, for something that real boards have."""


async def rehearse(recipe: Recipe) -> tuple[Rehearsed, ...]:
    """Run every own check of the recipe on a virtual board of its own, one after the other.

    Raises `ConfigurationError` where there is nothing to run MicroPython with, and `CancelledError` on SIGTERM: who only
    died of it would leave a check behind that runs for ever.
    """
    host, task = MicroPythonHost(pace=0.0), asyncio.current_task()
    assert task is not None  # noqa: S101 - this runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await host.start()
    try:
        return tuple([await _rehearse(host, recipe, check) for check in own_checks(recipe)])
    finally:
        await host.close()


async def _rehearse(host: MicroPythonHost, recipe: Recipe, check: Check) -> Rehearsed:
    image = recipe.images[0]
    async with _board(host, image) as board:
        try:
            async with asyncio.timeout(START_S):
                await board.start()
                if image.has_filesystem:
                    await _bring(board, recipe.files)
        except (TimeoutError, ReplError) as error:
            return Rehearsed(name=check.name, excuse=f"the virtual board was not ready for it: {error or 'too slow'}")
        return await _try(board, recipe, check, image)


async def _try(board: _Board, recipe: Recipe, check: Check, image: Image) -> Rehearsed:
    deadline_s = check.timeout_s or START_S
    try:
        async with asyncio.timeout(deadline_s + GRACE_S):
            printed = await board.run(check.code)
        found = {measurement.name for measurement in parse(check, printed)}
    except TimeoutError:
        return Rehearsed(name=check.name, problem=f"it does not end within {deadline_s:g} s")
    except BoardRestartedInTest:
        return Rehearsed(name=check.name, problem="it restarts the board, or prints what a board says when it starts")
    except CheckRaised as raised:
        return _raised(check, raised.traceback, image)
    except ReplError as error:
        return Rehearsed(name=check.name, problem=str(error))
    own = next(each for each in recipe.own_checks if each.name == check.name)
    missing = sorted(name for name in own.limits if f"{own.name}.{name}" not in found)
    problem = f"it returns no {', '.join(missing)}, which limits ask for" if missing else ""
    return Rehearsed(name=check.name, problem=problem)


def _raised(check: Check, traceback: str, image: Image) -> Rehearsed:
    """What the real build has, and the bench has not, is no fault of the check's."""
    module, name = _NO_MODULE.search(traceback), _NO_NAME.search(traceback)
    if module is not None and module[1] in (image.modules or (module[1],)):
        return Rehearsed(name=check.name, excuse=f"the virtual board has no module {module[1]}")
    if name is not None:
        return Rehearsed(name=check.name, excuse=f"the virtual board has no {name[1]}.{name[2]}; does a real one?")
    return Rehearsed(name=check.name, problem=with_own_lines(check, traceback).strip())


async def _bring(board: _Board, plan: FilesPlan) -> None:
    """Put the tree's files on the board, with something in the place of every template."""
    await board.run("\n".join(["import os", *(f"os.mkdir({directory!r})" for directory in plan.directories)]))
    for file in plan.files:
        content = fill_for_parsing(file.content) if file.fill_in else file.content
        if file.path not in NOT_RUN:
            for start in range(0, max(1, len(content)), _CHUNK_BYTES):
                chunk, how = content[start : start + _CHUNK_BYTES], "ab" if start else "wb"
                await board.run(f"f=open({file.path!r},{how!r})\nf.write({chunk!r})\nf.close()")


@dataclass(slots=True)
class _Board:
    """One virtual board at its raw prompt."""

    firmware: RunningFirmware | None = None
    restarted: bool = False
    heard: bytearray = field(default_factory=bytearray)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, data: bytes) -> None:
        """Bytes at its TX."""
        self.heard += data
        self.news.set()

    def restarts(self, _cause: str) -> None:
        """It ends here: this board has no ROM that would start it again."""
        self.restarted = True
        self.news.set()

    async def start(self) -> None:
        """Wait for its prompt, and enter the raw REPL."""
        assert self.firmware is not None  # noqa: S101 - it was booted
        for says, answer in ((b">>> ", b"\x01"), (PROMPT, b"")):
            while says not in self.heard:
                await self._wait()
            self.heard.clear()
            self.firmware.receive(answer)

    async def run(self, code: str) -> bytes:
        """Run code and return what it printed; raises `ReplError` as the station's own REPL does."""
        assert self.firmware is not None  # noqa: S101 - it was booted
        # Raw paste, for its window: what is typed ahead of a prompt that was shown and is not yet read is lost, as on a chip.
        run = Run(code, raw_paste=True)
        self.firmware.receive(run.begin())
        while not run.done:
            if not self.heard:
                await self._wait()
            said = bytes(self.heard)
            self.heard.clear()
            self.firmware.receive(run.feed(said))
        return run.result()

    async def _wait(self) -> None:
        if self.restarted:
            raise BoardRestartedInTest("the board restarted")
        self.news.clear()
        await self.news.wait()


@asynccontextmanager
async def _board(host: MicroPythonHost, image: Image) -> AsyncIterator[_Board]:
    """A fresh board, with a filesystem where the recipe's has one; its process is ended afterwards."""
    chip = make_chip(mac=MAC, faults=(), image=make_image(variant="1M" if image.has_filesystem else "512K"))
    board = _Board()
    board.firmware = host.boot(chip, board.hear, board.restarts)
    try:
        yield board
    finally:
        board.firmware.power_off()
