"""Visits of scripted boards, one or several with the same records, and what the flash must hold afterwards."""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path

from station.claims import Claims
from station.job import run_visit
from station.model import CommittedJob, JobEnd, JobStart, KnownBoard, Phase, VisitEnd
from station.properties import Learned, SlotProperties
from station.recipe import Recipe, image_for_flash
from station.visit import Finding, Visit, VisitResult
from tests.unit.memory_records import MemoryRecords, tools_for, visit_for
from tests.unit.scripted_board import MIB, ScriptedBoard
from tests.unit.small_image import small_recipe

_KEEP = contextlib.ExitStack()
UNTOUCHED = b"\x5a" * MIB


@functools.cache
def recipe_for(more: str = "", variant: str = "1M") -> Recipe:
    """A recipe whose files stay for as long as the tests run."""
    directory = _KEEP.enter_context(tempfile.TemporaryDirectory())
    return small_recipe(Path(directory), more, variant=variant)


def image(recipe: Recipe | None = None, mode: str | None = None) -> bytes:
    """What the flash of a 1 MiB board must hold."""
    return image_for_flash(recipe or recipe_for(), MIB, mode).ljust(MIB, b"\xff")


def flashed_board(**more) -> ScriptedBoard:
    """A board that carries the recipe's firmware from somewhere else, and runs it unless GPIO0 is low."""
    return ScriptedBoard(**{"flash": bytearray(image()), **more})


def writes(board: ScriptedBoard) -> int:
    """How often flash was erased or written since the board was plugged in."""
    return sum(event.startswith(("erase", "write")) for event in board.journal)


@dataclass(slots=True)
class Shown:
    """A visit that is over: what came of it, and everything it left behind."""

    result: VisitResult
    board: ScriptedBoard
    records: MemoryRecords
    visit_id: str = "visit-1"
    learned: list[Learned] = field(default_factory=list)

    @property
    def job(self) -> CommittedJob:
        """The row that came back."""
        assert isinstance(self.result, CommittedJob), self.result
        return self.result

    @property
    def finding(self) -> Finding:
        """What a visit without a job found; the same stands in its row."""
        assert isinstance(self.result, Finding), self.result
        assert (self.row.finding, self.row.detail, self.row.mac) == (
            self.result.reason,
            self.result.detail,
            self.result.mac,
        )
        return self.result

    @property
    def row(self) -> VisitEnd:
        """The visit's row."""
        ended = self.records.visits[self.visit_id]
        assert ended is not None
        return ended

    @property
    def start(self) -> JobStart:
        """What the first job row began with."""
        return self.records.starts["job-1"]

    @property
    def end(self) -> JobEnd:
        """How the first job ended."""
        return self.records.ends["job-1"]

    def before(self, event: str) -> list[str]:
        """What had happened before this happened first."""
        return self.board.journal[: self.board.journal.index(event)]


class Station:
    """Several visits, of one board or of several, over the same records."""

    def __init__(self, recipe: Recipe | None = None, *, known: KnownBoard | None = None) -> None:
        self.recipe = recipe or recipe_for()
        self.records = MemoryRecords(ScriptedBoard(), known=known)
        self.claims = Claims()
        self._numbers, self._job_ids = itertools.count(1), itertools.count(1)

    def visit(
        self,
        board: ScriptedBoard,
        properties: SlotProperties | None = None,
        *,
        slot: str = "A1",
        change: Callable[[Visit], Visit] = lambda visit: visit,
        **asked,
    ) -> Shown:
        """Run one visit; the board is taken out afterwards. `asked` are fields of the `Visit`."""
        visit_id = f"visit-{next(self._numbers)}"
        self.records.board = board
        visit = visit_for(board, self.recipe, slot=slot, visit_id=visit_id, properties=properties)
        asked = {"some_pending": bool(self.records.pending_macs()), **asked}
        learned: list[Learned] = []
        tools = tools_for(board, self.records, claims=self.claims, learned=learned, ids=self._job_ids)
        result = run_visit(change(changed(visit, **asked)), tools)
        self.claims.release(slot)
        return Shown(result, board, self.records, visit_id, learned)


def visited(
    board: ScriptedBoard | None = None,
    recipe: Recipe | None = None,
    *,
    refuse: set[str] | None = None,
    known: KnownBoard | None = None,
    claims: Claims | None = None,
    until: Phase | None = None,
    properties: SlotProperties | None = None,
    change: Callable[[Visit], Visit] = lambda visit: visit,
    **asked,
) -> Shown:
    """Run one visit."""
    station = Station(recipe, known=known)
    station.records.refuse = refuse or set()
    station.claims = claims or station.claims
    return station.visit(board or ScriptedBoard(), properties, until=until, change=change, **asked)
