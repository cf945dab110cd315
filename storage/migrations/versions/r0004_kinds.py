"""More kinds of jobs: several instances side by side, and samples of several operations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("instances", sa.Integer(), nullable=True))
    op.add_column("sample", sa.Column("instance", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("sample", sa.Column("repeats", sa.Integer(), nullable=False, server_default=sa.text("1")))


def downgrade() -> None:
    raise NotImplementedError("an older version would take all instances for one")
