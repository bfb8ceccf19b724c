"""`station demo`: the real daemon on the virtual bench, an operator who plugs boards in and takes them out, and a verdict.

Only the two seams are virtual: who is plugged in, and how to open it. Without `--operator` each board is plugged in once and
its result left in place; an operator obeys the words, or not, until every board is put away. Whether every board ended as it
must is judged from the records alone, against expectations written by hand.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import msgspec

from station.adapters.records import Database
from station.bench.bench import BenchOpener, BenchWatcher, VirtualBench
from station.bench.chip import WINBOND_1M
from station.bench.faults import Fault
from station.bench.image import make_image
from station.bench.operator import RESULT_SEEN_S, STAGGER_S, Manner, Operator
from station.bench.peripherals import AIR, AccessPoint
from station.bench.programmer import ProgrammerKind
from station.bench.scenario import UNDER_ANY_RECIPE, Plan, PlannedBoard, check_expectations, plan
from station.bench.shift import check_playable, check_shift
from station.config import (
    Config,
    DatabaseSection,
    FlashingSection,
    HttpSection,
    ShutdownSection,
    SlotDefaultsSection,
    StationSection,
    WorkSection,
)
from station.daemon import run_station
from station.floor import Floor
from station.model import job_as_json
from station.panel.server import Address
from station.properties import Gpio0, Moves, Reset
from station.recipe import new_recipe_text
from station.secrets import Vault
from station.slot import Slot
from station.terminal import visit_as_json
from station.tryout import Around, Tryout, furnish, prepare, problems_with_files

MOST_ROWS = 100_000
Wiring = Literal["auto", "manual", "fixture"]
KINDS: dict[Wiring, ProgrammerKind] = {
    "auto": ProgrammerKind(),
    "manual": ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND),
    "fixture": ProgrammerKind(),
}
"""What the programmers are; the station is told nothing of it but that boards move, and finds out the rest."""
POLICIES: dict[Wiring, str] = {
    "auto": "",
    # Every third board has to prove that it starts from its power alone: that is the second plug of a jumper bench.
    "manual": '\n[policy]\ncold_boot = "every 3"\n',
    "fixture": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """What the command line asks for."""

    slots: int
    boards: int
    seed: int
    pace: float
    faults: Sequence[tuple[str, Fault]]
    database_url: str
    state_dir: Path
    port: int
    once: bool
    wiring: Wiring = "auto"
    manner: Manner | None = None
    """None: nobody obeys any words; each board is plugged in once."""
    recipe: Path | None = None
    """A person's recipe, or the directory of one; None: the demo's own."""
    dump: Path | None = None
    """Where the flash of every board is written to in the end; None: nowhere."""

    @property
    def operated(self) -> bool:
        """Whether a person works at the bench until every board is put away."""
        return self.manner is not None or self.wiring != "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What came of it."""

    jobs: list[dict[str, object]]
    visits: list[dict[str, object]]
    problems: list[str]
    boards: int


def demo_config(request: DemoRequest, work: WorkSection) -> Config:
    """Return the configuration of the demo: the station's own defaults, with waits scaled down to the pace."""
    # At a pace below 1 nobody wants to wait in full for boards that hang; but esptool's own time-outs are in real time:
    # a block that is not acknowledged is sent three times, 3 s each.
    patience = min(1.0, max(request.pace, 0.1))
    return Config(
        station=StationSection(id="demo", state_dir=str(request.state_dir), operator="demo"),
        slots=VirtualBench.places(request.slots),
        slot_defaults=SlotDefaultsSection(moves=Moves.BOARD if request.wiring == "fixture" else Moves.PROGRAMMER),
        work=work,
        flashing=FlashingSection(
            progress_deadline_s=max(30.0 * patience, 20.0),
            boot_deadline_s=max(40.0 * patience, 10.0),
            check_deadline_s=max(20.0 * patience, 10.0),
            identity_reads_over_s=0.3 * patience,
            port_busy_s=10.0 * patience,
        ),
        http=HttpSection(listen=f"127.0.0.1:{request.port}"),
        database=DatabaseSection(url=request.database_url),
        shutdown=ShutdownSection(finish_s=2.0),
    )


