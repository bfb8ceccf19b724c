"""Runs in the guest, as root, once per boot: the groups of cases of this boot, then what is kept, then the end.

Groups share programmers and boards, and each leaves the station ready for the next one. A group that breaks leaves its
cases failed, and the next group runs all the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from tests.acceptance.guest import first_boot, package_life, page, second_boot
from tests.acceptance.guest.system import UNIT, boot_number, main_pid, run
from tests.acceptance.guest.telling import Teller
from tests.acceptance.guest.world import World

RESULTS = Path("/dev/vdc")
TILES_EVERY_S = 20.0
SILENT_S = 5.0
KEPT = Path("/var/lib/acceptance")
"""What is kept for the reader besides the journal; it stays over boots."""
GROUPS: Mapping[int, tuple[Callable[[World], None], ...]] = {
    1: first_boot.GROUPS,
    2: second_boot.GROUPS,
    3: package_life.GROUPS,
}


class OutOfTime(Exception):
    """The boot's time is nearly over: keep what there is before the machine is switched off."""


def main() -> None:
    """Run this boot's groups; with names in the file `only`, just those."""
    teller, number = Teller(), boot_number()
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_REAL, float(Path(f"limit-{number}").read_text(encoding="ascii")))
    KEPT.mkdir(parents=True, exist_ok=True)
    only = [name for name in Path("only").read_text(encoding="ascii").strip().split(",") if name]
    world = World(tell=teller, kept=KEPT, boot=number)
    threading.Thread(target=_tell_tiles, args=(teller,), name="tiles", daemon=True).start()
    try:
        for group in GROUPS[number]:
            if not only or group.__name__ in only:
                teller.note(group.__name__)
                group(world)
    except BaseException as error:
        teller.say(trouble=f"boot {number}: {type(error).__name__}: {error}")
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        keep(number)
        world.close()
        teller.note("powering off")


def _tell_tiles(teller: Teller) -> None:
    """Tell every now and then what the page shows, for the person who waits and for who finds out why a case failed."""
    while True:
        time.sleep(TILES_EVERY_S)
        try:
            shown = json.loads(page.get("/api/slots", limit_s=SILENT_S)[1])["slots"]
        except (OSError, ValueError, LookupError) as silent:
            if not isinstance(getattr(silent, "reason", None), ConnectionRefusedError):  # there is a station
                teller.note(f"the page does not answer: {silent}")
                _keep_stacks()
        else:
            teller.note(page.in_short({tile["slot"]: tile for tile in shown}))


def _keep_stacks() -> None:
    """Note where in the kernel each thread of the station waits: what a station that hangs hangs on."""
    with (
        contextlib.suppress(OSError, subprocess.SubprocessError),
        (KEPT / "stacks.txt").open("a", encoding="utf-8") as file,
    ):
        for thread in Path(f"/proc/{main_pid()}/task").iterdir():
            file.write(f"{time.time():.1f} {thread.name} {(thread / 'comm').read_text().strip()}\n")
            file.write((thread / "stack").read_text())


def _out_of_time(*_: object) -> None:
    raise OutOfTime("the time of this boot is over")


def keep(number: int) -> None:
    """Leave records, journal and files on the raw disk, as a tar archive."""
    if page.RECORDS.exists():
        with (
            closing(sqlite3.connect(f"file:{page.RECORDS}?mode=ro", uri=True)) as records,
            closing(sqlite3.connect(KEPT / f"boot-{number}-station.db")) as copy,
        ):
            records.backup(copy)
    used = run("ps", "-eo", "pid,cputimes,etimes,nlwp,args", "--sort=-cputimes", check=False).stdout
    (KEPT / f"boot-{number}-processes.txt").write_text(used, encoding="utf-8")
    for name, options in (
        ("journal.txt", ("--output=short-precise",)),
        ("station.jsonl", ("--output=json", f"--unit={UNIT}")),
    ):
        printed = run("journalctl", "--boot", "--no-pager", *options, check=False).stdout
        (KEPT / f"boot-{number}-{name}").write_text(printed, encoding="utf-8")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(KEPT, arcname=".")
    with RESULTS.open("r+b") as disk:
        disk.write(buffer.getvalue())
    subprocess.run(["sync"], check=False)


if __name__ == "__main__":
    main()
