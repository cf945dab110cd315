from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler import study, targets
from scheduler.targets import Wanted
from storage import errors, records
from tests.unit.scheduler.fleet_hosts import host
from tests.unit.scheduler.study_files import MINIMAL, load

HOSTS = [
    host("xeon", cpu="Intel Xeon", isa=("avx2", "avx512_vnni", "amx_int8"), labels={"region": "eu", "rack": "3"}),
    host("epyc-2", cpu="AMD EPYC 9B14", labels={"region": "us"}, memory_gib=64, physical_cores=32, logical_cores=64),
    host("epyc-1", cpu="AMD EPYC 9B14", labels={"region": "eu"}, memory_gib=64, physical_cores=32, logical_cores=64),
    host("arm", cpu="Neoverse-N1", architecture="aarch64", isa=("asimd",), virtualization="kvm"),
    host("old", cpu="AMD EPYC 9B14", packages={"torch": "2.12.1"}, memory_gib=64, physical_cores=32, logical_cores=64),
]


def asked(folder: Path, text: str = "") -> study.Study:
    return load(folder, f"{MINIMAL}threads: [1]\n{text}")


def names(folder: Path, *where: str, word: str | None = None) -> list[str]:
    """Names of the hosts that the conditions of a command line leave."""
    wanted = targets.of_options(asked(folder), word, where)
    return [found.name for found in targets.select(wanted, HOSTS)]


def refusal(folder: Path, *where: str, word: str | None = None, text: str = "") -> str:
    with pytest.raises(errors.QueryError) as caught:
        targets.targets(targets.of_options(asked(folder, text), word, where), HOSTS)
    return str(caught.value)


def test_by_default_each_platform_is_a_target_with_all_its_hosts(tmp_path: Path) -> None:
    found = targets.targets(targets.of_study(asked(tmp_path)), HOSTS)

    assert [target.hosts for target in found] == [("arm",), ("epyc-2", "epyc-1"), ("old",), ("xeon",)]
    assert {target.host for target in found} == {None}
    assert len({target.platform_key for target in found}) == 4


def test_every_host_is_a_target_by_its_name(tmp_path: Path) -> None:
    found = targets.targets(targets.of_study(asked(tmp_path, "targets: every-host\n")), HOSTS)

    assert [target.host for target in found] == ["arm", "epyc-1", "epyc-2", "old", "xeon"]
    assert [target.platform_key for target in found[1:3]] == [HOSTS[1].platform.key] * 2


def test_any_is_one_target_that_knows_every_platform(tmp_path: Path) -> None:
    (found,) = targets.targets(targets.of_study(asked(tmp_path, "targets: any\n")), HOSTS)

    assert (found.platform_key, found.host) == (records.ANY_PLATFORM, None)
    assert len(found.platforms) == 4
    assert set(found.hosts) == {one.name for one in HOSTS}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["isa=avx512_vnni"], ["epyc-1", "epyc-2", "old", "xeon"]),
        (["isa=AVX512_vnni,amx_*"], ["xeon"]),
        (["isa=avx512_vnni", "isa=amx_int8"], ["xeon"]),
        (["cpu=*epyc*"], ["epyc-1", "epyc-2", "old"]),
        (["cpu=*epyc*", "cpu=*Xeon"], ["epyc-1", "epyc-2", "old", "xeon"]),
        (["architecture=aarch64"], ["arm"]),
        (["virtualization=none"], ["epyc-1", "epyc-2", "old", "xeon"]),
        (["virtualization=kvm"], ["arm"]),
        (["min_cores=5"], ["epyc-1", "epyc-2", "old"]),
        (["max_cores=4"], ["arm", "xeon"]),
        (["min_memory=16.5"], ["epyc-1", "epyc-2", "old"]),
        (["torch=2.12*"], ["old"]),
        (["python=3.11.*", "kernel=6.1", "cpu=*Xeon"], ["xeon"]),
        (["host=epyc-*"], ["epyc-1", "epyc-2"]),
        (["label.region=EU"], ["epyc-1", "xeon"]),
        (["label.region=eu", "label.rack=3"], ["xeon"]),
        ([f"platform={HOSTS[1].platform.key[:6]}"], ["epyc-1", "epyc-2"]),
        ([f"hardware={HOSTS[1].platform.hardware_key}"], ["epyc-1", "epyc-2", "old"]),
    ],
)
def test_each_field_selects_what_it_names(tmp_path: Path, where: list[str], expected: list[str]) -> None:
    assert names(tmp_path, *where) == expected


def test_what_a_platform_is_plans_for_platforms_and_names_and_labels_for_hosts(tmp_path: Path) -> None:
    def planned(*where: str, word: str | None = None) -> list[tuple[str | None, tuple[str, ...]]]:
        found = targets.targets(targets.of_options(asked(tmp_path), word, where), HOSTS)
        return [(target.host, target.hosts) for target in found]

    assert planned("cpu=*EPYC*", "torch=2.13*") == [(None, ("epyc-2", "epyc-1"))]
    assert planned("cpu=*EPYC*", "label.region=*") == [("epyc-1", ("epyc-1",)), ("epyc-2", ("epyc-2",))]
    assert planned("host=epyc-1") == [("epyc-1", ("epyc-1",))]
    assert planned("torch=2.13*", "cpu=*EPYC*", word="every-host") == [
        ("epyc-1", ("epyc-1",)),
        ("epyc-2", ("epyc-2",)),
    ]


