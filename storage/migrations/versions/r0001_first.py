"""The first schema: tables, and the views that people read from psql, DBeaver, pandas or Datasette."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_SIDE = [
    *("latency_p50_s", "latency_p90_s", "latency_p95_s", "latency_p99_s", "throughput_per_s", "artifact_bytes"),
    *("resident_before_bytes", "resident_loaded_bytes", "resident_peak_bytes", "prepare_s", "load_s"),
    *("first_answer_s", "threads_set", "threads_observed"),
]
_METRICS = [
    *("gain", "gain_low", "gain_high"),
    *_SIDE,
    *(f"baseline_{name}" for name in _SIDE),
    *("pairs", "rounds", "variance_between", "variance_within", "stopped", "measured_s"),
    *("accuracy", "correct", "rows", "dataset_digest", "input_digest"),
]
_STUDIES = """(SELECT {joined} FROM study_job JOIN study ON study.id = study_job.study_id
    WHERE study_job.job_id = job.id)"""


def views(dialect: str) -> dict[str, str]:
    """The views' queries; the columns are the same on both databases."""
    if dialect == "sqlite":
        utc, joined = "strftime('%Y-%m-%d %H:%M:%S', {}, 'unixepoch')", "group_concat(DISTINCT study.name)"
    else:
        utc = "to_char(to_timestamp({}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
        joined = "string_agg(DISTINCT study.name, ',')"
    studies = _STUDIES.format(joined=joined)
    return {
        "v_result": _result_view(studies, utc.format("job.finished_at")),
        "v_gain": _gain_view(),
        "v_host": _host_view(utc.format("host.last_seen_at")),
    }


def _result_view(studies: str, finished: str) -> str:
    """Every job that has come to its end, with or without a number."""
    metrics = ", ".join(f"result.{name}" for name in _METRICS)
    return f"""
        SELECT job.id AS job_id, job.key AS job_key, {studies} AS studies, job.kind, job.state, job.model,
            COALESCE(result.model_digest, model.digest) AS model_digest, job.strategy, job.baseline, job.threads,
            job.batch, job.length, job.padding, job.input, job.replica, COALESCE(result.host, job.host) AS host,
            COALESCE(result.platform_key, job.platform_key) AS platform_key, platform.hardware_key,
            platform.environment_key, hardware.cpu, hardware.architecture, hardware.isa, hardware.caps,
            hardware.physical_cores, hardware.logical_cores, hardware.memory_gib, hardware.virtualization,
            environment.python, environment.torch, environment.transformers, environment.onnxruntime,
            environment.kernel, job.finished_at, {finished} AS finished_utc, job.attempts, job.message, {metrics},
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
        SELECT job_id, studies, model, model_digest, strategy, baseline, threads, batch, length, padding, input,
            replica, host, cpu, isa, hardware_key, environment_key, platform_key, finished_utc, gain, gain_low,
            gain_high, latency_p50_s, baseline_latency_p50_s, artifact_bytes, baseline_artifact_bytes,
            CAST(artifact_bytes AS DOUBLE PRECISION) / NULLIF(baseline_artifact_bytes, 0) AS artifact_ratio,
            resident_peak_bytes, pairs, rounds, stopped,
            CASE WHEN flags LIKE '%"disturbed"%' THEN 1 ELSE 0 END AS disturbed, flags
        FROM v_result WHERE state = 'done' AND gain IS NOT NULL"""


def _host_view(seen: str) -> str:
    """Every host with what it is, what it runs, and what it is doing."""
    return f"""
        SELECT host.name AS host, host.platform_key, platform.hardware_key, platform.environment_key, hardware.cpu,
            hardware.architecture, hardware.isa, hardware.caps, hardware.physical_cores, hardware.logical_cores,
            hardware.memory_gib, hardware.virtualization, environment.python, environment.torch,
            environment.transformers, environment.onnxruntime, environment.kernel,
            CAST(host.labels AS TEXT) AS labels, host.first_seen_at, host.last_seen_at, {seen} AS last_seen_utc,
            (SELECT COUNT(*) FROM job WHERE job.host = host.name AND job.state = 'running') AS running,
            (SELECT COUNT(*) FROM result WHERE result.host = host.name) AS results
        FROM host JOIN platform ON platform.key = host.platform_key
        JOIN hardware ON hardware.key = platform.hardware_key
        JOIN environment ON environment.key = platform.environment_key"""  # noqa: S608 - names of this file only


