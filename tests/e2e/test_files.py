"""Files on boards, through the real daemon: by the REPL at first, and as LittleFS sectors once the layout is known."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from littlefs import LittleFS, UserContext

from station import upload
from station.adapters.records import Database
from station.bench.bench import BenchOpener, VirtualBench
from station.bench.chip import Chip
from station.config import Config, SlotDefaultsSection
from station.demo import write_demo_recipe
from station.layouts import Layout
from station.model import BootInto, Light, Programmer
from station.ports import Line, Stop
from station.properties import Gpio0, Reset
from station.recipe import load_recipe
from tests.e2e.workbench import JUMPER, Workbench, a_board, at_work, config_for, every_slot

COLD = '[policy]\ncold_boot = "all"\n'
STICK = SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND)
START, SECTORS = 0x99000, 98
BOOT = b"# nothing happens here\n"
SENSOR = bytes(range(256)) * 24
TREE = {"boot.py": BOOT, "lib/sensor.bin": SENSOR, "empty": b""}
MEASURED = "SELECT name, value, within FROM measurement WHERE name LIKE 'files%'"


def recipe_with(directory: Path, tree: Mapping[str, bytes], keys: str = "", policy: str = "") -> Path:
    """Write a recipe with these files."""
    recipe, _ = write_demo_recipe(directory, f'\n[files]\ntree = "tree"\n{keys}\n{policy}')
    for name, content in tree.items():
        file = directory / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return recipe


def files_in(chip: Chip) -> dict[str, bytes]:
    """Every file that a fresh LittleFS reads in the flash of a board."""
    region = bytearray(chip.flash.data[START : START + SECTORS * 4096])
    files = LittleFS(context=UserContext(buffer=region), block_size=4096, block_count=SECTORS)
    found = {}
    for root, _, names in files.walk("/"):
        for name in names:
            path = f"{root.rstrip('/')}/{name}"
            with files.open(path, "rb") as file:
                found[path.lstrip("/")] = file.read()
    return found


def shift(config: Config, work: Callable[[Workbench], Awaitable[None]], **bench: Any) -> None:
    """Do this work at a bench whose lines do everything, unless it is said to be another one."""

    async def main() -> None:
        async with at_work(config, **bench) as at:
            await work(at)

    asyncio.run(main())


def measured(at: Workbench, number: int) -> dict[str, str]:
    """What was measured of files in the job that began as the `number`-th."""
    job = at.rows("SELECT id FROM job ORDER BY sequence")[number - 1][0]
    rows = at.rows(f"{MEASURED} AND job_id = '{job}'")
    return {name: value for name, value, within in rows if within}


def test_files_go_through_the_repl_first_and_with_the_image_from_then_on(tmp_path):
    """The first board of an image shows the layout; every later one gets the same files in the flash pass."""
    config = config_for(tmp_path, recipe_with(tmp_path, TREE))
    first, second = a_board(), a_board()

    async def work(at: Workbench) -> None:
        for chip in (first, second):
            assert (await at.visit("A1", chip)).light is Light.PASS
            assert files_in(chip) == TREE
        by_repl, in_flash_pass = measured(at, 1), measured(at, 2)
        assert (by_repl["files_by_repl"], by_repl["files_written"]) == ("3", "3")
        assert (in_flash_pass["files_by_repl"], in_flash_pass["files_written"]) == ("0", "3")
        assert "filesystem_md5" not in by_repl
        assert in_flash_pass["filesystem_md5"] == "true"
        assert by_repl["filesystem_layout"] == in_flash_pass["filesystem_layout"] == '"sector 153, 98 sectors"'
        assert by_repl["files_hash"] == in_flash_pass["files_hash"]

    shift(config, work)


def test_programs_that_never_end_stop_no_test_and_are_there_in_the_end(tmp_path):
    """A main.py that loops for ever is interrupted at every start, or held back until the last check; a reset starts it."""
    loop = b"import time\nprint('it runs')\nwhile True:\n    time.sleep(0.01)\n"
    tree = {"boot.py": BOOT, "main.py": loop}
    for number, keys in enumerate(("", 'hold = ["main.py"]')):
        directory = tmp_path / str(number)
        directory.mkdir()
        config = config_for(directory, recipe_with(directory / "recipe", tree, keys))

        async def work(at: Workbench) -> None:
            for _ in range(2):
                chip = a_board()
                assert (await at.visit("A1", chip)).light is Light.PASS
                assert files_in(chip) == tree
            prompts = [value for (value,) in at.rows("SELECT value FROM measurement WHERE name = 'boot_to_prompt'")]
            # Without the interrupt from the start it comes after three quarters of the deadline, 30 s.
            assert max(map(float, prompts)) < 25

        shift(config, work)


def test_everything_that_the_recipe_does_not_name_is_gone(tmp_path):
    """`others = "delete"` leaves exactly the recipe's files, by either way."""
    config = config_for(tmp_path, recipe_with(tmp_path, {"a": b"1", "lib/b": b"2"}, 'others = "delete"'))

    async def work(at: Workbench) -> None:
        for number in (1, 2):
            chip = a_board()
            assert (await at.visit("A1", chip)).light is Light.PASS
            assert files_in(chip) == {"a": b"1", "lib/b": b"2"}
            assert ("filesystem_md5" in measured(at, number)) is (number == 2)

    shift(config, work)


