"""The tables of recipe bundles and of lots that succeed one another, as SQLAlchemy sees them; see `docs/records.md`."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, LargeBinary, Table, Text

from station.adapters.records.schema import StorableText, UtcTime, metadata

bundle = Table(
    "bundle",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    # No reference to `recipe`: a bundle may be kept long before a board is made with it.
    Column("recipe_hash", Text, nullable=False, index=True),
    Column("name", StorableText, nullable=False),
    Column("version", StorableText, nullable=False),
    # Byte for byte: what it says is its own affair, and its key vouches for it.
    Column("content", LargeBinary, nullable=False),
    Column("signed_by", StorableText, nullable=False),
    Column("person", StorableText, nullable=False),
    Column("added_at", UtcTime, nullable=False),
)

bundle_event = Table(
    "bundle_event",
    metadata,
    Column("bundle_sha256", Text, ForeignKey("bundle.sha256"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("event", StorableText, nullable=False),
    Column("person", StorableText, nullable=False),
    Column("reason", StorableText, nullable=False),
    # The job whose board a person looked at before the release.
    Column("first_article_job", Text, ForeignKey("job.id")),
    Column("happened_at", UtcTime, nullable=False),
    CheckConstraint("event IN ('draft', 'release', 'withdraw')", name="event_known"),
    CheckConstraint("event = 'release' OR first_article_job IS NULL", name="first_article_released"),
)

succession = Table(
    "succession",
    metadata,
    # A lot is succeeded once.
    Column("lot_id", Text, ForeignKey("lot.id"), primary_key=True),
    Column("successor_id", Text, ForeignKey("lot.id"), nullable=False),
    Column("pending", StorableText, nullable=False),
    Column("pending_jobs", Integer, nullable=False),
    Column("person", StorableText, nullable=False),
    Column("happened_at", UtcTime, nullable=False),
    CheckConstraint("pending IN ('finish', 'reflash', 'scrap')", name="pending_known"),
    CheckConstraint("successor_id <> lot_id", name="another_lot"),
)
