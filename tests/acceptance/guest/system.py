"""The guest's own facts: modules, units, processes, journal; and running a program with a time limit."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.acceptance.guest.telling import CaseFailed

UNIT = "station.service"
POLL_S = 0.5
PATIENCE = float(Path("patience").read_text(encoding="ascii")) if Path("patience").exists() else 1.0
"""What every time limit is multiplied by: more than 1 on a machine that has other work to do."""
T = TypeVar("T")


def run(*command: str, limit_s: float = 120.0, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end; raises CalledProcessError with its output, and TimeoutExpired."""
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=limit_s * PATIENCE, input=stdin)


def wait_for(what: str, look: Callable[[], T], *, limit_s: float) -> T:
    """Look until there is something true to see, and return it; raises `CaseFailed` that says what did not come."""
    deadline = time.monotonic() + limit_s * PATIENCE
    while not (found := look()):
        if time.monotonic() > deadline:
            raise CaseFailed(f"not within {limit_s * PATIENCE:.0f} s: {what}")
        time.sleep(POLL_S)
    return found


def boot_number() -> int:
    """Which boot of the run this is, counted from 1."""
    words = Path("/proc/cmdline").read_text(encoding="ascii").split()
    return next(int(word.partition("=")[2]) for word in words if word.startswith("acceptance.boot="))


def module_loaded(name: str) -> bool:
    """Whether the kernel has this module."""
    return Path("/sys/module", name).exists()


def unit_facts(*names: str, unit: str = UNIT) -> dict[str, str]:
    """Return properties of a unit as systemd prints them."""
    shown = run("systemctl", "show", unit, *(f"--property={name}" for name in names)).stdout
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def main_pid(unit: str = UNIT) -> int:
    """Return the main process of the unit; 0 when there is none."""
    return int(unit_facts("MainPID", unit=unit)["MainPID"])


def holders(node: str) -> list[int]:
    """Return every process that has this device node open, whatever became of the node."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(each.readlink()) for each in (process / "fd").iterdir()]
        except OSError:  # it ended meanwhile
            continue
        if any(link.removesuffix(" (deleted)") == node for link in links):
            found.append(int(process.name))
    return found


def tty_at(place: str) -> str:
    """Return the device node of the programmer at this place, e.g. /dev/ttyUSB3; empty when there is none."""
    port = place.rsplit(":", 2)[1]  # platform-vhci_hcd.0-usb-0:PORT:1.0
    for tty in Path("/sys/bus/usb-serial/devices").glob("ttyUSB*"):
        interface = tty.resolve().parent.name  # BUS-PORT:1.0
        if interface.partition("-")[2] == f"{port}:1.0" and Path("/dev", tty.name).exists():
            return f"/dev/{tty.name}"
    return ""


def log_since(at_s: float, *events: str) -> list[dict[str, Any]]:
    """Return the station's own log events of these names, oldest first; `PRIORITY` is what journald has of each."""
    found = []
    for entry in journal_since(at_s):
        message = str(entry.get("MESSAGE"))
        event = json.loads(message) if entry.get("_TRANSPORT") == "stdout" and message.startswith("{") else {}
        if event.get("event") in events:
            found.append({**event, "PRIORITY": entry["PRIORITY"]})
    return found


def ends_since(at_s: float) -> list[str]:
    """Return why the unit's processes ended badly, in systemd's word for it (`Result` of systemctl show), oldest first.

    The property itself is lost with the restart; the journal keeps it.
    """
    return [str(entry["UNIT_RESULT"]) for entry in journal_since(at_s) if "UNIT_RESULT" in entry]


def journal_since(at_s: float) -> list[dict[str, Any]]:
    """Return the entries of the unit from this time of the system's clock on."""
    entries = journal(f"--unit={UNIT}", f"--since=@{int(at_s)}")
    return [entry for entry in entries if int(entry["__REALTIME_TIMESTAMP"]) >= at_s * 1e6]


def journal(*options: str) -> list[dict[str, Any]]:
    """Return entries of the journal with all their fields."""
    printed = run("journalctl", "--output=json", "--no-pager", *options).stdout
    return [json.loads(line) for line in printed.splitlines()]