def test_a_flash_that_loses_files_never_passes(tmp_path):
    """What the firmware wrote is gone after the restart: neither the recipe's files nor the test's own are there."""
    config = config_for(tmp_path, recipe_with(tmp_path, TREE))

    async def work(at: Workbench) -> None:
        seen = await at.visit("A1", a_board("puya_loses"))
        assert seen.light is Light.FAIL
        assert at.rows() == [("A1", "closed", "FAIL", "filesystem_lost_data")]
        assert at.rows("SELECT * FROM layout") == []

    shift(config, work)


def test_a_layout_that_does_not_hold_is_an_error_and_not_a_pass(tmp_path):
    """Sectors that were written where the firmware does not look are no files: the board shows where it looks."""
    recipe = recipe_with(tmp_path, TREE)
    config = config_for(tmp_path, recipe)
    Path(config.state_dir).mkdir()
    with Database.open(config.database_url) as database:
        database.learn_layout(load_recipe(recipe).firmware_sha256, 1 << 20, Layout(first_sector=160, sectors=91))

    async def work(at: Workbench) -> None:
        assert (await at.visit("A1", a_board())).light is Light.FAULT
        assert at.rows() == [("A1", "closed", "ERROR", "layout_mismatch")]
        assert at.rows("SELECT value FROM measurement WHERE name = 'filesystem_md5'") == [("true",)]

    shift(config, work)


def test_a_board_of_two_visits_gets_its_files_in_either(tmp_path):
    """At sticks: the first board of an image gets them in its second visit, every other one in its first."""
    recipe = recipe_with(tmp_path, TREE, policy=COLD)
    config = config_for(tmp_path, recipe, slot_defaults=STICK)

    async def work(at: Workbench) -> None:
        for number in (1, 2):
            chip = a_board()
            assert (await at.visit("A1", chip)).headline == "TEST NEXT"
            assert (await at.visit("A1", chip, low=False)).light is Light.PASS
            assert files_in(chip) == TREE
            assert measured(at, number)["files_by_repl"] == ("3" if number == 1 else "0")

    shift(config, work, kinds=every_slot(config, JUMPER))


def test_a_board_started_by_software_gets_its_files_in_one_visit(tmp_path):
    """At sticks, with the jumper on: programs that never end are interrupted, and a soft reset proves what is in flash."""
    tree = {"boot.py": BOOT, "main.py": b"import time\nwhile True:\n    time.sleep(0.01)\n"}
    config = config_for(tmp_path, recipe_with(tmp_path, tree), slot_defaults=STICK)

    async def work(at: Workbench) -> None:
        for number in (1, 2):
            chip = a_board()
            assert (await at.visit("A1", chip)).light is Light.PASS
            assert files_in(chip) == tree
            assert ("filesystem_md5" in measured(at, number)) is (number == 2)
        assert at.rows("SELECT DISTINCT boot_evidence FROM job") == [("soft",)]

    shift(config, work, kinds=every_slot(config, JUMPER))


# --- an upload that is cut off ---------------------------------------------------------------------------------------------


class CuttingOpener:
    """Opens the bench's ports, and pulls the programmer, or resets the board, after so many bytes that go to a REPL."""

    def __init__(self, bench: VirtualBench, *, resets: bool = False) -> None:
        self._bench, self._opener, self._resets = bench, BenchOpener(bench), resets
        self.cut_after: dict[str, int] = {}
        """By the programmer's place: at the byte of this number, counted from where the upload begins, it happens."""
        self.sent: dict[str, bytes] = {}
        """By the place: what was sent since the upload began."""

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> Line:
        """Open it."""
        line = self._opener.open(programmer, baud, stop, may_reset=may_reset)
        place, send = programmer.place, line.send
        self.sent[place] = b""

        def cutting(data: bytes) -> None:
            if not self.sent[place] and BEGINNING not in data:
                send(data)
                return
            before = len(self.sent[place])
            self.sent[place] += data
            left = self.cut_after.get(place, len(data) + before) - before
            send(data[: max(0, left)])
            if left < len(data) and self._resets:
                del self.cut_after[place]
                line.reset_board(BootInto.FIRMWARE)
            elif left < len(data):
                label = next(label for label, at in self._bench.places(SLOTS).items() if at == place)
                self._bench.unplug(label)

        line.send = cutting  # type: ignore[method-assign]
        return line


