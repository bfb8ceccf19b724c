"""One board as its page shows it: what it is now in a few words, then every job and label, ready for JSON.

Reads one consistent moment of the file and cannot change it, so it may run beside the station.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from station.adapters.records.board_key import parse_board_key
from station.adapters.records.board_report import detailed
from station.adapters.records.boards import known_board, macs_of
from station.adapters.records.labels import labels_of
from station.adapters.records.report import format_time, reading
from station.adapters.records.schema import job, visit
from station.model import chip_id_from_mac, format_chip_id
from station.reasons import Reason, words_for

_SHOWN = (
    "job",
    "product",
    "recipe",
    "recipe_version",
    "recipe_hash",
    "station",
    "slot",
    "state",
    "outcome",
    "reason",
    "detail",
    "attempt",
    "started_at",
    "ended_at",
    "boot_evidence",
    "values",
    "phases",
    "measurements",
)


def board_lives(url: str, mac_or_chip_id: str) -> tuple[dict[str, Any], ...]:
    """Return what the page of a board shows; of all boards that share the chip ID; of none that no record knows.

    Raises ValueError for a key that is neither, and what `jobs_report` raises.
    """
    mac, chip_ids = parse_board_key(mac_or_chip_id)
    with reading(url) as connection:
        macs = (mac,) if mac else macs_of(connection, chip_ids)
        lives = (_life(connection, each) for each in macs)
        return tuple(life for life in lives if life is not None)


def _life(connection: Connection, mac: str) -> dict[str, Any] | None:
    known = known_board(connection, mac)
    jobs = [_job(row) for row in detailed(connection, (job.c.board_mac == mac) | (job.c.observed_mac == mac))]
    found = select(visit).where(visit.c.mac == mac, visit.c.finding != "").order_by(visit.c.sequence)
    findings = [_finding(dict(row)) for row in connection.execute(found).mappings()]
    if known is None and not jobs and not findings:
        return None
    return {
        "mac": mac,
        "chip_id": format_chip_id(chip_id_from_mac(mac)),
        "marks": sorted(known.marks) if known is not None else [],
        "jobs": jobs,
        "findings": findings,
        "labels": [dict(row) for row in labels_of(connection, mac)],
    }


def _job(row: Mapping[str, Any]) -> dict[str, Any]:
    """A job, and in words what it came to."""
    words = words_for(Reason(row["reason"]), row["detail"].partition("\n")[0]) if row["reason"] else ""
    return {name: row[name] for name in _SHOWN} | {"words": words}


def _finding(row: Mapping[str, Any]) -> dict[str, Any]:
    words = words_for(Reason(row["finding"]), row["detail"].partition("\n")[0])
    shown = {name: row[name] for name in ("slot", "finding", "detail")}
    return {**shown, "plugged_at": format_time(row["plugged_at"]), "words": words}
