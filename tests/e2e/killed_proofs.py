"""Runs a bench of two slots in a process that kills itself while one of them proves itself; for test_kill_proofs.py.

Arguments: directory, what is plugged in (`golden` into A1; `boards` into both slots at once), the number of the first board,
moment. Beside the moments of `killed_station` there are `unproven`, `between` (proof and release of one transaction) and
`proven`. Standard output is one JSON object: what A1 says when it is empty, what was shown, and whether it was written.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from station.adapters.records import proving
from station.adapters.records.proving import ProofBook
from station.bench.chip import Chip, make_chip
from station.config import Config, WorkSection
from station.demo import write_demo_recipe
from tests.e2e import killed_station
from tests.e2e.workbench import Workbench, at_work, config_for

POLICY = '\n[policy]\nfirst_article = "lot"\n\n[network]\naccess_point = "keep"\n'
GOLDEN_MAC = b"\x5c\xcf\x7f\x23\xa7\x72"


def config_in(directory: Path) -> Config:
    """The station of this test."""
    recipe, _ = write_demo_recipe(directory / "recipe", POLICY)
    return config_for(directory, recipe, slots=2, work=WorkSection(recipe=str(recipe)))


def golden_board(config: Config) -> Chip:
    """A board that carries the firmware of the recipe."""
    image = next(Path(config.work.recipe).parent.glob("*.bin")).read_bytes()
    return make_chip(mac=GOLDEN_MAC, seed=1, image=image)


def board(number: int) -> Chip:
    """Any other."""
    return make_chip(mac=b"\x5c\xcf\x7f\x00\x00" + bytes([number]), seed=number)


def arm(moment: str) -> None:
    """Let the process die at this moment."""
    put = ProofBook.put
    match moment:
        case "unproven":
            ProofBook.put = lambda *_asked: killed_station.die()
        case "between":
            proving._write_event = lambda *_asked: killed_station.die()
        case "proven":

            def deadly_put(book, made, event) -> None:
                put(book, made, event)
                killed_station.die()

            ProofBook.put = deadly_put
        case _:
            killed_station.arm(moment)


async def look(at: Workbench) -> list[object]:
    """What A1 says when it is empty, and whether boards are made one at a time."""
    await at.floor.keep_books()
    return [at.view("A1").reason, at.floor._gate.bars.wants_first_article]


async def work(config: Config, what: str, number: int, moment: str) -> dict[str, object]:
    """Plug in what is asked for, and wait until it is done."""
    chips = {"A1": golden_board(config)} if what == "golden" else {"A1": board(number), "A2": board(number + 1)}
    async with at_work(config, pace=0.01) as at:
        before = await look(at)
        arm(moment)
        seen = await asyncio.gather(*(at.plug_and_wait(label, chip) for label, chip in chips.items()))
        for label in chips:
            await at.pull(label)
        after = await look(at)
    writes = [chip.flash.erases + chip.flash.programs for chip in chips.values()]
    return {"before": before, "shown": [view.reason or view.light for view in seen], "writes": writes, "after": after}


def main() -> None:
    """Do it."""
    directory, what, number, moment = sys.argv[1:]
    done = asyncio.run(work(config_in(Path(directory)), what, int(number), moment))
    os.write(1, json.dumps(done).encode())


if __name__ == "__main__":
    main()
