from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import pytest

from scheduler.interop import entries, formats, importing, unpaired
from scheduler.interop.importing import NO_BASELINE, Names
from storage import errors, foreign
from tests.unit.scheduler.interop import real

WIDE, NARROW, SUITE = (real.PYPERF / f"{name}.json" for name in ("wide", "narrow", "suite"))


def made(name: str = "a", *samples_ns: int, **changes: Any) -> entries.Entry:
    """An entry of one process in a file of its own."""
    values = samples_ns or (10_000_000,) * 20
    fields: dict[str, Any] = {
        "tool": "pyperf",
        "version": "2.11.0",
        "file": f"{name}.json",
        "name": "bench",
        "digest": f"digest-{name}",
        "machine": entries.Machine(cpu="AMD EPYC 7B12", host="host-a"),
        "strategy": name,
        "threads": 1,
        "input": "bench",
        "processes": (entries.Process(samples_ns=values),),
    }
    return entries.Entry(**{**fields, **changes})


def test_files_that_hold_baseline_and_strategy_give_an_unpaired_gain_with_welchs_interval() -> None:
    found = formats.read([WIDE, NARROW])
    base, own = importing.results(found, Names(baseline="wide", model="numbers", threads=1))

    told = own.measurement
    assert told.gain == unpaired.gain(found[0].centres_s, found[1].centres_s)
    assert told.gain is not None and told.gain.low is not None and 1.5 < told.gain.low < told.gain.value
    assert any(
        note.startswith("unpaired gain of 6 processes against 6, measured at other times") for note in told.notes
    )
    assert told.baseline is not None and told.baseline.percentiles == base.measurement.strategy.percentiles
    assert (base.case.strategy, base.case.baseline, base.measurement.gain) == ("wide", "wide", None)


def test_without_a_baseline_there_is_no_gain() -> None:
    for result in importing.results(formats.read([WIDE, NARROW]), Names()):
        assert (result.measurement.gain, result.measurement.baseline, result.case.baseline) == (None, None, NO_BASELINE)


@pytest.mark.parametrize(
    "other",
    [
        {"machine": entries.Machine(cpu="Xeon 8581C", host="host-b")},
        {"threads": 2},
        {"input": "another"},
        {"kind": "server"},
        {"model": "another"},
        {"version": "2.10.0"},
    ],
)
def test_no_gain_between_unlike_cases(other: dict[str, Any]) -> None:
    found = [made("base"), made("fast", *[5_000_000] * 20, **other)]
    own = importing.results(found, Names(baseline="base"))[1].measurement
    assert own.gain is None
    assert "no gain: the files hold no base of this case on this machine" in own.notes


def test_single_processes_give_a_gain_that_claims_no_interval() -> None:
    own = importing.results([made("base"), made("fast", *[5_000_000] * 20)], Names(baseline="base"))[1].measurement
    assert own.gain is not None and own.gain.value == pytest.approx(2.0)
    assert (own.gain.low, own.gain.high) == (None, None)
    assert any("without an interval: only several processes a side" in note for note in own.notes)


def test_files_of_one_case_are_processes_of_one_result() -> None:
    found = [made(name, ns, ns + 2, ns + 4) for name, ns in (("a", 100), ("b", 300))]
    (result,) = importing.results(found, Names(strategies=("torch/fp32",)))
    assert result.measurement.origin.digests == ("digest-a", "digest-b")
    assert result.measurement.strategy.processes == 2
    assert [leg.samples_ns for leg in result.legs] == [(100, 102, 104), (300, 302, 304)]
    assert {leg.foreign_share for leg in result.legs} == {foreign.UNWATCHED}


def test_names_are_given_to_all_files_or_to_one_and_options_are_no_file_names() -> None:
    found = [made("a"), made("b")]
    assert _strategies(found, "torch/fp32") == ["torch/fp32"]
    assert _strategies(found, "a.json=torch/fp32", "b=torch/bf16") == ["torch/fp32", "torch/bf16"]
    assert _strategies(found, "torch/int8-dynamic:engine=onednn") == ["torch/int8-dynamic:engine=onednn"]
    assert _strategies(found, "a=torch/int8-dynamic:engine=onednn") == ["torch/int8-dynamic:engine=onednn", "b"]
    with pytest.raises(errors.ForeignError, match=r"no file or benchmark is called 'c.json'; did you mean"):
        _strategies(found, "c.json=torch/fp32")


