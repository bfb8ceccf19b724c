"""A board can be marked as scrapped.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NAME = "ck_board_event_event_known"
_BEFORE = (
    "event IN ('mark_golden', 'mark_red', 'mark_returned', 'unmark', 'rework_open', 'rework_close', 'accept_flash')"
)
_EVENTS = (
    "event IN ('mark_golden', 'mark_red', 'mark_returned', 'mark_scrapped', 'unmark', 'rework_open', 'rework_close',"
    " 'accept_flash')"
)


def upgrade() -> None:
    # Told, not read from the file: what reads it there goes on after an error.
    with op.batch_alter_table("board_event", copy_from=_board_event()) as batch:
        batch.drop_constraint(op.f(_NAME), type_="check")
        batch.create_check_constraint(op.f(_NAME), _EVENTS)


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")


def _board_event() -> sa.Table:
    return sa.Table(
        "board_event",
        sa.MetaData(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("mac", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("flash_id", sa.Integer()),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_sequence", sa.Integer(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_board_event"),
        sa.UniqueConstraint("sequence", name="uq_board_event_sequence"),
        sa.CheckConstraint(_BEFORE, name=op.f(_NAME)),
        sa.CheckConstraint(
            "(event = 'accept_flash') = (flash_id IS NOT NULL)", name=op.f("ck_board_event_flash_accepted")
        ),
        sa.Index("ix_board_event_mac", "mac"),
    )
