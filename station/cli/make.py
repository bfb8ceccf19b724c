"""The commands at real programmers: `run`, and `flash` and `inspect` for one board by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from station.cli.options import config_option, database_option, load_or_default, needed_config_option
from station.config import Config, DatabaseSection, load_config
from station.errors import RecordsUnwritable
from station.model import CommittedJob, Phase
from station.properties import Gpio0, Reset, Role, SlotProperties, refusal
from station.views import Progress

if TYPE_CHECKING:
    from station.byhand import FlashRequest, FlashResult, InspectRequest


@click.command()
@needed_config_option
def run(config_path: Path) -> None:
    """Run the daemon: watch for programmers, make every board, serve the page."""
    import asyncio
    import faulthandler

    from station.adapters.lights.console import ConsoleLight
    from station.adapters.lights.led import LedLight
    from station.adapters.line import TtyOpener
    from station.adapters.logs import configure_logging
    from station.adapters.udev import UdevWatcher
    from station.daemon import finish_on_signals, run_station
    from station.doctor import examine
    from station.ports import LightDriver
    from station.secrets import Vault

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
                opener=TtyOpener(),
                lights=lights,
                finish=finish,
                examine=lambda: examine(config, in_daemon=True),
                dropped_log_lines=lambda: writer.dropped,
                vault=vault,
            )
        finally:
            for light in lights:
                light.close()

    # systemd's watchdog kills by SIGABRT: the journal then says where every thread stood.
    faulthandler.enable()
    vault = Vault()
    with configure_logging(config.log.level, config.log.format, sys.stderr, vault=vault) as writer:
        asyncio.run(main())


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
    "--reset",
    type=click.Choice([reset.value for reset in Reset]),
    help="What resets the board: RTS, or nothing but its power; default: as slot_defaults has it, else found out.",
)
@click.option(
    "--gpio0",
    type=click.Choice([gpio0.value for gpio0 in Gpio0]),
    help="Who holds GPIO0 at GND; default: as slot_defaults has it, else found out.",
)
@click.option("--again", is_flag=True, help="Flash the board even if it passed under this very recipe.")
@click.option("--no-record", is_flag=True, help="Leave no record.")
@config_option
@database_option(help_text="Where the record goes; default: as configured, else in the user's state directory.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output; everything else on standard error."
)
def flash(
    port: str,
    recipe_path: Path,
    baud: int | None,
    until: str | None,
    reset: str | None,
    gpio0: str | None,
    again: bool,  # noqa: FBT001 - click passes flags so
    no_record: bool,  # noqa: FBT001 - click passes flags so
    config_path: Path | None,
    database_url: str | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> int:
    """Make one board by hand.

    Exit code: 0 PASS, done already, or the asked phase reached; 1 FAIL; 2 ERROR; 3 ABORTED, or a hand is needed at the
    board first.
    """
    from station.byhand import EXIT_ERROR, FlashRequest, exit_code, port_problem

    config = _config_by_hand(config_path, database_url)
    problem = port_problem(port)
    if problem:
        raise click.UsageError(f"--port: {problem}")
    properties = _properties_by_hand(config, reset, gpio0)
    phase = Phase(until.upper()) if until else None
    request = FlashRequest(
        port=port,
        recipe=recipe_path,
        properties=properties,
        again=again,
        baud=baud,
        until=phase,
        record=not no_record,
    )
    try:
        flashed = _run_by_hand(config, request)
    except RecordsUnwritable as error:
        click.echo(f"records cannot be used: {error}", err=True)
        return EXIT_ERROR
    click.echo(_words_for(flashed, properties), err=True)
    if as_json:
        click.echo(msgspec.json.encode({"jobs": flashed.jobs, "visits": flashed.visits}).decode())
    return exit_code(flashed.result, until=phase)


def _config_by_hand(config_path: Path | None, database_url: str | None) -> Config:
    """As configured; without a file, defaults with the records in the user's own state directory."""
    config = load_or_default(config_path)
    if database_url is not None:
        config = msgspec.structs.replace(config, database=DatabaseSection(url=database_url))
    return config


def _properties_by_hand(config: Config, reset: str | None, gpio0: str | None) -> SlotProperties:
    """What the programmer of this one port is: as asked, else as configured for all slots, else to be found out."""
    properties = SlotProperties(
        reset=Reset(reset) if reset else config.slot_defaults.reset,
        gpio0=Gpio0(gpio0) if gpio0 else config.slot_defaults.gpio0,
    )
    problem = refusal(properties)
    if problem:
        raise click.UsageError(f"--reset, --gpio0: {problem}")
    return properties


def _run_by_hand(config: Config, request: FlashRequest | InspectRequest) -> FlashResult:
    """Run it, with one line on standard error per phase."""
    import asyncio

    from station.adapters.logs import configure_logging
    from station.byhand import make_by_hand
    from station.daemon import finish_on_signals
    from station.secrets import Vault

    last: list[Phase] = []
    vault = Vault()

    def tell(progress: Progress) -> None:
        if last[-1:] != [progress.phase]:
            last.append(progress.phase)
            click.echo(progress.phase, err=True)

    async def main() -> FlashResult:
        finish = asyncio.Event()
        finish_on_signals(finish)
        return await make_by_hand(config, request, tell=tell, finish=finish, vault=vault)

    with configure_logging(config.log.level, config.log.format, sys.stderr, vault=vault):
        return asyncio.run(main())


def _words_for(flashed: FlashResult, slot: SlotProperties) -> str:
    """What the technician reads, fit for a terminal whatever the board said."""
    from station.adapters.logs import one_line
    from station.reasons import Reason, words_for
    from station.visit import Finding

    result = flashed.result
    if isinstance(result, CommittedJob):
        return one_line(words_for(Reason(result.reason), result.particulars, slot)) if result.reason else "PASS"
    if isinstance(result, Finding):
        return one_line(words_for(result.reason, result.detail, slot))
    return words_for(Reason.RECORDS_UNWRITABLE)


@click.command()
@click.argument("port")
@click.option("--dump", type=click.Path(path_type=Path, dir_okay=False), help="Copy the whole flash into this file.")
@click.option("--reset", type=click.Choice([reset.value for reset in Reset]), help="As for flash.")
@click.option("--gpio0", type=click.Choice([gpio0.value for gpio0 in Gpio0]), help="As for flash.")
@config_option
@database_option(help_text="Where the record goes; default: as configured, else in the user's state directory.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output; everything else on standard error."
)
def inspect(
    port: str,
    dump: Path | None,
    reset: str | None,
    gpio0: str | None,
    config_path: Path | None,
    database_url: str | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> int:
    """Say who the board at PORT is and what is on record about it, without writing to it.

    Exit code: 0 when it told; 2 and 3 as for flash.
    """
    from station.byhand import EXIT_ERROR, InspectRequest, exit_code, port_problem

    config = _config_by_hand(config_path, database_url)
    problem = port_problem(port)
    if problem:
        raise click.UsageError(f"PORT: {problem}")
    if dump is not None and dump.exists():
        raise click.UsageError(f"--dump: {dump} exists already; name another file")
    properties = replace(_properties_by_hand(config, reset, gpio0), role=Role.INSPECT)
    try:
        seen = _run_by_hand(config, InspectRequest(port=port, properties=properties, dump=dump))
    except RecordsUnwritable as error:
        click.echo(f"records cannot be used: {error}", err=True)
        return EXIT_ERROR
    click.echo(_words_for(seen, properties), err=True)
    if as_json:
        click.echo(msgspec.json.encode({"jobs": seen.jobs, "visits": seen.visits}).decode())
    return exit_code(seen.result, until=None)
