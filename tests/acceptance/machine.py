"""One boot of the guest under QEMU, without KVM: two cores emulated, no network, its console and its words in files.

The guest tells what it found on its second serial port, one JSON object per line, as it goes: what a guest said before it
hung is not lost. A boot ends when the guest powers off, or when its time is over. Nothing of it may outlive this module.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.image import Base

MEMORY_MIB = 2048
CORES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """How one boot ended. `ended` is empty when the guest powered off by itself; `took_s` is wall-clock time."""

    ended: str
    took_s: float


def boot(
    base: Base,
    disks: Sequence[Path],
    *,
    number: int,
    directory: Path,
    limit_s: float,
    hear: Callable[[Mapping[str, Any]], None],
) -> Boot:
    """Boot the guest for the `number`-th time and call `hear` with each thing it says, until it powers off.

    `disks` are in the order in which the guest sees them. Leaves `console-N.log` and `said-N.jsonl` in `directory`.
    """
    console, said = directory / f"console-{number}.log", directory / f"said-{number}.jsonl"
    said.write_bytes(b"")
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(MEMORY_MIB)]
    command += ["-smp", str(CORES), "-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none"]
    command += ["-serial", f"file:{console}", "-serial", f"file:{said}"]
    command += ["-kernel", str(base.kernel), "-initrd", str(base.initrd)]
    # A busy host starves the timer that the kernel wants to see tick; it would panic.
    command += ["-append", f"console=ttyS0 panic=-1 root=/dev/vda rw quiet no_timer_check acceptance.boot={number}"]
    for disk in disks:
        # Nothing is lost with the host: a disk lives for one run. Two guests may see one disk that neither writes to.
        command += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe,file.locking=off"]
    began = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        over = threading.Event()
        listening = threading.Thread(target=listen, args=(said, over, hear), name="guest")
        listening.start()
        try:
            _, errors = process.communicate(timeout=limit_s)
            code = process.returncode
            ended = "" if code == 0 else f"qemu ended with {code}: {errors.decode(errors='replace').strip()[-400:]}"
        except subprocess.TimeoutExpired:
            ended = f"not done after {limit_s:.0f} s, switched off"
        finally:
            process.kill()
            process.wait()
            over.set()
            listening.join()
    return Boot(ended=ended, took_s=time.monotonic() - began)


def listen(said: Path, over: threading.Event, hear: Callable[[Mapping[str, Any]], None]) -> None:
    """Pass on each whole line of a growing file, and the last ones after the guest is gone."""
    with said.open("rb") as file:
        rest = b""
        while True:
            last = over.wait(0.2)
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                try:
                    heard = json.loads(line)
                except ValueError:  # a boot loader or a kernel said something there, too
                    continue
                if isinstance(heard, dict):
                    hear(heard)
            if last:
                return
