"""Whether the station may be stopped for an upgrade now: not while a board is being made, nor while a lot is open by hand.

Only reads, and works with or without a running daemon, on records of any schema, and where there are none yet.
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from station.adapters.records import database_path, under_way
from station.config import Config


def busy(config: Config, now: datetime) -> str:
    """Return in one sentence why the station should not be stopped now, empty when it may; raises `RecordsUnwritable`."""
    database = database_path(config.database_url)
    if not database.exists():
        return ""
    at_work = under_way(database)
    alive = is_held(config.state_dir / "lock")
    for slot, began in at_work.running:
        # Without a daemon a running row is one that a crash left, or a board that is being made by hand just now.
        if alive or _age_s(began, now) < config.flashing.job_deadline_s:
            return f"a board is being made in slot {slot}: wait until it is done"
    for product, person in at_work.open_lots:
        return f"the lot {product!r} opened by {person} is open: station lot pause, or station lot close"
    return ""


def is_held(lock: Path) -> bool:
    """Whether a running program holds this lock file."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _age_s(stored: str, now: datetime) -> float:
    """Seconds since a time as it is stored, in UTC."""
    return (now - datetime.fromisoformat(stored).replace(tzinfo=UTC)).total_seconds()
