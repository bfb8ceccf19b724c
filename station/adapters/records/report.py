"""What the records say, as rows: every job, and the first pass yield.

Each report opens the file by itself, reads one consistent moment of it and cannot change it, so it may run beside the
station. Values stay what they are (numbers are numbers, None is nothing); identifiers are written the one way people know
them. How a row looks on a terminal or in a spreadsheet is `render`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from station.adapters.records.engine import make_engine, short_lived, unwritable_is_named
from station.adapters.records.migrate import require_current, require_file, schema_state
from station.adapters.records.schema import job, lot, recipe, reject
from station.model import JobState, Outcome, format_chip_id

YIELD_FORMULA = (
    "first pass yield = boards whose first attempt ended in PASS / boards attempted. "
    "An attempt is a job that touched the flash; FAIL, ERROR, ABORTED and waiting all lower it, a later PASS does not raise "
    "it. Modules rejected by hand have no MAC and are in no other figure."
)
AnyRow = Row[*tuple[Any, ...]]
_RecipeKey = tuple[str, str, str]
"""Name, version and hash of a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A table: what a person asked of the records."""

    columns: tuple[str, ...]
    """The order of the flat columns; a row may hold more, nested, which only JSON shows."""
    rows: tuple[Mapping[str, Any], ...]
    narrow: tuple[str, ...] = ()
    """The columns that a terminal shows; all of them when empty."""
    notes: tuple[str, ...] = ()
    """What a person should read under the table, a line each."""


def jobs_report(url: str, *, limit: int | None = None) -> Report:
    """Return every job, or the `limit` begun last, newest first.

    Raises `ConfigurationError` when there is no such database or its schema is another, and `RecordsUnwritable`.
    """
    with reading(url) as connection:
        found = connection.execute(JOBS.order_by(job.c.sequence.desc()).limit(limit))
        return report_of_jobs(tuple(job_row(row) for row in found))


def yield_report(url: str) -> Report:
    """Return the first pass yield by the recipe of each board's first attempt, and of all boards in the last row.

    What people booked out by hand stands in a column of its own, by the recipe of its lot. Raises what `jobs_report` raises.
    """
    columns = (job.c.board_mac, job.c.outcome, job.c.state, job.c.recipe_hash, recipe.c.name, recipe.c.version)
    attempts = select(*columns).join(recipe, recipe.c.hash == job.c.recipe_hash)
    attempts = attempts.where(job.c.flash_touched.is_(True), job.c.board_mac.is_not(None)).order_by(job.c.sequence)
    with reading(url) as connection:
        boards = _Attempts()
        for row in connection.execute(attempts):
            boards.add(row)
        rejected = _rejected_by_recipe(connection)
    by_recipe: dict[_RecipeKey, list[str]] = {key: [] for key in rejected}
    for mac, row in boards.first.items():
        by_recipe.setdefault((row.name, row.version, row.recipe_hash), []).append(mac)
    rows = [boards.yield_row(key, macs, rejected.get(key, 0)) for key, macs in sorted(by_recipe.items())]
    rows.append(boards.yield_row(("all", "", ""), list(boards.first), sum(rejected.values())))
    return Report(columns=tuple(rows[0]), narrow=_YIELD_NARROW, rows=tuple(rows), notes=(YIELD_FORMULA,))


def _rejected_by_recipe(connection: Connection) -> dict[_RecipeKey, int]:
    counts = (
        select(recipe.c.name, recipe.c.version, recipe.c.hash, func.count().label("modules"))
        .select_from(reject)
        .join(lot, lot.c.id == reject.c.lot_id)
        .join(recipe, recipe.c.hash == lot.c.recipe_hash)
        .group_by(recipe.c.name, recipe.c.version, recipe.c.hash)
    )
    return {(row.name, row.version, row.hash): row.modules for row in connection.execute(counts)}


class _Attempts:
    """The jobs that touched flash, by board; added in the order of writing."""

    def __init__(self) -> None:
        self.first: dict[str, AnyRow] = {}
        self._last: dict[str, AnyRow] = {}
        self._passed: set[str] = set()

    def add(self, row: AnyRow) -> None:
        self.first.setdefault(row.board_mac, row)
        self._last[row.board_mac] = row
        if row.outcome == Outcome.PASS:
            self._passed.add(row.board_mac)

    def yield_row(self, key: _RecipeKey, macs: list[str], rejected: int) -> dict[str, Any]:
        """Count these boards; `rejected` modules beside them are in no other figure."""
        name, version, recipe_hash = key
        passed_first = sum(self.first[mac].outcome == Outcome.PASS for mac in macs)
        passed = sum(mac in self._passed for mac in macs)
        waiting = sum(self._last[mac].state == JobState.PENDING and mac not in self._passed for mac in macs)
        return {
            "recipe": name,
            "recipe_version": version,
            "recipe_hash": recipe_hash,
            "boards_attempted": len(macs),
            "passed_first": passed_first,
            "passed_later": passed - passed_first,
            "waiting": waiting,
            "not_passed": len(macs) - passed - waiting,
            "first_pass_yield": round(passed_first / len(macs), 4) if macs else None,
            "rejected_by_hand": rejected,
        }


JOBS: Select[Any] = (
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
"""Every job, with the names of its lot and recipe; to be narrowed and put in order."""
JOB_COLUMNS: tuple[str, ...] = tuple(JOBS.selected_columns.keys())
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
    "rejected_by_hand",
)


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """One moment of the records, which cannot be changed through it; raises what `jobs_report` raises."""
    file = require_file(url)
    with (
        short_lived(make_engine(url, writes=False)) as engine,
        unwritable_is_named(file),
        engine.connect() as connection,
    ):
        require_current(schema_state(connection), file)
        yield connection


def report_of_jobs(rows: tuple[Mapping[str, Any], ...], *notes: str) -> Report:
    """Return rows of `job_row` as a report."""
    return Report(columns=JOB_COLUMNS, narrow=_JOB_NARROW, rows=rows, notes=notes)


def job_row(row: AnyRow) -> dict[str, Any]:
    """Return a row of `JOBS` as people know it."""
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
