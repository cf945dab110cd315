from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import cases, plan, resolve, targets
from scheduler.plan import Entry
from scheduler.resolve import Resolved
from scheduler.targets import Target
from storage import keys, records
from tests.unit.scheduler.study_files import hardware, load, model_folder, platform

STUDY = """
name: s
models:
  m: {path: ./m}
  r: {random: distilbert}
strategies: [torch/fp32, torch/bf16, onnxruntime/int8-dynamic]
threads: [1, physical]
inputs: [{batch: 1, length: 16}, {batch: 1, length: dataset}]
dataset: {path: ./rows.csv}
"""


def resolved(folder: Path, text: str = STUDY) -> Resolved:
    if not (folder / "m").exists():
        model_folder(folder / "m")
        (folder / "rows.csv").write_text("text,label\nhello,1\n")
    return resolve.resolve(load(folder, text))


def entries(folder: Path, more: str = "", host: records.Platform | None = None, **given: Any) -> tuple[Entry, ...]:
    return plan.plan(resolved(folder, STUDY + more), [on(host or platform())], **given).entries


def on(host: records.Platform, name: str = "here") -> Target:
    return targets.of_platform(host, name)


def point(entry: Entry) -> tuple[Any, ...]:
    case = entry.case
    return case.kind, case.model.name, case.strategy, case.threads, case.input.label() if case.input else None


def test_the_matrix_is_whole_and_strategies_that_share_a_baseline_run_in_a_row(tmp_path: Path) -> None:
    found = entries(tmp_path)
    strategies = ["torch/fp32", "torch/bf16", "onnxruntime/int8-dynamic"]
    wanted: list[tuple[Any, ...]] = [
        ("latency", "m", strategy, threads, label)
        for label in ("b1×l16", "b1×dataset")
        for threads in (1, 4)
        for strategy in strategies
    ]
    wanted += [("accuracy", "m", strategy, None, None) for strategy in strategies]
    wanted += [("latency", "r", *rest) for kind, _, *rest in wanted if kind == "latency"]
    assert [point(entry) for entry in found] == wanted


def test_random_weights_have_no_accuracy_and_no_real_rows(tmp_path: Path) -> None:
    random = [entry for entry in entries(tmp_path) if entry.case.model.name == "r"]
    assert {entry.case.kind for entry in random} == {"latency"}
    reasons = {entry.case.input.label(): entry.reason for entry in random if entry.case.input}
    assert reasons == {"b1×l16": None, "b1×dataset": "random weights have no tokenizer"}


def test_the_baseline_has_an_accuracy_even_when_it_is_not_among_the_strategies(tmp_path: Path) -> None:
    found = entries(tmp_path, "baseline: onnxruntime/fp32\n")
    accuracy = [entry.case.strategy for entry in found if entry.case.kind == "accuracy"]
    assert accuracy == ["onnxruntime/fp32", "torch/fp32", "torch/bf16", "onnxruntime/int8-dynamic"]
    assert {entry.case.baseline for entry in found} == {"onnxruntime/fp32"}
    assert "onnxruntime/fp32" not in {entry.case.strategy for entry in found if entry.case.kind == "latency"}


def test_only_real_rows_make_the_dataset_a_part_of_a_latency_case(tmp_path: Path) -> None:
    with_dataset = {entry.case.input.label() for entry in entries(tmp_path) if entry.case.dataset and entry.case.input}
    assert with_dataset == {"b1×dataset"}


def test_thread_words_are_resolved_for_each_machine_and_merged() -> None:
    asked = (1, "physical", 4, "logical")
    assert cases.thread_counts(asked, hardware()) == (1, 4, 8)
    assert cases.thread_counts(asked, hardware(physical_cores=1, logical_cores=1)) == (1, 4)
    assert cases.thread_counts(("all", 2), hardware(logical_cores=3)) == (1, 2, 3)


def test_threads_beyond_the_machine_are_impossible_and_never_clipped(tmp_path: Path) -> None:
    small = platform(physical_cores=2, logical_cores=2)
    text = STUDY.replace("[1, physical]", "[physical, 3]")
    found = plan.plan(resolved(tmp_path, text), [on(small)])
    beyond = [entry for entry in found.entries if entry.case.threads == 3]
    assert beyond
    assert {(entry.state, entry.reason) for entry in beyond} == {
        ("impossible", "3 threads are more than this machine's 2 logical cores")
    }
    assert not any(job.case.threads == 3 for job in found.jobs)


