"""`station flash` and `station inspect`: one board by hand, for a technician; the same visit, the same phases, the same record.

The port is any serial device path. There is no slot map, no watcher and no light: the port is a slot called `hand` with a
programmer in it. The deadlines of the job hold as on the bench. It must never report a PASS that is not on record, be it
in records that are thrown away afterwards.
"""

from __future__ import annotations

import asyncio
import functools
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from station.adapters.esp8266 import EsptoolFlasher
from station.adapters.host import host_facts
from station.adapters.line import TtyOpener
from station.adapters.metrics import Metrics, new_registry
from station.adapters.records import Database, new_id
from station.adapters.udev import TTY_CLASS, UdevWatcher
from station.config import Config
from station.daemon import make_tools
from station.errors import ConfigurationError, RecordsUnwritable
from station.job import run_visit
from station.model import CommittedJob, Lot, LotState, Outcome, Phase, Plug, Programmer, StopCause, Tray, job_as_json
from station.orders import lot_by_hand, open_for
from station.ports import Stop
from station.properties import SlotProperties
from station.reasons import MEANINGS, Reason
from station.recipe import LimitsSection, PolicySection, Recipe
from station.secrets import Vault
from station.terminal import visit_as_json
from station.views import Progress
from station.visit import Finding, Held, Tools, Visit, VisitResult, write_down

SLOT = "hand"
NO_RECIPE = Recipe(
    name="",
    version="",
    file="",
    hash="",
    image=b"",
    firmware_path="",
    firmware_sha256="",
    firmware_version="",
    minimum_flash_bytes=0,
    has_filesystem=False,
    flash_mode="",
    flash_frequency="",
    limits=LimitsSection(),
    policy=PolicySection(),
    file_sha256="",
    canonical="",
)
NO_LOT = Lot(id="", recipe_hash="", product="", person="", state=LotState.CLOSED, standing=True, supplier_batch="")
"""An inspection makes nothing, so there is nothing to make it by and nothing to count it in."""
EXIT_PASS, EXIT_FAIL, EXIT_ERROR, EXIT_ABORTED = 0, 1, 2, 3
_EXIT_BY_TRAY = {Tray.GOOD: EXIT_PASS, Tray.BAD: EXIT_FAIL, Tray.CALL: EXIT_ERROR}
HELD_TRIES, HELD_WAIT_S = 10, 2.0
"""A result that the records do not take is offered to them so often; each try waits for a lock by itself, too."""
_RECENT_ROWS = 1000
_TICK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashRequest:
    """What the command line asks for."""

    port: str
    recipe: Path
    properties: SlotProperties
    """Of the programmer at this port."""
    again: bool
    """Make the board once more although the records say that it is done."""
    baud: int | None
    until: Phase | None
    record: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRequest:
    """What the command line asks of a board that shall stay what it is."""

    port: str
    properties: SlotProperties
    dump: Path | None
    baud: int | None = None
    record: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashResult:
    """What came of it, and what is on record of it, as `--json` prints it."""

    result: VisitResult
    jobs: list[dict[str, object]]
    visits: list[dict[str, object]]


def port_problem(port: str) -> str:
    """Return why `port` cannot be a serial port at all, empty when it may be one; nothing is opened."""
    try:
        mode = Path(port).stat().st_mode
    except OSError as error:
        return f"{port}: {error.strerror}"
    return "" if stat.S_ISCHR(mode) else f"{port} is not a serial device"


async def make_by_hand(
    config: Config,
    request: FlashRequest | InspectRequest,
    *,
    tell: Callable[[Progress], None],
    finish: asyncio.Event,
    vault: Vault | None = None,
) -> FlashResult:
    """Make or inspect one board; `finish` aborts it.

    Raises `ConfigurationError`, and `RecordsUnwritable` before anything is opened.
    """
    recipe = open_for(config, request.recipe) if isinstance(request, FlashRequest) else None
    with ExitStack() as stack:
        url = config.database_url
        if not request.record:
            url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/unrecorded.db"
        elif not config.database.url:
            _make_state_dir(config.state_dir)
        database = stack.enter_context(Database.open(url, station_id=config.station_id))
        config = _with_baud(config, request.baud)
        flasher = EsptoolFlasher()
        facts = functools.partial(host_facts, config.station_id, flasher.version)
        opener = TtyOpener()
        tools = make_tools(
            config, database, flasher, opener, facts, Metrics(new_registry(), host=facts(), slots=[SLOT]), vault=vault
        )
        if request.baud is not None:
            # A person asks for this rate at this one board; what a slot may do by itself is another matter.
            tools = replace(tools, allowed_rates=lambda _plug, ladder: ladder)
        visit = _visit(config, request, recipe, database)
        result = await _run(visit, tools, tell, finish)
        if isinstance(result, Held):
            result = await _write_held(result, database, finish)
        return _on_record(database, visit.id, result)


