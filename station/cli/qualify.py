"""The command of a first day with real boards: `qualify`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from station.cli.options import needed_config_option
from station.config import Config, load_config
from station.errors import ConfigurationError
from station.views import Progress

if TYPE_CHECKING:
    from station.qualification import SlotResult
    from station.qualifying.qualify import QualifyRequest

REPORT_NAME = "qualification.txt"
_SACRIFICE = (
    "Every board that is plugged in now is erased and written many times over, whatever is on it, and is no product"
    " afterwards: take boards that you can spare. Boards that are marked golden or red are refused; so are those that passed"
    " or wait for their test, unless you say --again."
)


@click.command()
@needed_config_option
@click.option("--boards", type=click.IntRange(1, 10_000), help="How many boards in all; default: one per slot.")
@click.option("--slots", "slots", metavar="A1,A2", help="Only these slots, in this order; default: all.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"The report; default: {REPORT_NAME} beside the records.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Also boards that passed, that wait for their test, or that were returned or scrapped.",
)
@click.option("--yes", is_flag=True, help="Do not ask whether these boards may be overwritten.")
def qualify(
    config_path: Path,
    boards: int | None,
    slots: str | None,
    out: Path | None,
    again: bool,  # noqa: FBT001 - click passes flags so
    yes: bool,  # noqa: FBT001 - click passes flags so
) -> int:
    """Measure on real boards what the emulation assumes of silicon, and how fast each slot may go. Stop the daemon first.

    Exit code: 0 when every board was measured to the end, 3 when it was ended before.
    """
    from station.qualifying.assumptions import as_text
    from station.qualifying.qualify import QualifyRequest

    config = load_config(config_path)
    wanted = tuple(label.strip() for label in slots.split(",") if label.strip()) if slots else ()
    _agree_to_sacrifice(yes=yes)
    measured, whole = _measure(config, QualifyRequest(boards=boards, slots=wanted, again=again))
    if not measured:
        click.echo("nothing was measured")
        return 3
    text = as_text(measured, station_id=config.station_id)
    click.echo(text, nl=False)
    report = out or config.state_dir / REPORT_NAME
    try:
        report.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            file=str(report), problem=f"cannot be written ({error.strerror})", fix="name another file with --out"
        ) from None
    click.echo(f"this report is {report}")
    return 0 if whole else 3


def _agree_to_sacrifice(*, yes: bool) -> None:
    """Say what happens to the boards, and ask where somebody can answer."""
    click.echo(_SACRIFICE, err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask whether these boards may be overwritten: say --yes")
    click.confirm("Go on?", abort=True, err=True)


def _measure(config: Config, request: QualifyRequest) -> tuple[tuple[SlotResult, ...], bool]:
    """Measure; return what was measured, and whether it was not ended before its time."""
    import asyncio

    from station.adapters.line import TtyOpener
    from station.adapters.logs import configure_logging
    from station.adapters.udev import UdevWatcher
    from station.daemon import finish_on_signals
    from station.qualifying.qualify import Person, qualify

    last: list[str] = []

    def show(slot: str, progress: Progress) -> None:
        line = f"{slot}:   {progress.note or progress.phase.value.lower()}"
        if last[-1:] != [line]:
            last[:] = [line]
            click.echo(line, err=True)

    async def main() -> tuple[tuple[SlotResult, ...], bool]:
        person = Person(say=click.echo, show=show)
        finish_on_signals(person.finish)

        def pressed() -> None:
            sys.stdin.readline()
            person.pressed.set()

        loop, by_hand = asyncio.get_running_loop(), sys.stdin.isatty()
        if by_hand:
            click.echo("Where a programmer cannot be unplugged, press Enter when its board was changed.", err=True)
            loop.add_reader(sys.stdin.fileno(), pressed)
        try:
            measured = await qualify(
                config,
                request,
                person,
                watcher=UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded),
                opener=TtyOpener(),
            )
        finally:
            if by_hand:
                loop.remove_reader(sys.stdin.fileno())
        return measured, not person.finish.is_set()

    with configure_logging(config.log.level, config.log.format, sys.stderr):
        return asyncio.run(main())
