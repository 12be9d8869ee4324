from collections.abc import Callable

from bitladder.report.summary import folder_summary, run_summary
from bitladder.runs import Results, RunRecord

Make = Callable[..., RunRecord]


def test_a_completed_run_is_told_in_one_sentence_with_every_ratio(run: Make) -> None:
    assert run_summary(run()) == (
        "digits, trained in fp32 with quantization qat, seed 1: int8 is right on 75.00% of the"
        " test samples, float on 100.00% (-25.00 points); its file has 1 kB instead of 4 kB"
        " (0.25x); it answers 2.0x as fast at batch 1 and 2.0x as fast at batch 32."
    )


def test_a_run_without_int8_says_so(run: Make) -> None:
    assert run_summary(run(int8=False)).endswith("There is no int8 rung.")


def test_a_run_that_is_not_over_says_how_far_it_came(run: Make) -> None:
    summary = run_summary(run(results=False))
    assert "The run is not over yet. It logged up to step 19, val/accuracy 19." in summary


def test_a_run_that_failed_says_why(run: Make) -> None:
    record = run()
    Results(
        status="failed",
        experiment="digits",
        precision="fp16",
        quantization="none",
        seed=1,
        reason="the loss is NaN",
    ).write(record.directory.results)
    summary = run_summary(RunRecord.read(record.path))
    assert "The run failed (the loss is NaN). It logged up to step 19" in summary


def test_an_empty_directory_says_so(run: Make) -> None:
    record = run()
    for file in record.path.iterdir():
        file.unlink()
    assert run_summary(RunRecord.read(record.path)).startswith("The directory holds no run")


def test_a_folder_counts_its_runs_and_names_the_best(run: Make) -> None:
    records = [run("a", accuracy=0.5), run("b", accuracy=0.9), run("c", accuracy=float("nan"))]
    records.append(run("d", results=False))
    summary = folder_summary("sweep", records)
    assert summary.startswith("sweep has 4 runs: 3 completed, 1 running.")
    assert "The best int8 rung is 90.00% accurate: b." in summary
