"""The labels of boards that passed: asked for, printed or not, and who asked for another one.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "label",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_label"),
        sa.UniqueConstraint("sequence", name="uq_label_sequence"),
        sa.UniqueConstraint("job_id", "attempt", name="uq_label_job_id_attempt"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_label_job_id_job"),
        sa.CheckConstraint("state IN ('queued', 'sending', 'printed', 'failed')", name=op.f("ck_label_state_known")),
    )
    op.create_index("ix_label_state", "label", ["state"])


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")