def upgrade() -> None:
    _tables()
    for name, query in views(op.get_bind().dialect.name).items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    raise NotImplementedError("the first schema has nothing before it")


def _tables() -> None:
    op.create_table(
        "environment",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("python", sa.String(), nullable=False),
        sa.Column("kernel", sa.String(), nullable=False),
        sa.Column("torch", sa.String(), nullable=True),
        sa.Column("transformers", sa.String(), nullable=True),
        sa.Column("onnxruntime", sa.String(), nullable=True),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_environment")),
    )
    op.create_table(
        "hardware",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("cpu", sa.String(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("physical_cores", sa.Integer(), nullable=False),
        sa.Column("logical_cores", sa.Integer(), nullable=False),
        sa.Column("memory_gib", sa.Integer(), nullable=False),
        sa.Column("virtualization", sa.String(), nullable=True),
        sa.Column("isa", sa.String(), nullable=False),
        sa.Column("caps", sa.String(), nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_hardware")),
    )
    op.create_table(
        "model",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("location", sa.String(), nullable=False),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_model")),
    )
    op.create_table(
        "study",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("name", "digest", name=op.f("uq_study_name")),
    )
    op.create_index(op.f("ix_study_name"), "study", ["name"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model_key", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("baseline", sa.String(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=True),
        sa.Column("batch", sa.Integer(), nullable=True),
        sa.Column("length", sa.Integer(), nullable=True),
        sa.Column("padding", sa.String(), nullable=True),
        sa.Column("input", sa.String(), nullable=True),
        sa.Column("case_document", JSON, nullable=False),
        sa.Column("budget_document", JSON, nullable=False),
        sa.Column("platform_key", sa.String(), nullable=False),
        sa.Column("replica", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("token", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("errors", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("cancelling", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("host", sa.String(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("not_before_at", sa.Double(), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=True),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("lease_until_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("progress", JSON, nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["model_key"], ["model.key"], name=op.f("fk_job_model_key_model")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("key", name=op.f("uq_job_key")),
    )
    op.create_index(op.f("ix_job_model_key"), "job", ["model_key"], unique=False)
    op.create_index("ix_job_platform_key_state", "job", ["platform_key", "state"], unique=False)
    op.create_index("ix_job_state_lease_until_at", "job", ["state", "lease_until_at"], unique=False)
    op.create_index("ix_job_state_published_at", "job", ["state", "published_at"], unique=False)
    op.create_table(
        "platform",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("hardware_key", sa.String(), nullable=False),
        sa.Column("environment_key", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_key"], ["environment.key"], name=op.f("fk_platform_environment_key_environment")
        ),
        sa.ForeignKeyConstraint(["hardware_key"], ["hardware.key"], name=op.f("fk_platform_hardware_key_hardware")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_platform")),
    )
    op.create_table(
        "attempt",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("token", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("platform_key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("resident_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("document", JSON, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_attempt_job_id_job")),
        sa.PrimaryKeyConstraint("job_id", "token", name=op.f("pk_attempt")),
    )
    op.create_table(
        "host",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("platform_key", sa.String(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("first_seen_at", sa.Double(), nullable=False),
        sa.Column("last_seen_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["platform_key"], ["platform.key"], name=op.f("fk_host_platform_key_platform")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_host")),
    )
    op.create_index(op.f("ix_host_platform_key"), "host", ["platform_key"], unique=False)
    op.create_table(
        "result",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("platform_key", sa.String(), nullable=False),
        sa.Column("model_digest", sa.String(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("gain_low", sa.Double(), nullable=True),
        sa.Column("gain_high", sa.Double(), nullable=True),
        sa.Column("latency_p50_s", sa.Double(), nullable=True),
        sa.Column("latency_p90_s", sa.Double(), nullable=True),
        sa.Column("latency_p95_s", sa.Double(), nullable=True),
        sa.Column("latency_p99_s", sa.Double(), nullable=True),
        sa.Column("throughput_per_s", sa.Double(), nullable=True),
        sa.Column("artifact_bytes", sa.BigInteger(), nullable=True),
        sa.Column("resident_before_bytes", sa.BigInteger(), nullable=True),
        sa.Column("resident_loaded_bytes", sa.BigInteger(), nullable=True),
        sa.Column("resident_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("prepare_s", sa.Double(), nullable=True),
        sa.Column("load_s", sa.Double(), nullable=True),
        sa.Column("first_answer_s", sa.Double(), nullable=True),
        sa.Column("threads_set", sa.Integer(), nullable=True),
        sa.Column("threads_observed", sa.Integer(), nullable=True),
        sa.Column("baseline_latency_p50_s", sa.Double(), nullable=True),
        sa.Column("baseline_latency_p90_s", sa.Double(), nullable=True),
        sa.Column("baseline_latency_p95_s", sa.Double(), nullable=True),
        sa.Column("baseline_latency_p99_s", sa.Double(), nullable=True),
        sa.Column("baseline_throughput_per_s", sa.Double(), nullable=True),
        sa.Column("baseline_artifact_bytes", sa.BigInteger(), nullable=True),
        sa.Column("baseline_resident_before_bytes", sa.BigInteger(), nullable=True),
        sa.Column("baseline_resident_loaded_bytes", sa.BigInteger(), nullable=True),
        sa.Column("baseline_resident_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("baseline_prepare_s", sa.Double(), nullable=True),
        sa.Column("baseline_load_s", sa.Double(), nullable=True),
        sa.Column("baseline_first_answer_s", sa.Double(), nullable=True),
        sa.Column("baseline_threads_set", sa.Integer(), nullable=True),
        sa.Column("baseline_threads_observed", sa.Integer(), nullable=True),
        sa.Column("pairs", sa.Integer(), nullable=True),
        sa.Column("rounds", sa.Integer(), nullable=True),
        sa.Column("variance_between", sa.Double(), nullable=True),
        sa.Column("variance_within", sa.Double(), nullable=True),
        sa.Column("stopped", sa.String(), nullable=True),
        sa.Column("measured_s", sa.Double(), nullable=True),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("correct", sa.Integer(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("dataset_digest", sa.String(), nullable=True),
        sa.Column("input_digest", sa.String(), nullable=True),
        sa.Column("flags", JSON, nullable=False),
        sa.Column("notes", JSON, nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_result_job_id_job")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_result")),
    )
    op.create_index(op.f("ix_result_platform_key"), "result", ["platform_key"], unique=False)
    op.create_table(
        "study_job",
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_study_job_job_id_job")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_job_study_id_study")),
        sa.PrimaryKeyConstraint("study_id", "job_id", name=op.f("pk_study_job")),
    )
    op.create_index(op.f("ix_study_job_job_id"), "study_job", ["job_id"], unique=False)
    op.create_table(
        "prediction",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("predictions", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["result.job_id"], name=op.f("fk_prediction_job_id_result")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_prediction")),
    )
    op.create_table(
        "sample",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pair", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("samples", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("cpu_ns", sa.BigInteger(), nullable=False),
        sa.Column("run_delay_ns", sa.BigInteger(), nullable=False),
        sa.Column("foreign_share", sa.Double(), nullable=False),
        sa.Column("steal_share", sa.Double(), nullable=False),
        sa.Column("threads_burning", sa.Integer(), nullable=False),
        sa.Column("preemptions", sa.Integer(), nullable=False),
        sa.Column("disturbed", JSON, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["result.job_id"], name=op.f("fk_sample_job_id_result")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_sample")),
    )
