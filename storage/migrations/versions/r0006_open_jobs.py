"""Indexes that hold only jobs that wait or run: by these costs what is asked all the time, not by what has ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_job_state_published_at", "job")
    op.drop_index("ix_job_state_lease_until_at", "job")
    op.create_index("ix_job_finished_at", "job", ["finished_at"])
    _where("ix_job_due", ["state", "created_at", "position", "id"], "state = 'queued' AND published_at IS NULL")
    _where("ix_job_waiting", ["state", "published_at"], "state = 'queued'")
    _where("ix_job_running", ["state", "host"], "state = 'running'")


def downgrade() -> None:
    raise NotImplementedError("an older version would ask every job that ever was")


def _where(name: str, columns: list[str], condition: str) -> None:
    only = sa.text(condition)
    op.create_index(name, "job", columns, sqlite_where=only, postgresql_where=only)