def test_a_strategy_that_the_platform_lacks_is_impossible_with_what_would_help(tmp_path: Path) -> None:
    found = entries(tmp_path, host=platform(without=("onnxruntime",)))
    reasons = {
        entry.reason
        for entry in found
        if entry.case.strategy.startswith("onnxruntime") and entry.case.model.name == "m"
    }
    assert len(reasons) == 1
    assert "pip install 'quantfleet[onnxruntime]'" in str(reasons.pop())
    found = entries(tmp_path, "baseline: onnxruntime/fp32\n", host=platform(without=("onnxruntime",)))
    bf16 = {entry.case.kind: entry.reason for entry in found if point(entry)[1:3] == ("m", "torch/bf16")}
    assert str(bf16["latency"]).startswith("its baseline cannot run: onnxruntime/fp32 needs onnxruntime")
    assert bf16["accuracy"] is None


def test_what_runs_emulated_or_under_a_quota_carries_a_caution(tmp_path: Path) -> None:
    found = entries(tmp_path, host=platform(isa=("avx2",), quota_cores=2.0))
    by_case = {(entry.case.strategy, entry.case.threads): entry.caution for entry in found if entry.state == "planned"}
    assert "runs emulated" in str(by_case["torch/bf16", 1])
    assert "share 2 cores" in str(by_case["torch/fp32", 4])
    assert by_case["torch/fp32", 1] is None


def test_an_exclude_takes_away_what_matches_all_its_fields(tmp_path: Path) -> None:
    before = {point(entry) for entry in entries(tmp_path)}
    gone = before - {
        point(e) for e in entries(tmp_path, "exclude: [{model: r, strategy: 'onnx*', threads: physical}]\n")
    }
    assert gone == {("latency", "r", "onnxruntime/int8-dynamic", 4, label) for label in ("b1×l16", "b1×dataset")}
    gone = before - {point(entry) for entry in entries(tmp_path, "exclude: [{strategy: torch/bf16, kind: accuracy}]\n")}
    assert gone == {("accuracy", "m", "torch/bf16", None, None)}
    gone = before - {
        point(entry) for entry in entries(tmp_path, "exclude: [{length: 16}, {length: dataset, model: r}]\n")
    }
    assert {item[0] for item in gone} == {"latency"}
    assert {item[1:] for item in before - gone if item[0] == "latency"} == {
        ("m", strategy, threads, "b1×dataset")
        for strategy in ("torch/fp32", "torch/bf16", "onnxruntime/int8-dynamic")
        for threads in (1, 4)
    }


def test_one_model_under_two_names_is_measured_once(tmp_path: Path) -> None:
    text = STUDY.replace("  r: {random: distilbert}", "  twin: {path: ./m}")
    found = plan.plan(resolved(tmp_path, text), [on(platform())])
    assert len(found.entries) == 2 * len(found.jobs)


def test_platforms_are_planned_apart_and_each_once(tmp_path: Path) -> None:
    first, second = platform(), platform(cpu="another")
    found = plan.plan(resolved(tmp_path), [on(first), on(second), on(first)])
    half = len(found.entries) // 2
    assert [entry.platform_key for entry in found.entries] == [first.key] * half + [second.key] * half
    assert len(set(found.keys)) == len(found.keys)


def test_replicas_are_new_jobs_and_fresh_ones_count_on(tmp_path: Path) -> None:
    one = plan.plan(resolved(tmp_path), [on(platform())])
    three = plan.plan(resolved(tmp_path, STUDY + "replicas: 3\n"), [on(platform())])
    there = set(three.keys[: 2 * len(one.keys)])
    fresh = plan.fresh(resolved(tmp_path), [on(platform())], lambda keys: {key: "done" for key in keys if key in there})
    assert three.keys[: len(one.keys)] == one.keys
    assert len(set(three.keys)) == 3 * len(one.keys)
    assert fresh.keys == three.keys[2 * len(one.keys) :]
    assert {job.replica for job in fresh.jobs} == {2}


def test_each_case_gets_the_fresh_replica_that_it_lacks_and_what_cannot_run_is_not_asked_for_again(
    tmp_path: Path,
) -> None:
    here = [on(platform(without=("onnxruntime",)))]
    study = resolved(tmp_path, STUDY + "replicas: 2\n")
    once = plan.plan(study, here)
    case = once.jobs[0]
    there = {once.jobs[0].key, keys.job_key(case.case, case.platform_key, 2)}

    found = plan.fresh(study, here, lambda asked: dict.fromkeys(there & set(asked), "done"))

    replicas: dict[str, list[int]] = {}
    for job in found.jobs:
        replicas.setdefault(keys.job_key(job.case, job.platform_key, 0), []).append(job.replica)
    assert replicas.pop(case.key) == [1, 3]
    assert set(map(tuple, replicas.values())) == {(0, 1)}
    assert not there & set(found.keys)
    impossible = [entry.key for entry in once.entries if entry.state == "impossible"]
    assert [entry.key for entry in found.entries if entry.state == "impossible"] == impossible


