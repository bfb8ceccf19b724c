"""The commands about single boards: `pending`, `board`, `rework`. What a person says here is a row with name and reason.

They may run beside the daemon: each is one short transaction, and the daemon sees it the next time it looks a board up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from station.cli.options import config_option, database_url_or_default
from station.cli.records import NotBlank, by_option, db_option
from station.errors import ConfigurationError
from station.model import chip_id_from_mac, format_chip_id
from station.proving import enrolment

if TYPE_CHECKING:
    from station.adapters.records import BoardEvent, BoardHistory, Database

F = TypeVar("F", bound=Callable[..., Any])
_FLASH_ID_LIMIT = 1 << 24

reason_option = click.option("--reason", required=True, type=NotBlank(), metavar="WHY", help="Why; goes on record.")
json_option = click.option("--json", "as_json", is_flag=True)
board_argument = click.argument("board", metavar="BOARD")


def records_options(command: F) -> F:
    """`--db` and `--config`: which records."""
    return config_option(db_option(command))


def said_by_a_person(command: F) -> F:
    """The options of every command that makes a row of what a person says."""
    return by_option(reason_option(records_options(command)))


class FlashId(click.ParamType):  # type: ignore[type-arg]
    """A JEDEC id as the reports print it, `0x1440e0` or `1440e0`: hexadecimal always."""

    name = "FLASHID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            flash_id = int(str(value), 16)
        except ValueError:
            flash_id = 0
        if not 0 < flash_id < _FLASH_ID_LIMIT:
            self.fail(f"{value!r} is no flash id; write it as the reports do, e.g. 0x1440e0", param, ctx)
        return flash_id


class Enrolment(click.ParamType):  # type: ignore[type-arg]
    """What a red board fails with."""

    name = "REASON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it goes on record."""
        try:
            return enrolment(str(value)) if value else ""
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group(invoke_without_command=True)
@click.pass_context
def pending(context: click.Context) -> None:
    """Boards that are flashed and wait for their test; without a command, list them."""
    if context.invoked_subcommand is None:
        context.invoke(pending_list)


@pending.command("list")
@records_options
@json_option
def pending_list(config_path: Path | None = None, database_url: str | None = None, *, as_json: bool = False) -> None:
    """List them, longest waiting first: age, MAC, chip ID, slot, recipe, and what each waits for."""
    from station.adapters.records import pending_report, render, utc_now

    found = pending_report(_records(config_path, database_url), utc_now())
    if as_json or found.rows:
        click.echo(render(found, "json" if as_json else "table"), nl=False)
    else:
        click.echo("no board waits")


