"""The station's own systemd unit, by `systemctl`: whether there is one, and starting it anew."""

from __future__ import annotations

import shutil
import subprocess

UNIT = "station.service"
RESTART = ("systemctl", "restart", "station")
_PATIENCE_S = 120.0


def unit_is_installed() -> bool:
    """Whether systemd runs here and knows the unit."""
    if shutil.which("systemctl") is None:
        return False
    done = _run("systemctl", "show", "--property=LoadState", "--value", UNIT)
    return done.returncode == 0 and done.stdout.strip() == "loaded"


def restart() -> str:
    """Start it, anew when it runs; return what was said when that failed, else nothing."""
    done = _run(*RESTART)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"systemctl ended with {done.returncode}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - fixed words, no shell
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_PATIENCE_S:g} s")
