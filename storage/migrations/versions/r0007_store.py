"""Many results: what comparisons read of a document beside it, raw samples that were pruned, ceilings by an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BATCH = 500
"""Documents in memory at a time."""

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("result", sa.Column("excerpt", _JSON, nullable=True))
    op.create_table(
        "pruned",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("pruned_at", sa.Double(), nullable=False),
        sa.Column("legs", sa.Integer(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("document", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["result.job_id"], name=op.f("fk_pruned_job_id_result")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_pruned")),
    )
    few = sa.text("kind = 'ceilings'")
    op.create_index("ix_job_ceilings", "job", ["kind"], unique=False, sqlite_where=few, postgresql_where=few)
    _fill(op.get_bind())


def downgrade() -> None:
    raise NotImplementedError("an older version would take pruned samples for none")


def _fill(connection: sa.Connection) -> None:
    """Give every result its excerpt, in the order of their keys."""
    result = sa.table("result", sa.column("job_id"), sa.column("document", _JSON), sa.column("excerpt", _JSON))
    some = sa.select(result.c.job_id, sa.cast(result.c.document, sa.Text)).order_by(result.c.job_id).limit(BATCH)
    change = sa.update(result).where(result.c.job_id == sa.bindparam("job")).values(excerpt=sa.bindparam("found"))
    last = ""
    while rows := connection.execute(some.where(result.c.job_id > last)).all():
        connection.execute(change, [{"job": job_id, "found": _excerpt(json.loads(text))} for job_id, text in rows])
        last = rows[-1][0]


def _excerpt(document: Mapping[str, Any]) -> dict[str, Any]:
    """As `storage.excerpts` was when this revision was made."""
    sides = {side: _side(side, document.get(side) or {}) for side in ("strategy", "baseline")}
    loads = {f"{side}_load": _load(document.get(f"{side}_load") or {}) for side in sides}
    return _without_empty({"same_operation": document.get("same_operation"), **sides, **loads})


def _side(name: str, side: Mapping[str, Any]) -> dict[str, Any]:
    told = [one for one in side.get("percentiles", ()) if name == "strategy" or one.get("withheld")]
    names = ("q", "value_s", "low_s", "high_s", "withheld")
    made = ((side.get("artifact") or {}).get("facts") or {}).get("transforms") or ()
    last = [{"model_digest": one.get("model_digest")} for one in made[-1:]]
    return _without_empty(
        {
            "percentiles": [_without_empty({field: one.get(field) for field in names}) for one in told],
            "artifact": {"facts": {"transforms": last}} if last else None,
            "facts": _without_empty({"work": (side.get("facts") or {}).get("work")}),
            "threads_set": side.get("threads_set"),
        }
    )


def _load(load: Mapping[str, Any]) -> dict[str, Any]:
    return _without_empty({name: load.get(name) for name in ("efficiency", "each_per_s")})


def _without_empty(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None and value not in ({}, [])}
