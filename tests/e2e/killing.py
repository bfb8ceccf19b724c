"""A station in a process of its own, which kills itself with SIGKILL at the moment that it is told."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_killable(program: str, *arguments: object, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run `tests.e2e.PROGRAM` to its end, or to its kill -9: anything else fails, with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.e2e.{program}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done
