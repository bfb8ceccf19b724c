"""Where an image has its filesystem, as the first board that passed with it showed.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "layout",
        sa.Column("firmware_sha256", sa.Text(), nullable=False),
        sa.Column("flash_size_bytes", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("first_sector", sa.Integer(), nullable=False),
        sa.Column("sectors", sa.Integer(), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("firmware_sha256", "flash_size_bytes", name="pk_layout"),
        sa.CheckConstraint("first_sector > 0 AND sectors > 1", name=op.f("ck_layout_sectors_sane")),
    )


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")
