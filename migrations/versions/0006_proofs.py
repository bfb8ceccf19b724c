"""What slots have proven with golden and red boards, what was said about slots, and what a red board is enrolled with.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _proofs()
    _slot_events()
    with op.batch_alter_table("board_event") as batch:
        batch.add_column(sa.Column("reason_code", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _proofs() -> None:
    op.create_table(
        "proof",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("visit_id"),
        _text("slot"),
        _text("mac"),
        _text("mark"),
        _text("enrolled"),
        _text("finding"),
        _text("observed"),
        _text("recipe_hash"),
        _text("lot_id"),
        _text("measurements"),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_proof"),
        sa.UniqueConstraint("sequence", name="uq_proof_sequence"),
        sa.ForeignKeyConstraint(["visit_id"], ["visit.id"], name="fk_proof_visit_id_visit"),
        sa.ForeignKeyConstraint(["recipe_hash"], ["recipe.hash"], name="fk_proof_recipe_hash_recipe"),
        sa.ForeignKeyConstraint(["lot_id"], ["lot.id"], name="fk_proof_lot_id_lot"),
        sa.CheckConstraint("mark IN ('golden', 'red')", name=op.f("ck_proof_mark_known")),
        sa.CheckConstraint(
            "finding IN ('golden_passed', 'golden_failed', 'red_caught', 'red_missed')",
            name=op.f("ck_proof_finding_known"),
        ),
    )
    op.create_index("ix_proof_slot", "proof", ["slot"])
    op.create_index("ix_proof_mac", "proof", ["mac"])


def _slot_events() -> None:
    op.create_table(
        "slot_event",
        _text("id"),
        sa.Column("sequence", sa.Integer(), nullable=False),
        _text("slot"),
        _text("event"),
        _text("release_by"),
        _text("person"),
        _text("reason"),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("visit_sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_slot_event"),
        sa.UniqueConstraint("sequence", name="uq_slot_event_sequence"),
        sa.CheckConstraint("event IN ('quarantine', 'release')", name=op.f("ck_slot_event_event_known")),
        sa.CheckConstraint("release_by IN ('golden', 'red')", name=op.f("ck_slot_event_release_by_known")),
    )
    op.create_index("ix_slot_event_slot", "slot_event", ["slot"])
