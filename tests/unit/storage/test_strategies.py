from __future__ import annotations

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies as st

from storage import errors, records, strategies
from storage.catalogue import registry
from storage.catalogue.descriptions import Part
from storage.options import Option
from tests.unit.storage import spellings

X86 = records.Hardware(
    cpu="Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz",
    vendor="GenuineIntel",
    family=6,
    model=63,
    stepping=2,
    architecture="x86_64",
    isa=("avx", "avx2", "fma"),
    caps=(),
    physical_cores=12,
    logical_cores=24,
    cache_bytes={},
    memory_gib=64,
)
GRAVITON = dataclasses.replace(X86, cpu="Neoverse-N1", vendor="ARM", architecture="aarch64", isa=("asimd", "asimddp"))
RISC = dataclasses.replace(X86, architecture="riscv64", isa=())
ALL = records.Environment(python="3.11", packages=dict.fromkeys(registry.PACKAGES, "1.0"), kernel="6.1")
TORCH = dataclasses.replace(ALL, packages={"torch": "2.13.0", "transformers": "5.23.0"})


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("torch/fp32", "torch/fp32"),
        (" torch/fp32: ", "torch/fp32"),
        ("torch/int8-dynamic:per_channel", "torch/int8-dynamic:per_channel=true"),
        ("torch/int8-dynamic:per_channel=TRUE,engine=auto", "torch/int8-dynamic:per_channel=true"),
        ("torch/int8-dynamic:per_channel=false", "torch/int8-dynamic"),
        (
            "torch/int8-static : rows=0100 , engine = onednn",
            "torch/int8-static:engine=onednn,rows=100",
        ),
        ("prune-ffn+torch/fp32", "prune-ffn:0.3+torch/fp32"),
        ("prune-ffn:50%+torch/fp32", "prune-ffn:0.5+torch/fp32"),
        ("prune-ffn:amount=.50+torch/fp32", "prune-ffn:0.5+torch/fp32"),
        ("prune-ffn:recover=300,50%+torch/fp32", "prune-ffn:0.5,recover=300+torch/fp32"),
        ("prune-magnitude:pattern=2:4+torch/fp32", "prune-magnitude:pattern=2:4+torch/fp32"),
        ("distil+torch/fp32", "distil+torch/fp32"),
        ("distil:layers=half,epochs=3+torch/fp32", "distil+torch/fp32"),
        ("distil :layers=3+ prune-heads + torch/bf16", "distil:layers=3+prune-heads:0.25+torch/bf16"),
        (
            "distil:layers=3+prune-ffn:0.3+openvino/int8-static:rows=200",
            "distil:layers=3+prune-ffn:0.3+openvino/int8-static",
        ),
    ],
)
def test_a_strategy_has_one_spelling(text: str, normal: str) -> None:
    assert str(strategies.parse(text)) == normal
    assert strategies.parse(normal) == strategies.parse(text)


def test_the_order_of_transforms_is_kept_and_tells_strategies_apart() -> None:
    one, other = (
        strategies.parse(f"{a}+{b}+torch/fp32") for a, b in (("distil", "prune-ffn"), ("prune-ffn", "distil"))
    )
    assert one != other
    assert [step.name for step in other.steps] == ["prune-ffn", "distil"]


