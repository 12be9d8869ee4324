import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.errors import UserError
from bitladder.runs import RunDirectory, Series
from bitladder.runs.reproduction import Reproduction, compare, shown
from bitladder.runs.trace import Trace, read_trace

LABELS = np.zeros(2, np.int64)
WEIGHTS = {"net.a": "float32[2] sha256 1", "net.b": "float32[2] sha256 2"}


def trace(values: list[float] | None = None, **tensors: dict[str, str]) -> Trace:
    loss = Series(steps=[1, 2, 3], values=values or [0.5, 0.25, float("nan")])
    return Trace(metrics={"loss": loss}, tensors={"weights": WEIGHTS} | tensors)


def compared(here: Trace, recorded: Trace | None = None) -> Reproduction:
    return compare(recorded or trace(), here, ({"python": "3.11"}, {"python": "3.12"}))


def test_the_same_to_the_bit_is_identical() -> None:
    result = compared(trace())
    assert result.identical
    assert result.compared == {"metrics": 3, "weights": 2}
    assert list(result.lines()) == ["compared to the bit: 3 of metrics, 2 of weights", "identical"]


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([0.5, np.nextafter(0.25, 1.0), float("nan")], 2),
        ([0.5, 0.25, 0.0], 3),
        ([-0.5, 0.0, 0.0], 1),
    ],
)
def test_the_first_step_that_differs_is_told(values: list[float], step: int) -> None:
    result = compared(trace(values))
    assert not result.identical
    (first,) = result.differences
    assert (first.part, first.name, first.step) == ("metrics", "loss", step)
    assert list(result.lines())[1].startswith(f"metrics: step {step}, loss: ")


@given(st.lists(st.floats(width=64), min_size=1, max_size=5), st.integers(0, 4), st.integers(0, 63))
def test_every_number_is_itself_and_no_other(values: list[float], index: int, bit: int) -> None:
    steps = list(range(len(values)))
    recorded = Trace(metrics={"x": Series(steps, values)})
    assert compared(Trace(metrics={"x": Series(steps, list(values))}), recorded).identical
    place = index % len(values)
    (pattern,) = struct.unpack("<q", struct.pack("<d", values[place]))
    signed = 1 << bit if bit < 63 else -(1 << 63)
    (other,) = struct.unpack("<d", struct.pack("<q", pattern ^ signed))
    changed = [*values[:place], other, *values[place + 1 :]]
    (first,) = compared(Trace(metrics={"x": Series(steps, changed)}), recorded).differences
    assert first.step == place


def test_minus_zero_is_not_zero() -> None:
    assert not compared(trace([0.0, 1.0, 2.0]), trace([-0.0, 1.0, 2.0])).identical


def test_the_earliest_of_several_metrics_counts() -> None:
    late, early = Series([9], [1.0]), Series([4], [1.0])
    recorded = Trace(metrics={"late": late, "early": early})
    result = compared(Trace(metrics={}), recorded)
    assert (result.differences[0].name, result.differences[0].step) == ("early", 4)
    assert result.differences[0].here == "nothing"


def test_steps_too_few_or_many_are_a_difference() -> None:
    short = Trace(metrics={"loss": Series([1, 2], [0.5, 0.25])}, tensors={"weights": WEIGHTS})
    for here, recorded in ((short, trace()), (trace(), short)):
        (first,) = compared(here, recorded).differences
        assert first.step == 3
    moved = Trace(metrics={"loss": Series([1, 2, 4], [0.5, 0.25, 1.0])}, tensors={})
    assert "1.0 at step 4" in str(compared(moved).differences[0])


def test_tensors_that_differ_or_are_gone_are_counted() -> None:
    result = compared(trace(weights={"net.a": "other", "net.c": "new"}))
    assert [d.name for d in result.differences] == ["net.a", "net.b", "net.c"]
    lines = list(result.lines())
    assert lines[1] == "weights: net.a: float32[2] sha256 1 recorded, other here"
    assert "weights: 3 of 2 differ" in lines
    assert "machine: python: 3.11 recorded, 3.12 here" in lines
    assert lines[-1] == "not identical"


