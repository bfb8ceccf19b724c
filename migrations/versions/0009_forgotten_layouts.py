"""Layouts that a person had the station forget: what was believed, by whose word it is not any more, and why.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forgotten_layout",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("firmware_sha256", sa.Text(), nullable=False),
        sa.Column("flash_size_bytes", sa.Integer(), nullable=False),
        sa.Column("first_sector", sa.Integer(), nullable=False),
        sa.Column("sectors", sa.Integer(), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_forgotten_layout"),
        sa.UniqueConstraint("sequence", name="uq_forgotten_layout_sequence"),
    )


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")
