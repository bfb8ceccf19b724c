"""The commands that keep what is on record: `backup`, `restore`, and what an upgrade asks before it may happen."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from station.cli.options import config_option, load_or_default, needed_config_option

if TYPE_CHECKING:
    from station.adapters.backup import Made
    from station.adapters.restore import Restored
    from station.config import Config

EXIT_NOT_NOW = 75
"""EX_TEMPFAIL of sysexits.h: later, it may."""


@click.group(invoke_without_command=True)
@config_option
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="A file, or a directory; default: the second place, [backup] directory.",
)
@click.option("--json", "as_json", is_flag=True, help="What was made as one JSON object on standard output.")
@click.pass_context
def backup(context: click.Context, config_path: Path | None, to: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Copy records, slot map, configuration and recipes into one file, read it back, and only then delete old ones.

    The station may be running.
    """
    if context.invoked_subcommand is not None:
        return
    from station.adapters.backup import make_backup
    from station.adapters.records import utc_now

    made = make_backup(load_or_default(config_path), config_path, to=to, before="", now=utc_now())
    if as_json:
        click.echo(msgspec.json.encode(_as_json(made)).decode())
        return
    _say_made(made)


@backup.command("verify")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def backup_verify(file: Path) -> None:
    """Read a backup whole and say whether it holds. Changes nothing."""
    from station.adapters.archive import unpack

    with tempfile.TemporaryDirectory() as work:
        unpacked = unpack(file, Path(work))
    contents, manifest = unpacked.contents, unpacked.manifest
    jobs = f"{contents.jobs} jobs, {contents.passes} PASS" if contents else "no records"
    click.echo(
        f"{file} holds: station {manifest.station_id}, {manifest.made_at}, {jobs}, {len(manifest.members)} files"
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--journal",
    "journals",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Journal of finished jobs; default: those of the same station beside FILE.",
)
@click.option("--replace", is_flag=True, help="Move records that are here aside.")
@needed_config_option
def restore(file: Path, journals: tuple[Path, ...], replace: bool, config_path: Path) -> None:  # noqa: FBT001
    """Put the backup FILE back: records with the jobs made since, slot map, configuration, recipes. Stop the station first.

    What is here is moved aside, never deleted.
    """
    from station.adapters.records import utc_now
    from station.adapters.restore import restore_backup

    _say_restored(
        restore_backup(file, config_file=config_path, journals=journals or None, replace=replace, now=utc_now())
    )


@click.group()
def upgrade() -> None:
    """Ask before the program is replaced; the package does."""


@upgrade.command("check")
@config_option
def upgrade_check(config_path: Path | None) -> int:
    """Say whether the station may be stopped now: exit code 75 while a board is being made or a lot is open by hand."""
    return _check(load_or_default(config_path))


@upgrade.command("prepare")
@config_option
@click.option("--to-version", default="next", show_default=True, metavar="VERSION", help="Goes into the file's name.")
@click.option("--no-check", is_flag=True, help="Do not ask whether boards are being made: the station was stopped.")
def upgrade_prepare(config_path: Path | None, to_version: str, no_check: bool) -> int:  # noqa: FBT001
    """Check, make a backup, read it back, and print its path."""
    from station.adapters.backup import make_backup
    from station.adapters.records import utc_now

    config = load_or_default(config_path)
    code = 0 if no_check else _check(config)
    if code:
        return code
    to = None
    if not config.backup.directory:
        # No upgrade without a backup, be it on the same disk.
        to = config.state_dir / "backups"
        with suppress(OSError):
            to.mkdir(parents=True, exist_ok=True)
    made = make_backup(config, config_path, to=to, before=to_version, now=utc_now())
    _complain(made)
    click.echo(str(made.path))
    return 0


def _check(config: Config) -> int:
    from station.adapters.records import utc_now
    from station.adapters.upgrading import busy

    reason = busy(config, utc_now())
    if reason:
        click.echo(reason, err=True)
    return EXIT_NOT_NOW if reason else 0


def _say_made(made: Made) -> None:
    _complain(made)
    for old in made.deleted:
        click.echo(f"deleted {old}")
    held = f"{made.jobs} jobs, {made.passes} PASS" if made.manifest.schema else "no records yet"
    click.echo(f"{made.path} ({made.size_bytes} bytes): {held}, {len(made.manifest.members)} files; read back")


def _complain(made: Made) -> None:
    for problem in made.not_in_it:
        click.echo(problem, err=True)


def _as_json(made: Made) -> dict[str, object]:
    return {
        "path": str(made.path),
        "size_bytes": made.size_bytes,
        "jobs": made.jobs,
        "passes": made.passes,
        "made_at": made.manifest.made_at,
        "rows": made.manifest.rows,
        "members": [{"name": each.name, "path": each.path} for each in made.manifest.members],
        "deleted": [str(old) for old in made.deleted],
        "problems": list(made.not_in_it),
    }


def _say_restored(restored: Restored) -> None:
    for aside in restored.aside:
        click.echo(f"moved aside: {aside}")
    for place in restored.written:
        click.echo(f"written: {place}")
    for note in restored.notes:
        click.echo(note, err=True)
    click.echo(
        f"restored: {restored.jobs} jobs, {restored.passes} PASS; {restored.merged.jobs} of the jobs from the journal"
    )
