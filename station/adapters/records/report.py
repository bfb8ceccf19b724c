"""What the records say, as rows: every job, everything about one board, and the first pass yield.

Each report opens the file by itself, reads one consistent moment of it and cannot change it, so it may run beside the
station. Values stay what they are (numbers are numbers, None is nothing); identifiers are written the one way people know
them. How a row looks on a terminal or in a spreadsheet is `render`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from station.adapters.records import jobs
from station.adapters.records.engine import make_engine, short_lived, unwritable_is_named
from station.adapters.records.migrate import require_current, require_file, schema_state
from station.adapters.records.schema import job, lot, recipe
from station.model import JobState, Outcome, format_chip_id

YIELD_FORMULA = (
    "first pass yield = boards whose first attempt ended in PASS / boards attempted. "
    "An attempt is a job that touched the flash; FAIL, ERROR, ABORTED and waiting all lower it, a later PASS does not raise it."
)
_CHIP_ID_BITS = 24
_MAC_DIGITS = 12
_SEPARATORS = re.compile(r"[:\-._\s]")
_HEX = re.compile(r"[0-9a-f]+")
AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A table: what a person asked of the records."""

    columns: tuple[str, ...]
    """The order of the flat columns; a row may hold more, nested, which only JSON shows."""
    rows: tuple[Mapping[str, Any], ...]
    narrow: tuple[str, ...] = ()
    """The columns that a terminal shows; all of them when empty."""
    note: str = ""
    """What a person should read under the table."""


def jobs_report(url: str, *, limit: int | None = None) -> Report:
    """Return every job, or the `limit` begun last, newest first.

    Raises `ConfigurationError` when there is no such database or its schema is another, and `RecordsUnwritable`.
    """
    with _reading(url) as connection:
        found = connection.execute(_JOBS.order_by(job.c.sequence.desc()).limit(limit))
        return _report_of(tuple(_job_row(row) for row in found))


def board_report(url: str, mac_or_chip_id: str) -> Report:
    """Return every job of the board, or of all boards that share the chip ID, oldest first, with what each job found.

    Raises ValueError for a key that is neither, and what `jobs_report` raises.
    """
    mac, chip_ids = parse_board_key(mac_or_chip_id)
    with _reading(url) as connection:
        of_board = (job.c.board_mac == mac) | (job.c.observed_mac == mac) if mac else job.c.chip_id.in_(chip_ids)
        found = connection.execute(_JOBS.where(of_board).order_by(job.c.sequence)).all()
        details = jobs.committed(connection, select(job.c.id).where(of_board).order_by(job.c.sequence))
        rows = [
            {
                **_job_row(row),
                "phases": [{"phase": p.phase, "outcome": p.outcome, "duration_s": p.duration_s} for p in detail.phases],
                "measurements": [
                    {"name": m.name, "value": m.value, "unit": m.unit, "low": m.low, "high": m.high, "within": m.within}
                    for m in detail.measurements
                ],
            }
            for row, detail in zip(found, details, strict=True)
        ]
        boards = {row.mac for row in found if row.mac}
        note = f"{len(boards)} boards share this number: {', '.join(sorted(boards))}" if len(boards) > 1 else ""
        return _report_of(tuple(rows), note=note)


def yield_report(url: str) -> Report:
    """Return the first pass yield by the recipe of each board's first attempt, and of all boards in the last row.

    Raises what `jobs_report` raises.
    """
    columns = (job.c.board_mac, job.c.outcome, job.c.state, job.c.recipe_hash, recipe.c.name, recipe.c.version)
    attempts = select(*columns).join(recipe, recipe.c.hash == job.c.recipe_hash)
    attempts = attempts.where(job.c.flash_touched.is_(True), job.c.board_mac.is_not(None)).order_by(job.c.sequence)
    with _reading(url) as connection:
        first: dict[str, AnyRow] = {}
        last: dict[str, AnyRow] = {}
        passed: set[str] = set()
        for row in connection.execute(attempts):
            first.setdefault(row.board_mac, row)
            last[row.board_mac] = row
            if row.outcome == Outcome.PASS:
                passed.add(row.board_mac)
    by_recipe: dict[tuple[str, str, str], list[str]] = {}
    for mac, row in first.items():
        by_recipe.setdefault((row.name, row.version, row.recipe_hash), []).append(mac)
    waiting = {mac for mac, row in last.items() if row.state == JobState.PENDING} - passed
    first_passed = {mac for mac, row in first.items() if row.outcome == Outcome.PASS}
    groups = [*sorted(by_recipe.items()), (("all", "", ""), list(first))]
    rows = tuple(_yield_row(key, macs, first_passed, passed, waiting) for key, macs in groups)
    return Report(columns=tuple(rows[0]), narrow=_YIELD_NARROW, rows=rows, note=YIELD_FORMULA)


