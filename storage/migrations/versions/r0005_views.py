"""Views that people query: what a gain needs beside it, studies in one order; hosts known from an import only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SIDE = [
    *("latency_p50_s", "latency_p90_s", "latency_p95_s", "latency_p99_s", "throughput_per_s", "artifact_bytes"),
    *("resident_before_bytes", "resident_loaded_bytes", "resident_peak_bytes", "prepare_s", "load_s"),
    *("first_answer_s", "threads_set", "threads_observed", "joules_per_row"),
]
_METRICS = [
    *("gain", "gain_low", "gain_high"),
    *_SIDE,
    *(f"baseline_{name}" for name in _SIDE),
    *("pairs", "rounds", "variance_between", "variance_within", "stopped", "measured_s"),
    *("accuracy", "correct", "rows", "dataset_digest", "input_digest"),
]


def upgrade() -> None:
    op.add_column("host", sa.Column("imported_at", sa.Double(), nullable=True))
    dialect = op.get_bind().dialect.name
    create = "CREATE OR REPLACE VIEW"  # what roles may read stays with a view that is replaced
    if dialect == "sqlite":
        create = "CREATE VIEW"
        for view in ("v_gain", "v_result", "v_host"):
            op.execute(f"DROP VIEW {view}")
    op.execute(f"{create} v_result AS {_result_view(dialect)}")
    op.execute(f"{create} v_gain AS {_gain_view()}")
    op.execute(f"{create} v_host AS {_host_view(dialect)}")


def downgrade() -> None:
    raise NotImplementedError("queries that were written for these views would not find their columns")


def _result_view(dialect: str) -> str:
    """Every job that has come to its end, with or without a number."""
    # an aggregate's order is the database's own unless it is told, and so is a collation
    utc, studies = (
        "to_char(to_timestamp({}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
        """string_agg(named.name, ',' ORDER BY named.name COLLATE "C")""",
    )
    if dialect == "sqlite":
        utc, studies = "strftime('%Y-%m-%d %H:%M:%S', {}, 'unixepoch')", "group_concat(named.name, ',')"
    metrics = ", ".join(f"result.{name}" for name in _METRICS)
    return f"""
        SELECT job.id AS job_id, job.key AS job_key, (SELECT {studies} FROM (SELECT DISTINCT study.name FROM study_job
            JOIN study ON study.id = study_job.study_id WHERE study_job.job_id = job.id ORDER BY study.name) AS named)
            AS studies,
            job.kind, job.state, job.model,
            COALESCE(result.model_digest, model.digest) AS model_digest, job.strategy, job.baseline, job.threads,
            job.instances, job.batch, job.length, job.padding, job.input, job.replica,
            COALESCE(result.host, job.host) AS host,
            COALESCE(result.platform_key, job.platform_key) AS platform_key, platform.hardware_key,
            platform.environment_key, hardware.cpu, hardware.architecture, hardware.isa, hardware.caps,
            hardware.physical_cores, hardware.logical_cores, hardware.memory_gib, hardware.virtualization,
            environment.python, environment.torch, environment.transformers, environment.onnxruntime,
            environment.kernel, job.finished_at, {utc.format("job.finished_at")} AS finished_utc, job.attempts,
            job.message, {metrics},
            CAST(result.flags AS TEXT) AS flags, CAST(result.notes AS TEXT) AS notes,
            CAST(result.document AS TEXT) AS document,
            CASE WHEN result.job_id IS NULL THEN NULL
                WHEN CAST(result.flags AS TEXT) LIKE '%"disturbed"%' THEN 1 ELSE 0 END AS disturbed
        FROM job JOIN model ON model.key = job.model_key
        LEFT JOIN result ON result.job_id = job.id
        LEFT JOIN platform ON platform.key = COALESCE(result.platform_key, job.platform_key)
        LEFT JOIN hardware ON hardware.key = platform.hardware_key
        LEFT JOIN environment ON environment.key = platform.environment_key
        WHERE job.state IN ('done', 'unsupported', 'failed', 'dead', 'cancelled')"""  # noqa: S608 - names of this file only


def _gain_view() -> str:
    """Every gain with its interval, what it was taken on, and whether something disturbed it."""
    return """
        SELECT job_id, studies, kind, model, model_digest, strategy, baseline, threads, instances, batch, length,
            padding, input, replica, host, cpu, isa, hardware_key, environment_key, platform_key, finished_utc, gain,
            gain_low, gain_high, latency_p50_s, baseline_latency_p50_s, throughput_per_s, baseline_throughput_per_s,
            artifact_bytes, baseline_artifact_bytes,
            CAST(artifact_bytes AS DOUBLE PRECISION) / NULLIF(baseline_artifact_bytes, 0) AS artifact_ratio,
            resident_peak_bytes, joules_per_row, baseline_joules_per_row, pairs, rounds, stopped, disturbed, flags,
            CASE WHEN gain_low > 1 OR gain_high < 1 THEN 1 WHEN gain_low IS NULL THEN NULL ELSE 0 END AS significant,
            finished_at, input_digest, latency_p95_s, baseline_latency_p95_s, baseline_resident_peak_bytes,
            physical_cores, logical_cores, memory_gib, virtualization, python, torch, onnxruntime, kernel
        FROM v_result WHERE state = 'done' AND gain IS NOT NULL"""


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
            (SELECT COUNT(*) FROM result WHERE result.host = host.name) AS results, host.imported_at
        FROM host JOIN platform ON platform.key = host.platform_key
        JOIN hardware ON hardware.key = platform.hardware_key
        JOIN environment ON environment.key = platform.environment_key"""  # noqa: S608 - names of this file only
