"""Serial numbers that are never handed out twice, and what each board was given.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _ranges()
    _numbers()
    _events()
    op.create_table(
        "job_value",
        _text("job_id"),
        sa.Column("position", sa.Integer(), nullable=False),
        _text("name"),
        _text("value"),
        sa.PrimaryKeyConstraint("job_id", "position", name="pk_job_value"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_job_value_job_id_job"),
    )


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _span() -> tuple[sa.Column[int], sa.Column[int]]:
    return sa.Column("first", sa.BigInteger(), nullable=False), sa.Column("last", sa.BigInteger(), nullable=False)


def _ranges() -> None:
    op.create_table(
        "serial_range",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("pool"),
        _text("station_id"),
        *_span(),
        _text("person"),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_serial_range"),
        sa.UniqueConstraint("sequence", name="uq_serial_range_sequence"),
        sa.CheckConstraint("first >= 0 AND last >= first", name=op.f("ck_serial_range_span_ordered")),
    )
    op.create_index("ix_serial_range_pool", "serial_range", ["pool"])
    for table in ("serial_free", "serial_burn"):
        op.create_table(
            table,
            _text("pool"),
            *_span(),
            sa.PrimaryKeyConstraint("pool", "first", name=f"pk_{table}"),
            sa.CheckConstraint("last >= first", name=op.f(f"ck_{table}_span_ordered")),
        )


def _numbers() -> None:
    op.create_table(
        "serial_number",
        _text("pool"),
        sa.Column("number", sa.BigInteger(), nullable=False),
        _text("mac"),
        _text("state"),
        _text("label"),
        _text("reserved_by"),
        _text("job_id"),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("pool", "number", name="pk_serial_number"),
        sa.UniqueConstraint("pool", "mac", name="uq_serial_number_pool_mac"),
        sa.CheckConstraint("state IN ('reserved', 'confirmed', 'burned')", name=op.f("ck_serial_number_state_known")),
    )
    op.create_index("ix_serial_number_job_id", "serial_number", ["job_id"])


def _events() -> None:
    op.create_table(
        "serial_event",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("pool"),
        _text("event"),
        *_span(),
        _text("mac"),
        _text("station_id"),
        _text("label"),
        _text("person"),
        _text("reason"),
        _text("job_id"),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_serial_event"),
        sa.UniqueConstraint("sequence", name="uq_serial_event_sequence"),
        sa.CheckConstraint(
            "event IN ('grant', 'reserve', 'confirm', 'give_back', 'burn', 'release', 'restore')",
            name=op.f("ck_serial_event_event_known"),
        ),
    )
    op.create_index("ix_serial_event_pool", "serial_event", ["pool"])
