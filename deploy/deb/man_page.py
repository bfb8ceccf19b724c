#!/usr/bin/python3
"""man_page.py VERSION: prints station(8), made of what the program itself says in `--help`.

It is run while the package is built, with the packages of the venv on its path; so the page names every command there is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from station.cli import station

HEAD = """\
.\\" Made by deploy/deb/man_page.py from what the commands say of themselves.
.TH STATION 8 "" "flashing-station {version}" "System Administration"
.SH NAME
station \\- mass-production flashing station for ESP-01 and ESP-01S boards
.SH SYNOPSIS
.B station
.I COMMAND
[\\fIOPTION\\fR ...]
.SH DESCRIPTION
The service
.B station.service
watches for CH340 programmers, makes every ESP8266 board that is plugged into a known slot, and keeps a record of each.
Its page is at http://127.0.0.1:8080/. The commands below set it up, look after it, and say what is on record.
.B station setup
leads from a fresh installation to the first green board.
.PP
Called by root, the commands that write records become the user
.BR station .
.SH COMMANDS
"""
TAIL = """\
.SH EXIT STATUS
0 done as asked; 1 FAIL, or not as expected; 2 ERROR; 3 ABORTED; 64 wrong usage; 69 records that cannot be used now; 74 a
backup that could not be made or read; 75 not now, because boards are being made; 78 wrong configuration.
.SH ENVIRONMENT
.TP
.B STATION_CONFIG
The configuration, where it is not /etc/station/station.toml.
.SH FILES
.TP
.I /etc/station/station.toml
The configuration; the package writes it once and never again.
.TP
.I /etc/station/recipes/
What can be made: recipes, with their images beside them.
.TP
.I /var/lib/station/
Records, slot map, serial numbers.
.TP
.I /var/backups/station/
Backups, and the journal of finished jobs; purging the package leaves them.
.SH SEE ALSO
.BR station-go-back (8),
.BR journalctl (1),
/usr/share/doc/flashing-station/
"""


def leaves(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it, in the order of the alphabet."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    if command.invoke_without_command:
        yield words, command
    for name in sorted(command.commands):
        yield from leaves(command.commands[name], f"{words} {name}")


def roff(text: str) -> str:
    """Text as roff takes it: on one line, nothing in it a request."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain[:1] in {".", "'"} else plain


def entry(words: str, command: click.Command) -> str:
    """One command: how it is called, what it does, what its options are."""
    context = click.Context(command, info_name=words)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [".TP", f"\\fB{roff(words)}\\fR {roff(usage)}", roff((command.help or "").replace("\b", ""))]
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    records = [record for each in options if (record := each.get_help_record(context))]
    lines.append(".RS")
    for option, said in records:
        if not option.endswith("--help"):
            lines += [".TP", f"\\fB{roff(option)}\\fR", roff(said)]
    return "\n".join([*lines, ".RE"])


def page(version: str) -> str:
    """The whole page."""
    entries = [entry(words, command) for words, command in leaves(station, "station")]
    return HEAD.format(version=version) + "\n".join(entries) + "\n" + TAIL


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