def test_options_are_answered_with_what_is_in_force() -> None:
    strategy = strategies.parse("prune-ffn:30%,recover=5+torch/int8-static:per_channel")
    assert (strategy.runtime, strategy.precision, strategy.name) == ("torch", "int8-static", "torch/int8-static")
    assert (strategy.option("engine"), strategy.flag("per_channel"), strategy.whole("rows")) == ("auto", True, 200)
    (step,) = strategy.steps
    assert (step.number("amount"), step.whole("recover"), step.option("by")) == (0.3, 5, "taylor")
    assert strategies.parse_step(" prune-ffn:30%,recover=5 ") == step
    assert strategy.parts == (step, strategy)
    assert str(strategy.untransformed) == "torch/int8-static:per_channel=true"
    with pytest.raises(errors.StrategyError, match="no option 'per_chanel'; did you mean 'per_channel'"):
        strategy.option("per_chanel")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no strategy '' (`quantfleet strategies` lists them)"),
        ("torch", "there is no strategy 'torch'; did you mean 'torch/"),
        ("tourch/fp32", "did you mean 'torch/fp32'?"),
        ("Torch/fp32", "did you mean 'torch/fp32'?"),
        ("torch/int9", "torch has no precision 'int9'; did you mean 'int8-dynamic'?"),
        ("openvino/fp16", "openvino has no precision 'fp16'; did you mean 'bf16'? (it has fp32, bf16, int8-dynamic, "),
        ("inductor/int4-weight-only", "inductor has no precision 'int4-weight-only'; did you mean 'int8-weight-only'?"),
        ("torch/", "torch has no precision ''"),
        ("torch/fp32:x=1", "torch/fp32 has no option 'x' (it accepts none)"),
        ("torch/int8-dynamic:engin=x86", "has no option 'engin'; did you mean 'engine'?"),
        ("torch/int8-dynamic:engine=onednm", "engine is one of auto, x86, fbgemm, onednn, qnnpack, not 'onednm'; did"),
        ("torch/int8-dynamic:per_channel,per_channel=false", "option 'per_channel' is given twice"),
        ("prune-fnn:0.3+torch/fp32", "there is no transform 'prune-fnn'; did you mean 'prune-ffn'? (there are "),
        ("torch/fp32+prune-ffn", "ends in a transform; a runtime must follow, such as torch/fp32+prune-ffn+torch/fp32"),
        ("distil :layers=3", "ends in a transform; a runtime must follow, such as distil :layers=3+torch/fp32"),
        ("torch/fp32+torch/fp32", "there is no transform 'torch/fp32'"),
        ("+torch/fp32", "there is no transform ''"),
        ("prune-ffn:100%+torch/fp32", "prune-ffn: amount is a number between 0 and 1, both excluded, not '100%'"),
        ("prune-magnitude:0.5,pattern=2:4+torch/fp32", "amount goes with pattern=unstructured only, not with pattern="),
        ("+".join(["distil"] * 9) + "+torch/fp32", "has 9 transforms, at most 8 are allowed"),
    ],
)
def test_what_names_nothing_says_what_is_near(text: str, said: str) -> None:
    with pytest.raises(errors.StrategyError) as caught:
        strategies.parse(text)
    assert said in str(caught.value)


def test_as_many_transforms_as_allowed_are_taken() -> None:
    assert len(strategies.parse("prune-ffn:0.1+" * strategies.MAX_STEPS + "torch/fp32").steps) == strategies.MAX_STEPS


@pytest.mark.parametrize(
    ("text", "datasets"),
    [
        ("torch/fp32", ()),
        ("torch/int8-static", ("train",)),
        ("torch/int8-static:draw=random-tokens", ()),
        ("torch/int8-static:draw=short,data=banking", ("banking",)),
        ("prune-ffn+torch/int8-static:data=evaluation", ("train", "evaluation")),
        ("prune-ffn:by=magnitude+torch/fp32", ()),
        ("prune-ffn:by=magnitude,recover=1+torch/fp32", ("train",)),
        ("prune-magnitude+torch/fp32", ()),
        ("prune-magnitude:recover=10,data=mine+torch/int8-static:data=mine", ("mine",)),
        ("distil+prune-heads:data=b+torch/int8-static:data=a", ("train", "b", "a")),
    ],
)
def test_a_strategy_knows_which_datasets_it_reads(text: str, datasets: tuple[str, ...]) -> None:
    assert strategies.parse(text).datasets == datasets


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("torch/int8-static", []),
        ("prune-ffn+torch/fp32", []),
        ("distil:layers=3+torch/int8-dynamic:per_channel", ["distil:layers=3+torch/fp32"]),
        (
            "prune-ffn:0.5+distil+prune-heads:0.25,recover=3+prune-magnitude:0.5+openvino/fp32",
            ["prune-ffn:0.5+distil+torch/fp32", "prune-ffn:0.5+distil+prune-heads:0.25,recover=3+torch/fp32"],
        ),
    ],
)
def test_trainings_are_named_with_everything_before_them(text: str, trained: list[str]) -> None:
    found = strategies.parse(text).trained
    assert [str(before) for before in found] == trained
    assert [strategies.parse(before) for before in trained] == list(found)


