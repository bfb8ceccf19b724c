"""The composition root: puts the real parts together, runs the loops, and brings everything down in order.

`run_station` is the daemon of `station run` and of the demo alike; only the two seams (who is plugged in, how to open it)
are given to it. Order of start: lock, records, recipe, page, then listening to udev, then looking at what is there. Order
of end: nothing new, running jobs, records, page, lights, lock. Nothing here knows what happens to a board.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import structlog

from station.adapters.esp8266 import EsptoolFlasher
from station.adapters.host import host_facts, only_daemon
from station.adapters.label_lane import LabelLane, label_maker
from station.adapters.littlefs import make_filesystem
from station.adapters.metrics import Metrics, new_registry
from station.adapters.notify import notify, watchdog_s
from station.adapters.printer import open_printer
from station.adapters.records import Database, board_lives, database_path, new_id, utc_now
from station.adapters.repl import RawRepl
from station.adapters.second_place import SecondPlace
from station.boarddata import BoardDataSource
from station.bookkeeping import count_job
from station.claims import Claims
from station.config import Config
from station.doctor.rounds import WORDS, Examine, go_round
from station.floor import TICK_S, Floor
from station.labels import load_template
from station.model import HostFacts, JobEnd, JobStart, Plug
from station.orders import KeptRecipes, load_work, orders_for
from station.panel.app import make_app, make_boards_app, make_metrics_app
from station.panel.server import Address, serve
from station.ports import LightDriver, LineOpener, ProgrammerWatcher
from station.qualification import Qualification, adapter_kind, ladder_for, why_left_out
from station.qualification import load as load_qualification
from station.secrets import Vault, secrets_directory
from station.slotmap import load_slot_map
from station.visit import Tools

BOOKS_S = 2.0
PINGS = 3
"""So many signs of life are sent in the time in which systemd wants one."""
LOOKS_MISSED = 3
"""After so many missed looks at who is plugged in no sign of life is sent any more, but never within `LOOKS_MISSED_S`."""
LOOKS_MISSED_S = 15.0
log = structlog.get_logger()


async def run_station(
    config: Config,
    *,
    file: str,
    watcher: ProgrammerWatcher,
    opener: LineOpener,
    lights: Sequence[LightDriver] = (),
    finish: asyncio.Event,
    examine: Examine | None = None,
    dropped_log_lines: Callable[[], int] = lambda: 0,
    ready: Callable[[Floor, Address], None] = lambda _floor, _address: None,
    vault: Vault | None = None,
) -> None:
    """Run the station until `finish` is set; raises `ConfigurationError` before anything is plugged or served.

    `file` names the configuration in errors. `examine` is the doctor, asked in a thread at start and on its rounds; None,
    where machine and programmers are not real, asks nobody. `ready` is called once, with the page up and plugs seen. The log
    takes secrets out of the `vault`.
    """
    recipe = load_work(config)
    slot_map = load_slot_map(config)
    async with AsyncExitStack() as stack:
        stack.enter_context(only_daemon(config.state_dir))
        flasher = EsptoolFlasher()
        facts = functools.partial(host_facts, config.station_id, flasher.version)
        metrics = Metrics(new_registry(), host=facts(), slots=slot_map, checks=WORDS)
        database = stack.enter_context(
            Database.open(
                config.database_url, exclusive=True, station_id=config.station_id, on_write=metrics.database_write
            )
        )
        _recover(database)
        second = stack.enter_context(_second_place(config))
        floor = Floor(
            config=config,
            slot_map=slot_map,
            recipe=recipe,
            orders=orders_for(config, database, recipe),
            watcher=watcher,
            tools=replace(
                make_tools(config, database, flasher, opener, facts, metrics, second, vault),
                proofs=database.proofs,
                label_trouble=stack.enter_context(_labels(config, database, metrics, file)),
            ),
            books=database,
            gauges=metrics,
            lights=lights,
        )
        address = await stack.enter_async_context(_pages(config, floor, metrics, file))
        note = functools.partial(_note, metrics, dropped_log_lines, second)
        await stack.enter_async_context(_running(floor, config, watcher, finish, note, examine))
        log.info("station.ready", page=f"http://{address}/", slots=len(slot_map), recipe=recipe and recipe.name)
        notify("READY=1", f"STATUS=page at http://{address}/")
        ready(floor, address)
        await finish.wait()
        notify("STOPPING=1")
        log.info("station.stopping")


def make_tools(
    config: Config,
    database: Database,
    flasher: EsptoolFlasher,
    opener: LineOpener,
    facts: Callable[[], HostFacts],
    metrics: Metrics,
    second: SecondPlace | None = None,
    vault: Vault | None = None,
) -> Tools:
    """Return what every job uses; what is secret is put into the `vault` before anybody can say it."""

    def on_record(start: JobStart, end: JobEnd) -> None:
        count_job(metrics, start, end)
        if second is not None:
            second.finished(start.id)

    return Tools(
        opener=opener,
        flasher=flasher,
        make_repl=RawRepl,
        recorder=database,
        settings=config.flashing,
        claims=Claims(),
        host=facts,
        clock=time.monotonic,
        now=utc_now,
        new_id=new_id,
        on_record=on_record,
        board_data=BoardDataSource(
            numbers=database.numbers,
            values=Path(config.work.values) if config.work.values else None,
            secrets=secrets_directory(config.work.secrets),
            vault=vault or Vault(),
        ),
        make_filesystem=make_filesystem,
        kept_recipe=KeptRecipes(database, config.state_dir),
        operator=config.station.operator,
        allowed_rates=_allowed_rates(load_qualification(config.state_dir)),
    )


def _allowed_rates(measured: Qualification) -> Callable[[Plug, tuple[int, ...]], tuple[int, ...]]:
    """Return what leaves out of the ladder what was not measured in a slot, and says so once per slot and kind of adapter."""
    said: set[str] = set()

    def allowed(plug: Plug, ladder: tuple[int, ...]) -> tuple[int, ...]:
        place, kind = plug.programmer.place, adapter_kind(plug.programmer)
        why = why_left_out(ladder, place, measured, kind)
        if why and f"{place} {why}" not in said:
            said.add(f"{place} {why}")
            log.info("slot.rates_left_out", slot=plug.slot, adapter=kind, why=why)
        return ladder_for(ladder, place, kind, measured)

    return allowed


def finish_on_signals(finish: asyncio.Event) -> None:
    """Set `finish` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, finish.set)


