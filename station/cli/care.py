"""The commands that look after the station: `doctor`, and `support` for a bug report."""

from __future__ import annotations

import functools
import textwrap
from pathlib import Path

import click
import msgspec

from station.cli.options import config_option, load_or_default
from station.config import Config
from station.errors import ConfigurationError
from station.views import Diagnosis, Level

_COLUMNS = 110


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="The findings as one JSON list.")
def doctor(config_path: Path | None, as_json: bool) -> int:  # noqa: FBT001 - click passes flags so
    """Look at machine, bench and records: what is well, what is not, and the fix in words. Changes nothing.

    Exit code: 0 without problems, warnings allowed; 1 with problems. Run it as root to have everything looked at.
    """
    from station.doctor import examine

    config, error = _config_if_good(config_path)
    found = examine(config, config_error=error)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo(_as_text(found))
    return 1 if any(each.level is Level.PROBLEM for each in found) else 0


@click.command()
@config_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: a new file in this directory.")
def support(config_path: Path | None, out: Path | None) -> None:
    """Write one file for a bug report: logs, doctor, configuration, last jobs; without secrets, for your eyes first."""
    from station.adapters.logs import one_line
    from station.support import write_bundle

    config, error = _config_if_good(config_path)
    bundle = write_bundle(config, config_path, out, config_error=error)
    click.echo(f"{bundle.file} holds")
    for name, size_bytes in bundle.members.items():
        click.echo(f"  {name} ({size_bytes} bytes)")
    for name, why in bundle.missing.items():
        click.echo(f"not in it: {name}: {one_line(why)}")
    click.echo("look through it before you hand it on")


def _config_if_good(config_path: Path | None) -> tuple[Config, ConfigurationError | None]:
    """Return the configuration, or the defaults and why it cannot be used: the rest of the machine is looked at anyway."""
    try:
        return load_or_default(config_path), None
    except ConfigurationError as error:
        return load_or_default(None), error


def _as_text(found: tuple[Diagnosis, ...]) -> str:
    """The worst last, right above the summary: that is where the eye is when the command has ended."""
    from station.doctor.patient import plural

    lines = []
    width = max(len(each.check) for each in found)
    for level in Level:
        for each in found:
            if each.level is level:
                lines += _lines_of(each, width)
    counts = {level: sum(each.level is level for each in found) for level in Level}
    problems, warnings = plural(counts[Level.PROBLEM], "problem"), plural(counts[Level.WARNING], "warning")
    return "\n".join((*lines, f"{problems}, {warnings}, {counts[Level.OK]} ok"))


def _lines_of(each: Diagnosis, width: int) -> list[str]:
    head, indent = f"{each.level:<8} {each.check:<{width}}  ", " " * (11 + width)
    # Paths and commands stay whole, so that they can be copied.
    wrap = functools.partial(
        textwrap.wrap, width=_COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    lines = wrap(each.said, initial_indent=head)
    return lines + wrap(f"fix: {each.fix}", initial_indent=indent) if each.fix else lines