def write_demo_recipe(directory: Path, policy: str = "") -> tuple[Path, bytes]:
    """Write a MicroPython-format image and its recipe into `directory`; return the recipe's path and the image.

    `policy` is appended: a TOML table of the recipe.
    """
    directory.mkdir(parents=True, exist_ok=True)
    image = make_image(variant="1M")
    image_path = directory / f"virtual-firmware-{hashlib.sha256(image).hexdigest()[:8]}.bin"
    image_path.write_bytes(image)
    recipe = directory / "demo.toml"
    recipe.write_text(new_recipe_text(image_path, recipe) + policy, encoding="utf-8")
    return recipe, image


async def run_demo(
    request: DemoRequest,
    *,
    finish: asyncio.Event,
    show: Callable[[Floor, Address, Plan], None] = lambda _floor, _address, _plan: None,
    all_done: Callable[[], None] = lambda: None,
    vault: Vault | None = None,
) -> DemoResult:
    """Run the demo; with `once` it ends by itself when all boards are done. `all_done` is called then in any case.

    Raises `ConfigurationError`, `RecordsUnwritable`, and what `check_faults` raises.
    """
    show_of = await asyncio.to_thread(_set_up, request)
    config, the_plan = show_of.config, show_of.plan
    before = await asyncio.to_thread(_newest_visit, config.database_url)
    kinds = dict.fromkeys(config.slots, KINDS[request.wiring])
    with VirtualBench(slots=request.slots, pace=request.pace, seed=request.seed, kinds=kinds, air=show_of.air) as bench:
        hands: list[asyncio.Task[None]] = []

        def done(operating: asyncio.Task[None]) -> None:
            # A bench that broke down is an end as well, and its exception comes out below: nobody waits for ever.
            whole = not operating.cancelled() and operating.exception() is None
            if whole:
                all_done()
            if request.once or not whole:
                finish.set()

        def ready(floor: Floor, address: Address) -> None:
            show(floor, address, the_plan)
            hands.append(asyncio.create_task(_operate(bench, floor, the_plan, request), name="operator"))
            hands[0].add_done_callback(done)

        try:
            await run_station(
                config,
                file="station demo",
                watcher=BenchWatcher(bench),
                opener=BenchOpener(bench),
                finish=finish,
                ready=ready,
                vault=vault,
            )
        finally:
            for task in hands:
                task.cancel()
            await asyncio.gather(*hands, return_exceptions=True)
        for task in hands:
            if not task.cancelled():
                task.result()
    return await asyncio.to_thread(_judged, request, show_of, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Show:
    """Everything that a run needs before anything is plugged in."""

    config: Config
    plan: Plan
    air: tuple[AccessPoint, ...] = AIR
    tried: tuple[Tryout, Around] | None = None
    """The person's recipe, where it is not the demo's own that is made."""


def _set_up(request: DemoRequest) -> _Show:
    """Make recipe, boards, and whatever the recipe needs around it."""
    tryout: Tryout | None = None
    if request.recipe is None:
        recipe, image = write_demo_recipe(request.state_dir / "recipe", POLICIES[request.wiring])
        work = WorkSection(recipe=str(recipe))
    else:
        tryout = prepare(request.recipe, request.state_dir / "tried")
        _check_faults_of(tryout, request.faults)
        work, image = tryout.work, tryout.image
    config = demo_config(request, work)
    flash_ids = tryout.flash_ids if tryout is not None else (WINBOND_1M,)
    the_plan = plan(tuple(config.slots), request.boards, request.seed, request.faults, image, flash_ids=flash_ids)
    if request.operated:
        check_playable(the_plan.chips)
    if tryout is None:
        return _Show(config=config, plan=the_plan)
    around = furnish(tryout, the_plan.chips, config.database_url)
    return _Show(config=config, plan=the_plan, air=tryout.air, tried=(tryout, around))


def _check_faults_of(tryout: Tryout, faults: Sequence[tuple[str, Fault]]) -> None:
    """Raise ValueError for a fault of which nobody wrote down what comes of it under any recipe."""
    for slot, fault in faults:
        if fault.token not in UNDER_ANY_RECIPE:
            known = ", ".join(sorted(UNDER_ANY_RECIPE))
            raise ValueError(f"fault {slot}:{fault}: what comes of it depends on the recipe; known with any: {known}")
        if WINBOND_1M not in tryout.flash_ids:
            raise ValueError(f"fault {slot}:{fault}: boards with faults have 1 MB of flash, too little for the recipe")


def _judged(request: DemoRequest, show_of: _Show, before: str) -> DemoResult:
    """Read the records, and then what lies in the flash of the boards; dump it where that was asked."""
    wiring = request.wiring if request.operated else None
    result = read_result(show_of.config.database_url, show_of.plan, before, wiring=wiring)
    if request.dump is not None:
        request.dump.mkdir(parents=True, exist_ok=True)
        for chip in show_of.plan.chips:
            (request.dump / f"{chip.mac.hex()}.bin").write_bytes(chip.flash.data)
    if show_of.tried is None:
        return result
    return replace(
        result, problems=[*result.problems, *problems_with_files(*show_of.tried, show_of.plan.chips, result.jobs)]
    )


def _newest_visit(database_url: str) -> str:
    """The visit that is the last one before this run; empty in fresh records."""
    with Database.open(database_url) as database:
        newest = database.visits(1)
    return newest[0].id if newest else ""


def read_result(database_url: str, the_plan: Plan, before: str = "", *, wiring: Wiring | None = None) -> DemoResult:
    """Read the jobs and visits after the visit `before` from the records, oldest first, and hold them against the plan."""
    with Database.open(database_url) as database:
        jobs = database.jobs(MOST_ROWS)
        visits = list(takewhile(lambda visit: visit.id != before, database.visits(MOST_ROWS)))[::-1]
    visit_of = {job_id: visit.id for visit in visits for job_id in visit.job_ids}
    job_rows = [{**job_as_json(job), "visit": visit_of[job.id]} for job in reversed(jobs) if job.id in visit_of]
    visit_rows = [visit_as_json(visit) for visit in visits]
    if wiring is None:
        problems = check_expectations(the_plan, job_rows, visit_rows)
    else:
        problems = check_shift(the_plan.chips, job_rows, lines=wiring != "manual")
    return DemoResult(jobs=job_rows, visits=visit_rows, problems=problems, boards=len(the_plan.chips))


def result_as_json(result: DemoResult) -> str:
    """Return the one JSON object that `--json` prints."""
    content: dict[str, Any] = {"jobs": result.jobs, "visits": result.visits, "expected": not result.problems}
    if result.problems:
        content["problems"] = result.problems
    return msgspec.json.encode(content).decode()


async def _operate(bench: VirtualBench, floor: Floor, the_plan: Plan, request: DemoRequest) -> None:
    """The shift: every slot gets its boards one after the other."""
    if request.operated:
        chips = {label: [board.chip for board in boards] for label, boards in the_plan.boards.items()}
        manner, moves = request.manner or Manner.CAREFUL, tuple(floor.slots) if request.wiring == "fixture" else ()
        await Operator(bench, floor, chips, manner=manner, board_moves=moves, seed=request.seed).work()
        return
    async with asyncio.TaskGroup() as hands:
        for number, (label, boards) in enumerate(the_plan.boards.items()):
            delay_s = STAGGER_S * request.pace * number
            hands.create_task(_serve_slot(bench, floor, label, boards, delay_s, request))


async def _serve_slot(
    bench: VirtualBench,
    floor: Floor,
    label: str,
    boards: Sequence[PlannedBoard],
    delay_s: float,
    request: DemoRequest,
) -> None:
    await asyncio.sleep(delay_s)
    slot = floor.slots[label]
    for position, board in enumerate(boards):
        await asyncio.to_thread(bench.plug, label, board.chip, exchange=board.exchange)
        await _until(floor, partial(_has_ended, slot, position + 1))
        await asyncio.sleep(RESULT_SEEN_S * request.pace)
        if position + 1 < len(boards):
            await asyncio.to_thread(bench.unplug, label)
            await _until(floor, lambda: slot.programmer is None and not slot.busy)
            await asyncio.sleep(STAGGER_S * request.pace)


def _has_ended(slot: Slot, visits: int) -> bool:
    return slot.visits_ended >= visits


async def _until(floor: Floor, true: Callable[[], bool]) -> None:
    """Look at the lights until it is so."""
    seen = -1
    while not true():
        seen = await floor.wait_change(seen)