@asynccontextmanager
async def _pages(config: Config, floor: Floor, metrics: Metrics, file: str) -> AsyncIterator[Address]:
    """Serve the page, and on addresses of their own the metrics and the boards' pages, where they are wanted."""
    boards = functools.partial(board_lives, config.database_url)
    async with AsyncExitStack() as stack:
        app = make_app(floor, metrics, boards=boards)
        address = await stack.enter_async_context(serve(app, config.http.listen, key="http.listen", file=file))
        if config.metrics.listen:
            office = serve(make_metrics_app(metrics), config.metrics.listen, key="metrics.listen", file=file)
            await stack.enter_async_context(office)
        if config.label.listen:
            phones = serve(make_boards_app(boards), config.label.listen, key="label.listen", file=file)
            await stack.enter_async_context(phones)
        yield address


@contextmanager
def _labels(config: Config, database: Database, metrics: Metrics, file: str) -> Iterator[Callable[[], str]]:
    """Print labels where a printer is configured; what is yielded says why none are printed."""
    section = config.label
    if not section.printer:
        yield lambda: ""
        return
    database.labels.wanted = section.on == "pass"
    printer = functools.partial(open_printer, section.printer)
    make = label_maker(config, load_template(section, file=file))
    with LabelLane(database.labels, open_printer=printer, render=make, gauges=metrics) as lane:
        yield lambda: lane.trouble


def _recover(database: Database) -> None:
    """Start-up is recovery: what was running when the station died is nobody's pass."""
    aborted, paused = database.recover_running(utc_now()), database.pause_hand_opened_lots()
    if aborted or paused:
        log.warning("station.recovered", jobs_aborted=aborted, lots_paused=paused)


@asynccontextmanager
async def _running(
    floor: Floor,
    config: Config,
    watcher: ProgrammerWatcher,
    finish: asyncio.Event,
    note: Callable[[], None],
    examine: Examine | None,
) -> AsyncIterator[None]:
    """Listen first, look second; keep looking; at the end close the floor before anything it uses.

    A loop that breaks sets `finish`, and its exception comes out at the end: a station without deadlines must not go on.
    """
    loops: list[tuple[float, Callable[[], Awaitable[None] | None]]] = [
        (config.usb.reconcile_s, floor.reconcile),
        (TICK_S, floor.tick),
        (BOOKS_S, floor.keep_books),
        (BOOKS_S, note),
    ]
    wanted_s = watchdog_s()
    if wanted_s is not None:
        blind_at_most_s = max(LOOKS_MISSED * config.usb.reconcile_s, LOOKS_MISSED_S)
        loops.append((wanted_s / PINGS, functools.partial(_tell_watchdog, floor, blind_at_most_s)))
    watcher.start(floor.reconcile)
    tasks: list[asyncio.Task[None]] = []
    try:
        await floor.keep_books()
        floor.reconcile()
        for seconds, act in loops:
            tasks.append(asyncio.create_task(_every(seconds, act)))
            tasks[-1].add_done_callback(lambda _: finish.set())
        if examine is not None:
            tasks.append(asyncio.create_task(go_round(examine, floor.diagnosed)))
        yield
    finally:
        # Hands go on while jobs are finished: an unplug must release its line until the very end.
        await floor.close(config.shutdown.finish_s)
        watcher.stop()
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


def _second_place(config: Config) -> AbstractContextManager[SecondPlace | None]:
    """The journal of finished jobs and the backups, where a second place is configured."""
    if not config.backup.directory:
        return nullcontext()
    return SecondPlace(Path(config.backup.directory), config.station_id, database_path(config.database_url))


def _note(metrics: Metrics, dropped_log_lines: Callable[[], int], second: SecondPlace | None) -> None:
    """Bring the metrics up to what is counted elsewhere: log lines that nobody took, and the state of the second place."""
    while metrics.log_events_dropped < dropped_log_lines():
        metrics.log_event_dropped()
    if second is not None:
        metrics.second_place(behind=second.behind(), backup_age_s=second.backup_age_s())


def _tell_watchdog(floor: Floor, blind_at_most_s: float) -> None:
    """Say that the loop turns, unless the station has not seen for too long who is plugged in: then it does not work."""
    if floor.blind_s <= blind_at_most_s:
        notify("WATCHDOG=1")


async def _every(seconds: float, act: Callable[[], Awaitable[None] | None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        waiting = act()
        if waiting is not None:
            await waiting
