"""The hands: `station bench --usb` of the installed package, run by root, told line by line what to plug and pull.

It knows nothing of the station under test but the file that its programmers' places stand in.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.acceptance.guest.system import PATIENCE, run, wait_for
from tests.acceptance.guest.telling import CaseFailed, check

SLOTS = tuple(f"A{number}" for number in range(1, 9))
DIRECTORY = Path("/run/bench")
ANSWER_S = 30.0
VHCI = Path("/sys/devices/platform/vhci_hcd.0")
NODE = Path("/usr/local/bin/node")
"""Found before Debian's own."""
FAST_NODE = Path("node")
"""The one of the project's own environment. Debian's has no start-up snapshot: in an emulated machine it takes 2 s to start."""


def place(label: str) -> str:
    """Return the place (ID_PATH) of a virtual programmer; the bench gives slot A1 the first port of the virtual hub."""
    return f"platform-vhci_hcd.0-usb-0:{label.removeprefix('A')}:1.0"


def let_go(label: str) -> bool:
    """Whether the kernel has no device in this socket: what is replugged before that it would take for the same one."""
    return not any(VHCI.glob(f"usb*/*-{label.removeprefix('A')}"))


TOWER = "tower_light"
TOWER_PLACE = "platform-vhci_hcd.0-usb-0:9:1.0"


@dataclass(slots=True)
class HandPlug:
    """One plug as the hand knows it, in seconds of the system's clock: before it was asked for, and after it was undone."""

    began_at: float
    ended_at: float | None = None
    gone_at: float | None = None
    """When the kernel was first seen to have no device there any more: nobody can know of the pull before."""


class Bench:
    """The process with the virtual programmers; `plugs` are all plugs of each slot, oldest first."""

    def __init__(self, *options: str, seed: int, log: Path) -> None:
        """Start it, and wait until it has named the places of its programmers; they are plugged in unless told otherwise."""
        run("modprobe", "vhci_hcd")
        command = [
            "/usr/bin/station",
            "bench",
            "--usb",
            f"--slots={len(SLOTS)}",
            f"--seed={seed}",
            f"--dir={DIRECTORY}",
        ]
        if FAST_NODE.exists() and not NODE.exists():
            NODE.symlink_to(FAST_NODE.resolve())
        self._process = subprocess.Popen(
            [*command, "--pace=0.1", "--tower-light", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._log = log.open("w", encoding="utf-8", buffering=1)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, name="bench", daemon=True).start()
        self.plugged = set() if "--unplugged" in options else set(SLOTS)
        self.plugs: dict[str, list[HandPlug]] = {label: [] for label in SLOTS}
        while not self._answer("start").startswith(TOWER):
            pass

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.write(line)
            self._lines.put(line.rstrip("\n"))

    def do(self, line: str) -> str:
        """Do one thing and return what the bench answered; raises `CaseFailed` when it refused or said nothing."""
        assert self._process.stdin is not None
        self._log.write(f"> {line}\n")
        while not self._lines.empty():
            self._lines.get_nowait()
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._answer(line)
        check(not answer.startswith(line), f"the bench refused: {answer}")
        return answer

    def _answer(self, line: str) -> str:
        try:
            return self._lines.get(timeout=ANSWER_S * PATIENCE)
        except queue.Empty:
            raise CaseFailed(f"the bench did not answer to {line!r} (ended: {self._process.poll()})") from None

    def plug(self, *labels: str) -> None:
        """Plug these programmers in, one after the other."""
        for label in labels:
            wait_for(f"the kernel has seen that {label} was pulled", partial(let_go, label), limit_s=60)
            self.note_gone()
            self.plugs[label].append(HandPlug(began_at=time.time()))
            self.do(f"plug {label}")
            self.plugged.add(label)

    def note_gone(self) -> None:
        """Note of each programmer that was pulled whether the kernel has seen it by now."""
        for label, plugs in self.plugs.items():
            if plugs and plugs[-1].ended_at is not None and plugs[-1].gone_at is None and let_go(label):
                plugs[-1].gone_at = time.time()

    def unplug(self, *labels: str) -> None:
        """Pull these programmers in one go."""
        if labels:
            self.do(f"unplug {' '.join(sorted(labels))}")
            self.plugged.difference_update(labels)
            now = time.time()
            for label in labels:
                for plug in self.plugs[label][-1:]:
                    plug.ended_at = now

    def fresh(self, label: str, *faults: str) -> None:
        """Put a board that nobody has seen into a programmer that is not plugged in."""
        self.do(" ".join(["board", label, *faults]))

    def stats(self) -> dict[str, Any]:
        """Return the counts of all programmers, and under `tower_light` those of the light."""
        path = DIRECTORY / "stats.json"
        path.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        wait_for("the bench writes its counts", path.exists, limit_s=ANSWER_S)
        counts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return counts

    def close(self) -> None:
        """Pull everything and end."""
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
