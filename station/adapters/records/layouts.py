"""Where images have their filesystem, as boards showed it: one row per image and flash size, which is never changed.

A person may have a row forgotten, and the next board is asked anew; what was forgotten stays on record. Every function takes
the connection of a transaction that somebody else begins and commits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from station.adapters.records.jobs import next_sequence
from station.adapters.records.schema import firmware
from station.adapters.records.schema_layouts import forgotten_layout, layout
from station.errors import ConfigurationError
from station.layouts import Layout

FEWEST_DIGITS = 8
"""Of a sha256, by which a person names an image."""
_LIST = "station recipe layouts shows them"
_COLUMNS = ("firmware_sha256", "flash_size_bytes", "first_sector", "sectors", "learned_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLayout:
    """Where one image has its filesystem on a flash of one size; with a person, one that is not believed any more."""

    firmware_sha256: str
    version: str
    """MicroPython's, as the image said; empty where no job was begun with it, or it names none."""
    flash_size_bytes: int
    layout: Layout
    learned_at: datetime
    person: str = ""
    reason: str = ""
    forgotten_at: datetime | None = None


def known(connection: Connection, firmware_sha256: str, flash_bytes: int) -> Layout | None:
    """Return where this image has its filesystem on a flash of this size; None when no board showed it yet."""
    of_image = (layout.c.firmware_sha256 == firmware_sha256, layout.c.flash_size_bytes == flash_bytes)
    row = connection.execute(select(layout.c.first_sector, layout.c.sectors).where(*of_image)).one_or_none()
    return Layout(first_sector=row.first_sector, sectors=row.sectors) if row is not None else None


def learn(connection: Connection, firmware_sha256: str, flash_bytes: int, found: Layout, now: datetime) -> None:
    """Keep a layout, unless one of this image and flash size is known: the first board that passed showed it."""
    if known(connection, firmware_sha256, flash_bytes) is None:
        values = {"first_sector": found.first_sector, "sectors": found.sectors, "learned_at": now}
        key = {"firmware_sha256": firmware_sha256, "flash_size_bytes": flash_bytes}
        connection.execute(insert(layout).values(**key, **values))


def learned(connection: Connection) -> tuple[LearnedLayout, ...]:
    """Return every layout that is believed, the one learned last first, then those forgotten, likewise."""
    versions = {row.sha256: row.version for row in connection.execute(select(firmware.c.sha256, firmware.c.version))}
    believed = connection.execute(select(layout).order_by(layout.c.learned_at.desc(), layout.c.flash_size_bytes)).all()
    gone = connection.execute(select(forgotten_layout).order_by(forgotten_layout.c.sequence.desc())).all()
    return (
        *(_as_learned(row, versions) for row in believed),
        *(
            _as_learned(row, versions, person=row.person, reason=row.reason, forgotten_at=row.forgotten_at)
            for row in gone
        ),
    )


def forget(
    connection: Connection, key: str, *, person: str, reason: str, now: datetime, new_id: Callable[[], str]
) -> int:
    """Forget every layout of the one image whose sha256 begins with `key`, and keep who said so; return how many.

    Raises `ConfigurationError` when none or several images begin so.
    """
    file = f"layout {key}"
    if not re.fullmatch(f"[0-9a-f]{{{FEWEST_DIGITS},64}}", key):
        problem = f"no name of an image (at least {FEWEST_DIGITS} digits of its sha256)"
        raise ConfigurationError(file=file, problem=problem, fix=_LIST)
    rows = connection.execute(select(layout).where(layout.c.firmware_sha256.startswith(key))).all()
    images = {row.firmware_sha256 for row in rows}
    if len(images) != 1:
        problem = f"names {len(images)} images" if images else "nothing is known of such an image"
        raise ConfigurationError(file=file, problem=problem, fix=_LIST)
    for row in rows:
        said = {"person": person, "reason": reason, "forgotten_at": now}
        number = next_sequence(connection, forgotten_layout)
        values = {name: getattr(row, name) for name in _COLUMNS}
        connection.execute(insert(forgotten_layout).values(id=new_id(), sequence=number, **values, **said))
    connection.execute(delete(layout).where(layout.c.firmware_sha256.in_(images)))
    return len(rows)


def _as_learned(row: Any, versions: Mapping[str, str], **said: Any) -> LearnedLayout:
    return LearnedLayout(
        firmware_sha256=row.firmware_sha256,
        version=versions.get(row.firmware_sha256, ""),
        flash_size_bytes=row.flash_size_bytes,
        layout=Layout(first_sector=row.first_sector, sectors=row.sectors),
        learned_at=row.learned_at,
        **said,
    )