def test_a_study_selects_as_the_command_line_does_and_the_command_line_comes_first(tmp_path: Path) -> None:
    text = "targets: {isa: [avx512_vnni], cpu: ['*EPYC*', '*Xeon*'], label.region: eu, min_cores: 2}\n"
    found = asked(tmp_path, text)

    def chosen(wanted: Wanted) -> list[str]:
        return [one.name for one in targets.select(wanted, HOSTS)]

    assert chosen(targets.of_study(found)) == ["epyc-1", "xeon"]
    assert targets.of_study(found).each == "host"
    assert chosen(targets.of_options(found, None, ["architecture=aarch64"])) == ["arm"]
    assert len(chosen(targets.of_options(found, "every-platform", []))) == len(HOSTS)
    assert targets.of_options(found, None, []) == targets.of_study(found)


def test_no_fitting_host_tells_what_nobody_has_and_who_comes_nearest_the_best_first(tmp_path: Path) -> None:
    found = asked(tmp_path, "targets:\n  isa: [amx_int9]\n  label.region: eu\n  max_cores: 8\n")
    with pytest.raises(errors.StudyError) as caught:
        targets.targets(targets.of_study(found), HOSTS)

    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert lines[0].startswith("study.yaml:7: targets.isa: no host has 'amx_int9'; did you mean 'amx_int8'?")
    assert lines[1] == "nearest:"
    assert lines[2] == "  xeon has no amx_int9"
    assert lines[3] == "  arm has no amx_int9; no label.region"
    assert lines[4] == "  epyc-1 has no amx_int9; max_cores 32"
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (["label.region=eu", "label.rack=4"], "--where label.rack: no host has '4' (there is 3)"),
        (["label.regoin=eu"], "no host has this label; did you mean 'label.region'? (there is label.rack, label.reg"),
        (["min_cores=64"], "--where min_cores: no host has 64 (there is 32, 4)"),
        (["onnxruntime=1.*"], "onnxruntime is installed on no host"),
        (["cpu=*xeonn*"], "did you mean 'Intel Xeon'?"),
        (["label.region=us", "isa=amx_int8"], "--where: no host fits all of this"),
    ],
)
def test_a_value_that_nothing_has_is_told_with_what_there_is(tmp_path: Path, where: list[str], said: str) -> None:
    assert said in refusal(tmp_path, *where)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"where": ["cpuu=x"]}, "--where cpuu: there is no such field; did you mean 'cpu'?"),
        ({"where": ["cpu"]}, "--where cpu: expected FIELD=VALUE"),
        ({"where": ["min_cores=many"]}, "--where min_cores: expected a whole number, not 'many'"),
        ({"where": ["min_cores=1", "min_cores=2"]}, "--where min_cores is given twice"),
        ({"where": ["min_cores=3", "max_cores=2"]}, "--where: min_cores 3 is more than max_cores 2"),
        ({"where": ["platform=xyz"]}, "--where platform: expected a key or its beginning"),
        ({"word": "every-hots"}, "did you mean 'every-host'?"),
        ({"word": "any", "where": ["isa=avx2"]}, "leave --where out"),
        ({"word": "every-platform", "where": ["host=a"]}, "write --target every-host"),
        ({"word": "any", "text": "exclude: [{threads: physical}]\n"}, "--target any: exclude[0].threads: physical is"),
    ],
)
def test_options_that_cannot_be_are_refused_with_the_reason(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    where = given.pop("where", [])
    assert said in refusal(tmp_path, *where, **given)


def test_a_study_for_any_host_names_threads_by_number(tmp_path: Path) -> None:
    with pytest.raises(errors.StudyError, match=r"study.yaml:5: targets: threads is physical unless it is given"):
        load(tmp_path, f"{MINIMAL}targets: any\n")
    with pytest.raises(errors.StudyError, match=r"study.yaml:5: threads\[1\]: all is another number on each machine"):
        load(tmp_path, f"{MINIMAL}threads: [1, all]\ntargets: any\n")
    with pytest.raises(errors.QueryError, match=r"--target any: threads\[0\]: logical is another number"):
        targets.of_options(load(tmp_path, f"{MINIMAL}threads: [logical]\n"), "any", [])


def test_without_any_host_it_says_how_to_start_one(tmp_path: Path) -> None:
    for text in ("", "targets: any\n", "targets: {cpu: x}\n"):
        with pytest.raises(errors.QueryError, match="no host is registered: start one with `quantfleet worker`"):
            targets.targets(targets.of_study(asked(tmp_path, text)), [])


def test_hosts_that_are_away_or_stopped_are_planned_for_too(tmp_path: Path) -> None:
    gone = [host("a", unseen_s=1e6), host("b", stopped=True, cpu="other")]
    assert len(targets.targets(targets.of_study(asked(tmp_path)), gone)) == 2
