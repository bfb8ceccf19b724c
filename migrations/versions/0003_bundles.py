"""Recipe bundles and what became of them, and lots that succeed one another.

What stands here never changes again; the next change of the schema is the next file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _bundles()
    _bundle_events()
    _successions()


def downgrade() -> None:
    raise RuntimeError("records are never migrated down: restore the backup instead")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _time(name: str) -> sa.Column[sa.DateTime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _bundles() -> None:
    op.create_table(
        "bundle",
        _text("sha256"),
        _number("sequence"),
        _text("recipe_hash"),
        _text("name"),
        _text("version"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        _text("signed_by"),
        _text("person"),
        _time("added_at"),
        sa.PrimaryKeyConstraint("sha256", name="pk_bundle"),
        sa.UniqueConstraint("sequence", name="uq_bundle_sequence"),
    )
    op.create_index("ix_bundle_recipe_hash", "bundle", ["recipe_hash"])


def _bundle_events() -> None:
    op.create_table(
        "bundle_event",
        _text("bundle_sha256"),
        _number("position"),
        _text("event"),
        _text("person"),
        _text("reason"),
        sa.Column("first_article_job", sa.Text()),
        _time("happened_at"),
        sa.PrimaryKeyConstraint("bundle_sha256", "position", name="pk_bundle_event"),
        sa.ForeignKeyConstraint(["bundle_sha256"], ["bundle.sha256"], name="fk_bundle_event_bundle_sha256_bundle"),
        sa.ForeignKeyConstraint(["first_article_job"], ["job.id"], name="fk_bundle_event_first_article_job_job"),
        sa.CheckConstraint("event IN ('draft', 'release', 'withdraw')", name=op.f("ck_bundle_event_event_known")),
        sa.CheckConstraint(
            "event = 'release' OR first_article_job IS NULL", name=op.f("ck_bundle_event_first_article_released")
        ),
    )


def _successions() -> None:
    op.create_table(
        "succession",
        _text("lot_id"),
        _text("successor_id"),
        _text("pending"),
        _number("pending_jobs"),
        _text("person"),
        _time("happened_at"),
        sa.PrimaryKeyConstraint("lot_id", name="pk_succession"),
        sa.ForeignKeyConstraint(["lot_id"], ["lot.id"], name="fk_succession_lot_id_lot"),
        sa.ForeignKeyConstraint(["successor_id"], ["lot.id"], name="fk_succession_successor_id_lot"),
        sa.CheckConstraint("pending IN ('finish', 'reflash', 'scrap')", name=op.f("ck_succession_pending_known")),
        sa.CheckConstraint("successor_id <> lot_id", name=op.f("ck_succession_another_lot")),
    )
