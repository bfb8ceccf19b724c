"""What a person says about a board, what a person books out by hand, and whose board a visit was about.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _board_events()
    _rejects()
    with op.batch_alter_table("visit") as batch:
        batch.add_column(sa.Column("mac", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_job_state", "job", ["state"])
    op.create_index("ix_job_lot_id", "job", ["lot_id"])


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _board_events() -> None:
    op.create_table(
        "board_event",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("mac"),
        _text("event"),
        sa.Column("flash_id", sa.Integer()),
        _text("person"),
        _text("reason"),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_board_event"),
        sa.UniqueConstraint("sequence", name="uq_board_event_sequence"),
        sa.CheckConstraint(
            "event IN ('mark_golden', 'mark_red', 'mark_returned', 'unmark', 'rework_open', 'rework_close', 'accept_flash')",
            name=op.f("ck_board_event_event_known"),
        ),
        sa.CheckConstraint(
            "(event = 'accept_flash') = (flash_id IS NOT NULL)", name=op.f("ck_board_event_flash_accepted")
        ),
    )
    op.create_index("ix_board_event_mac", "board_event", ["mac"])


def _rejects() -> None:
    op.create_table(
        "reject",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("lot_id"),
        _text("reason"),
        _text("person"),
        _text("slot"),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reject"),
        sa.UniqueConstraint("sequence", name="uq_reject_sequence"),
        sa.ForeignKeyConstraint(["lot_id"], ["lot.id"], name="fk_reject_lot_id_lot"),
        sa.CheckConstraint("reason IN ('no_answer', 'damaged', 'wrong_part')", name=op.f("ck_reject_reason_known")),
    )
    op.create_index("ix_reject_lot_id", "reject", ["lot_id"])
