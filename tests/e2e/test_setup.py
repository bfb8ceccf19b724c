"""`station setup` from an empty directory to the first green board, answered on standard input as a person would.

The scenarios run in a child under umockdev: real uevents, a real station behind them, a virtual board at a real port.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import tomllib
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from station.adapters.config_file import set_values
from station.bench.chip import make_chip
from station.bench.firmware import MicroPythonHost
from station.bench.image import make_image
from station.bench.programmer import ProgrammerKind, VirtualProgrammer
from station.errors import ConfigurationError
from station.setup.guide import Wish, set_up
from tests.adapters.umockdev import Adapter, Testbed, in_testbed
from tests.e2e.command import Done, Running, wait_for
from tests.e2e.test_real_udev import MAC, in_temporary_directory, said
from tests.e2e.test_teach import ScriptedVoice, answer, plug_and_pull, taught
from tests.e2e.umockdev_station import plug_board, started

FIRST = Adapter(port="2.1", ttys=("ttyUSB0",))
CONFIG = """# our bench, do not throw this away
[station]
state_dir = "{state}"  # on the big disk
[http]
listen = "127.0.0.1:{port}"
[usb]
reconcile_s = 3600
"""


def free_port() -> int:
    """A port that nobody has: what is waited for must be named before it listens."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def write_config(directory: Path) -> Path:
    """A configuration with comments, as a person keeps one."""
    config = directory / "station.toml"
    config.write_text(CONFIG.format(state=directory / "state", port=free_port()))
    return config


def past_doctor(setting_up: Running) -> None:
    """Go on, whatever doctor finds on the machine of this test."""
    wait_for(
        lambda: "Name that goes on record" in setting_up.out or "mended, look again?" in setting_up.out,
        f"the end of the first step, after {setting_up.out!r} {setting_up.err!r}",
        setting_up,
    )
    if "Name that goes on record" not in setting_up.out:
        answer(setting_up, "n")
        said(setting_up, "Name that goes on record")


def asked(setting_up: Running, question: str, *answers: str, times: int = 1) -> None:
    """Wait until this was asked so many times, then answer."""
    wait_for(lambda: setting_up.out.count(question) >= times, f"{question!r} in {setting_up.out!r}", setting_up)
    answer(setting_up, *answers)


def first_day(testbed: Testbed, directory: Path, host: MicroPythonHost, loop: asyncio.AbstractEventLoop) -> Any:
    """Answer the wizard from its first question to the first green board; then run it once more, with nobody there."""
    config = write_config(directory)
    (directory / "home").mkdir()
    image = directory / "home" / "esp01.bin"
    image.write_bytes(make_image(variant="1M"))
    board = VirtualProgrammer(chip=make_chip(mac=MAC), boot_firmware=host.boot, kind=ProgrammerKind(), pace=0.0, seed=1)
    command = ("setup", "--config", config, "--start")
    with started(testbed, directory, *command, stdin=subprocess.PIPE) as setting_up:
        past_doctor(setting_up)
        answer(setting_up, "Ada")
        asked(setting_up, "How many rows", "0", "1")
        asked(setting_up, "How many sockets", "2")
        said(setting_up, "plug a programmer into A1 now")
        plug_and_pull(testbed, setting_up, "2.1", "plug a programmer into A2 now")
        plug_and_pull(testbed, setting_up, "2.2", "A1, A2 are taught")
        asked(setting_up, "Firmware image", "<")
        asked(setting_up, "Teach more sockets?", "")
        asked(setting_up, "Firmware image", str(config), times=2)
        asked(setting_up, "Firmware image", str(image), times=3)
        asked(setting_up, "What is the product called?", "Lamp controller")
        said(setting_up, f"in another terminal: station run --config {config}")
        with started(testbed, directory, "run", "--config", config) as running:
            asked(setting_up, "Make a board now", "")
            said(setting_up, "put a board into any slot")
            plugged = plug_board(testbed, FIRST, board, loop)
            first: Done = setting_up.ended()
            text = config.read_text()
            with started(testbed, directory, "setup", "--config", config) as again:
                second: Done = again.ended()
            plugged.unplug()
            running.end()
    with closing(sqlite3.connect(directory / "state/station.db")) as records:
        jobs = records.execute("SELECT slot, outcome, operator FROM job").fetchall()
    recipes = sorted(path.name for path in (directory / "recipes").iterdir())
    ends = [[each.code, each.out, each.err] for each in (first, second)]
    return {"ends": ends, "text": text, "after": config.read_text(), "jobs": jobs, "recipes": recipes}


async def _set_up(testbed: Testbed) -> Any:
    host = MicroPythonHost(pace=0.0)
    await host.start()
    try:
        work = partial(first_day, host=host, loop=asyncio.get_running_loop())
        return await asyncio.to_thread(in_temporary_directory, work, testbed)
    finally:
        await host.close()