def _strategies(found: list[entries.Entry], *wanted: str) -> list[str]:
    return [one.case.strategy for one in importing.results(found, Names(strategies=wanted))]


def test_two_benchmarks_of_a_file_never_become_one_case() -> None:
    suite = formats.read([SUITE])
    assert [one.label for one in importing.results(suite, Names())] == ["sleep", "join"]
    with pytest.raises(errors.ForeignError, match=r"'sleep' and 'join' would both be suite, b1×l16; tell them apart"):
        importing.results(suite, Names(batch=1, length=16))


def test_a_batch_and_a_length_put_the_result_beside_ours() -> None:
    (result,) = importing.results([made()], Names(batch=1, length=16))
    assert result.label == "b1×l16"
    assert result.case.input is not None and result.case.input.batch == 1


def test_what_the_file_tells_is_not_overruled() -> None:
    with pytest.raises(errors.ForeignError, match=r"--threads 4: a\.json says 1"):
        importing.results([made()], Names(threads=4))
    (result,) = importing.results([made(threads=None)], Names(threads=4))
    assert result.case.threads == 4


def test_an_unknown_baseline_is_an_error_with_the_nearest() -> None:
    with pytest.raises(errors.ForeignError, match="no file holds 'bace'; did you mean 'base'"):
        importing.results([made("base")], Names(baseline="bace"))


def test_machines_that_no_file_tells_of_are_one_within_an_import_only() -> None:
    a, b = (made(name, machine=entries.Machine()) for name in "ab")
    together = {one.platform.key for one in importing.results([a, b], Names())}
    apart = {importing.results([one], Names())[0].platform.key for one in (a, b)}
    named = {importing.results([one], Names(host="lab-3"))[0].platform.key for one in (a, b)}
    assert (len(together), len(apart), len(named)) == (1, 2, 1)


def test_a_foreign_platform_holds_nothing_that_the_file_does_not_tell() -> None:
    (result,) = importing.results([made(machine=entries.Machine(cpu="AMD EPYC 7B12"))], Names())
    hardware, environment = result.platform.hardware, result.platform.environment
    assert (hardware.cpu, hardware.vendor, hardware.architecture) == ("AMD EPYC 7B12", "unknown", "unknown")
    assert (hardware.physical_cores, hardware.logical_cores, hardware.memory_gib, hardware.isa) == (0, 0, 0, ())
    assert (environment.python, environment.kernel, dict(environment.packages)) == ("unknown", "unknown", {})
    assert foreign.told_by(result.platform) == "pyperf 2.11.0"
    assert result.host == "unknown"


def test_what_is_stored_already_is_found_and_other_names_for_it_are_an_error() -> None:
    found = [made("base"), made("fast", 5_000_000)]
    results = importing.results(found, Names(baseline="base", model="m"))
    known = [_known(one) for one in results]

    assert importing.check(results, known) == ["job-base", "job-fast"]
    assert importing.check(importing.results([made("other")], Names()), known) == []
    with pytest.raises(errors.ForeignError, match=r"model was m, now n; `quantfleet interop remove foreign/pyperf`"):
        importing.check(importing.results(found, Names(baseline="base", model="n")), known)
    more = [*found, dataclasses.replace(made("again"), strategy="fast")]
    with pytest.raises(errors.ForeignError, match=r"into foreign/pyperf, together with other files"):
        importing.check(importing.results(more, Names(baseline="base", model="m")), known)


def _known(one: foreign.ForeignResult) -> foreign.Known:
    case, origin = one.case, one.measurement.origin
    return foreign.Known(
        job_id=f"job-{case.strategy}",
        study="foreign/pyperf",
        digests=origin.digests,
        baseline_digests=origin.baseline_digests,
        named=(case.model.name, case.strategy, case.baseline, case.threads, one.label),
    )


def test_runs_without_samples_keep_the_middle_of_their_percentiles() -> None:
    kept = [
        made(name, processes=(), quantiles_s={0.5: p50, 0.9: 2 * p50}, centre_s=p50, count=100)
        for name, p50 in (("a", 0.010), ("b", 0.012), ("c", 0.020))
    ]
    (result,) = importing.results(kept, Names(strategies=("x",)))
    values = {one.q: one.value_s for one in result.measurement.strategy.percentiles}
    assert (values[0.5], values[0.9]) == (statistics.median([0.010, 0.012, 0.020]), 0.024)
    assert values[0.95] is None and not result.legs
