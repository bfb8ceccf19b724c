"""The commands that make boards: `run`, `demo`, `flash`, `bench`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from station.cli.options import database_option, default_state_dir
from station.config import Config, DatabaseSection, StationSection, load_config
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import CommittedJob, Phase, Progress, Wiring
from station.slotmap import label_number

if TYPE_CHECKING:
    from station.bench.faults import Fault
    from station.bench.scenario import Plan
    from station.byhand import FlashRequest, FlashResult
    from station.demo import DemoRequest, DemoResult
    from station.floor import Floor
    from station.panel.server import Address

MOST_VIRTUAL_SLOTS = 64
LOG_COLUMNS = 140
"""How wide tables are where standard error is a file."""


class FaultType(click.ParamType):  # type: ignore[type-arg]
    """`SLOT:TOKEN[@ARGUMENT]`, checked by the bench's own parser."""

    name = "SLOT:TOKEN[@ARG]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Fault]:
        """Return slot label and fault."""
        from station.bench.faults import parse_slot_fault

        try:
            return parse_slot_fault(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class PaceType(click.FloatRange):
    """A pace; `nan` is in no range, and click does not notice."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the pace."""
        pace = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is no number", param, ctx) if math.isnan(pace) else pace


def _check_faults(faults: tuple[tuple[str, Fault], ...], board_count: int) -> None:
    """A fault on a slot without a board is wrong usage; said before anything starts."""
    from station.bench.scenario import check_faults

    try:
        check_faults([label_number(number) for number in range(board_count)], faults)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _fault_help() -> str:
    from station.bench.faults import FAULT_TOKENS

    lines = "\n".join(f"  {token:<16} {text}" for token, text in FAULT_TOKENS.items())
    return f"\b\nFault tokens:\n{lines}"


slots_option = click.option(
    "--slots", "slot_count", type=click.IntRange(1, MOST_VIRTUAL_SLOTS), default=8, show_default=True
)
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Where all chance comes from.")
pace_option = click.option(
    "--pace",
    type=PaceType(0.0, 10.0),
    default=1.0,
    show_default=True,
    help="1 is real time by the measured chip, 0 as fast as possible.",
)
fault_option = click.option(
    "--fault", "faults", type=FaultType(), multiple=True, help="A fault of the first board in a slot; may be repeated."
)


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="station.toml")
def run(config_path: Path) -> None:
    """Run the daemon: watch for programmers, make every board, serve the page."""
    from station.adapters.lights.console import ConsoleLight
    from station.adapters.lights.led import LedLight
    from station.adapters.line import TtyOpener
    from station.adapters.logs import configure_logging
    from station.adapters.udev import UdevWatcher
    from station.daemon import finish_on_signals, run_station
    from station.ports import LightDriver

    config = load_config(config_path)

    async def main() -> None:
        finish = asyncio.Event()
        finish_on_signals(finish)
        lights: list[LightDriver] = []
        if config.light.green or config.light.red or config.light.amber:
            lights.append(LedLight(config.light))
        if sys.stdout.isatty():
            lights.append(ConsoleLight(sys.stdout))
        try:
            await run_station(
                config,
                file=str(config_path),
                watcher=UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded),
                opener=TtyOpener(wiring=Wiring(config.flashing.wiring)),
                lights=lights,
                finish=finish,
                dropped_log_lines=lambda: writer.dropped,
            )
        finally:
            for light in lights:
                light.close()

    with configure_logging(config.log.level, config.log.format, sys.stderr) as writer:
        asyncio.run(main())


