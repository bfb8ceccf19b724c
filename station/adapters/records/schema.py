"""The tables of the records, as SQLAlchemy sees them; `docs/records.md` says what each column means.

Portable on purpose: text keys made by the station (UUIDv7), aware UTC times, no type that only SQLite has, every constraint
named. Text is made storable on its way in (NUL and lone surrogates escaped, length capped), because a board or an adapter
may have said it. What creates these tables is `migrations/`; a test holds the two together. Nothing here opens anything.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.types import Boolean, TypeDecorator

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
TEXT_CAP_CHARACTERS = 4000
RECIPE_TEXT_CAP_CHARACTERS = 256 << 10
TRANSCRIPT_CAP_BYTES = 64 << 10


def storable(text: str, cap: int = TEXT_CAP_CHARACTERS) -> str:
    """Return `text` as every database can hold it: NUL and lone surrogates as escapes, at most `cap` characters."""
    clean = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return clean if len(clean) <= cap else clean[: cap - 1] + "…"


class StorableText(TypeDecorator[str]):
    """Text that may have come from a board or an adapter (see `storable`), or a word of ours (a StrEnum, stored plain)."""

    impl = Text
    cache_ok = True

    def __init__(self, cap: int = TEXT_CAP_CHARACTERS) -> None:
        super().__init__()
        self.cap = cap

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape and cap on the way in."""
        del dialect
        return None if value is None else storable(value, self.cap)


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone, and store UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware UTC time."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Transcript(TypeDecorator[bytes]):
    """Raw bytes from a board: the last `TRANSCRIPT_CAP_BYTES` of them."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        """Keep the end, where the trouble is."""
        del dialect
        return None if value is None else value[-TRANSCRIPT_CAP_BYTES:]


metadata = MetaData(naming_convention=NAMING_CONVENTION)


def _text(name: str, cap: int = TEXT_CAP_CHARACTERS) -> Column[str]:
    """Return a text column that is empty rather than NULL where nothing is known."""
    return Column(name, StorableText(cap), nullable=False)


heartbeat = Table(
    "heartbeat",
    metadata,
    Column("name", Text, primary_key=True),
    Column("beat_at", UtcTime, nullable=False),
)

board = Table(
    "board",
    metadata,
    Column("mac", Text, primary_key=True),
    Column("chip_id", Integer, nullable=False, index=True),
    _text("otp_words"),
    Column("first_seen_at", UtcTime, nullable=False),
    Column("last_seen_at", UtcTime, nullable=False),
    Column("last_flash_id", Integer),
)

firmware = Table(
    "firmware",
    metadata,
    Column("sha256", Text, primary_key=True),
    _text("version"),
    Column("size_bytes", Integer),
    Column("first_used_at", UtcTime, nullable=False),
)

recipe = Table(
    "recipe",
    metadata,
    Column("hash", Text, primary_key=True),
    _text("name"),
    _text("version"),
    _text("text", RECIPE_TEXT_CAP_CHARACTERS),
    Column("firmware_sha256", Text, ForeignKey("firmware.sha256"), nullable=False),
    Column("first_used_at", UtcTime, nullable=False),
)

lot = Table(
    "lot",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("recipe_hash", Text, ForeignKey("recipe.hash"), nullable=False),
    _text("product"),
    _text("person"),
    Column("state", StorableText, nullable=False),
    Column("standing", Boolean, nullable=False),
    _text("supplier_batch"),
    Column("target_quantity", Integer),
    Column("opened_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    CheckConstraint("state IN ('open', 'paused', 'closed')", name="state_known"),
)

lot_event = Table(
    "lot_event",
    metadata,
    Column("lot_id", Text, ForeignKey("lot.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("event", StorableText, nullable=False),
    _text("person"),
    Column("happened_at", UtcTime, nullable=False),
    CheckConstraint("event IN ('open', 'pause', 'close')", name="event_known"),
)

visit = Table(
    "visit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    _text("station_id"),
    _text("slot"),
    _text("place"),
    _text("hub_path"),
    _text("usb_id"),
    _text("adapter_version"),
    _text("adapter_product"),
    Column("plug_number", Integer, nullable=False),
    Column("plugged_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    _text("finding"),
    _text("detail"),
    Column("transcript", Transcript, nullable=False),
    Column("mac", StorableText, nullable=False, server_default=""),
)

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    # Not a partial index: a query with a bound state could not use one.
    Column("state", StorableText, nullable=False, index=True),
    Column("outcome", StorableText),
    _text("reason"),
    _text("detail"),
    Column("board_mac", Text, ForeignKey("board.mac"), index=True),
    _text("observed_mac"),
    Column("chip_id", Integer, index=True),
    _text("otp_words"),
    Column("attempt", Integer, nullable=False),
    Column("lot_id", Text, ForeignKey("lot.id"), nullable=False, index=True),
    Column("recipe_hash", Text, ForeignKey("recipe.hash"), nullable=False),
    Column("firmware_sha256", Text, ForeignKey("firmware.sha256"), nullable=False),
    _text("operator"),
    _text("supplier_batch"),
    _text("station_id"),
    _text("slot"),
    _text("place"),
    _text("hub_path"),
    _text("usb_id"),
    _text("adapter_version"),
    _text("adapter_product"),
    Column("flash_id", Integer),
    Column("flash_size_bytes", Integer),
    _text("flash_mode"),
    Column("flash_touched", Boolean, nullable=False),
    Column("bytes_flashed", Integer, nullable=False),
    Column("baud_used", Integer),
    Column("baud_fallbacks", Integer, nullable=False),
    Column("boot_evidence", StorableText),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("duration_s", Double),
    _text("station_version"),
    _text("esptool_version"),
    _text("kernel_version"),
    _text("boot_id"),
    Column("clock_synchronised", Boolean),
    Column("transcript", Transcript, nullable=False),
    CheckConstraint("state IN ('running', 'pending', 'closed')", name="state_known"),
    CheckConstraint("outcome IN ('PASS', 'FAIL', 'ERROR', 'ABORTED')", name="outcome_known"),
    CheckConstraint("(state = 'closed') = (outcome IS NOT NULL)", name="closed_has_outcome"),
    CheckConstraint("outcome <> 'PASS' OR reason = ''", name="pass_has_no_reason"),
)

job_visit = Table(
    "job_visit",
    metadata,
    Column("job_id", Text, ForeignKey("job.id"), primary_key=True),
    Column("visit_id", Text, ForeignKey("visit.id"), primary_key=True, index=True),
)

phase = Table(
    "phase",
    metadata,
    Column("job_id", Text, ForeignKey("job.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("phase", StorableText, nullable=False),
    Column("outcome", StorableText, nullable=False),
    Column("duration_s", Double, nullable=False),
    _text("detail"),
)

measurement = Table(
    "measurement",
    metadata,
    Column("job_id", Text, ForeignKey("job.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _text("name"),
    # JSON keeps type and value apart without loss (1, 1.0, true, "1", null) in any database; the number is for queries.
    Column("value", Text, nullable=False),
    Column("value_number", Double),
    _text("unit"),
    Column("low", Text, nullable=False),
    Column("high", Text, nullable=False),
    Column("within", Boolean, nullable=False),
)

board_event = Table(
    "board_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    # No reference to `board`: a person may mark a board that the station has never seen.
    Column("mac", Text, nullable=False, index=True),
    Column("event", StorableText, nullable=False),
    Column("flash_id", Integer),
    _text("person"),
    _text("reason"),
    Column("happened_at", UtcTime, nullable=False),
    # The newest job of all at that moment: what comes after it, whatever the clock says.
    Column("job_sequence", Integer, nullable=False),
    # What a red board is enrolled with: `REASON` or `REASON:NAME`; empty for everything else.
    Column("reason_code", StorableText, nullable=False, server_default=""),
    CheckConstraint(
        "event IN ('mark_golden', 'mark_red', 'mark_returned', 'mark_scrapped', 'unmark', 'rework_open', 'rework_close',"
        " 'accept_flash')",
        name="event_known",
    ),
    CheckConstraint("(event = 'accept_flash') = (flash_id IS NOT NULL)", name="flash_accepted"),
)

reject = Table(
    "reject",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sequence", Integer, nullable=False, unique=True),
    Column("lot_id", Text, ForeignKey("lot.id"), nullable=False, index=True),
    Column("reason", StorableText, nullable=False),
    _text("person"),
    _text("slot"),
    Column("happened_at", UtcTime, nullable=False),
    CheckConstraint("reason IN ('no_answer', 'damaged', 'wrong_part')", name="reason_known"),
)
