"""`station setup` and the service: what a person reads when `systemctl` starts it, refuses, hangs, or is not there.

The `systemctl` is a script of the test, first on PATH; the station that it starts is the real one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from station.adapters import service
from station.demo import write_demo_recipe
from station.setup.guide import Wish, set_up
from tests.e2e.command import PATIENCE_S, STATION, Done, started, wait_for
from tests.e2e.test_setup import free_port

CONFIG = """[station]
state_dir = "{state}"
[http]
listen = "127.0.0.1:{port}"
[slots]
A1 = "pci-0000:00:14.0-usb-0:2.3:1.0"
[work]
recipe = "{recipe}"
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "{calls}"
case "$*" in
"show --property=LoadState --value station.service") {show} ;;
"restart station") {restart} ;;
*) echo "Unknown command verb $1." >&2; exit 1 ;;
esac
"""
LOADED = "echo loaded"
START = '"{station}" run --config "{config}" > "{log}" 2>&1 & echo $! > "{pid}"'
JOB_FAILED = "Job for station.service failed because the control process exited with error code."
ONLY_ROOT_IS_ASKED = [] if os.geteuid() == 0 else [shutil.which("unshare") or "unshare", "--map-root-user"]
"""Setup starts the service itself for root only; in a user namespace of one's own anybody is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine with slots and a recipe, on which the service is to be started."""

    directory: Path
    config: Path
    page: str

    @property
    def environment(self) -> dict[str, str]:
        """PATH has the directory of our `systemctl` first, and nothing else that could be one."""
        return {"PATH": str(self.directory / "bin")}

    @property
    def calls(self) -> list[str]:
        """What `systemctl` was asked for, in order."""
        file = self.directory / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def systemctl(self, *, show: str = LOADED, restart: str = "exit 0") -> None:
        """Put a `systemctl` there that does this."""
        restart = restart.format(
            station=STATION,
            config=self.config,
            log=self.directory / "station.log",
            pid=self.directory / "pid",
        )
        script = self.directory / "bin" / "systemctl"
        script.write_text(SYSTEMCTL.format(calls=self.directory / "calls", show=show, restart=restart))
        script.chmod(0o755)

    def set_up(self, *options: str) -> Done:
        """Run `station setup` to its end, with nobody there to answer."""
        done = subprocess.run(
            [*ONLY_ROOT_IS_ASKED, STATION, "setup", "--config", self.config, "--operator", "Ada", *options],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without `systemctl`; the station that one started, if any, is ended."""
    (tmp_path / "bin").mkdir()
    config, port = tmp_path / "station.toml", free_port()
    recipe, *_ = write_demo_recipe(tmp_path)
    config.write_text(CONFIG.format(state=tmp_path / "state", port=port, recipe=recipe))
    yield Machine(directory=tmp_path, config=config, page=f"http://127.0.0.1:{port}/")
    pid = tmp_path / "pid"
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGTERM)
        wait_for(lambda: not _runs(int(pid.read_text())), "the end of the station")


def _runs(pid: int) -> bool:
    """Whether this process, which is nobody's child any more, is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def last_step(done: Done) -> list[str]:
    """What was said from the fifth step on, line by line."""
    return [line for line in done.out.partition("5 of 6  Start the station\n")[2].splitlines() if line]


def goes_on(machine: Machine) -> str:
    """The words at the end of a setup that is not done."""
    return f"what is done stays; it goes on with: station setup --config {machine.config}"


def test_the_service_is_started_and_waited_for(machine: Machine) -> None:
    """`--start` asks nothing: the unit is restarted, its page is waited for, and the setup ends well."""
    machine.systemctl(restart=START)
    done = machine.set_up("--start", "--no-board")
    assert (done.code, done.err) == (0, "")
    assert last_step(done) == [
        "started",
        f"waiting for {machine.page} (Ctrl-C ends)",
        "the station runs",
        "6 of 6  The first board",
        f"Ready. The page: {machine.page}   Again, or to change something: station setup",
    ]
    assert machine.calls[-1] == "restart station"
    again = machine.set_up("--no-board")
    assert (again.code, last_step(again)[0]) == (0, f"it runs already: {machine.page}")
    assert machine.calls.count("restart station") == 1


@pytest.mark.parametrize(
    ("restart", "said"),
    [
        (f"echo '{JOB_FAILED}' >&2; exit 1", JOB_FAILED),
        ("exit 5", "systemctl ended with 5"),
    ],
)
def test_a_service_that_does_not_start_is_said_in_systemds_own_words(machine: Machine, restart: str, said: str) -> None:
    """What `systemctl` complained about, or its exit code, is read once, with the command for later; nobody waits."""
    machine.systemctl(restart=restart)
    done = machine.set_up("--start", "--no-board")
    assert (done.code, done.err) == (130, "")
    assert last_step(done) == [
        f"{said}; later: systemctl restart station",
        "6 of 6  The first board",
        "the station does not run; start it, then: station setup",
        goes_on(machine),
    ]


def test_without_an_option_it_is_asked_and_enter_starts_it(machine: Machine) -> None:
    """Nobody there takes the default, which is to start it."""
    machine.systemctl(restart="exit 5")
    asked, answered, *_ = last_step(machine.set_up("--no-board"))
    assert asked.startswith("Start the station now, anew if it runs? (y/n) [y]:")
    assert answered == "systemctl ended with 5; later: systemctl restart station"


def test_a_service_that_shall_not_start_is_left_alone(machine: Machine) -> None:
    """`--no-start` restarts nothing and says how to do it later."""
    machine.systemctl(restart=START)
    done = machine.set_up("--no-start", "--no-board")
    assert done.code == 130
    assert last_step(done)[0] == "not started; later: systemctl restart station"
    assert "restart station" not in machine.calls


@pytest.mark.parametrize("show", ["", "echo not-found", "echo 'System has not been booted with systemd' >&2; exit 1"])
def test_without_the_service_another_terminal_is_asked_for(machine: Machine, show: str) -> None:
    """No systemctl, no unit, or no systemd: the command to type is named, and what it starts is waited for."""
    if show:
        machine.systemctl(show=show, restart=START)
    command = ("setup", "--config", machine.config, "--operator", "Ada", "--start", "--no-board")
    with started(machine.directory, *command, env=machine.environment) as setting_up:
        by_hand = f"in another terminal: station run --config {machine.config}"
        wait_for(lambda: "waiting for" in setting_up.out, "the wait for the page", setting_up)
        assert by_hand in setting_up.out
        with started(machine.directory / "by hand", "run", "--config", machine.config) as running:
            done = setting_up.ended()
            running.end()
    assert (done.code, done.err) == (0, "")
    assert last_step(done)[:3] == [by_hand, f"waiting for {machine.page} (Ctrl-C ends)", "the station runs"]
    assert "restart station" not in machine.calls


def test_without_the_service_and_without_a_start_it_is_only_not_started(machine: Machine) -> None:
    """`--no-start` waits for nobody where there is no service either."""
    done = machine.set_up("--no-start", "--no-board")
    assert done.code == 130
    assert last_step(done)[0] == "not started"


class Impatient:
    """A person who takes every default, and presses Ctrl-C as soon as something is waited for."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str = "") -> None:
        """Keep it; Ctrl-C at the first wait."""
        self.said.append(text)
        if text.startswith("waiting for"):
            raise KeyboardInterrupt

    def ask(self, question: str, default: str) -> str:
        """Take the default."""
        del question
        return default

    def confirm(self, question: str, *, default: bool) -> bool:
        """Take the default."""
        del question
        return default


def test_who_is_not_root_is_told_to_ask_for_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may restart a service: anybody else reads the command with sudo, and nothing is tried."""
    machine.systemctl(restart=START)
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    voice = Impatient()
    with pytest.raises(KeyboardInterrupt):
        set_up(Wish(config_file=machine.config, state_dir=machine.directory / "state", operator="Ada"), voice)
    assert "in another terminal: sudo systemctl restart station" in voice.said
    assert "restart station" not in machine.calls


def test_a_systemctl_that_hangs_is_given_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager that never answers is a failed start in words, and no setup that stands still."""
    machine.systemctl(restart=f"exec {sys.executable} -c 'import time; time.sleep(600)'")
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    monkeypatch.setattr(service, "_PATIENCE_S", 0.2)
    assert service.restart() == "no answer within 0.2 s"