@click.command(epilog=_fault_help())
@slots_option
@click.option("--boards", type=click.IntRange(1, 10_000), help="How many boards in all; default: one per slot.")
@seed_option
@pace_option
@fault_option
@database_option(help_text="Where the records go; default: a file in a temporary directory.")
@click.option("--once", is_flag=True, help="End when all boards are done, instead of serving until SIGTERM.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output; everything else on standard error."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Of the page; 0 takes a free one. [default: 8080, or a free one]"
)
def demo(
    slot_count: int,
    boards: int | None,
    seed: int,
    pace: float,
    faults: tuple[tuple[str, Fault], ...],
    database_url: str | None,
    once: bool,  # noqa: FBT001 - click passes flags so
    as_json: bool,  # noqa: FBT001 - click passes flags so
    port: int | None,
) -> int:
    """Run the real daemon on virtual boards and judge whether every one ended as it must."""
    from station.demo import DemoRequest, result_as_json

    _check_faults(faults, min(slot_count, boards or slot_count))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="station-demo-")))
        request = DemoRequest(
            slots=slot_count,
            boards=boards or slot_count,
            seed=seed,
            pace=pace,
            faults=faults,
            database_url=database_url or f"sqlite:///{directory / 'demo.db'}",
            state_dir=directory,
            port=_free_port(8080) if port is None else port,
            once=once,
        )
        try:
            result = _run_demo(request, directory)
        except RecordsUnwritable as error:
            raise _unusable_records(request.database_url, error) from None
    if as_json:
        click.echo(result_as_json(result))
    return 1 if result.problems else 0


def _unusable_records(url: str, error: RecordsUnwritable) -> ConfigurationError:
    return ConfigurationError(file=url, key="--db", problem=str(error), fix="name another database, or repair this one")


