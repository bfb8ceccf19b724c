"""Runs one plug of one board in a process of its own, which may kill itself (SIGKILL) at a named moment; for test_two_plugs.py.

The board is kept in a file between two of these processes, as it keeps its flash between two plugs. Standard output gets a
line with `SHOWS` and the one big word of the slot when the visit has ended. Arguments: directory, slot, MAC, jumper (on or
off), moment: one of `killed_station`, `ended` (killed when the visit has ended), or `never`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from station.bench.chip import make_chip
from tests.e2e.killed_station import arm, die
from tests.e2e.workbench import JUMPER, at_work, every_slot, jumper_bench

SHOWS = "the slot shows: "


async def plug(directory: Path, slot: str, mac: bytes, *, low: bool, moment: str) -> None:
    """Plug the board in, wait for the end of the visit, keep what is in its flash."""
    kept = directory / "board.flash"
    chip = make_chip(mac=mac, image=kept.read_bytes() if kept.exists() else b"")
    config = jumper_bench(directory, slots=2)
    async with at_work(config, kinds=every_slot(config, JUMPER)) as work:
        seen = await work.plug_and_wait(slot, chip, low=low)
        kept.write_bytes(chip.flash.data)
        os.write(1, f"{SHOWS}{seen.headline}\n".encode())
        if moment == "ended":
            die()


def main() -> None:
    """Run it."""
    directory, slot, mac, jumper, moment = sys.argv[1:]
    arm(moment)
    asyncio.run(plug(Path(directory), slot, bytes.fromhex(mac.replace(":", "")), low=jumper == "on", moment=moment))


if __name__ == "__main__":
    main()
