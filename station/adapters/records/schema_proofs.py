"""The tables of what slots have proven, and of what was said about slots; `docs/records.md` says what each column means."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, Table, Text

from station.adapters.records.schema import StorableText, UtcTime, metadata

proof = Table(
    "proof",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("visit_id", Text, ForeignKey("visit.id"), nullable=False),
    Column("slot", StorableText, nullable=False, index=True),
    Column("mac", Text, nullable=False, index=True),
    Column("mark", StorableText, nullable=False),
    Column("enrolled", StorableText, nullable=False),
    Column("finding", StorableText, nullable=False),
    Column("observed", StorableText, nullable=False),
    Column("recipe_hash", Text, ForeignKey("recipe.hash"), nullable=False),
    Column("lot_id", Text, ForeignKey("lot.id"), nullable=False),
    Column("measurements", Text, nullable=False),
    Column("happened_at", UtcTime, nullable=False),
    CheckConstraint("mark IN ('golden', 'red')", name="mark_known"),
    CheckConstraint(
        "finding IN ('golden_passed', 'golden_failed', 'red_caught', 'red_missed')",
        name="finding_known",
    ),
)

slot_event = Table(
    "slot_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("slot", StorableText, nullable=False, index=True),
    Column("event", StorableText, nullable=False),
    Column("release_by", StorableText, nullable=False),
    Column("person", StorableText, nullable=False),
    Column("reason", StorableText, nullable=False),
    Column("happened_at", UtcTime, nullable=False),
    # The newest visit of all at that moment: what comes after it, whatever the clock says.
    Column("visit_sequence", Integer, nullable=False),
    CheckConstraint("event IN ('quarantine', 'release')", name="event_known"),
    CheckConstraint("release_by IN ('golden', 'red')", name="release_by_known"),
)