def test_what_the_run_did_not_leave_is_not_compared() -> None:
    result = compared(trace(outputs={"int8": "x"}), trace(outputs={}))
    assert result.identical
    assert result.not_compared == ["outputs"]


def test_machines_are_compared_where_both_manifests_speak() -> None:
    recorded: dict[str, Any] = {"hardware": {"cpu": "a", "threads": 2}, "command": ["x"]}
    here = {"hardware": {"cpu": "b", "threads": 2}, "command": ["y"], "conditions": {"mkl": True}}
    assert compare(trace(), trace(), (recorded, here)).machine == {"hardware.cpu": ("a", "b")}


def test_foreign_text_cannot_write_to_the_terminal() -> None:
    assert shown("\x1b[2Jgone\n") == "\\x1b[2Jgone\\x0a"
    assert len(shown("x" * 10_000)) < 300


def test_the_record_is_json() -> None:
    value = compared(trace([0.0, 0.0, 0.0])).to_json()
    assert json.loads(json.dumps(value))["differences"][0]["step"] == 1
    assert value["machine"] == {"python": {"recorded": "3.11", "here": "3.12"}}


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path)
    made.metrics.write_text(
        "step,train/loss,float/latency_ms/batch_1,int8/size_bytes,epoch_time\n3,0.1,5.0,7,9.0\n"
    )
    np.savez(made.predictions, labels=LABELS, float=np.zeros((2, 3), np.float32))
    weight = {"scale": [0.1, 0.2], "zero_point": [0, 0]}
    layer = {"name": "fc", "weight": weight, "input": {"scale": 0.5, "zero_point": 3}}
    made.quantization.write_text(json.dumps({"layers": [layer, {"name": "x", "weight": None}]}))
    rung = {"metrics": {"test/loss": 0.1}, "size_bytes": 1, "latency_ms": {}, "artifact": None}
    results = {"schema_version": 1, "status": "completed", "experiment": None, "seed": 1}
    results |= {"precision": "fp32", "quantization": "ptq", "rungs": {"float": rung}}
    made.results.write_text(json.dumps(results))
    return made


def test_a_trace_holds_everything_but_clocks_and_sizes(directory: RunDirectory) -> None:
    found = read_trace(directory, WEIGHTS)
    assert list(found.metrics) == ["train/loss"]
    assert found.tensors["weights"] == WEIGHTS
    assert found.tensors["rungs"] == {"float/test/loss": "0.1"}
    assert list(found.tensors["quantization"]) == [
        *("fc.weight.scale", "fc.weight.zero_point", "fc.input.scale", "fc.input.zero_point")
    ]
    assert found.tensors["quantization"]["fc.input.scale"] == "0.5"
    assert found.tensors["outputs"]["float"].startswith("float32[2, 3] sha256 ")


def test_one_bit_changes_a_trace(directory: RunDirectory) -> None:
    before = read_trace(directory, {})
    values = np.zeros((2, 3), np.float32)
    values[1, 2] = np.nextafter(np.float32(0), np.float32(1))
    np.savez(directory.predictions, labels=LABELS, float=values)
    text = directory.quantization.read_text()
    directory.quantization.write_text(text.replace("0.2", "0.20000000000000004"))
    names = [d.name for d in compare(before, read_trace(directory, {}), ({}, {})).differences]
    assert names == ["fc.weight.scale", "float"]


def test_damaged_and_hostile_files_are_one_line(directory: RunDirectory) -> None:
    np.savez(directory.predictions, float=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot read"):
        read_trace(directory, {})
    directory.predictions.write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot read"):
        read_trace(directory, {})
    directory.quantization.write_text('{"layers": 3}')
    with pytest.raises(UserError, match="layers is no list"):
        read_trace(directory, {})
