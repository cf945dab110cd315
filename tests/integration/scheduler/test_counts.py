"""The counts that a fleet's progress is made of, on both databases."""

from __future__ import annotations

from storage import hosts, lifecycle, queries, records
from storage.database import Database
from storage.queries import FailureGroup, JobGroup
from tests import builders

HERE = builders.platform()


def submit(db: Database, name: str, *cases: records.Case) -> tuple[str, ...]:
    hosts.register(db, name="a", platform=HERE)
    jobs = [builders.planned(case, HERE.key) for case in cases]
    return lifecycle.submit(db, study=lifecycle.StudyText(name=name, text=f"name: {name}"), jobs=jobs).new


def end(db: Database, job_id: str, failure: records.Failure | None = None) -> None:
    claim = lifecycle.claim(db, job_id, host="a", platform_key=HERE.key, lease=60)
    assert claim is not None
    if failure is None:
        lifecycle.finish(db, claim, builders.latency(), [])
    else:
        lifecycle.fail(db, claim, failure, final=True)


def test_jobs_that_have_all_in_common_are_one_group(db: Database) -> None:
    first, _, _ = submit(db, "one", builders.case(), builders.case(threads=2), builders.case(strategy="torch/fp32"))
    submit(db, "two", builders.case(threads=3))
    end(db, first)

    same = {"platform_key": HERE.key, "wanted_host": None, "kind": "latency", "model": "minilm"}
    int8, fp32 = "torch/int8-dynamic", "torch/fp32"
    waiting = [
        JobGroup(host=None, state="queued", strategy=int8, count=1, **same),  # type: ignore[arg-type]
        JobGroup(host=None, state="queued", strategy=fp32, count=1, **same),  # type: ignore[arg-type]
    ]
    done = JobGroup(host="a", state="done", strategy=int8, count=1, **same)  # type: ignore[arg-type]
    assert _sorted(queries.groups(db, study="one")) == _sorted([*waiting, done])
    assert sorted(group.count for group in queries.groups(db)) == [1, 1, 2]


def test_failures_are_counted_by_their_reasons_the_most_frequent_first(db: Database) -> None:
    ids = submit(db, "one", *(builders.case(threads=n) for n in range(1, 5)))
    for job_id, message in zip(ids, ("rare", "often", "often"), strict=False):
        end(db, job_id, records.Failure(reason="unsupported", message=message))

    found = queries.failures(db, study="one")

    same = {"state": "unsupported", "model": "minilm", "strategy": "torch/int8-dynamic", "host": "a"}
    assert found == [FailureGroup(message="often", count=2, **same), FailureGroup(message="rare", count=1, **same)]
    assert queries.failures(db, study="another") == []


def test_jobs_that_ended_after_a_moment_by_the_databases_clock(db: Database) -> None:
    first, second = submit(db, "one", builders.case(), builders.case(threads=2))
    end(db, first)
    moment = queries.clock(db)
    assert queries.jobs(db, ended_after=moment) == []
    end(db, second)

    (found,) = queries.jobs(db, study="one", states=records.TERMINAL, ended_after=moment)

    assert (found.id, found.studies) == (second, ("one",))


def test_jobs_are_found_by_keys_and_by_how_their_ids_begin(db: Database) -> None:
    first, second = submit(db, "one", builders.case(), builders.case(threads=2))
    keys = {job.id: job.key for job in queries.jobs(db)}
    end(db, first)

    assert queries.job_ids(db, keys.values(), {"done"}) == [first]
    assert set(queries.job_ids(db, [*keys.values(), "unknown"])) == {first, second}
    assert queries.ids_starting(db, first[:12]) == [first]
    assert queries.ids_starting(db, "%") == []


def _sorted(groups: list[JobGroup]) -> list[JobGroup]:
    return sorted(groups, key=lambda group: (group.state, group.strategy))
