"""Jobs that wait for others: what is prepared once comes before what is measured with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_after",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("after_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_after_job_id_job")),
        sa.ForeignKeyConstraint(["after_id"], ["job.id"], name=op.f("fk_job_after_after_id_job")),
        sa.PrimaryKeyConstraint("job_id", "after_id", name=op.f("pk_job_after")),
    )
    op.create_index(op.f("ix_job_after_after_id"), "job_after", ["after_id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("an older version would not wait for what must come first")
