"""A fleet: named hosts, a leader, studies that can be planned again; hosts' standing in the view."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("study", sa.Column("document", JSON, nullable=True))
    op.add_column("host", sa.Column("stopped_at", sa.Double(), nullable=True))
    op.add_column("job", sa.Column("wanted_host", sa.String(), nullable=True))
    op.create_table(
        "leader",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("until_at", sa.Double(), nullable=False),
        sa.Column("ticked_at", sa.Double(), nullable=False),
        sa.Column("steady_since_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leader")),
    )
    op.execute("DROP VIEW v_host")
    op.execute(f"CREATE VIEW v_host AS {_host_view(op.get_bind().dialect.name)}")


def downgrade() -> None:
    raise NotImplementedError("an older version would not understand jobs for named hosts")


def _host_view(dialect: str) -> str:
    """Every host with what it is, what it runs, and what it is doing."""
    utc = "to_char(to_timestamp({}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
    if dialect == "sqlite":
        utc = "strftime('%Y-%m-%d %H:%M:%S', {}, 'unixepoch')"
    return f"""
        SELECT host.name AS host, host.platform_key, platform.hardware_key, platform.environment_key, hardware.cpu,
            hardware.architecture, hardware.isa, hardware.caps, hardware.physical_cores, hardware.logical_cores,
            hardware.memory_gib, hardware.virtualization, environment.python, environment.torch,
            environment.transformers, environment.onnxruntime, environment.kernel,
            CAST(host.labels AS TEXT) AS labels, host.first_seen_at, host.last_seen_at,
            {utc.format("host.last_seen_at")} AS last_seen_utc, host.stopped_at,
            (SELECT COUNT(*) FROM job WHERE job.host = host.name AND job.state = 'running') AS running,
            (SELECT COUNT(*) FROM result WHERE result.host = host.name) AS results
        FROM host JOIN platform ON platform.key = host.platform_key
        JOIN hardware ON hardware.key = platform.hardware_key
        JOIN environment ON environment.key = platform.environment_key"""  # noqa: S608 - names of this file only
