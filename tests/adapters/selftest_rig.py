"""One self-test of one virtual board with the real MicroPython, as `run_job` runs it: from its prompt to the verdict."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from station import provisioning, testing
from station.adapters.esp8266 import EsptoolFlasher
from station.adapters.repl import RawRepl
from station.bench.bench import BenchOpener, VirtualBench
from station.bench.chip import WINBOND_1M, Chip, make_chip
from station.bench.faults import parse_fault
from station.bench.image import make_image
from station.bench.programmer import ProgrammerKind
from station.boarddata import BoardData, NoData
from station.booting import boot
from station.config import FlashingSection
from station.errors import StationError
from station.job import run_visit
from station.jobrun import JobRun
from station.model import FlashChip, Identity, Measurement, Plug, chip_id_from_mac, format_mac
from station.network import files_of
from station.ports import Stop
from station.properties import Gpio0, Reset, SlotProperties
from station.recipe import Recipe, load_recipe
from station.verdict import Verdict, verdict_of
from station.visit import VisitResult
from tests.unit.memory_records import MemoryRecords, tools_for, visit_for
from tests.unit.scripted_board import ScriptedBoard

MAC = bytes.fromhex("5ccf7fddc142")
BY_LINES = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES)


@dataclass(slots=True)
class Tested:
    """What a self-test left behind."""

    verdict: Verdict | None
    """None: it passed."""
    run: JobRun
    chip: Chip

    @property
    def ended(self) -> tuple[str, str]:
        """Reason and detail; two empty strings for a pass."""
        return (str(self.verdict.reason), self.verdict.detail) if self.verdict is not None else ("", "")

    @property
    def measured(self) -> dict[str, Measurement]:
        """What was measured, by name."""
        return {taken.name: taken for taken in self.run.evidence.measurements}


def recipe_with(folder: Path, more: str = "", files: dict[str, str] | None = None) -> Recipe:
    """A recipe of MicroPython's 1M build, with these sections and files beside it."""
    image = make_image()
    (folder / "image.bin").write_bytes(image)
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    path = folder / "thing.toml"
    sha256 = hashlib.sha256(image).hexdigest()
    path.write_text(f'[firmware]\npath = "image.bin"\nsha256 = "{sha256}"\n{more}', encoding="utf-8")
    return load_recipe(path)


def flashed_as(
    mac: str = format_mac(MAC), *, chip_id: int | None = None, jedec_id: int = WINBOND_1M, size_bytes: int = 1 << 20
) -> tuple[Identity, FlashChip]:
    """What CONNECT read of a board."""
    number = chip_id_from_mac(mac) if chip_id is None else chip_id
    identity = Identity(mac=mac, chip_id=number, otp_words=(0, 0, 0, 0))
    return identity, FlashChip(jedec_id=jedec_id, size_bytes=size_bytes)


def self_tested(
    recipe: Recipe,
    *faults: str,
    names: dict[str, str] | None = None,
    settings: FlashingSection | None = None,
    change: Callable[[Chip], None] = lambda _chip: None,
    jedec_id: int = WINBOND_1M,
    connected: tuple[Identity, FlashChip] | None = None,
) -> Tested:
    """Start the firmware of a board with these faults by the lines, and run the recipe's whole self-test.

    `connected`: what CONNECT had read, where that is not this board.
    """
    chip = make_chip(mac=MAC, faults=tuple(parse_fault(fault) for fault in faults), jedec_id=jedec_id)
    with VirtualBench(slots=1, pace=0, seed=1) as bench:
        bench.plug("A1", chip)
        # Not before it has power: the first start of this firmware is the one that is looked at.
        image = make_image()
        chip.flash.data[: len(image)] = image
        change(chip)
        programmer = bench.attached()[0]
        stand_in = ScriptedBoard()
        tools = replace(
            tools_for(stand_in, MemoryRecords(stand_in)),
            opener=BenchOpener(bench),
            make_repl=RawRepl,
            clock=time.monotonic,
            settings=settings or FlashingSection(boot_deadline_s=60, check_deadline_s=30),
        )
        visit = visit_for(stand_in, recipe, properties=BY_LINES)
        run = JobRun(replace(visit, stop=Stop(), plug=Plug(slot="A1", programmer=programmer, number=1)), tools)
        run.board_data = BoardData(names=names or {})
        run.evidence.identity, run.evidence.flash = connected or flashed_as(jedec_id=chip.flash.jedec_id)
        try:
            repl = boot(run)
            if files_of(recipe).files:
                provisioning.provision(run, repl)
            testing.prove(run, repl).leave()
        except StationError as error:
            return Tested(verdict_of(error), run, chip)
        finally:
            run.link.close()
        return Tested(None, run, chip)


class GivenData(NoData):
    """The same names for every board."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def data_for(self, recipe: Recipe, identity: Identity, job_id: str) -> BoardData:
        """They are all there is."""
        return BoardData(names=self._names)


def whole_visit(
    recipe: Recipe, *, kind: ProgrammerKind, properties: SlotProperties, names: dict[str, str]
) -> tuple[VisitResult, Chip]:
    """One visit of a fresh board from its loader to the record, with the real esptool, in a programmer of this kind."""
    chip = make_chip(mac=MAC)
    with VirtualBench(slots=1, pace=0, seed=1, kinds={"A1": kind}) as bench:
        bench.plug("A1", chip)
        stand_in = ScriptedBoard()
        tools = replace(
            tools_for(stand_in, MemoryRecords(stand_in)),
            opener=BenchOpener(bench),
            flasher=EsptoolFlasher(),
            make_repl=RawRepl,
            clock=time.monotonic,
            settings=FlashingSection(boot_deadline_s=60, check_deadline_s=30, identity_reads_over_s=0.1),
            board_data=GivenData(names),
        )
        visit = visit_for(stand_in, recipe, properties=properties)
        plug = Plug(slot="A1", programmer=bench.attached()[0], number=1)
        return run_visit(replace(visit, stop=Stop(), plug=plug), tools), chip
