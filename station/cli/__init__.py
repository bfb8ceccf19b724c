"""The command line: argument parsing and calls, nothing else.

Exit codes: 0 done as asked, 1 FAIL or not as expected, 2 ERROR, 3 ABORTED, 64 wrong usage, 69 records that cannot be used
now, 74 a backup that cannot be made or does not hold, 75 not now, 78 wrong configuration (sysexits.h). Wrong input gives one
message on standard error that names the thing, what is wrong and what to do.
"""

from __future__ import annotations

import os
import sys

import click

from station.cli import bundles, layouts
from station.cli.boards import board, pending, rework
from station.cli.care import doctor, support
from station.cli.first import first
from station.cli.keep import backup, restore, upgrade
from station.cli.label import label
from station.cli.make import flash, inspect, run
from station.cli.qualify import qualify
from station.cli.recipes import recipe
from station.cli.records import db, lot, report
from station.cli.serial import serial
from station.cli.setup import config
from station.cli.slots import slots
from station.cli.succession import lot_succeed
from station.cli.virtual import bench, demo
from station.errors import BackupFailed, ConfigurationError, RecordsUnwritable

EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_INPUT_OUTPUT = 74
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="flashing-station", prog_name="station")
def station() -> None:
    """Plug in an ESP-01, get a green light and a record."""


for command in (
    run,
    demo,
    flash,
    inspect,
    bench,
    slots,
    lot,
    pending,
    board,
    rework,
    serial,
    label,
    report,
    db,
    recipe,
    config,
    doctor,
    support,
    qualify,
    backup,
    restore,
    upgrade,
    first,
):
    station.add_command(command)
for of_recipes in (*bundles.COMMANDS, *layouts.COMMANDS):
    recipe.add_command(of_recipes)
lot.add_command(lot_succeed)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        code = station.main(arguments, prog_name="station", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except ConfigurationError as error:
        _complain(str(error))
        sys.exit(EXIT_CONFIGURATION)
    except RecordsUnwritable as error:
        _complain(f"records cannot be used: {error}")
        sys.exit(EXIT_UNAVAILABLE)
    except BackupFailed as error:
        _complain(str(error))
        sys.exit(EXIT_INPUT_OUTPUT)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    """Say what was wrong: to a person as it is, to journald as an error (sd-daemon(3), systemd.exec(5))."""
    try:
        stderr = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        journal = False
    else:
        journal = os.environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"
    print(f"<3>{message}" if journal else message, file=sys.stderr)  # noqa: T201 - the message is the result
