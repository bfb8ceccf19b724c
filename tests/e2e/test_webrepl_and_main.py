"""WebREPL beside a main.py that is not held, on real MicroPython: every wiring, and every manner a program may have."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from station.config import Config, SlotDefaultsSection, WorkSection
from station.model import Light
from station.properties import Gpio0, Reset
from tests.e2e.test_files import COLD, files_in, measured, recipe_with
from tests.e2e.workbench import JUMPER, Workbench, a_board, at_work, config_for, every_slot

WEBREPL = b"import gc\ngc.collect()\nimport webrepl\nwebrepl.start()\n"
PROGRAMS = {
    "ends": b"print('hello')\n",
    "loops": b"import time\nwhile True:\n    time.sleep(0.01)\n",
    "sleeps": b"import time\ntime.sleep(600)\n",
    "prints": b"import time\nwhile True:\n    print('temperature', 21.5)\n    time.sleep(0.002)\n",
}
WIRINGS = ("lines", "software", "two plugs")


def station_for(directory: Path, program: bytes, wiring: str) -> Config:
    """A station whose boards get WebREPL, `boot.py` for it, and this main.py under its own name."""
    secrets = directory / "secrets"
    secrets.mkdir()
    (secrets / "webrepl").write_text("hunter22")
    (secrets / "webrepl").chmod(0o600)
    network = '[network]\nwebrepl_secret = "webrepl"\n'
    recipe = recipe_with(
        directory / "recipe",
        {"main.py": program},
        'others = "delete"',
        network + (COLD if wiring == "two plugs" else ""),
    )
    config = config_for(directory, recipe)
    work = WorkSection(recipe=str(recipe), secrets=str(secrets))
    stick = SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND)
    config = msgspec.structs.replace(config, work=work)
    return config if wiring == "lines" else msgspec.structs.replace(config, slot_defaults=stick)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("manner", PROGRAMS)
def test_a_program_that_starts_by_itself_hides_neither_prompt_nor_webrepl(
    tmp_path: Path, manner: str, wiring: str
) -> None:
    """Two boards pass with WebREPL running and the program under its name: through the REPL, and by the flash pass."""
    config = station_for(tmp_path, PROGRAMS[manner], wiring)

    async def main() -> None:
        kinds = None if wiring == "lines" else every_slot(config, JUMPER)
        async with at_work(config, kinds=kinds) as at:
            for number in (1, 2):
                await _made(at, number)

    async def _made(at: Workbench, number: int) -> None:
        chip = a_board()
        if wiring == "two plugs":
            assert (await at.visit("A1", chip)).headline == "TEST NEXT"
        seen = await at.visit("A1", chip, low=wiring != "two plugs")
        assert seen.light is Light.PASS
        expected = {"main.py": PROGRAMS[manner], "webrepl_cfg.py": b'PASS = "hunter22"\n', "boot.py": WEBREPL}
        assert files_in(chip) == expected
        assert measured(at, number)["files_by_repl"] == ("3" if number == 1 else "0")

    asyncio.run(main())


def test_a_boot_py_that_is_cut_short_is_held_against_no_board(tmp_path: Path) -> None:
    """It takes longer than a program is waited for, and starts WebREPL last: the recipe must hold main.py, and is told so."""
    config = station_for(tmp_path, PROGRAMS["loops"], "lines")
    (tmp_path / "recipe" / "tree" / "boot.py").write_bytes(b"import time\ntime.sleep(8)\n")

    async def main() -> None:
        async with at_work(config) as at:
            assert (await at.visit("A1", a_board())).light is Light.FAULT
            ((outcome, reason, detail),) = at.rows("SELECT outcome, reason, detail FROM job")
            assert (outcome, reason) == ("ERROR", "evidence_missing")
            assert "which must be held" in detail

    asyncio.run(main())
