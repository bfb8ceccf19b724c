"""A report as a person or a spreadsheet sees it: a table for the terminal, CSV, or JSON.

What a board or an adapter said can neither run nor repaint anything: control characters are shown as escapes, CSV text that a
spreadsheet would take for a formula (CWE-1236, OWASP ASVS 1.2.10) or turn into a number or a date gets an apostrophe in front.
Numbers are never touched.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from station.adapters.records.report import Report

if TYPE_CHECKING:
    from rich.text import Text

Format = Literal["table", "json", "csv"]
TABLE_WIDTH_CHARACTERS = 160
# The last four are = + - @ in full width, which some spreadsheets take for the same.
_RUNS_AS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# `2.3` (a hub path), `0262` (an adapter version), `1440e0`, `2184:0057` (a USB id, 2184 hours 57 minutes), `1-2`.
_TURNS_INTO_NUMBER = re.compile(r"\d[\d.,]*(?:[eE][+-]?\d+)?|\d{1,4}(?:[-/:]\d{1,4}){1,2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def render(report: Report, fmt: Format) -> str:
    """Return the report as text, ending in a newline; the notes stand only under the table."""
    match fmt:
        case "json":
            return json.dumps([dict(row) for row in report.rows], indent=2) + "\n"
        case "csv":
            return _csv(report)
        case "table":
            return _table(report)


def spreadsheet_safe(text: str) -> str:
    """Return `text` so that a spreadsheet shows it as it is: neither run as a formula nor turned into a number."""
    if text.startswith(_RUNS_AS_FORMULA) or _TURNS_INTO_NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def one_line(text: str) -> str:
    """Return `text` with every control and direction character as an escape: one field stays one line."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _csv(report: Report) -> str:
    out = io.StringIO(newline="")
    # Quoted text and bare numbers: no field can end early in a spreadsheet that splits at semicolons.
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(report.columns)
    for row in report.rows:
        writer.writerow([_csv_cell(row, column) for column in report.columns])
    return out.getvalue()


def _csv_cell(row: Mapping[str, Any], column: str) -> str | int | float:
    value = row[column]
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int() | float():
            return value
        case _:
            return spreadsheet_safe(str(value))


def _table(report: Report) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, header_style="")
    for column in report.narrow or report.columns:
        table.add_column(column, overflow="fold")
    for row in report.rows:
        table.add_row(*(_table_cell(row, column) for column in report.narrow or report.columns))
    out = io.StringIO()
    console = Console(file=out, width=TABLE_WIDTH_CHARACTERS, color_system=None, highlight=False, markup=False)
    console.print(table)
    for note in report.notes:
        console.print(Text(one_line(note)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _table_cell(row: Mapping[str, Any], column: str) -> Text:
    from rich.text import Text

    value = row[column]
    if column == "outcome" and value is None:
        # A job without an outcome runs or waits; that is what a person wants to read in this place.
        value = row["state"]
    return Text("" if value is None else one_line(str(value)))