@pending.command("drop")
@board_argument
@said_by_a_person
def pending_drop(board: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Give up waiting for BOARD: its job is closed as ABORTED. BOARD is a MAC, or a chip ID of one board only."""
    with _books(config_path, database_url) as database:
        mac = _mac(database, board)
        if database.drop_pending(mac, person, reason) == 0:
            raise ConfigurationError(file=f"board {mac}", problem="no job waits for it", fix="station pending list")
    click.echo(f"{mac} waits no more: its job is ABORTED, by {person}")


@click.group()
def board() -> None:
    """Say something about one board, or see all that is on record about it."""


@board.command("show")
@board_argument
@records_options
@json_option
def board_show(
    board: str,
    config_path: Path | None,
    database_url: str | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> None:
    """Show jobs, findings, marks, reworks and accepted flash chips. BOARD is a MAC or a chip ID."""
    from station.adapters.records import board_histories

    try:
        found = board_histories(_records(config_path, database_url), board)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps([_as_json(history) for history in found], indent=2))
        return
    for history in found:
        click.echo(_as_text(history), nl=False)
    if not found:
        click.echo(f"nothing is on record about {board}")


@board.command("mark")
@click.argument("mark", type=click.Choice(["golden", "red", "returned", "scrapped"]))
@board_argument
@said_by_a_person
@click.option(
    "--reason-code",
    type=Enrolment(),
    default="",
    metavar="REASON[:NAME]",
    help="Of a red board: what it fails with, and the check or value that shows it, e.g. out_of_limits:free_ram.",
)
def board_mark(
    mark: str,
    board: str,
    person: str,
    reason: str,
    config_path: Path | None,
    database_url: str | None,
    reason_code: str,
) -> None:
    """Mark BOARD: golden is known good, red is known bad, returned came back, scrapped was thrown away.

    A marked board is never flashed by itself.
    """
    from station.adapters.records import BoardEvent

    if (mark == "red") != bool(reason_code):
        raise click.UsageError("a red board needs --reason-code: what it fails with; no other board has one")
    event = BoardEvent(f"mark_{mark}")
    mac = _say(event, board, person, reason, config_path, database_url, reason_code=reason_code)
    click.echo(f"{mac} is marked {mark}, by {person}")


@board.command("unmark")
@board_argument
@said_by_a_person
def board_unmark(board: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Take every mark off BOARD."""
    from station.adapters.records import BoardEvent

    mac = _say(BoardEvent.UNMARK, board, person, reason, config_path, database_url)
    click.echo(f"{mac} carries no mark any more, by {person}")


@board.command("accept-flash")
@board_argument
@click.argument("flash_id", type=FlashId(), metavar="FLASHID")
@said_by_a_person
def board_accept_flash(
    board: str, flash_id: int, person: str, reason: str, config_path: Path | None, database_url: str | None
) -> None:
    """Accept that BOARD carries another flash chip than the records say; FLASHID as in a report, e.g. 0x1440e0."""
    from station.adapters.records import BoardEvent

    mac = _say(BoardEvent.ACCEPT_FLASH, board, person, reason, config_path, database_url, flash_id)
    click.echo(f"{mac} may carry flash {flash_id:#08x}, by {person}")


@click.group()
def rework() -> None:
    """Allow a board one more job, whatever the records say against it."""


@rework.command("open")
@board_argument
@said_by_a_person
def rework_open(board: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Allow BOARD one more job; the next one that begins uses it up."""
    from station.adapters.records import BoardEvent

    mac = _say(BoardEvent.REWORK_OPEN, board, person, reason, config_path, database_url)
    click.echo(f"a rework of {mac} is open: one more job may begin, by {person}")


@rework.command("close")
@board_argument
@said_by_a_person
def rework_close(board: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Take back the permission that no job has used."""
    from station.adapters.records import BoardEvent

    mac = _say(BoardEvent.REWORK_CLOSE, board, person, reason, config_path, database_url)
    click.echo(f"the rework of {mac} is closed, by {person}")


def _say(
    event: BoardEvent,
    board: str,
    person: str,
    reason: str,
    config_path: Path | None,
    database_url: str | None,
    flash_id: int | None = None,
    reason_code: str = "",
) -> str:
    """Put on record what a person says; return the MAC it is about."""
    from station.adapters.records import BoardEventRow, new_id

    with _books(config_path, database_url) as database:
        mac = _mac(database, board)
        row = BoardEventRow(
            id=new_id(),
            mac=mac,
            event=event,
            person=person,
            reason=reason,
            flash_id=flash_id,
            reason_code=reason_code,
        )
        database.add_board_event(row)
    return mac


def _records(config_path: Path | None, database_url: str | None) -> str:
    return database_url_or_default(database_url, config_path)


@contextmanager
def _books(config_path: Path | None, database_url: str | None) -> Iterator[Database]:
    """Open records that exist: what a person says must not end up in a new file beside the real one."""
    from station.adapters.records import Database, require_file

    url = _records(config_path, database_url)
    require_file(url)
    with Database.open(url) as database:
        yield database


def _mac(database: Database, board: str) -> str:
    try:
        return database.find_mac(board)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _as_json(history: BoardHistory) -> dict[str, Any]:
    known = history.known
    return {
        "mac": history.mac,
        "chip_id": format_chip_id(chip_id_from_mac(history.mac)),
        "known": known is not None,
        "flash_id": f"{known.flash_id:#08x}" if known is not None and known.flash_id is not None else None,
        "attempts": known.attempts if known is not None else 0,
        "judged_attempts": known.judged_attempts if known is not None else 0,
        "passes": len(known.passes) if known is not None else 0,
        "marks": sorted(known.marks) if known is not None else [],
        "enrolled": known.enrolled if known is not None else "",
        "rework_open": known is not None and known.rework_open,
        "accepted_flash_ids": [f"{one:#08x}" for one in sorted(known.accepted_flash_ids)] if known is not None else [],
        "numbers": [dict(row) for row in history.numbers.rows],
        "jobs": [dict(row) for row in history.jobs.rows],
        "events": [dict(row) for row in history.events.rows],
        "findings": [dict(row) for row in history.findings.rows],
    }


def _as_text(history: BoardHistory) -> str:
    from station.adapters.records import render

    shown = _as_json(history)
    marks = ", ".join(shown["marks"]) or "no mark"
    rework = "a rework is open" if shown["rework_open"] else "no rework is open"
    counts = f"attempts {shown['attempts']}, passed {shown['passes']}"
    lines = [
        f"{shown['mac']}  chip ID {shown['chip_id']}  flash {shown['flash_id'] or '?'}: {counts}; {marks}; {rework}\n"
    ]
    values = {name: value for row in shown["jobs"] for name, value in row["values"].items()}
    if values:
        lines.append(f"given: {', '.join(f'{name} {value}' for name, value in values.items())}\n")
    tables = (
        ("numbers", history.numbers),
        ("jobs", history.jobs),
        ("people", history.events),
        ("findings", history.findings),
    )
    lines += [f"\n{name}\n{render(table, 'table')}" for name, table in tables if table.rows]
    return "".join(lines)
