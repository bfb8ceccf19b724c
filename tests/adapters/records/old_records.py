"""Records as the first station left them: the schema 0001, with a row in every table, written by plain SQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from alembic import command

from station.adapters.records import make_engine
from station.adapters.records import migrate as migrate_module

OLD_MAC = "18:fe:34:00:00:01"
_TIME = "2025-11-22 08:02:00.123456"
_PLACE = {
    "slot": "A3",
    "place": "pci-0:2.3",
    "hub_path": "2.3",
    "usb_id": "1a86:7523",
    "adapter_version": "0262",
    "adapter_product": "USB2.0-Serial",
}


def _job(number: int, mac: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"old-{number}",
        "sequence": number,
        "state": "closed",
        "outcome": "PASS",
        "reason": "",
        "detail": "",
        "board_mac": mac,
        "observed_mac": mac,
        "chip_id": number,
        "otp_words": "0x01000000 0x00000000 0x00000000 0x0018fe34",
        "attempt": 1,
        "lot_id": "lot-1",
        "recipe_hash": "ab" * 32,
        "firmware_sha256": "cd" * 32,
        "operator": "Ada",
        "supplier_batch": "B-7",
        "station_id": "bench-1",
        **_PLACE,
        "flash_id": 0x1440E0,
        "flash_size_bytes": 1 << 20,
        "flash_mode": "dout",
        "flash_touched": 1,
        "bytes_flashed": 633_688,
        "baud_used": 460_800,
        "baud_fallbacks": 1,
        "boot_evidence": "reset_line",
        "started_at": _TIME,
        "ended_at": _TIME,
        "duration_s": 21.25,
        "station_version": "0.1.0",
        "esptool_version": "5.6.0",
        "kernel_version": "6.1.0",
        "boot_id": "b",
        "clock_synchronised": 1,
        "transcript": b"",
        **changes,
    }


def _board(number: int) -> dict[str, Any]:
    return {
        "mac": f"18:fe:34:00:00:{number:02x}",
        "chip_id": number,
        "otp_words": "0x01000000 0x00000000 0x00000000 0x0018fe34",
        "first_seen_at": _TIME,
        "last_seen_at": _TIME,
        "last_flash_id": 0x1440E0,
    }


def _visit(number: int) -> dict[str, Any]:
    return {
        "id": f"visit-{number}",
        "sequence": number,
        "station_id": "bench-1",
        **_PLACE,
        "plug_number": number,
        "plugged_at": _TIME,
        "ended_at": _TIME,
        "finding": "",
        "detail": "",
        "transcript": b"\x00\xff",
    }


ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("heartbeat", {"name": "writable", "beat_at": _TIME}),
    ("board", _board(1)),
    ("board", _board(2)),
    ("firmware", {"sha256": "cd" * 32, "version": "1.27.0", "size_bytes": 633_688, "first_used_at": _TIME}),
    (
        "recipe",
        {
            "hash": "ab" * 32,
            "name": "blink",
            "version": "1",
            "text": "{}",
            "firmware_sha256": "cd" * 32,
            "first_used_at": _TIME,
        },
    ),
    (
        "lot",
        {
            "id": "lot-1",
            "sequence": 1,
            "recipe_hash": "ab" * 32,
            "product": "blink",
            "person": "Ada",
            "state": "open",
            "standing": 0,
            "supplier_batch": "B-7",
            "target_quantity": 500,
            "opened_at": _TIME,
        },
    ),
    ("lot_event", {"lot_id": "lot-1", "position": 0, "event": "open", "person": "Ada", "happened_at": _TIME}),
    ("visit", _visit(1)),
    ("visit", _visit(2)),
    ("job", _job(1, OLD_MAC)),
    (
        "job",
        _job(2, "18:fe:34:00:00:02", state="pending", outcome=None, reason="awaits_run_mode", boot_evidence=None),
    ),
    ("job_visit", {"job_id": "old-1", "visit_id": "visit-1"}),
    ("job_visit", {"job_id": "old-2", "visit_id": "visit-2"}),
    (
        "phase",
        {"job_id": "old-1", "position": 0, "phase": "FLASH", "outcome": "PASS", "duration_s": 9.5, "detail": ""},
    ),
    (
        "measurement",
        {
            "job_id": "old-2",
            "position": 0,
            "name": "n",
            "value": "5",
            "value_number": 5.0,
            "unit": "",
            "low": "null",
            "high": "9",
            "within": 1,
        },
    ),
)


def populated_at_0001(file: Path) -> Path:
    """Make a database with the first migration alone, fill every table by plain SQL, and return it."""
    engine = make_engine(f"sqlite:///{file}", writes=True, foreign_keys=False)
    config = migrate_module._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    plain = sqlite3.connect(file)
    plain.execute("PRAGMA foreign_keys = ON")
    for table, row in ROWS:
        marks = ", ".join("?" * len(row))
        plain.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
    plain.commit()
    plain.close()
    return file