def test_a_named_host_has_jobs_of_its_own_that_hosts_of_its_platform_do_not_share(tmp_path: Path) -> None:
    study, here = resolved(tmp_path), platform()
    shared = plan.plan(study, [on(here)])
    named = Target(platform_key=here.key, platforms=(here,), hosts=("a",), host="a")
    other = Target(platform_key=here.key, platforms=(here,), hosts=("b",), host="b")

    found = plan.plan(study, [named, other])

    half = len(found.jobs) // 2
    assert [job.wanted_host for job in found.jobs] == ["a"] * half + ["b"] * half
    assert {job.platform_key for job in found.jobs} == {here.key}
    assert len({*shared.keys, *found.keys}) == len(shared.keys) + len(found.keys)


def test_what_any_host_may_run_is_planned_once_and_impossible_only_where_no_platform_can(tmp_path: Path) -> None:
    small, poor = platform(logical_cores=1, physical_cores=1), platform(without=("onnxruntime",))
    both = Target(platform_key=records.ANY_PLATFORM, platforms=(small, poor), hosts=("a", "b"))
    text = STUDY.replace("[1, physical]", "[1, 8, 99]")

    found = plan.plan(resolved(tmp_path, text), [both])

    assert {job.platform_key for job in found.jobs} == {"any"}
    assert {job.wanted_host for job in found.jobs} == {None}
    reasons = {
        (entry.case.strategy, entry.case.threads): entry.reason
        for entry in found.entries
        if entry.case.model.name == "m" and entry.case.input and entry.case.input.length == 16
    }
    assert reasons["torch/fp32", 8] is None  # poor has 8 cores
    assert reasons["onnxruntime/int8-dynamic", 1] is None  # small has the library
    assert "this machine's 1 logical cores" in str(reasons["onnxruntime/int8-dynamic", 8])  # neither has both
    assert "99 threads" in str(reasons["torch/fp32", 99])


def test_precision_time_and_pairs_do_not_make_another_job(tmp_path: Path) -> None:
    one = plan.plan(resolved(tmp_path), [on(platform())])
    other = plan.plan(resolved(tmp_path, STUDY + "precision: 10%\nmax_seconds: 5\nmin_pairs: 2\n"), [on(platform())])
    assert one.keys == other.keys
    assert one.jobs[0].budget == records.Budget()
    assert other.jobs[0].budget == records.Budget(precision=0.1, max_seconds=5.0, min_pairs=2)


def test_a_job_survives_its_way_through_json(tmp_path: Path) -> None:
    for job in plan.plan(resolved(tmp_path), [on(platform())]).jobs:
        assert records.from_document(records.PlannedJob, records.to_document(job)) == job


STATES = st.sampled_from(["queued", "running", "done", "unsupported", "failed", "dead", "cancelled"])


@settings(max_examples=25, deadline=None)
@given(
    threads=st.lists(st.sampled_from([1, 2, 3, 9, "physical", "logical", "all"]), min_size=1),
    strategies=st.lists(
        st.sampled_from(["torch/fp32", "torch/bf16", "torch/int8-dynamic", "onnxruntime/fp32"]), min_size=1
    ),
    replicas=st.integers(1, 3),
    data=st.data(),
)
def test_planning_again_gives_the_same_keys_and_only_what_is_missing(
    threads: list[int | str], strategies: list[str], replicas: int, data: st.DataObject
) -> None:
    text = STUDY.replace("[1, physical]", str(threads).replace("'", ""))
    text = (
        text.replace("[torch/fp32, torch/bf16, onnxruntime/int8-dynamic]", str(strategies)) + f"replicas: {replicas}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        first = plan.plan(resolved(Path(folder), text), [on(platform())])
        known = data.draw(st.dictionaries(st.sampled_from(first.keys), STATES))
        again = plan.plan(resolved(Path(folder), text), [on(platform())], known)
    assert again.keys == first.keys
    assert {job.key for job in again.jobs} == set(first.keys) - set(known)
    assert {e.key: e.state for e in again.entries if e.key in known and e.state != "impossible"} == known
    assert len({job.key for job in first.jobs}) == len(first.jobs) == len(first.keys)


def test_each_replica_has_the_key_that_its_case_has_alone(tmp_path: Path) -> None:
    found = entries(tmp_path, "replicas: 3\n")
    assert [entry.replica for entry in found] == [n for n in range(3) for _ in range(len(found) // 3)]
    assert all(entry.key == keys.job_key(entry.case, entry.platform_key, entry.replica) for entry in found)
    assert len({entry.key for entry in found}) == len(found)
