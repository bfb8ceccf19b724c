"""What a visit is given and what comes of it: the tools, the order, and the three ways in which it ends on record.

A visit is one plug of one slot. These are the words in which `station.slot` and `station.floor` speak with `station.job`;
nothing here talks to a board.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from station.boarddata import DataSource, NoData
from station.claims import Claims
from station.config import FlashingSection
from station.hubs import Hubs
from station.layouts import FilesystemMaker, cannot_make
from station.model import CommittedJob, HostFacts, JobEnd, JobStart, Lot, Phase, Plug, VisitEnd
from station.ports import Clock, Flasher, LineOpener, ProofKeeper, Recorder, ReplMaker, Stop
from station.properties import ANY_SLOT, Learned, SlotProperties
from station.qualification import NOTHING, ladder_for
from station.reasons import Reason
from station.recipe import Recipe
from station.turns import Turns
from station.views import Progress


def unproven_rates(plug: Plug, ladder: tuple[int, ...]) -> tuple[int, ...]:
    """Return what of `ladder` every slot may use, measured or not."""
    return ladder_for(ladder, plug.programmer.place, "", NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every job uses; the same for the life of the station."""

    opener: LineOpener
    flasher: Flasher
    make_repl: ReplMaker
    recorder: Recorder
    settings: FlashingSection
    claims: Claims
    host: Callable[[], HostFacts]
    clock: Clock
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    on_record: Callable[[JobStart, JobEnd], None]
    """Called in the slot's thread after a job was committed and read back."""
    operator: str = ""
    allowed_rates: Callable[[Plug, tuple[int, ...]], tuple[int, ...]] = unproven_rates
    """What of the configured ladder may be used in this plug's slot; by default what may be used without a measurement."""
    board_data: DataSource = field(default_factory=NoData)
    """Where serial numbers, pre-assigned values and secrets come from; by default there are none."""
    learn: Callable[[str, Learned], None] = lambda _slot, _learned: None
    """Called in the slot's thread with what was found out about the slot of this label."""
    kept_recipe: Callable[[Lot], Recipe | None] = lambda _lot: None
    """The recipe of a closed lot whose waiting boards shall be tested under it; None for any other lot.

    Raises `RecordsUnwritable`.
    """
    make_filesystem: FilesystemMaker = cannot_make
    """Makes what the flash pass writes besides the image, where the layout is known."""
    hubs: Hubs = field(default_factory=Hubs)
    """Whose fault it is not, when a whole hub goes; one that knows no programmer is never disturbed."""
    radios: Turns = field(default_factory=Turns)
    """Whose radio may be on, of the boards behind one hub."""
    label_trouble: Callable[[], str] = lambda: ""
    """What keeps labels from being printed; empty when nothing does. No visit asks."""
    proofs: ProofKeeper | None = None
    """What the slots have proven; None, where a board is made by hand, asks nobody and judges no golden board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One plug of one slot, and what shall be made of the board in it."""

    id: str
    plug: Plug
    recipe: Recipe
    lot: Lot
    stop: Stop
    tell: Callable[[Progress], None]
    properties: SlotProperties = ANY_SLOT
    test_slots: tuple[str, ...] = ()
    """Labels of the slots where a flashed board can be tested, this one aside."""
    until: Phase | None = None
    """Stop after this phase on request; never a PASS."""
    some_pending: bool = False
    """Whether any board waits for its test: then a firmware that is slow to answer is worth waiting for."""
    shift_began: datetime | None = None
    """Proofs from before do not count; None: those of the whole lot do."""
    siblings: tuple[str, ...] = ()
    """Labels of the other slots that do the same work."""
    quarantine_after: int = 0
    """So many different boards in a row that do not pass quarantine this slot, if its siblings do well; 0: never."""
    for_proofs_only: bool = False
    """This slot may judge known boards, and make none: the first article is being made elsewhere."""
    again: bool = False
    """Make the board once more although the records say that it is done."""
    dump: Path | None = None
    """Where an inspection leaves the content of the flash; None: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a visit found that never became a job."""

    visit_id: str
    reason: Reason
    detail: str
    mac: str = ""
    """Whose board it is about, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job from its beginning to its end, ready to be written."""

    start: JobStart
    end: JobEnd
    begun: bool
    """Whether the row exists already, running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The finished rows of a visit that the records could not take yet; green nowhere, and written when they can."""

    rows: tuple[JobRow, ...]
    """The visit's own job, and after it that of another board that answered in its place."""
    visit_end: VisitEnd


VisitResult = Finding | CommittedJob | Held


def write_down(held: Held, recorder: Recorder, on_record: Callable[[JobStart, JobEnd], None]) -> CommittedJob:
    """Write the rows of a finished visit and return the last one as it was read back; raises `RecordsUnwritable`.

    May be called again after a failure: the records take each row once. `on_record` hears of the rows when all are there.
    """
    for row in held.rows:
        if not row.begun:
            recorder.begin_job(row.start)
        committed = recorder.finish_job(row.start.id, row.end)
    recorder.end_visit(held.rows[0].start.visit_id, held.visit_end)
    for row in held.rows:
        on_record(row.start, row.end)
    return committed
