"""The table of labels, as SQLAlchemy sees it; `docs/records.md` says what each column means."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, Table, Text, UniqueConstraint

from station.adapters.records.schema import StorableText, UtcTime, metadata

label = Table(
    "label",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("job.id"), nullable=False),
    # Counted per job: 1 is the label that its PASS asked for.
    Column("attempt", Integer, nullable=False),
    Column("state", StorableText, nullable=False, index=True),
    Column("detail", StorableText, nullable=False),
    # Who asked for it and why; both empty for the label of the PASS.
    Column("person", StorableText, nullable=False),
    Column("reason", StorableText, nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    UniqueConstraint("job_id", "attempt"),
    CheckConstraint("state IN ('queued', 'sending', 'printed', 'failed')", name="state_known"),
)