def parse_board_key(key: str) -> tuple[str, tuple[int, ...]]:
    """Return the MAC that `key` is, else "" and the chip IDs it may mean; raises ValueError when it is neither.

    A MAC is twelve hex digits in either case with any separators. A chip ID is `0x…`, or six or eight hex digits as
    esptool prints them, whose top byte is not part of it; digits alone may be decimal as well, and then both are meant.
    """
    digits = _SEPARATORS.sub("", key.strip().lower())
    prefixed = digits.startswith("0x")
    digits = digits.removeprefix("0x")
    if not _HEX.fullmatch(digits):
        raise ValueError(f"{key!r} is neither a MAC nor a chip ID")
    if len(digits) == _MAC_DIGITS and not prefixed:
        return ":".join(digits[at : at + 2] for at in range(0, _MAC_DIGITS, 2)), ()
    meant = []
    if (prefixed and len(digits) <= 8) or len(digits) in {6, 8}:  # noqa: PLR2004 - 24 bits, or 32 as esptool prints them
        meant.append(int(digits, 16) & 0xFFFFFF)
    if not prefixed and digits.isdecimal() and int(digits) < 1 << _CHIP_ID_BITS:
        meant.append(int(digits))
    if not meant:
        raise ValueError(f"{key!r} is neither a MAC (12 hex digits) nor a chip ID (0x00ddc142)")
    return "", tuple(dict.fromkeys(meant))


_JOBS: Select[Any] = (
    select(
        job.c.id.label("job"),
        job.c.sequence,
        job.c.slot,
        job.c.board_mac.label("mac"),
        job.c.chip_id,
        job.c.otp_words.label("chip_id_word"),
        job.c.otp_words,
        job.c.observed_mac,
        job.c.state,
        job.c.outcome,
        job.c.reason,
        job.c.detail,
        job.c.attempt,
        lot.c.product,
        recipe.c.name.label("recipe"),
        recipe.c.version.label("recipe_version"),
        job.c.recipe_hash,
        job.c.firmware_sha256,
        job.c.lot_id.label("lot"),
        job.c.operator,
        job.c.supplier_batch,
        job.c.station_id.label("station"),
        job.c.place,
        job.c.hub_path,
        job.c.usb_id,
        job.c.adapter_version,
        job.c.adapter_product,
        job.c.flash_id,
        job.c.flash_size_bytes,
        job.c.flash_mode,
        job.c.flash_touched,
        job.c.bytes_flashed,
        job.c.baud_used,
        job.c.baud_fallbacks,
        job.c.boot_evidence,
        job.c.started_at,
        job.c.ended_at,
        job.c.duration_s,
        job.c.station_version,
        job.c.esptool_version,
        job.c.kernel_version,
        job.c.boot_id,
        job.c.clock_synchronised,
    )
    .join(lot, lot.c.id == job.c.lot_id)
    .join(recipe, recipe.c.hash == job.c.recipe_hash)
)
JOB_COLUMNS: tuple[str, ...] = tuple(_JOBS.selected_columns.keys())
_JOB_NARROW = ("slot", "mac", "chip_id", "outcome", "reason", "attempt", "recipe", "started_at", "duration_s")
_YIELD_NARROW = (
    "recipe",
    "recipe_version",
    "boards_attempted",
    "passed_first",
    "passed_later",
    "waiting",
    "not_passed",
    "first_pass_yield",
)


@contextmanager
def _reading(url: str) -> Iterator[Connection]:
    file = require_file(url)
    with (
        short_lived(make_engine(url, writes=False)) as engine,
        unwritable_is_named(file),
        engine.connect() as connection,
    ):
        require_current(schema_state(connection), file)
        yield connection


def _report_of(rows: tuple[Mapping[str, Any], ...], note: str = "") -> Report:
    return Report(columns=JOB_COLUMNS, narrow=_JOB_NARROW, rows=rows, note=note)


def _job_row(row: AnyRow) -> dict[str, Any]:
    return {
        **row._mapping,  # noqa: SLF001 - SQLAlchemy's public name for the row as a mapping
        "chip_id": None if row.chip_id is None else format_chip_id(row.chip_id),
        "chip_id_word": chip_id_word(row.otp_words),
        # `1440e0`, a common flash, is the number 1440 to a spreadsheet; with 0x it stays text.
        "flash_id": None if row.flash_id is None else f"{row.flash_id:#08x}",
        "started_at": format_time(row.started_at),
        "ended_at": format_time(row.ended_at),
    }


def chip_id_word(otp_words: str) -> str | None:
    """Return the 32-bit word that esptool prints as chip ID, its top byte from the OTP included; None without words."""
    if not otp_words:
        return None
    low, high = (int(word, 16) for word in otp_words.split()[:2])
    return f"{(low >> 24) | ((high & 0xFFFFFF) << 8):#010x}"


def format_time(moment: datetime | None) -> str | None:
    """Return UTC as ISO 8601 with `Z`, to the millisecond."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _yield_row(
    key: tuple[str, str, str], macs: list[str], first_passed: set[str], passed: set[str], waiting: set[str]
) -> dict[str, Any]:
    name, version, recipe_hash = key
    boards = set(macs)
    counts = {
        "boards_attempted": len(boards),
        "passed_first": len(boards & first_passed),
        "passed_later": len(boards & passed - first_passed),
        "waiting": len(boards & waiting),
        "not_passed": len(boards - passed - waiting),
    }
    rate = round(counts["passed_first"] / len(boards), 4) if boards else None
    return {"recipe": name, "recipe_version": version, "recipe_hash": recipe_hash, **counts, "first_pass_yield": rate}
