"""The first tables: boards, recipes, lots, visits and jobs.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _heartbeat_and_boards()
    _recipes_and_lots()
    _visits()
    _jobs()
    _what_a_job_found()


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _adapter_columns() -> list[sa.Column[str]]:
    return [_text(name) for name in ("slot", "place", "hub_path", "usb_id", "adapter_version", "adapter_product")]


def _heartbeat_and_boards() -> None:
    op.create_table("heartbeat", _text("name"), _time("beat_at"), sa.PrimaryKeyConstraint("name", name="pk_heartbeat"))
    op.create_table(
        "board",
        _text("mac"),
        sa.Column("chip_id", sa.Integer(), nullable=False),
        _text("otp_words"),
        _time("first_seen_at"),
        _time("last_seen_at"),
        sa.Column("last_flash_id", sa.Integer()),
        sa.PrimaryKeyConstraint("mac", name="pk_board"),
    )
    op.create_index("ix_board_chip_id", "board", ["chip_id"])


def _recipes_and_lots() -> None:
    op.create_table(
        "firmware",
        _text("sha256"),
        _text("version"),
        sa.Column("size_bytes", sa.Integer()),
        _time("first_used_at"),
        sa.PrimaryKeyConstraint("sha256", name="pk_firmware"),
    )
    op.create_table(
        "recipe",
        _text("hash"),
        _text("name"),
        _text("version"),
        _text("text"),
        _text("firmware_sha256"),
        _time("first_used_at"),
        sa.PrimaryKeyConstraint("hash", name="pk_recipe"),
        sa.ForeignKeyConstraint(["firmware_sha256"], ["firmware.sha256"], name="fk_recipe_firmware_sha256_firmware"),
    )
    op.create_table(
        "lot",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("recipe_hash"),
        _text("product"),
        _text("person"),
        _text("state"),
        sa.Column("standing", sa.Boolean(), nullable=False),
        _text("supplier_batch"),
        sa.Column("target_quantity", sa.Integer()),
        _time("opened_at"),
        _time("closed_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_lot"),
        sa.UniqueConstraint("sequence", name="uq_lot_sequence"),
        sa.ForeignKeyConstraint(["recipe_hash"], ["recipe.hash"], name="fk_lot_recipe_hash_recipe"),
        sa.CheckConstraint("state IN ('open', 'paused', 'closed')", name=op.f("ck_lot_state_known")),
    )
    op.create_table(
        "lot_event",
        _text("lot_id"),
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        _text("event"),
        _text("person"),
        _time("happened_at"),
        sa.PrimaryKeyConstraint("lot_id", "position", name="pk_lot_event"),
        sa.ForeignKeyConstraint(["lot_id"], ["lot.id"], name="fk_lot_event_lot_id_lot"),
        sa.CheckConstraint("event IN ('open', 'pause', 'close')", name=op.f("ck_lot_event_event_known")),
    )


def _visits() -> None:
    op.create_table(
        "visit",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("station_id"),
        *_adapter_columns(),
        sa.Column("plug_number", sa.Integer(), nullable=False),
        _time("plugged_at"),
        _time("ended_at", nullable=True),
        _text("finding"),
        _text("detail"),
        sa.Column("transcript", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_visit"),
        sa.UniqueConstraint("sequence", name="uq_visit_sequence"),
    )


def _jobs() -> None:
    op.create_table(
        "job",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("state"),
        sa.Column("outcome", sa.Text()),
        _text("reason"),
        _text("detail"),
        sa.Column("board_mac", sa.Text()),
        _text("observed_mac"),
        sa.Column("chip_id", sa.Integer()),
        _text("otp_words"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        _text("lot_id"),
        _text("recipe_hash"),
        _text("firmware_sha256"),
        _text("operator"),
        _text("supplier_batch"),
        _text("station_id"),
        *_adapter_columns(),
        sa.Column("flash_id", sa.Integer()),
        sa.Column("flash_size_bytes", sa.Integer()),
        _text("flash_mode"),
        sa.Column("flash_touched", sa.Boolean(), nullable=False),
        sa.Column("bytes_flashed", sa.Integer(), nullable=False),
        sa.Column("baud_used", sa.Integer()),
        sa.Column("baud_fallbacks", sa.Integer(), nullable=False),
        sa.Column("boot_evidence", sa.Text()),
        _time("started_at"),
        _time("ended_at", nullable=True),
        sa.Column("duration_s", sa.Double()),
        _text("station_version"),
        _text("esptool_version"),
        _text("kernel_version"),
        _text("boot_id"),
        sa.Column("clock_synchronised", sa.Boolean()),
        sa.Column("transcript", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.UniqueConstraint("sequence", name="uq_job_sequence"),
        sa.ForeignKeyConstraint(["board_mac"], ["board.mac"], name="fk_job_board_mac_board"),
        sa.ForeignKeyConstraint(["lot_id"], ["lot.id"], name="fk_job_lot_id_lot"),
        sa.ForeignKeyConstraint(["recipe_hash"], ["recipe.hash"], name="fk_job_recipe_hash_recipe"),
        sa.ForeignKeyConstraint(["firmware_sha256"], ["firmware.sha256"], name="fk_job_firmware_sha256_firmware"),
        sa.CheckConstraint("state IN ('running', 'pending', 'closed')", name=op.f("ck_job_state_known")),
        sa.CheckConstraint("outcome IN ('PASS', 'FAIL', 'ERROR', 'ABORTED')", name=op.f("ck_job_outcome_known")),
        sa.CheckConstraint("(state = 'closed') = (outcome IS NOT NULL)", name=op.f("ck_job_closed_has_outcome")),
        sa.CheckConstraint("outcome <> 'PASS' OR reason = ''", name=op.f("ck_job_pass_has_no_reason")),
    )
    op.create_index("ix_job_board_mac", "job", ["board_mac"])
    op.create_index("ix_job_chip_id", "job", ["chip_id"])
    op.create_table(
        "job_visit",
        _text("job_id"),
        _text("visit_id"),
        sa.PrimaryKeyConstraint("job_id", "visit_id", name="pk_job_visit"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_job_visit_job_id_job"),
        sa.ForeignKeyConstraint(["visit_id"], ["visit.id"], name="fk_job_visit_visit_id_visit"),
    )
    op.create_index("ix_job_visit_visit_id", "job_visit", ["visit_id"])


def _what_a_job_found() -> None:
    op.create_table(
        "phase",
        _text("job_id"),
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        _text("phase"),
        _text("outcome"),
        sa.Column("duration_s", sa.Double(), nullable=False),
        _text("detail"),
        sa.PrimaryKeyConstraint("job_id", "position", name="pk_phase"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_phase_job_id_job"),
    )
    op.create_table(
        "measurement",
        _text("job_id"),
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        _text("name"),
        _text("value"),
        sa.Column("value_number", sa.Double()),
        _text("unit"),
        _text("low"),
        _text("high"),
        sa.Column("within", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "position", name="pk_measurement"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_measurement_job_id_job"),
    )
