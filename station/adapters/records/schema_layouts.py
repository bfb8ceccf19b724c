"""The tables of filesystem layouts that boards showed, as SQLAlchemy sees them; `docs/records.md` says what a row means."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text, UniqueConstraint

from station.adapters.records.schema import StorableText, UtcTime, metadata

layout = Table(
    "layout",
    metadata,
    # No reference to `firmware`: what an image looks like holds for any file of records.
    Column("firmware_sha256", Text, primary_key=True),
    Column("flash_size_bytes", Integer, primary_key=True, autoincrement=False),
    Column("first_sector", Integer, nullable=False),
    Column("sectors", Integer, nullable=False),
    Column("learned_at", UtcTime, nullable=False),
    CheckConstraint("first_sector > 0 AND sectors > 1", name="sectors_sane"),
)

forgotten_layout = Table(
    "forgotten_layout",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("firmware_sha256", Text, nullable=False),
    Column("flash_size_bytes", Integer, nullable=False),
    Column("first_sector", Integer, nullable=False),
    Column("sectors", Integer, nullable=False),
    Column("learned_at", UtcTime, nullable=False),
    Column("person", StorableText, nullable=False),
    Column("reason", StorableText, nullable=False),
    Column("forgotten_at", UtcTime, nullable=False),
    UniqueConstraint("sequence"),
)