@pytest.mark.parametrize(
    ("text", "hardware", "environment", "reason"),
    [
        ("torch/int8-dynamic:engine=fbgemm", X86, TORCH, None),
        (
            "openvino/fp32",
            X86,
            TORCH,
            "openvino/fp32 needs openvino, not installed here; pip install 'quantfleet[openvino]'",
        ),
        (
            "openvino/int8-static",
            X86,
            TORCH,
            "needs openvino, nncf, not installed here; pip install 'quantfleet[openvino]'",
        ),
        ("onnxruntime/fp32", X86, TORCH, "pip install 'quantfleet[onnxruntime]'"),
        ("torch/int8-weight-only", X86, TORCH, "needs torchao, not installed here; pip install 'quantfleet[torchao]'"),
        ("distil+openvino/fp32", X86, TORCH, "openvino/fp32 needs openvino"),
        (
            "distil+openvino/fp32",
            X86,
            dataclasses.replace(ALL, packages={"openvino": "1"}),
            "distil needs torch, transformers, not installed here; pip install 'quantfleet[worker]'",
        ),
        (
            "openvino/bf16",
            X86,
            ALL,
            f"openvino/bf16 needs {' or '.join(registry.describe('openvino/bf16').needs_isa)}, which this CPU lacks",
        ),
        ("openvino/fp32", RISC, ALL, "openvino/fp32 exists on x86_64, aarch64 only, this is riscv64"),
        ("inductor/int8-static", GRAVITON, ALL, "inductor/int8-static exists on x86_64 only, this is aarch64"),
        ("inductor/int8-dynamic", GRAVITON, ALL, None),
        ("inductor/int8-dynamic:by=pt2e", GRAVITON, ALL, "by=pt2e exists on x86_64 only, this is aarch64"),
        ("torch/int8-dynamic", GRAVITON, ALL, None),
        ("torch/int8-dynamic:engine=qnnpack", GRAVITON, ALL, None),
        ("torch/int8-dynamic:engine=x86", GRAVITON, ALL, "engine=x86 exists on x86_64 only, this is aarch64"),
        (
            "torch/int8-static:engine=x86",
            dataclasses.replace(X86, isa=("sse4_1",)),
            ALL,
            "torch/int8-static:engine=x86: engine=x86 needs avx2, which this CPU lacks",
        ),
    ],
)
def test_what_a_platform_cannot_run_comes_with_the_reason(
    text: str, hardware: records.Hardware, environment: records.Environment, reason: str | None
) -> None:
    found = strategies.unsupported(strategies.parse(text), hardware, environment)
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_what_runs_emulated_is_said() -> None:
    assert strategies.caution(strategies.parse("torch/fp32"), X86) is None
    said = strategies.caution(strategies.parse("prune-ffn+torch/bf16"), X86)
    assert said is not None
    assert "torch/bf16 runs emulated" in said
    fast = dataclasses.replace(X86, isa=("avx512_bf16",))
    assert strategies.caution(strategies.parse("torch/bf16"), fast) is None


def test_what_results_mean_is_said_part_by_part() -> None:
    assert strategies.meanings(strategies.parse("torch/fp32")) == ()
    (said,) = strategies.meanings(strategies.parse("prune-magnitude+torch/fp32"))
    assert said.startswith("prune-magnitude: ")
    assert "no speed" in said


@hypothesis.given(spellings.cases())
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.too_slow], deadline=None)
def test_any_composition_in_any_spelling_is_one_strategy(case: spellings.Case) -> None:
    parsed = strategies.parse(case.text)

    assert [(part.name, in_force(part)) for part in parsed.parts] == list(case.wanted)
    assert strategies.parse(str(parsed)) == parsed == strategies.parse(case.again)
    assert str(strategies.parse(str(parsed))) == str(parsed) == str(strategies.parse(case.again))
    assert set(str(parsed)) & set(" %") == set()


@hypothesis.given(st.text() | spellings.near_texts())
@hypothesis.example("torch/int8-static:rows=" + "9" * 5000)
@hypothesis.example("prune-ffn:\ud800+torch/fp32")
def test_any_text_is_a_strategy_or_a_strategy_error(text: str) -> None:
    try:
        parsed = strategies.parse(text)
    except errors.StrategyError as exc:
        assert str(exc)
        return
    assert strategies.parse(str(parsed)) == parsed


def in_force(chosen: strategies.Chosen) -> dict[str, str]:
    return {option.name: chosen.option(option.name) for option in meaningful(chosen.part, dict(chosen.options))}


def meaningful(part: Part, given: dict[str, str]) -> list[Option]:
    """The options that no other option leaves without a meaning."""
    values = {option.name: given.get(option.name, option.default) for option in part.options}
    return [option for option in part.options if all(values[other] in fits for other, fits in option.only_with.items())]