def exit_code(result: VisitResult, *, until: Phase | None) -> int:
    """Return 0 for PASS, for a board that is done already, or when the asked phase was reached; 1 FAIL, 2 ERROR, 3 ABORTED.

    What never became a job, or waits, has no outcome: it is judged by its tray, and is 3 when it takes a hand at the board.
    """
    match result:
        case CommittedJob(outcome=Outcome.PASS) | Finding(reason=Reason.INSPECTED):
            return EXIT_PASS
        case CommittedJob(outcome=Outcome.FAIL):
            return EXIT_FAIL
        case CommittedJob(reason=Reason.STOPPED_BY_REQUEST) if until is not None:
            return EXIT_PASS
        case Finding(reason=reason) if MEANINGS[reason].outcome is not Outcome.ERROR:
            return _EXIT_BY_TRAY.get(MEANINGS[reason].tray, EXIT_ABORTED)
        case CommittedJob(outcome=Outcome.ERROR) | Held() | Finding():
            return EXIT_ERROR
        case _:
            return EXIT_ABORTED


def _make_state_dir(state_dir: Path) -> None:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            file=str(state_dir),
            key="station.state_dir",
            problem=f"cannot be made ({error.strerror})",
            fix="name the records with --db sqlite:////path, or leave none with --no-record",
        ) from None


def _visit(config: Config, request: FlashRequest | InspectRequest, recipe: Recipe | None, database: Database) -> Visit:
    """The visit of this one plug. SELF_TEST is the last phase, so to stop after it is to make the whole board."""
    visit = Visit(
        id=new_id(),
        plug=Plug(slot=SLOT, programmer=_programmer(request.port, config), number=1),
        recipe=recipe or NO_RECIPE,
        lot=lot_by_hand(config, database, recipe) if recipe else NO_LOT,
        stop=Stop(),
        tell=lambda _progress: None,
        properties=request.properties,
        some_pending=bool(database.pending()),
    )
    if isinstance(request, InspectRequest):
        return replace(visit, dump=request.dump)
    return replace(visit, again=request.again, until=None if request.until is Phase.SELF_TEST else request.until)


async def _run(visit: Visit, tools: Tools, tell: Callable[[Progress], None], finish: asyncio.Event) -> VisitResult:
    """Run the visit in a thread, and end it at its deadlines or when `finish` is set."""
    loop, settings = asyncio.get_running_loop(), tools.settings
    hard_deadline = tools.clock() + settings.job_deadline_s
    deadline = tools.clock() + settings.progress_deadline_s

    def note(progress: Progress) -> None:
        nonlocal deadline
        deadline = tools.clock() + (progress.allow_s or settings.progress_deadline_s)
        loop.call_soon_threadsafe(tell, progress)

    visit = replace(visit, tell=note)
    running = loop.run_in_executor(None, run_visit, visit, tools)
    while not running.done():
        await asyncio.wait([running], timeout=_TICK_S)
        if finish.is_set():
            visit.stop.request(StopCause.SHUTDOWN)
        if tools.clock() > min(deadline, hard_deadline):
            visit.stop.request(StopCause.DEADLINE)
    return running.result()


async def _write_held(held: Held, database: Database, finish: asyncio.Event) -> VisitResult:
    """Offer a finished result to the records again and again; `finish` gives it up."""
    for _ in range(HELD_TRIES):
        with suppress(TimeoutError):
            await asyncio.wait_for(finish.wait(), HELD_WAIT_S)
            return held
        with suppress(RecordsUnwritable):
            return await asyncio.to_thread(write_down, held, database, lambda _start, _end: None)
    return held


def _on_record(database: Database, visit_id: str, result: VisitResult) -> FlashResult:
    """Read back what the records say of this visit; what they could not take is a finding all the same."""
    jobs: list[dict[str, object]] = []
    row: dict[str, object] = {"visit": visit_id, "slot": SLOT, "finding": None, "detail": "", "jobs": []}
    with suppress(RecordsUnwritable):
        visits = {visit.id: visit for visit in database.visits(_RECENT_ROWS)}
        if visit_id in visits:
            row = visit_as_json(visits[visit_id])
            mine = [job for job in reversed(database.jobs(_RECENT_ROWS)) if job.id in visits[visit_id].job_ids]
            jobs = [{**job_as_json(job), "visit": visit_id} for job in mine]
    match result:
        case Finding():
            row |= {"finding": result.reason, "detail": result.detail}
        case Held():
            row |= {"finding": Reason.RECORDS_UNWRITABLE}
        case CommittedJob():
            pass
    return FlashResult(result=result, jobs=jobs, visits=[row])


def _programmer(port: str, config: Config) -> Programmer:
    """The programmer behind a path that a person typed: a tty, a pty, or a link to one."""
    node = Path(port).resolve()
    if (TTY_CLASS / node.name / "device").exists():
        for programmer in UdevWatcher(usb_ids=config.usb.ids).snapshot():
            if programmer.node == str(node):
                return programmer
    return Programmer(place=f"by hand:{port}", node=str(node), sysfs_path="", generation=new_id())


def _with_baud(config: Config, baud: int | None) -> Config:
    """Start the ladder at the rate that was asked for."""
    if baud is None:
        return config
    ladder = (baud, *(rung for rung in config.flashing.baud_ladder if rung < baud))
    flashing = msgspec.structs.replace(config.flashing, baud_ladder=ladder)
    return msgspec.structs.replace(config, flashing=flashing)
