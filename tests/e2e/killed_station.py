"""Runs one demo board in a process of its own that kills itself (SIGKILL) at a named moment; used by test_kill.py.

Standard output gets one line per light of slot A1, written before the light is anywhere else, so that the parent knows what
a person may have seen. Arguments: database URL, state directory, seed, moment (or `never`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from station.adapters.records import Database
from station.demo import DemoRequest, run_demo
from station.floor import Floor
from station.jobrun import JobRun
from station.model import Phase


def die() -> None:
    """As power loss would have it: no handler, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> None:
    """Let the process die at this moment."""
    at, _, phase = moment.partition(":")
    if at in ("before", "after"):
        whole = JobRun.phase

        @contextmanager
        def deadly(run, now: Phase) -> Iterator[None]:
            if at == "before" and now == phase:
                die()
            with whole(run, now):
                yield
            if at == "after" and now == phase:
                die()

        JobRun.phase = deadly
    elif at in ("unrecorded", "committed"):
        finish = Database.finish_job

        def deadly_finish(records, job_id, end):
            if at == "unrecorded":
                die()
            finish(records, job_id, end)
            die()

        Database.finish_job = deadly_finish
    elif at == "begun":
        begin = Database.begin_job

        def deadly_begin(records, start) -> None:
            begin(records, start)
            die()

        Database.begin_job = deadly_begin


def main() -> None:
    """Run the board."""
    url, state_dir, seed, moment = sys.argv[1:]
    arm(moment)
    show = Floor._slot_changed

    def said(floor, slot) -> None:
        os.write(1, f"{slot.light}\n".encode())
        show(floor, slot)
        if moment == "shown" and slot.light == "PASS":
            die()

    Floor._slot_changed = said
    request = DemoRequest(
        slots=1,
        boards=1,
        seed=int(seed),
        pace=0.0,
        faults=(),
        database_url=url,
        state_dir=Path(state_dir),
        port=0,
        once=True,
    )
    result = asyncio.run(run_demo(request, finish=asyncio.Event()))
    os.write(1, f"ended {len(result.jobs)}\n".encode())


if __name__ == "__main__":
    main()