SLOTS = 3
"""Two that are cut off: three at once would be a hub that goes."""
BEGINNING = b"def hash_of"
"""Stands in the first run of an upload."""


def test_an_upload_cut_off_at_any_byte_of_a_file_leaves_nothing_that_passes(tmp_path, monkeypatch):
    """Pulled at every byte of a small file on the line, and between them: no half file has its name, and no visit passes.

    The board comes back each time as it was before; in the end it is left alone, and passes with its file whole.
    """
    monkeypatch.setattr(upload, "CHUNK_BYTES", 3)
    small = {"a": b"012345", "others.py": b""}
    recipe = recipe_with(tmp_path, small, 'method = "repl"\nothers = "delete"', COLD)
    config = config_for(tmp_path, recipe, slots=SLOTS, slot_defaults=STICK)
    openers: list[CuttingOpener] = []

    def opener(bench: VirtualBench) -> CuttingOpener:
        openers.append(CuttingOpener(bench))
        return openers[0]

    async def work(at: Workbench) -> None:
        cutting, boards = openers[0], {label: a_board() for label in config.slots}
        for label, chip in boards.items():
            assert (await at.visit(label, chip)).headline == "TEST NEXT"
        kept = {label: bytes(chip.flash.data) for label, chip in boards.items()}
        # One visit that is left alone shows what goes over the line, and that it is enough.
        trial = boards["A1"]
        assert (await at.visit("A1", trial, low=False)).light is Light.PASS
        assert files_in(trial) == small
        whole = cutting.sent[at.bench.places(SLOTS)["A1"]]
        pieces = list(re.finditer(rb"w\(b'[^']*'\)\n", whole))
        assert len(pieces) == 2
        of_file = [at for piece in pieces for at in range(piece.start(), piece.end() + 1)]
        everywhere = sorted({*of_file, *range(0, len(whole), 251)})
        cuts = iter(everywhere)
        others = [label for label in boards if label != "A1"]

        async def pulled_again_and_again(label: str) -> None:
            place = at.bench.places(SLOTS)[label]
            for cut in cuts:
                boards[label].flash.data[:] = kept[label]
                cutting.cut_after[place] = cut
                await at.plug_and_wait(label, boards[label], low=False)
                assert at.view(label).light is not Light.PASS
                files = files_in(boards[label])
                assert files.get("a", small["a"]) == small["a"], cut
                await at.until(lambda: at.floor.slots[label].programmer is None and not at.floor.slots[label].busy)
            del cutting.cut_after[place]

        await asyncio.gather(*(pulled_again_and_again(label) for label in others))
        passed = "SELECT slot FROM job WHERE outcome = 'PASS'"
        assert at.rows(passed) == [("A1",)]
        findings = at.rows("SELECT count(*) FROM visit WHERE finding = 'test_interrupted'")[0][0]
        assert findings == len(everywhere)
        for label in others:
            assert (await at.visit(label, boards[label], low=False)).light is Light.PASS
            assert files_in(boards[label]) == small

    shift(config, work, kinds=every_slot(config, JUMPER), opener=opener)


def test_a_board_that_resets_in_the_middle_of_an_upload_does_not_pass(tmp_path):
    """Reset by itself at some bytes of the upload: no PASS, no half file; flashed again, it passes."""
    config = config_for(tmp_path, recipe_with(tmp_path, {"a": b"0123456789" * 200, "boot.py": BOOT}, 'method = "repl"'))
    openers: list[CuttingOpener] = []

    def opener(bench: VirtualBench) -> CuttingOpener:
        openers.append(CuttingOpener(bench, resets=True))
        return openers[0]

    async def work(at: Workbench) -> None:
        place = at.bench.places(1)["A1"]
        for cut in (300, 1500, 2700):
            chip = a_board()
            openers[0].cut_after[place] = cut
            assert (await at.visit("A1", chip)).light is not Light.PASS
            assert "a" not in files_in(chip)
            assert (await at.visit("A1", chip)).light is Light.PASS
            assert files_in(chip)["a"] == b"0123456789" * 200
        assert at.rows("SELECT count(*) FROM job WHERE reason = 'brownout'") == [(3,)]

    shift(config, work, opener=opener)
