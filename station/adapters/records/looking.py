"""The records as doctor and bug report look at them: which file it is, whether it can be used, the last jobs in full.

Each opens the file by itself and cannot change it, so it may run beside the station.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from station.adapters.records.board_report import detailed
from station.adapters.records.engine import database_file, parse_url
from station.adapters.records.report import reading
from station.adapters.records.schema import job
from station.model import JobState, Outcome


def database_path(url: str) -> Path:
    """Return the absolute path of the database file behind `url`; raises `ConfigurationError`."""
    return database_file(parse_url(url)).absolute()


def require_usable(url: str) -> None:
    """Raise `ConfigurationError` unless the file has this station's schema, `RecordsUnwritable` if it cannot be read."""
    with reading(url):
        pass


def last_jobs(url: str, limit: int) -> tuple[dict[str, Any], ...]:
    """Return the `limit` jobs begun last with phases and measurements, oldest first; raises what `require_usable` raises."""
    with reading(url) as connection:
        first = select(job.c.sequence).order_by(job.c.sequence.desc()).limit(limit).subquery()
        return detailed(connection, job.c.sequence.in_(select(first.c.sequence)))


def last_failed_transcripts(url: str, limit: int) -> dict[str, bytes]:
    """Return job id -> what its board said last, of the `limit` newest jobs that ended without PASS.

    Raises what `require_usable` raises.
    """
    failed = (
        select(job.c.id, job.c.transcript)
        .where(job.c.state == JobState.CLOSED, job.c.outcome != Outcome.PASS)
        .order_by(job.c.sequence.desc())
        .limit(limit)
    )
    with reading(url) as connection:
        return {row.id: bytes(row.transcript) for row in connection.execute(failed)}
