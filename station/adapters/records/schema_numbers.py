"""The tables of numbers and of the values that boards were given; `docs/records.md` says what each column means.

Every number of a granted range is in exactly one place: free (`serial_free`), burned without an owner (`serial_burn`), or a
row of `serial_number`, where it belongs to a MAC. What happened to it is in `serial_event`, which only grows.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, Table, Text, UniqueConstraint

from station.adapters.records.schema import StorableText, UtcTime, metadata

EVENTS = ("grant", "reserve", "confirm", "give_back", "burn", "release", "restore")
STATES = ("reserved", "confirmed", "burned")


def _text(name: str) -> Column[str]:
    return Column(name, StorableText(), nullable=False)


def _span() -> tuple[Column[int], Column[int]]:
    return Column("first", BigInteger, nullable=False), Column("last", BigInteger, nullable=False)


serial_range = Table(
    "serial_range",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("pool", StorableText, nullable=False, index=True),
    # Whose numbers these are; those of other stations are known so that nobody grants them twice.
    _text("station_id"),
    *_span(),
    _text("person"),
    Column("granted_at", UtcTime, nullable=False),
    CheckConstraint("first >= 0 AND last >= first", name="span_ordered"),
)

serial_free = Table(
    "serial_free",
    metadata,
    Column("pool", StorableText, primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    CheckConstraint("last >= first", name="span_ordered"),
)

serial_burn = Table(
    "serial_burn",
    metadata,
    Column("pool", StorableText, primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    CheckConstraint("last >= first", name="span_ordered"),
)

serial_number = Table(
    "serial_number",
    metadata,
    Column("pool", StorableText, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("mac", Text, nullable=False),
    Column("state", StorableText, nullable=False),
    # The name of the row of a table that the number stands for; empty for a plain number.
    _text("label"),
    # No references: a number is reserved before its job has a row. The first job may give it back, the last one confirms it.
    Column("reserved_by", Text, nullable=False),
    Column("job_id", Text, nullable=False, index=True),
    Column("changed_at", UtcTime, nullable=False),
    UniqueConstraint("pool", "mac"),
    CheckConstraint("state IN ('reserved', 'confirmed', 'burned')", name="state_known"),
)

serial_event = Table(
    "serial_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("pool", StorableText, nullable=False, index=True),
    Column("event", StorableText, nullable=False),
    *_span(),
    _text("mac"),
    _text("station_id"),
    _text("label"),
    _text("person"),
    _text("reason"),
    _text("job_id"),
    Column("happened_at", UtcTime, nullable=False),
    CheckConstraint(
        "event IN ('grant', 'reserve', 'confirm', 'give_back', 'burn', 'release', 'restore')", name="event_known"
    ),
)

job_value = Table(
    "job_value",
    metadata,
    Column("job_id", Text, ForeignKey("job.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _text("name"),
    _text("value"),
)
