"""Runs the installed `station` command as a person or another tool would: real processes, real pipes, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

STATION = str(Path(sys.executable).with_name("station"))
PATIENCE_S = 90.0
T = TypeVar("T")
DEMO = ("demo", "--once", "--json", "--port", 0, "--pace", 0)
"""The demo as a tool calls it, as fast as possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)

    def refused(self, code: int) -> str:
        """Check that the command ended with `code`, without output and without a traceback; return what it said."""
        assert self.code == code, self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        return self.err


def station(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float = PATIENCE_S
) -> Done:
    """Run `station ARGUMENTS…` to its end."""
    done = subprocess.run(
        [STATION, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


class Running:
    """A command that goes on; what it has said so far can be read at any time."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text(errors="replace")

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text(errors="replace")

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until `pattern` is on its standard error."""
        return wait_for(lambda: re.search(pattern, self.err), f"{pattern!r} in {self.err[-2000:]!r}", self)

    def address(self) -> str:
        """Wait for the address of its page."""
        return str(self.says(r"http://(127\.0\.0\.1:[0-9]+)/")[1])

    def end(self, number: int = signal.SIGTERM) -> Done:
        """Send a signal and wait for its end."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> Done:
        """Wait for its end."""
        return Done(code=self.process.wait(PATIENCE_S), out=self.out, err=self.err)


@contextmanager
def started(directory: Path, *arguments: object, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Start `station ARGUMENTS…` with its output in files in `directory`; killed at the end if it still runs."""
    directory.mkdir(parents=True, exist_ok=True)
    number = len(list(directory.glob("*.err")))
    out, err = directory / f"{number}.out", directory / f"{number}.err"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [STATION, *map(str, arguments)],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
        )
    try:
        yield Running(process, out, err)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


def wait_for(look: Callable[[], T | None], what: str, running: Running | None = None) -> T:
    """Return what `look` returns as soon as it is something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        if running is not None and running.process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


def get(address: str, path: str) -> tuple[int, Any]:
    """Status and body of one GET; the body of `/metrics` is text, every other one JSON."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    return status, body.decode() if path == "/metrics" else json.loads(body)


def write_config(directory: Path, text: str = "", *, recipe: Path | None = None, require_lot: bool = False) -> Path:
    """Write a configuration with a state directory of its own and any free port."""
    lines = ["[station]", f'state_dir = "{directory / "state"}"', "[http]", 'listen = "127.0.0.1:0"', "[work]"]
    lines += [f'recipe = "{recipe}"'] if recipe else []
    lines += ["require_lot = true"] if require_lot else []
    config = directory / "station.toml"
    config.write_text("\n".join([*lines, text]))
    return config


def one_line(said: str) -> str:
    """The one line of a refusal."""
    assert len(said.splitlines()) == 1, said
    assert "Fix: " in said
    return said
