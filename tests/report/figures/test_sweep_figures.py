"""Figures that compare runs: what is in them, not how they look."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.report.content import as_cell
from bitladder.report.figures import (
    fronts,
    jobs,
    layer_map,
    parallel,
    recipes,
    significance,
)
from bitladder.report.grouping import Point, by_recipe, points
from bitladder.runs import Results, RunDirectory, Rung, RunRecord
from bitladder.runs.sweep_directory import Job, JobRecord, SweepDirectory, SweepPlan

HOSTILE = "<b>fp32</b>"


def a_run(
    precision: str = "fp32",
    method: str = "ptq",
    seed: int = 1,
    *,
    accuracy: float = 0.9,
    cost: float = 2.0,
    decibels: float | str = 40.0,
    data: str = "digits",
    **changes: Any,
) -> RunRecord:
    """A completed run with two rungs, int8 half as costly and 0.1 less accurate."""
    rungs = {"float": rung(accuracy, cost)}
    if method != "none":
        rungs["int8"] = rung(accuracy - 0.1, cost / 2)
    results = Results(
        status="completed",
        experiment="x",
        precision=precision,
        quantization=method,
        seed=seed,
        rungs=rungs,
    )
    given: dict[str, Any] = {
        "directory": RunDirectory(Path(f"run-{precision}-{method}-{seed}")),
        "state": "completed",
        "config": {"choices": {"data": data, "model": "mlp"}},
        "results": results,
        "quantization": {"layers": [{"name": "stem", "quantized": True, "sqnr_db": decibels}]},
    }
    return RunRecord(**(given | changes))


def rung(accuracy: float, cost: float) -> Rung:
    return Rung(
        metrics={"test/accuracy": accuracy},
        size_bytes=int(1000 * cost),
        latency_ms={"batch_1": cost, "batch_32": 10 * cost},
    )


def traces(figure: Any) -> Any:
    return figure.data


def title(figure: Any) -> str:
    return figure.layout.title.text


SOME = [
    a_run("fp32", "none", 1, accuracy=0.95),
    a_run("fp32", "none", 2, accuracy=0.97),
    a_run("fp32", "ptq", 1, accuracy=0.94),
    a_run("fp32", "ptq", 2, accuracy=0.98),
    a_run("bf16", "ptq", 1, accuracy=0.8, cost=4.0),
]


def test_runs_that_differ_in_their_seed_alone_are_one_recipe() -> None:
    groups = {recipe.label: len(runs) for recipe, runs in by_recipe(SOME).items()}
    assert groups == {"fp32 + none": 2, "fp32 + ptq": 2, "bf16 + ptq": 1}
    assert [(x.recipe.label, x.rung) for x in points(SOME)][:3] == [
        ("fp32 + none", "float"),
        ("fp32 + ptq", "float"),
        ("fp32 + ptq", "int8"),
    ]


def test_a_front_has_means_deviations_and_the_points_that_none_beats() -> None:
    figure = fronts.front(list(points(SOME)), "size_bytes", "digits, mlp")
    assert figure is not None
    line, *marks = traces(figure)
    # int8 of fp32 is the cheapest; the float models of fp32 cost the same, and one mean is higher.
    assert list(line.x) == [1000.0, 2000.0]
    assert list(line.y) == pytest.approx([0.86, 0.96])
    (fp32,) = [mark for mark in marks if mark.name == "fp32, float"]
    assert list(fp32.y) == pytest.approx([0.96, 0.96])
    assert list(fp32.error_y.array) == pytest.approx([0.0141421, 0.0282843], rel=1e-4)
    (bf16,) = [mark for mark in marks if mark.name == "bf16, int8"]
    assert list(bf16.error_y.array) == [0.0]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_not_beaten_is_what_brute_force_finds(placed: list[tuple[float, float]]) -> None:
    expected = {
        (x, y)
        for x, y in placed
        if not any((a <= x and b >= y) and (a, b) != (x, y) for a, b in placed)
    }
    assert fronts.not_beaten(placed) == sorted(expected)


def test_tasks_are_not_mixed() -> None:
    section = fronts.section([*SOME, a_run(data="fashion"), a_run("bf16", data="fashion")])
    assert section is not None
    titles = [title(figure) for figure in section.figures]
    assert len(titles) == 6
    assert sum("(fashion, mlp)" in name for name in titles) == 3


def test_the_table_of_recipes() -> None:
    section = recipes.section(SOME)
    assert section is not None
    (table,) = section.tables
    rows = [[as_cell(cell).text for cell in row] for row in table.rows]
    assert rows[0][1:6] == ["fp32", "none", "float", "2", "0.9600 ± 0.0141"]
    assert rows[-1][1:6] == ["bf16", "ptq", "int8", "1", "0.7000"]
    maps = {title(figure): traces(figure)[0] for figure in section.figures}
    (of_float,) = [m for name, m in maps.items() if "of float" in name]
    assert list(of_float.x) == ["none", "ptq"]
    assert list(of_float.y) == ["fp32", "bf16"]
    assert of_float.z[1][0] is None


def test_parallel_coordinates_leave_out_what_is_the_same() -> None:
    section = parallel.section(SOME)
    assert section is not None
    axes = {axis.label: list(axis.values) for axis in traces(section.figures[0])[0].dimensions}
    assert "task" not in axes
    assert axes["precision"] == [0, 0, 0, 0, 1]
    assert axes["accuracy"] == pytest.approx([0.95, 0.97, 0.84, 0.88, 0.7])


def test_layers_by_recipe_are_means_over_seeds() -> None:
    runs = [a_run(seed=1, decibels=30.0), a_run(seed=2, decibels=50.0), a_run("bf16")]
    section = layer_map.section([*runs, a_run("fp16", decibels="Infinity")])
    assert section is not None
    (trace,) = traces(section.figures[0])
    assert list(trace.x) == ["fp32 + ptq", "bf16 + ptq"]
    assert list(trace.z[0]) == [40.0, 40.0]


def test_significance_compares_the_same_seeds() -> None:
    runs = [a_run("fp32", "none", seed, accuracy=0.9) for seed in range(6)]
    runs += [a_run("bf16", "none", seed, accuracy=0.91 + seed / 1000) for seed in range(6)]
    section = significance.section(runs)
    assert section is not None
    (row,) = section.tables[0].rows
    cells = [as_cell(cell) for cell in row]
    assert [cell.text for cell in cells[1:5]] == ["bf16", "none", "float", "6"]
    assert cells[5].value == pytest.approx(0.0125)
    assert cells[-1].value == cells[-2].value == 2 / 64
    assert "With 6 seeds no p can be below 0.0312." in section.text


def test_few_seeds_are_said_to_show_nothing() -> None:
    section = significance.section(SOME)
    assert section is not None
    assert "nothing can be said of chance" in section.text
    assert {as_cell(row[-1]).text for row in section.tables[0].rows} == {"-"}
    assert "6 seeds are the least" in significance.reach(3)


SECTIONS = [x.section for x in (fronts, recipes, parallel, layer_map, significance)]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    "runs",
    [
        [],
        [a_run()],
        [a_run("fp32", "none"), a_run("bf16", "none")],
        [a_run(accuracy=math.nan), a_run("bf16", accuracy=math.nan)],
        [a_run(state="running", results=None), a_run(state="failed", results=None)],
        [a_run(quantization={"layers": "?"}), a_run("bf16", quantization=None)],
        [a_run(config={}), a_run(HOSTILE, config={"choices": 3})],
    ],
)
def test_odd_runs_make_no_empty_plot(section: Any, runs: Sequence[RunRecord]) -> None:
    runs = [run if isinstance(run, RunRecord) else a_run() for run in runs]
    made = section(runs)
    for figure in made.figures if made else ():
        assert figure.data
        assert "<b>" not in str(figure.to_plotly_json())


def sweep_of(folder: Path, *records: JobRecord) -> SweepDirectory:
    directory = SweepDirectory(folder)
    directory.jobs.mkdir(parents=True)
    all_jobs = [Job(id=x.id, name=x.name, overrides=x.overrides) for x in records]
    plan = SweepPlan(created="now", overrides=[], config_sha256="", jobs=all_jobs)
    directory.write_plan(plan)
    for record in records:
        if record.status != "pending":
            directory.write_job(record)
    return directory


def a_job(number: int, status: Any, **changes: Any) -> JobRecord:
    given = {"id": f"j{number}", "name": f"seed={number}", "overrides": [], "status": status}
    return JobRecord(**(given | changes))


def test_a_job_that_is_not_done_is_shown_with_its_reason(tmp_path: Path) -> None:
    sweep_of(
        tmp_path,
        a_job(1, "completed", run="a", attempts=1),
        a_job(2, "failed", reason="NaN at step 3", attempts=2),
        a_job(3, "pending"),
    )
    section = jobs.section(jobs.read_jobs(tmp_path), tmp_path)
    assert section is not None
    assert "1 of 3 jobs are completed" in section.text
    assert section.tables[0].rows == [
        ["seed=2", "failed", 2, "NaN at step 3", "jobs/j2.log"],
        ["seed=3", "pending", 0, None, None],
    ]


def test_runs_that_were_done_again_do_not_count(tmp_path: Path) -> None:
    sweep_of(tmp_path, a_job(1, "completed", run="run-fp32-ptq-2", attempts=2))
    found = jobs.that_count([a_run(seed=1), a_run(seed=2)], jobs.read_jobs(tmp_path))
    assert [record.seed for record in found] == [2]


def test_a_folder_without_jobs_or_with_damaged_ones(tmp_path: Path) -> None:
    assert jobs.read_jobs(tmp_path) == []
    assert jobs.section([], tmp_path) is None
    assert len(jobs.that_count(SOME, [])) == len(SOME)
    directory = sweep_of(tmp_path, a_job(1, "failed"))
    directory.status_file("j1").write_text("{")
    assert jobs.read_jobs(tmp_path) == []


def test_values_that_are_no_numbers_are_left_out() -> None:
    point: Point = next(iter(points([a_run(accuracy=math.nan)])))
    assert point.values("test/accuracy") == {}
    assert point.values("missing") == {}
    assert point.values("latency_ms/batch_1") == {1: 2.0}
