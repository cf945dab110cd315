"""The tables, with portable types; what they hold and in which unit.

Every `*_at` is epoch seconds by the database's own clock, every `*_s` seconds, every `*_bytes` bytes.
A change here needs a new revision under `storage/migrations/versions` and a new `REVISION`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from storage import records

REVISION = "0006"
"""The schema that this program reads and writes: the newest revision of the migrations."""

SIDE_COLUMNS: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "latency_p50_s": sa.Double,
    "latency_p90_s": sa.Double,
    "latency_p95_s": sa.Double,
    "latency_p99_s": sa.Double,
    "throughput_per_s": sa.Double,
    "artifact_bytes": sa.BigInteger,
    "resident_before_bytes": sa.BigInteger,
    "resident_loaded_bytes": sa.BigInteger,
    "resident_peak_bytes": sa.BigInteger,
    "prepare_s": sa.Double,
    "load_s": sa.Double,
    "first_answer_s": sa.Double,
    "threads_set": sa.Integer,
    "threads_observed": sa.Integer,
    "joules_per_row": sa.Double,
}
"""What is stored of the strategy's side, and again of the baseline's with `baseline_` before it."""

METRIC_COLUMNS: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "gain": sa.Double,
    "gain_low": sa.Double,
    "gain_high": sa.Double,
    **SIDE_COLUMNS,
    **{f"baseline_{name}": kind for name, kind in SIDE_COLUMNS.items()},
    "pairs": sa.Integer,
    "rounds": sa.Integer,
    "variance_between": sa.Double,
    "variance_within": sa.Double,
    "stopped": sa.String,
    "measured_s": sa.Double,
    "accuracy": sa.Double,
    "correct": sa.Integer,
    "rows": sa.Integer,
    "dataset_digest": sa.String,
    "input_digest": sa.String,
}
"""The frequent numbers of a result; a column is NULL where the kind of job has no such number."""

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Flag = sa.Boolean(create_constraint=False)

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class now(FunctionElement[float]):  # noqa: N801 - reads like the SQL function that it is
    """The database's clock in epoch seconds: hosts' clocks may differ, leases must not."""

    type = sa.Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: Any, **kw: Any) -> str:
    # unixepoch('subsec') would need SQLite 3.42; julianday is good to a millisecond
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgres_now(element: now, compiler: Any, **kw: Any) -> str:
    # the statement's time, not the transaction's: a renewal that waited must not shorten its lease
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)"


def _text(name: str, *args: Any, nullable: bool = False, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.String, *args, nullable=nullable, **kw)


def _time(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


def _where(condition: str, **columns: tuple[str, ...]) -> list[sa.Index]:
    """Indexes, by their names, of the rows that fit a condition."""
    only = sa.text(condition)
    return [sa.Index(name, *of, sqlite_where=only, postgresql_where=only) for name, of in columns.items()]


study = sa.Table(
    "study",
    metadata,
    _text("id", primary_key=True),
    _text("name", index=True),
    _text("digest"),  # of the text: the same file again is the same study
    _text("text"),  # the study file as it was read
    _time("submitted_at", nullable=False),
    sa.Column("document", JSON),  # scheduler.saved: the study resolved, so that it can be planned for more hosts later
    sa.UniqueConstraint("name", "digest"),
)

model = sa.Table(
    "model",
    metadata,
    _text("key", primary_key=True),  # of storage.keys.model_identity
    _text("name"),  # what the first study called it
    _text("source"),
    _text("location"),
    _text("revision", nullable=True),
    _text("digest", nullable=True),
    sa.Column("document", JSON, nullable=False),
)

hardware = sa.Table(
    "hardware",
    metadata,
    _text("key", primary_key=True),
    _text("cpu"),
    _text("architecture"),
    sa.Column("physical_cores", sa.Integer, nullable=False),
    sa.Column("logical_cores", sa.Integer, nullable=False),
    sa.Column("memory_gib", sa.Integer, nullable=False),
    _text("virtualization", nullable=True),
    _text("isa"),  # space-separated
    _text("caps"),  # space-separated
    sa.Column("document", JSON, nullable=False),
)

environment = sa.Table(
    "environment",
    metadata,
    _text("key", primary_key=True),
    _text("python"),
    _text("kernel"),
    _text("torch", nullable=True),
    _text("transformers", nullable=True),
    _text("onnxruntime", nullable=True),
    sa.Column("document", JSON, nullable=False),
)

platform = sa.Table(
    "platform",
    metadata,
    _text("key", primary_key=True),
    _text("hardware_key", sa.ForeignKey("hardware.key")),
    _text("environment_key", sa.ForeignKey("environment.key")),
)

host = sa.Table(
    "host",
    metadata,
    _text("name", primary_key=True),
    _text("platform_key", sa.ForeignKey("platform.key"), index=True),
    sa.Column("labels", JSON, nullable=False),
    _time("first_seen_at", nullable=False),
    _time("last_seen_at", nullable=False),
    _time("stopped_at"),  # its worker said goodbye then; NULL while it serves, or when it just vanished
    _time("imported_at"),  # known from another database only, since then: nothing is planned for it
)

leader = sa.Table(
    "leader",
    metadata,
    _text("name", primary_key=True),  # of the duty, see storage.leadership
    _text("holder"),  # who has it
    _time("until_at", nullable=False),  # when somebody else may take it
    _time("ticked_at", nullable=False),  # when it was last done
    _time("steady_since_at", nullable=False),  # since when it was done without a gap, whoever held it
)

job = sa.Table(
    "job",
    metadata,
    _text("id", primary_key=True),
    _text("key", unique=True),
    _text("kind"),
    _text("model_key", sa.ForeignKey("model.key"), index=True),
    _text("model"),  # the name in the study that planned it
    _text("strategy"),
    _text("baseline"),
    sa.Column("threads", sa.Integer),
    sa.Column("batch", sa.Integer),
    sa.Column("length", sa.Integer),  # tokens; NULL with a batch: real rows at their own lengths
    _text("padding", nullable=True),
    _text("input", nullable=True),  # the label of what a call gets
    sa.Column("case_document", JSON, nullable=False),
    sa.Column("budget_document", JSON, nullable=False),
    _text("platform_key"),  # records.ANY_PLATFORM: whichever host can
    sa.Column("replica", sa.Integer, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),  # order within the submission
    _text("state"),
    sa.Column("token", sa.Integer, nullable=False, server_default=sa.text("0")),  # fencing: the newest claim's
    _count("attempts"),
    _count("crashes"),  # deaths and lost leases: the crash cap counts them
    _count("errors"),  # ordinary errors: the backoff counts them
    sa.Column("cancelling", Flag, nullable=False, server_default=sa.false()),
    _text("host", nullable=True),  # of the newest claim
    _time("created_at", nullable=False),
    _time("not_before_at", nullable=False),  # backoff after an error
    _time("published_at"),  # when a wake-up was last put into the queue
    _time("claimed_at"),
    _time("lease_until_at"),
    _time("finished_at"),
    sa.Column("progress", JSON),
    _text("message", nullable=True),  # of the last failure
    _text("detail", nullable=True),  # traceback or last stderr lines
    _text("wanted_host", nullable=True),  # the one host that it is for; NULL: any of its platform
    sa.Column("instances", sa.Integer),  # processes side by side; NULL: one, or none asked for
    sa.Index("ix_job_platform_key_state", "platform_key", "state"),
    sa.Index("ix_job_finished_at", "finished_at"),  # what has ended lately
    # what is asked all the time: these hold only jobs that wait or run, however many have ended. None holds a lease,
    # so that a heartbeat changes no index
    *_where("state = 'queued' AND published_at IS NULL", ix_job_due=("state", "created_at", "position", "id")),
    *_where("state = 'queued'", ix_job_waiting=("state", "published_at")),
    *_where("state = 'running'", ix_job_running=("state", "host")),
)


def in_state(*states: records.JobState, of: sa.FromClause = job) -> sa.ColumnElement[bool]:
    """Whether a job is in one of these states, which are written into the statement.

    An index that holds only the jobs of one state is used for nothing else: neither database looks for it when the
    state is a parameter.
    """
    return sa.or_(*(of.c.state == sa.literal_column(f"'{state}'", sa.String) for state in states))


def stands(*states: records.JobState, of: sa.FromClause = job) -> sa.ColumnElement[bool]:
    """The same of a job that is known by its key, and found by nothing else.

    With `in_state` Postgres, whose statistics may be from before a large submission, could take an index of all jobs
    that wait for quicker than the key.
    """
    state = sa.func.coalesce(of.c.state, sa.literal_column("''"))
    return sa.or_(*(state == sa.literal_column(f"'{each}'", sa.String) for each in states))


job_after = sa.Table(
    "job_after",
    metadata,
    _text("job_id", sa.ForeignKey("job.id"), primary_key=True),
    _text("after_id", sa.ForeignKey("job.id"), primary_key=True, index=True),  # comes to its end first
)

study_job = sa.Table(
    "study_job",
    metadata,
    _text("study_id", sa.ForeignKey("study.id"), primary_key=True),
    _text("job_id", sa.ForeignKey("job.id"), primary_key=True, index=True),
)

attempt = sa.Table(
    "attempt",
    metadata,
    _text("job_id", sa.ForeignKey("job.id"), primary_key=True),
    sa.Column("token", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
    _text("host"),
    _text("platform_key"),
    _text("state"),  # running, done, superseded, or a records.Failure's reason
    _time("started_at", nullable=False),
    _time("ended_at"),
    _text("message", nullable=True),
    _text("detail", nullable=True),
    sa.Column("signal", sa.Integer),
    sa.Column("resident_peak_bytes", sa.BigInteger),
    sa.Column("document", JSON),  # the measurement of a superseded attempt, which counts for nothing
)

result = sa.Table(
    "result",
    metadata,
    # the primary key is the guarantee: a job cannot have two results
    _text("job_id", sa.ForeignKey("job.id"), primary_key=True),
    sa.Column("token", sa.Integer, nullable=False),
    _text("host"),
    _text("platform_key", index=True),
    _text("model_digest", nullable=True),
    _time("finished_at", nullable=False),
    *(sa.Column(name, kind) for name, kind in METRIC_COLUMNS.items()),
    sa.Column("flags", JSON, nullable=False),
    sa.Column("notes", JSON, nullable=False),
    sa.Column("document", JSON, nullable=False),  # the whole measurement without predictions
)

sample = sa.Table(
    "sample",
    metadata,
    _text("job_id", sa.ForeignKey("result.job_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # order of the legs, from 0
    sa.Column("pair", sa.Integer, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    _text("side"),
    sa.Column("items", sa.Integer, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),  # how many samples
    sa.Column("samples", sa.LargeBinary, nullable=False),  # nanoseconds: int64, little-endian, zlib
    _time("started_at", nullable=False),  # the worker's clock
    sa.Column("cpu_ns", sa.BigInteger, nullable=False),
    sa.Column("run_delay_ns", sa.BigInteger, nullable=False),
    sa.Column("foreign_share", sa.Double, nullable=False),
    sa.Column("steal_share", sa.Double, nullable=False),
    sa.Column("threads_burning", sa.Integer, nullable=False),
    sa.Column("preemptions", sa.Integer, nullable=False),
    sa.Column("disturbed", JSON, nullable=False),
    sa.Column("instance", sa.Integer, nullable=False, server_default=sa.text("0")),  # of the processes side by side
    sa.Column("repeats", sa.Integer, nullable=False, server_default=sa.text("1")),  # operations in one sample
    sa.Column("joules", sa.Double),  # of the whole machine meanwhile; NULL where it does not tell
)

prediction = sa.Table(
    "prediction",
    metadata,
    _text("job_id", sa.ForeignKey("result.job_id"), primary_key=True),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("predictions", sa.LargeBinary, nullable=False),  # class indices: int32, little-endian, zlib
    sa.Column("labels", sa.LargeBinary, nullable=False),  # the right ones, alike
)
