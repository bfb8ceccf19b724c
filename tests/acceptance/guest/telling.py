"""What the guest says to the host: one JSON object per line on its second serial port, at once.

A case is told when it ends, passed or not. Nothing that goes wrong in one case keeps the next one from running.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
import traceback
import tty
from collections.abc import Iterator
from pathlib import Path

from tests.acceptance.guest.cases import CASES

PORT = Path("/dev/ttyS1")
MOST_CHARACTERS = 1500


class CaseFailed(Exception):
    """What was promised did not happen; the text says what was seen instead."""


class Seen:
    """What a case saw: the words that stand beside its result."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def note(self, words: str) -> None:
        """Add to what was seen."""
        self.words.append(words)


class Teller:
    """Writes to the host; safe to be called from any thread."""

    def __init__(self, port: Path = PORT) -> None:
        self._port = os.open(port, os.O_WRONLY | os.O_NOCTTY)
        tty.setraw(self._port)
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._began = time.monotonic()

    def say(self, **said: object) -> None:
        """Send one object."""
        line = json.dumps(said).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._port, line) :]

    def note(self, words: str) -> None:
        """Tell the host what is going on, for the person who waits."""
        self.say(note=f"[{time.monotonic() - self._began:5.0f} s] {words}")

    def told(self, name: str) -> bool:
        """Whether this case has its result."""
        return name in self._told

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[Seen]:
        """Run one case: passed when nothing is raised in it. Exceptions end the case and nothing else."""
        if name not in CASES:
            raise ValueError(f"{name} is not on the list")
        seen, began = Seen(), time.monotonic()
        try:
            yield seen
        except (CaseFailed, OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
            self._result(name, time.monotonic() - began, passed=False, said=[_why(error), *seen.words])
        else:
            self._result(name, time.monotonic() - began, passed=True, said=["; ".join(seen.words)])

    @contextlib.contextmanager
    def together(self, *names: str) -> Iterator[None]:
        """Run what several cases share; when it breaks, those of them that have no result yet have failed."""
        began = time.monotonic()
        try:
            yield
        except (CaseFailed, OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
            why = _why(error)
        else:
            why = "nothing was reported"
        for name in names:
            if not self.told(name):
                self._result(name, time.monotonic() - began, passed=False, said=[why])

    def _result(self, name: str, seconds: float, *, passed: bool, said: list[str]) -> None:
        self._told.add(name)
        words = "\n".join(said)[:MOST_CHARACTERS]
        self.say(case=name, passed=passed, seconds=round(seconds, 1), said=words)


def _why(error: BaseException) -> str:
    """The reason of a failure; for what is no `CaseFailed`, with the place where it happened."""
    if isinstance(error, CaseFailed):
        return str(error)
    if isinstance(error, subprocess.CalledProcessError):
        output = f"{error.stdout or ''}{error.stderr or ''}".strip()
        return f"{' '.join(map(str, error.cmd))} ended with {error.returncode}:\n{output[-800:]}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (line {frame.lineno} of {Path(frame.filename).name})"


def check(condition: object, words: str) -> None:
    """Raise `CaseFailed` with these words unless the condition holds."""
    if not condition:
        raise CaseFailed(words)
