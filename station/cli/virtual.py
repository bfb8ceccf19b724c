"""The commands that play boards where there are none: `demo` and `bench`."""

from __future__ import annotations

import contextlib
import hashlib
import math
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from station.cli.options import database_option
from station.errors import ConfigurationError, RecordsUnwritable
from station.slotmap import label_number

if TYPE_CHECKING:
    from station.bench.faults import Fault
    from station.bench.scenario import Plan
    from station.demo import DemoRequest, DemoResult
    from station.floor import Floor
    from station.panel.server import Address

MOST_VIRTUAL_SLOTS = 64
USB_DIRECTORY = Path("/run/station-bench")
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


def _check_faults(faults: tuple[tuple[str, Fault], ...], board_count: int, *, usb: bool = False) -> None:
    """A fault on a slot without a board is wrong usage; said before anything starts."""
    from station.bench.scenario import check_faults

    try:
        check_faults([label_number(number) for number in range(board_count)], faults, usb=usb)
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


@click.command(epilog=_fault_help())
@slots_option
@click.option("--boards", type=click.IntRange(1, 10_000), help="How many boards in all; default: one per slot.")
@seed_option
@pace_option
@fault_option
@database_option(help_text="Where the records go; default: a file in a temporary directory.")
@click.option(
    "--wiring",
    type=click.Choice(["auto", "manual", "fixture"]),
    default="auto",
    show_default=True,
    help="Sticks with reset lines; sticks with a jumper; programmers that stay while boards are seated.",
)
@click.option(
    "--operator",
    "manner",
    type=click.Choice(["careful", "hasty", "confused"]),
    help="A person who obeys the words, pulls too early, or mixes things up, until every board is put away.",
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, exists=True),
    help="Make this product: a recipe, or a directory with a recipe.toml. Images, secrets, numbers and values are made up.",
)
@click.option(
    "--dump",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write what is in the flash of every board in the end to MAC.bin in this directory.",
)
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
    wiring: str,
    manner: str | None,
    recipe: Path | None,
    dump: Path | None,
    once: bool,  # noqa: FBT001 - click passes flags so
    as_json: bool,  # noqa: FBT001 - click passes flags so
    port: int | None,
) -> int:
    """Run the real daemon on virtual boards and judge whether every one ended as it must."""
    from station.bench.operator import Manner
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
            wiring=wiring,  # type: ignore[arg-type]  # click offers no other
            manner=Manner(manner) if manner else None,
            recipe=recipe,
            dump=dump,
        )
        try:
            result = _run_demo(request, directory)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
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
    import asyncio

    from rich.console import Console

    from station.adapters.logs import configure_logging
    from station.daemon import finish_on_signals
    from station.demo import run_demo
    from station.secrets import Vault
    from station.terminal import jobs_table, show_live

    vault = Vault()

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
            return await run_demo(request, finish=finish, show=show, all_done=all_done, vault=vault)
        finally:
            for task in shown:
                task.cancel()
            await asyncio.gather(*shown, return_exceptions=True)

    with (directory / "station.log").open("w", encoding="utf-8") as file:
        # The view says what happens; beside it, standard error gets only what is wrong.
        logging_to = (
            configure_logging("info", "auto", file, vault=vault)
            if console.is_terminal
            else configure_logging("warning", "auto", sys.stderr, vault=vault)
        )
        with logging_to:
            result = asyncio.run(main())
    console.print(jobs_table(result.jobs, result.visits))
    for problem in result.problems:
        say(f"NOT AS EXPECTED: {problem}", style="bold red")
    for address in addresses:
        say(f"The page was at http://{address}/ and the metrics at http://{address}/metrics")
    if not result.problems:
        say(f"Every one of {result.boards} boards ended as the scenario says it must.")
    return result


def _bench_help() -> str:
    from station.bench.faults import USB_FAULT_TOKENS
    from station.bench.typed import COMMANDS

    lines = "\n".join(f"  {command:<20} {text}" for command, text in COMMANDS.items())
    usb = "\n".join(f"  {token:<18} {text}" for token, text in USB_FAULT_TOKENS.items())
    return f"\b\nCommands, typed while it runs:\n{lines}\n\n{_fault_help()}\n\n\b\nOf USB devices only:\n{usb}"


