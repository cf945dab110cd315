"""More kinds of jobs: several instances side by side, samples of several operations; energy; both in the views."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
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
    op.add_column("job", sa.Column("instances", sa.Integer(), nullable=True))
    op.add_column("sample", sa.Column("instance", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("sample", sa.Column("repeats", sa.Integer(), nullable=False, server_default=sa.text("1")))
    op.add_column("sample", sa.Column("joules", sa.Double(), nullable=True))
    op.add_column("result", sa.Column("joules_per_row", sa.Double(), nullable=True))
    op.add_column("result", sa.Column("baseline_joules_per_row", sa.Double(), nullable=True))
    for view in ("v_gain", "v_result"):
        op.execute(f"DROP VIEW {view}")
    op.execute(f"CREATE VIEW v_result AS {_result_view(op.get_bind().dialect.name)}")
    op.execute(f"CREATE VIEW v_gain AS {_gain_view()}")


def downgrade() -> None:
    raise NotImplementedError("an older version would take all instances for one")


def _result_view(dialect: str) -> str:
    """Every job that has come to its end, with or without a number."""
    utc, studies = (
        "to_char(to_timestamp({}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
        "string_agg(DISTINCT study.name, ',')",
    )
    if dialect == "sqlite":
        utc, studies = "strftime('%Y-%m-%d %H:%M:%S', {}, 'unixepoch')", "group_concat(DISTINCT study.name)"
    metrics = ", ".join(f"result.{name}" for name in _METRICS)
    return f"""
        SELECT job.id AS job_id, job.key AS job_key, (SELECT {studies} FROM study_job
            JOIN study ON study.id = study_job.study_id WHERE study_job.job_id = job.id) AS studies,
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
            CAST(result.document AS TEXT) AS document
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
            resident_peak_bytes, joules_per_row, baseline_joules_per_row, pairs, rounds, stopped,
            CASE WHEN flags LIKE '%"disturbed"%' THEN 1 ELSE 0 END AS disturbed, flags
        FROM v_result WHERE state = 'done' AND gain IS NOT NULL"""