def _free_port(wanted: int) -> int:
    """Return `wanted`, or 0 (any) when something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return 0 if probe.connect_ex(("127.0.0.1", wanted)) == 0 else wanted


def _run_demo(request: DemoRequest, directory: Path) -> DemoResult:
    """Run it with the terminal view; logs go to a file where the view would be disturbed."""
    from rich.console import Console

    from station.adapters.logs import configure_logging
    from station.daemon import finish_on_signals
    from station.demo import run_demo
    from station.terminal import jobs_table, show_live

    width = None if sys.stderr.isatty() else LOG_COLUMNS
    console = Console(stderr=True, emoji=False, highlight=False, width=width)
    addresses: list[Address] = []

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, soft_wrap=True)

    async def main() -> DemoResult:
        finish = asyncio.Event()
        finish_on_signals(finish)
        shown: list[asyncio.Task[None]] = []

        def show(floor: Floor, address: Address, the_plan: Plan) -> None:
            addresses.append(address)
            say(f"{the_plan.count} boards; page http://{address}/  metrics http://{address}/metrics")
            shown.append(asyncio.create_task(show_live(floor, console)))

        def all_done() -> None:
            if not request.once:
                say(f"All boards are done. The page stays at http://{addresses[0]}/ until Ctrl-C or SIGTERM.")

        try:
            return await run_demo(request, finish=finish, show=show, all_done=all_done)
        finally:
            for task in shown:
                task.cancel()
            await asyncio.gather(*shown, return_exceptions=True)

    with (directory / "station.log").open("w", encoding="utf-8") as file:
        # The view says what happens; beside it, standard error gets only what is wrong.
        logging_to = (
            configure_logging("info", "auto", file)
            if console.is_terminal
            else configure_logging("warning", "auto", sys.stderr)
        )
        with logging_to:
            result = asyncio.run(main())
    console.print(jobs_table(result.jobs, result.visits))
    for problem in result.problems:
        say(f"NOT AS EXPECTED: {problem}", style="bold red")
    for address in addresses:
        say(f"The page was at http://{address}/ and the metrics at http://{address}/metrics")
    if not result.problems:
        say(f"Every one of {len(result.visits)} boards ended as the scenario says it must.")
    return result


@click.command()
@click.option("--port", required=True, help="Any serial device: /dev/ttyUSB0, a pty, a link to one.")
@click.option("--recipe", "recipe_path", type=click.Path(path_type=Path), required=True)
@click.option("--baud", type=click.IntRange(9600, 3_000_000), help="First rate to try; default: the configured ladder.")
@click.option(
    "--until",
    type=click.Choice([phase.value.lower() for phase in Phase], case_sensitive=False),
    help="Stop after this phase, never with a PASS; self_test is the last phase, so the whole board.",
)
@click.option(
    "--wiring",
    type=click.Choice([wiring.value for wiring in Wiring]),
    help="Whether DTR and RTS reach the board; default: as configured, else auto.",
)
@click.option("--no-record", is_flag=True, help="Leave no record.")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="station.toml")
@database_option(help_text="Where the record goes; default: as configured, else in the user's state directory.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output; everything else on standard error."
)
def flash(
    port: str,
    recipe_path: Path,
    baud: int | None,
    until: str | None,
    wiring: str | None,
    no_record: bool,  # noqa: FBT001 - click passes flags so
    config_path: Path | None,
    database_url: str | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> int:
    """Make one board by hand.

    Exit code: 0 PASS or the asked phase reached, 1 FAIL, 2 ERROR, 3 ABORTED or a hand is needed at the board first.
    """
    from station.byhand import EXIT_ERROR, FlashRequest, exit_code, port_problem

    config = (
        load_config(config_path) if config_path else Config(station=StationSection(state_dir=str(default_state_dir())))
    )
    if database_url is not None:
        config = msgspec.structs.replace(config, database=DatabaseSection(url=database_url))
    problem = port_problem(port)
    if problem:
        raise click.UsageError(f"--port: {problem}")
    phase = Phase(until.upper()) if until else None
    request = FlashRequest(
        port=port,
        recipe=recipe_path,
        wiring=Wiring(wiring or config.flashing.wiring),
        baud=baud,
        until=phase,
        record=not no_record,
    )
    try:
        flashed = _run_flash(config, request)
    except RecordsUnwritable as error:
        click.echo(f"records cannot be used: {error}", err=True)
        return EXIT_ERROR
    click.echo(_words_for(flashed), err=True)
    if as_json:
        click.echo(msgspec.json.encode({"jobs": flashed.jobs, "visits": flashed.visits}).decode())
    return exit_code(flashed.result, until=phase)


def _run_flash(config: Config, request: FlashRequest) -> FlashResult:
    """Run it, with one line on standard error per phase."""
    from station.adapters.logs import configure_logging
    from station.byhand import flash_by_hand
    from station.daemon import finish_on_signals

    last: list[Phase] = []

    def tell(progress: Progress) -> None:
        if last[-1:] != [progress.phase]:
            last.append(progress.phase)
            click.echo(progress.phase, err=True)

    async def main() -> FlashResult:
        finish = asyncio.Event()
        finish_on_signals(finish)
        return await flash_by_hand(config, request, tell=tell, finish=finish)

    with configure_logging(config.log.level, config.log.format, sys.stderr):
        return asyncio.run(main())


def _words_for(flashed: FlashResult) -> str:
    """What the technician reads, fit for a terminal whatever the board said."""
    from station.adapters.logs import one_line
    from station.reasons import Reason, words_for
    from station.visit import Finding

    result = flashed.result
    if isinstance(result, CommittedJob):
        return one_line(words_for(Reason(result.reason), result.particulars)) if result.reason else "PASS"
    if isinstance(result, Finding):
        return one_line(words_for(result.reason, result.detail))
    return words_for(Reason.RECORDS_UNWRITABLE)


@click.command(epilog=_fault_help())
@slots_option
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True, help="Where the ttys are linked.")
@click.option("--wiring", type=click.Choice(["auto", "manual"]), default="auto", show_default=True)
@click.option(
    "--boot",
    type=click.Choice(["rom", "run", "auto"]),
    help="Where a board comes up; default: auto, or rom when manual.",
)
@pace_option
@seed_option
@fault_option
def bench(
    slot_count: int,
    directory: Path,
    wiring: str,
    boot: str | None,
    pace: float,
    seed: int,
    faults: tuple[tuple[str, Fault], ...],
) -> None:
    """Run only virtual boards, for any serial client; their ttys are linked as DIR/A1, DIR/A2 and so on."""
    from station.bench.standalone import StandaloneRequest, run_standalone
    from station.daemon import finish_on_signals

    _check_faults(faults, slot_count)
    request = StandaloneRequest(
        slots=slot_count,
        directory=directory,
        boot=boot or ("rom" if wiring == "manual" else "auto"),  # type: ignore[arg-type]
        pace=pace,
        seed=seed,
        faults=faults,
    )

    async def main() -> None:
        finish = asyncio.Event()
        finish_on_signals(finish)
        click.echo(f"{slot_count} boards from {directory / label_number(0)} on, until Ctrl-C or SIGTERM", err=True)
        await run_standalone(request, finish=finish)

    asyncio.run(main())