def _small_image(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Write the image and end, whatever else was asked."""
    del parameter
    if path is None:
        return
    from station.bench.image import SMALL_IMAGE_BYTES, make_image

    image = make_image(size_bytes=SMALL_IMAGE_BYTES)
    try:
        path.write_bytes(image)
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"cannot be written ({error.strerror})", fix="name a file you may write"
        ) from None
    click.echo(f"{path}: {len(image)} bytes, sha256 {hashlib.sha256(image).hexdigest()}")
    context.exit()


@click.command(epilog=_bench_help())
@slots_option
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Where the ttys are linked; with --usb where slots.json is written. [default with --usb: /run/station-bench]",
)
@click.option(
    "--usb",
    is_flag=True,
    help="CH340s on the kernel's virtual USB host (vhci_hcd), for the installed station; as root.",
)
@click.option("--tower-light", is_flag=True, help="One more CH340 that is no programmer; only with --usb.")
@click.option("--unplugged", is_flag=True, help="All programmers begin in the hand; only with --usb.")
@click.option(
    "--small-image",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_small_image,
    expose_value=False,
    is_eager=True,
    metavar="FILE",
    help="Write a firmware image of 48 KB that the boards boot to FILE, for slow lines, and end.",
)
@click.option(
    "--wiring",
    type=click.Choice(["auto", "manual", "fixture"]),
    default="auto",
    show_default=True,
    help="auto: a hand grounds GPIO0 when that is needed; manual: a jumper, at GND at first; fixture: the same, and only"
    " seating a board gives it power.",
)
@click.option(
    "--boot",
    type=click.Choice(["rom", "run", "auto"]),
    help="GPIO0 at first: rom at GND, run free, auto at GND for boards without an image. [default: by the wiring]",
)
@click.option(
    "--keep-power",
    is_flag=True,
    help="Closing a port cuts no board's power, as with a real one. [default: by the wiring]",
)
@pace_option
@seed_option
@fault_option
def bench(
    slot_count: int,
    directory: Path | None,
    usb: bool,  # noqa: FBT001 - click passes flags so
    tower_light: bool,  # noqa: FBT001
    unplugged: bool,  # noqa: FBT001
    wiring: str,
    boot: str | None,
    keep_power: bool,  # noqa: FBT001 - click passes flags so
    pace: float,
    seed: int,
    faults: tuple[tuple[str, Fault], ...],
) -> None:
    """Run only virtual boards, for any serial client; their ttys are linked as DIR/A1, DIR/A2 and so on.

    With --usb they are USB devices instead, each in the same socket for every plug.
    """
    import asyncio

    from station.bench.standalone import StandaloneRequest, UsbRequest, run_standalone
    from station.daemon import finish_on_signals

    if directory is None and not usb:
        raise click.UsageError("Missing option '--dir'.")
    if (tower_light or unplugged) and not usb:
        raise click.UsageError("--tower-light and --unplugged go with --usb only")
    directory = directory or USB_DIRECTORY
    _check_faults(faults, slot_count, usb=usb)
    request = StandaloneRequest(
        slots=slot_count,
        directory=directory,
        boot=boot or ("auto" if wiring == "auto" else "rom"),  # type: ignore[arg-type]
        pace=pace,
        seed=seed,
        faults=faults,
        keep_power=keep_power or wiring == "fixture",
        usb=UsbRequest(lines=wiring == "auto", tower_light=tower_light, unplugged=unplugged) if usb else None,
    )
    where = "as USB devices" if usb else f"from {directory / label_number(0)} on"

    def say(text: str) -> None:
        click.echo(text, err=True)

    async def main() -> None:
        finish = asyncio.Event()
        finish_on_signals(finish)
        say(f"{slot_count} boards {where}, until Ctrl-C or SIGTERM")
        await run_standalone(request, finish=finish, say=say)

    asyncio.run(main())
