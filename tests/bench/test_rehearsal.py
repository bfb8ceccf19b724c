"""The recipe's own checks on a virtual board: what would go wrong on every board is found, and what does not end is ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from station.bench.rehearsal import Rehearsed, rehearse
from station.recipe import load_recipe
from tests.unit.recipe_rig import written

SPINS_S = 2.0
"""No interpreter takes so long to start: beyond it the check runs."""
FILES = '[files]\ntree = "files"\nfill_in = ["config.py"]\n'


def tried(directory: Path, source: str, keys: str = "", files: dict[str, str] | None = None, **image: str) -> Rehearsed:
    """What becomes of one check."""
    named = {f"files/{name}": content for name, content in (files or {}).items()}
    more = (FILES if files else "") + f'[[check]]\nname = "led"\nfile = "led.py"\n{keys}'
    recipe = load_recipe(written(directory, more, {"led.py": source, **named}, **image))
    (result,) = asyncio.run(rehearse(recipe))
    return result


def test_a_good_check_passes_whatever_it_measures(tmp_path: Path) -> None:
    """Real MicroPython runs it, with the chip's modules and the tree's, without its programs; limits are not judged."""
    source = (
        "import machine, os, config, helper\nassert 'main.py' not in os.listdir()\n"
        "def check():\n    return {'hz': machine.freq(), 'big': len(helper.TEXT)}\n"
    )
    files = {
        "boot.py": "raise SystemExit\n",
        "main.py": "while True: pass\n",
        "config.py": 'MAC = "${mac}"\n',
        "lib/helper.py": f"TEXT = '{'x' * 5000}'\n",
    }
    assert tried(tmp_path, source, "limits = { hz = [1, 2], big = 1 }\n", files) == Rehearsed(name="led")


@pytest.mark.parametrize(
    ("source", "keys", "says"),
    [
        ("def check():\n    return 1/0\n", "", "ZeroDivisionError"),
        ("def check():\n    return 5\n", "", "check() must return a dict of names and values"),
        ("def check():\n    return {'A': 1}\n", "", "check led:"),
        ("def check():\n    return {'a': [1]}\n", "", "check led:"),
        (
            "def check():\n    return {'a': 1}\n",
            "limits = { b = 1, c = 2 }\n",
            "it returns no b, c, which limits ask for",
        ),
        ("def check():\n    while True: pass\n", "timeout_s = 0.5\n", "it does not end within 0.5 s"),
        ("def check():\n    while True: print('x' * 1000)\n", "", "more than 65536 bytes of output"),
        ("def check():\n    a = []\n    while True: a.append(bytearray(10000))\n", "", "MemoryError"),
        ("def check():\n    pass\n", "", "check() must return a dict"),
        ("def check():\n    return {b'a': 1, 'a': 2}\n", "", "check() must return a dict"),
        ("def check():\n    return {'a': float('inf')}\n", "", "check led:"),
        ("def check():\n    return {'a': 10 ** 30}\n", "", "check led:"),
        ("def check():\n    print('\\x04\\x04>')\n    return {}\n", "", "without this run's mark"),
        ("import machine\ndef check():\n    machine.reset()\n", "", "it restarts the board"),
        ("def check():\n    raise SystemExit\n", "", "it restarts the board"),
        ("def check():\n    print('MicroPython v1.27.0')\n    return {}\n", "", "what a board says when it starts"),
    ],
)
def test_what_would_go_wrong_on_every_board_is_found(tmp_path: Path, source: str, keys: str, says: str) -> None:
    """Exceptions, answers that are none, missing values, and checks that do not end are told before the first board."""
    assert says in tried(tmp_path, source, keys).problem


def test_a_traceback_has_the_lines_of_the_file(tmp_path: Path) -> None:
    """The person reads the check's name and the line in its own file."""
    problem = tried(tmp_path, "def check():\n    x = 1\n    return x.y\n").problem
    assert 'File "led", line 3, in check' in problem
    assert "AttributeError" in problem


def test_what_only_the_bench_lacks_is_no_fault(tmp_path: Path) -> None:
    """A module that the real build has and the virtual board has not is an excuse, not a problem."""
    result = tried(tmp_path, "import dht\ndef check():\n    return {}\n")
    assert (result.problem, result.excuse) == ("", "the virtual board has no module dht")


def test_what_a_terminal_obeys_is_not_shown(tmp_path: Path) -> None:
    """A message with terminal sequences is told in words; letters of other languages stay."""
    problem = tried(tmp_path, "def check():\n    raise ValueError('caf\\xe9 \\x1b[2J')\n").problem
    assert "caf\u00e9 \\x1b[2J" in problem
    assert problem.replace("\n", "").isprintable()


def test_what_the_chip_has_and_the_bench_has_not_is_no_fault(tmp_path: Path) -> None:
    """A part of the chip that the virtual board does not play is told as that; a name that no Python has is a problem."""
    result = tried(tmp_path, "import machine\ndef check():\n    return {'a': machine.UART(0).any()}\n")
    assert (result.problem, result.excuse) == ("", "the virtual board has no machine.UART; does a real one?")
    assert "AttributeError" in tried(tmp_path, "import json\ndef check():\n    json.nothing()\n").problem


def children(pid: int) -> set[int]:
    """The processes that this one started and that still are."""
    return {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def runs(pid: int) -> bool:
    """Whether a process of this number is alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_process_is_left_of_a_check_that_does_not_end(tmp_path: Path) -> None:
    """The interpreter of a check that spins is killed and waited for."""
    before = children(os.getpid())
    assert "does not end" in tried(tmp_path, "def check():\n    while True: pass\n", "timeout_s = 0.5\n").problem
    assert children(os.getpid()) <= before


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_the_command_ends_the_check(tmp_path: Path, told: signal.Signals) -> None:
    """`recipe check` that is ended takes the check along, which would spin for ever."""
    more = '[[check]]\nname = "led"\nfile = "led.py"\ntimeout_s = 100.0\n'
    recipe = written(tmp_path, more, {"led.py": "def check():\n    while True: pass\n"})
    command = [sys.executable, "-m", "station", "recipe", "check", str(recipe)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        spinning = _interpreter_of(process.pid)
        process.send_signal(told)
        said = process.communicate(timeout=60)[1]
        assert process.returncode != 0
    assert b"Traceback" not in said
    assert not runs(spinning)


def _interpreter_of(pid: int) -> int:
    """The node process of this one, as soon as its check has taken some time of the processor."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        for child in children(pid):
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            if int(fields[11]) / os.sysconf("SC_CLK_TCK") > SPINS_S:
                return child
        time.sleep(0.05)
    raise AssertionError("the check never ran")


def test_a_build_without_filesystem_is_tried_without(tmp_path: Path) -> None:
    """The 512K build runs its checks as well."""
    assert tried(tmp_path, "def check():\n    return {'a': 1}\n", variant="512K") == Rehearsed(name="led")
