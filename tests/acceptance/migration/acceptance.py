"""A migration that no product has: it makes the second package of the acceptance run an upgrade with work to do.

`make deb VERSION=0.2.0 TEST_MIGRATION=1` puts it behind the newest migration. It adds a column with a value to every job, so
that a record which was lost or left behind on the way shows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "acceptance"
down_revision = "@NEWEST@"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give every job a column that only this version has."""
    with op.batch_alter_table("job") as batch:
        batch.add_column(sa.Column("acceptance", sa.Text(), nullable=False, server_default="migrated"))


def downgrade() -> None:
    """Refuse, as every migration does."""
    raise RuntimeError("records are never migrated down: restore the backup instead")
