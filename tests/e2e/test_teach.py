"""A person teaches the sockets and moves a hub: the real commands, real uevents, and what is in `slots.json` afterwards.

Each test runs a scenario in a child under umockdev (`tests/adapters/umockdev.py`).
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from station.cli.options import load_or_default
from station.setup.teaching import Lesson, teach
from tests.adapters.umockdev import Adapter, Testbed, in_testbed
from tests.e2e.command import Done, Running, wait_for
from tests.e2e.test_real_udev import in_temporary_directory, said, write_config
from tests.e2e.umockdev_station import started

pytestmark = pytest.mark.umockdev

SEVEN_PORTS = ("1", "2", "3", "4.1", "4.2", "4.3", "4.4")
LEARNED = {"adapter": "1a86:7523 0262", "reset": "none", "reset_evidence": "a pulse", "gpio0": "hand"}


def at(port: str, tty: int = 0) -> Adapter:
    """A programmer in this socket."""
    return Adapter(port=port, ttys=(f"ttyUSB{tty}",))


def taught(directory: Path) -> Any:
    """Label -> ports, as on disk."""
    entries = json.loads((directory / "state/slots.json").read_text())
    return {label: entry["place"].removeprefix("pci-0000:00:14.0-usb-0:")[:-4] for label, entry in entries.items()}


def write_map(directory: Path, ports: dict[str, str]) -> None:
    """Teach these slots, and let each of them have learned something."""
    (directory / "state").mkdir(exist_ok=True)
    entries = {label: {"place": at(port).right_id_path} | LEARNED for label, port in ports.items()}
    (directory / "state/slots.json").write_text(json.dumps(entries))


def answer(running: Running, *lines: str) -> None:
    """Type these lines."""
    stdin = running.process.stdin
    assert stdin is not None
    stdin.write("".join(f"{line}\n" for line in lines).encode())
    stdin.flush()


def plug_and_pull(testbed: Testbed, running: Running, port: str, text: str) -> None:
    """Plug the one programmer in, wait until `text` is said, pull it out."""
    testbed.plug(at(port))
    said(running, text)
    testbed.unplug(at(port))


# --- a grid ----------------------------------------------------------------------------------------------------------


def teach_grid(testbed: Testbed, directory: Path) -> Any:
    """Teach a grid of two by two with one programmer, ended after half of it, and go on."""
    config = write_config(directory)
    command = ("slots", "teach", "--config", config, "--rows", 2, "--columns", 2)
    with started(testbed, directory, *command) as teaching:
        said(teaching, "plug a programmer into A1 now")
        plug_and_pull(testbed, teaching, "2.1", "plug a programmer into A2 now")
        plug_and_pull(testbed, teaching, "2.1", "that place is A1 already (2.1)")
        plug_and_pull(testbed, teaching, "2.2", "plug a programmer into B1 now")
        first = teaching.end(signal.SIGINT)
    half = taught(directory)
    with started(testbed, directory, *command) as teaching:
        said(teaching, "plug a programmer into B1 now")
        plug_and_pull(testbed, teaching, "2.4.1", "plug a programmer into B2 now")
        testbed.plug(at("2.4.2"))
        second = teaching.ended()
    with started(testbed, directory, *command) as teaching:
        third = teaching.ended()
    ends = [[each.code, each.out, each.err] for each in (first, second, third)]
    return {"ends": ends, "half": half, "whole": taught(directory)}


async def _teach_grid(testbed: Testbed) -> Any:
    return await asyncio.to_thread(in_temporary_directory, teach_grid, testbed)


def test_a_grid_is_taught_socket_by_socket_and_gone_on_with() -> None:
    """The drawing shows what is done and what is wanted; what was taught before Ctrl-C stays, and the next run goes on."""
    result = in_testbed(_teach_grid)
    (first, second, third) = result["ends"]
    assert [first[0], second[0], third[0]] == [0, 0, 0], result["ends"]
    assert first[2] == second[2] == third[2] == ""
    assert first[1].startswith("   1   2\nA [?] [ ]\nB [ ] [ ]\nplug a programmer into A1 now (Ctrl-C ends)\n")
    assert "A [x] [x]\nB [?] [ ]\nplug a programmer into B1 now" in first[1]
    assert "goes on with: station slots teach --rows 2 --columns 2" in first[1]
    assert result["half"] == {"A1": "2.1", "A2": "2.2"}
    assert second[1].startswith("   1   2\nA [x] [x]\nB [?] [ ]\n")
    assert "A1-B2 are taught" in second[1]
    assert result["whole"] == {"A1": "2.1", "A2": "2.2", "B1": "2.4.1", "B2": "2.4.2"}
    assert third[1].startswith("all 4 sockets are taught")


# --- a hub that was moved --------------------------------------------------------------------------------------------

BEFORE = {f"A{number + 1}": f"2.{tail}" for number, tail in enumerate(SEVEN_PORTS)} | {"B1": "5.1"}
AFTER = {f"A{number + 1}": f"3.{tail}" for number, tail in enumerate(SEVEN_PORTS)} | {"B1": "5.1"}


def move(testbed: Testbed, directory: Path, steps: list[tuple[str, str]], answers: list[str], *options: str) -> Any:
    """Run `slots moved`, plug into socket after socket, each until a text is said; answer; return what is left."""
    config = write_config(directory)
    write_map(directory, BEFORE)
    with started(testbed, directory, "slots", "moved", "--config", config, *options, stdin=subprocess.PIPE) as moving:
        said(moving, "plug the programmer of ")
        for port, text in steps:
            plug_and_pull(testbed, moving, port, text)
        answer(moving, *answers)
        done: Done = moving.ended()
    entries = json.loads((directory / "state/slots.json").read_text())
    learned = [{key: entry.get(key) for key in LEARNED} for entry in entries.values()]
    return {"code": done.code, "out": done.out, "err": done.err, "map": taught(directory), "learned": learned}


async def _move_confirmed(testbed: Testbed) -> Any:
    steps = [
        ("2.2", "that socket is A2 (2.2); plug into the one that is A1"),
        ("4", "4 cannot be A1, which was 2.1"),
        ("3.1", "A1-A7 are now here (ports 3.1-3.4.4 instead of 2.1-2.4.4)? [y/N]"),
    ]
    work = partial(move, steps=steps, answers=["y"])
    return await asyncio.to_thread(in_temporary_directory, work, testbed)


async def _move_refused(testbed: Testbed) -> Any:
    def work(bed: Testbed, where: Path) -> Any:
        return move(bed, where, [("3.1", "are now here")], ["what?", "n"])

    return await asyncio.to_thread(in_temporary_directory, work, testbed)


async def _move_inner(testbed: Testbed) -> Any:
    def work(bed: Testbed, where: Path) -> Any:
        return move(bed, where, [("6.2", "A4-A7 are now here (ports 6.1-6.4 instead of 2.4.1-2.4.4)?")], ["y"], "A5")

    return await asyncio.to_thread(in_temporary_directory, work, testbed)


async def _move_unasked(testbed: Testbed) -> Any:
    def work(bed: Testbed, where: Path) -> Any:
        return move(bed, where, [("3.4.4", "A1-A7: now at")], [], "A7", "--yes")

    return await asyncio.to_thread(in_temporary_directory, work, testbed)


async def _not_moved(testbed: Testbed) -> Any:
    def work(bed: Testbed, where: Path) -> Any:
        return move(bed, where, [("2.1", "A1 is where it was (2.1)")], [])

    return await asyncio.to_thread(in_temporary_directory, work, testbed)


@pytest.mark.parametrize(
    ("scenario", "after"),
    [
        (_move_confirmed, AFTER),
        (_move_refused, BEFORE),
        (_move_inner, BEFORE | {"A4": "6.1", "A5": "6.2", "A6": "6.3", "A7": "6.4"}),
        (_move_unasked, AFTER),
        (_not_moved, BEFORE),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_hub_that_moved_is_one_plug_and_one_question(scenario: Any, after: dict[str, str]) -> None:
    """All its slots get their new place at once, chained hubs included, none without a yes; what was learned stays."""
    result = in_testbed(scenario)
    assert (result["code"], result["err"]) == (0, ""), result
    assert result["map"] == after
    assert result["learned"] == [LEARNED] * len(BEFORE)
    assert ("systemctl restart station" in result["out"]) == (after != BEFORE)


# --- teaching offers it ----------------------------------------------------------------------------------------------


class ScriptedVoice:
    """Answers every question alike, and keeps what was said."""

    def __init__(self, *, yes: bool) -> None:
        self._yes = yes
        self.said: list[str] = []
        self.asked: list[str] = []

    def say(self, text: str = "") -> None:
        """Keep it."""
        self.said.append(text)

    def ask(self, question: str, default: str) -> str:
        """Take the default."""
        self.asked.append(question)
        return default

    def confirm(self, question: str, *, default: bool) -> bool:
        """Answer as always."""
        assert default is False
        self.asked.append(question)
        return self._yes


async def offered(testbed: Testbed, directory: Path, *ports: str, yes: bool, wanted: int) -> Any:
    """Teach B1 and B2 on a hub whose sockets look like those of A, which was taught before."""
    write_map(directory, {"A1": "2.1", "A2": "2.2"})
    config = load_or_default(write_config(directory))
    voice = ScriptedVoice(yes=yes)
    teaching = asyncio.create_task(teach(config, Lesson(rows=2, columns=2), voice))
    await asyncio.to_thread(wait_for, lambda: voice.said, "the first words")
    for number, port in enumerate(ports):
        before = len(voice.said)
        testbed.plug(at(port, number))
        await asyncio.to_thread(wait_for, partial(more_said, voice, before), f"words about {port}")
    await asyncio.to_thread(wait_for, lambda: len(taught(directory)) == wanted, f"{wanted} slots")
    teaching.cancel()
    await asyncio.gather(teaching, return_exceptions=True)
    return {"asked": voice.asked, "said": voice.said, "map": taught(directory)}


def more_said(voice: ScriptedVoice, before: int) -> bool:
    """Whether the last plug was answered."""
    return len(voice.said) > before


async def _offered(testbed: Testbed) -> Any:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        refused = await offered(testbed, Path(one), "3.1", "3.2", yes=False, wanted=4)
        for number, port in enumerate(("3.1", "3.2")):
            testbed.unplug(at(port, number))
        return [refused, await offered(testbed, Path(other), "3.1", "3.2", "3.3", yes=True, wanted=3)]


def test_teaching_asks_once_whether_a_hub_was_moved() -> None:
    """A new hub that looks like a known one that is gone: after a no its sockets are taught as new, after a yes they move."""
    refused, agreed = in_testbed(_offered)
    assert refused["asked"] == ["A1, A2 are now here (ports 3.1-3.2 instead of 2.1-2.2)?"]
    assert refused["map"] == {"A1": "2.1", "A2": "2.2", "B1": "3.1", "B2": "3.2"}
    assert len(agreed["asked"]) == 1
    assert agreed["map"] == {"A1": "3.1", "A2": "3.2", "B1": "3.3"}
    assert "that place is A2 already (3.2)" in agreed["said"]