@pytest.mark.umockdev
def test_from_nothing_to_the_first_green_board_by_questions() -> None:
    """Name, sockets, image, start, board: each is on disk with every comment kept; a second run changes nothing at all."""
    result = in_testbed(_set_up)
    first, second = result["ends"]
    assert (first[0], first[2]) == (0, ""), first
    for words in (
        "Ada works here",
        "Lamp controller 1 [",
        "a number from 1 to 26",
        "A1: GOOD",
        "A1 is green",
        "Ready.",
    ):
        assert words in first[1], words
    kept = [line for line in result["text"].splitlines() if line.startswith(("# our", "state_dir", "reconcile_s"))]
    assert len(kept) == 3
    assert kept[1].endswith("# on the big disk")
    written = tomllib.loads(result["text"])
    assert written["station"]["operator"] == "Ada"
    assert written["work"] == {"recipe": "recipes/Lamp-controller.toml"}
    assert result["jobs"] == [["A1", "PASS", "Ada"]]
    assert result["recipes"] == ["Lamp-controller.toml", "esp01.bin"]
    assert (second[0], second[2]) == (0, ""), second
    assert "it runs already" in second[1]
    assert result["after"] == result["text"]


def stop_in_the_middle(testbed: Testbed, directory: Path) -> Any:
    """End the wizard by Ctrl-C at a question, and in another run in the middle of teaching."""
    config = write_config(directory)
    with started(testbed, directory, "setup", "--config", config, stdin=subprocess.PIPE) as setting_up:
        past_doctor(setting_up)
        at_question = setting_up.end(signal.SIGINT)
    options = ("--operator", "Ada", "--rows", 1, "--columns", 4)
    with started(testbed, directory, "setup", "--config", config, *options) as setting_up:
        said(setting_up, "plug a programmer into A1 now")
        plug_and_pull(testbed, setting_up, "2.1", "plug a programmer into A2 now")
        teaching = setting_up.end(signal.SIGINT)
    with started(testbed, directory, "config", "check", "--config", config) as checking:
        checked = checking.ended()
    ends = [[each.code, each.out, each.err] for each in (at_question, teaching)]
    return {"ends": ends, "checked": [checked.code, checked.out, checked.err], "map": taught(directory)}


async def _stop_in_the_middle(testbed: Testbed) -> Any:
    return await asyncio.to_thread(in_temporary_directory, stop_in_the_middle, testbed)


@pytest.mark.umockdev
def test_ctrl_c_leaves_a_valid_state_and_says_how_to_go_on() -> None:
    """At a question or in the middle of teaching: what is done stays and is valid, and the command to go on is said."""
    result = in_testbed(_stop_in_the_middle)
    for code, out, err in result["ends"]:
        assert (code, err) == (130, ""), (out, err)
        assert "what is done stays; it goes on with: station setup --config" in out.splitlines()[-1]
    assert result["checked"][0] == 0, result["checked"]
    assert result["map"] == {"A1": "2.1"}


def test_a_configuration_is_made_where_there_is_none(tmp_path: Path) -> None:
    """A new file is valid from the first step on; an image that is none is refused with a fix, and what was done stays."""
    config, state, junk = tmp_path / "etc/station.toml", tmp_path / "state", tmp_path / "junk.bin"
    state.mkdir()
    (state / "slots.json").write_text(json.dumps({"A1": FIRST.right_id_path}))
    junk.write_bytes(b"no firmware")
    voice = ScriptedVoice(yes=False)
    wish = Wish(config_file=config, state_dir=state, operator="Ada", image=junk)
    with pytest.raises(ConfigurationError) as refused:
        set_up(wish, voice)
    assert refused.value.file == str(junk)
    assert refused.value.fix
    assert tomllib.loads(config.read_text())["station"] == {"state_dir": str(state), "operator": "Ada"}
    assert "A1 is taught" in voice.said
    assert "Ada works here" in voice.said


# --- the one hand that changes a person's file -----------------------------------------------------------------------


def test_values_are_changed_and_nothing_else(tmp_path: Path) -> None:
    """Comments, order and blanks stay byte for byte; the second time nothing is written at all."""
    path = tmp_path / "station.toml"
    path.write_text('# head\n[work]   # what\nrequire_lot = true # because\n\n[station]\nid="b"\n')
    path.chmod(0o640)
    values = {("station", "operator"): 'Eva "E"'}
    assert set_values(path, values)
    text = path.read_text()
    assert text.startswith('# head\n[work]   # what\nrequire_lot = true # because\n\n[station]\nid="b"\n')
    assert tomllib.loads(text)["station"] == {"id": "b", "operator": 'Eva "E"'}
    assert path.stat().st_mode & 0o777 == 0o640
    before = path.stat().st_ino
    assert not set_values(path, values)
    assert path.stat().st_ino == before
    assert [each.name for each in tmp_path.iterdir()] == ["station.toml"]


def test_a_configuration_that_the_station_would_refuse_is_never_written(tmp_path: Path) -> None:
    """A value that is refused, a section that is no table, a file that is no TOML: said, and the file is as it was."""
    path = tmp_path / "station.toml"
    for text, values in (
        ("[log]\n", {("log", "level"): "loud"}),
        ("station = 5\n", {("station", "operator"): "Eva"}),
        ("[station\n", {("station", "operator"): "Eva"}),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            set_values(path, values)
        assert path.read_text() == text
        assert [each.name for each in tmp_path.iterdir()] == ["station.toml"]
