"""A search's file: what is in it after a kill, and what is refused."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from bitladder.errors import UserError
from bitladder.sweeps.space import Axis, Choice, Interval
from bitladder.sweeps.study import SAMPLERS, Candidate, Direction, Search

SPACE: dict[str, Axis] = {
    "optimizer.lr": Interval(1e-4, 1e-1, log=True),
    "quantization": Choice(("ptq", "qat")),
    "model.width": Interval(1, 4, integer=True),
}
OBJECTIVES: dict[str, Direction] = {"accuracy": "maximize", "latency": "minimize"}


def opened(folder: Path, sampler: str = "tpe", seed: int = 1) -> Search:
    return Search.open(folder / "study.db", SPACE, OBJECTIVES, sampler=sampler, seed=seed)


def asked(search: Search) -> Candidate:
    candidate = search.ask()
    assert candidate is not None
    return candidate


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_serves_two_objectives(tmp_path: Path, sampler: str) -> None:
    search = opened(tmp_path, sampler)
    outcomes = {}
    for _ in range(6):
        candidate = asked(search)
        rate = candidate.values["optimizer.lr"]
        assert isinstance(rate, float)
        assert 1e-4 <= rate <= 1e-1
        assert candidate.values["quantization"] in ("ptq", "qat")
        assert candidate.values["model.width"] in (1, 2, 3, 4)
        outcomes[candidate.number] = (-abs(math.log10(rate) + 2), rate)
        search.tell(candidate, outcomes[candidate.number])
    assert search.finished == 6
    beaten = {
        number
        for number, (good, cost) in outcomes.items()
        if any(g >= good and c <= cost and (g, c) != (good, cost) for g, c in outcomes.values())
    }
    assert set(search.front()) == outcomes.keys() - beaten


def test_a_trial_without_an_outcome_is_proposed_again_as_the_same_trial(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.tell(asked(first), [0.5, 1.0])
    left = asked(first)
    second = opened(tmp_path)
    assert asked(second) == left
    second.tell(left, [0.6, 1.0])
    assert asked(second).number == left.number + 1


def test_a_kill_between_asking_and_telling_leaves_no_trial_twice(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = eval(sys.argv[2])\n"
        "from pathlib import Path\n"
        "import test_study\n"
        "search = test_study.opened(Path(sys.argv[1]))\n"
        "while True:\n"
        "    candidate = search.ask()\n"
        "    print(candidate.number, flush=True)\n"
        "    search.tell(candidate, [candidate.number / 100, 1.0])\n"
    )
    path = [str(Path(__file__).parent), *sys.path]
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, str(tmp_path), repr(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    search = opened(tmp_path)
    before = search.finished
    assert before >= 6
    search.tell(asked(search), [0.0, 1.0])
    study = optuna.load_study(study_name="bitladder", storage=f"sqlite:///{tmp_path / 'study.db'}")
    told = [trial.params for trial in study.trials if trial.values is not None]
    assert len(told) == before + 1 == len({str(sorted(values.items())) for values in told})


def test_it_ends_when_everything_was_tried(tmp_path: Path) -> None:
    space: dict[str, Axis] = {"a": Choice((1, 2, "x"))}
    search = Search.open(tmp_path / "s.db", space, OBJECTIVES, sampler="random", seed=0)
    tried = []
    while (candidate := search.ask()) is not None:
        tried.append(candidate.values["a"])
        search.tell(candidate, [0.0, 0.0])
    assert sorted(map(str, tried)) == ["1", "2", "x"]


def test_what_failed_may_come_again_and_what_was_hopeless_may_not(tmp_path: Path) -> None:
    space: dict[str, Axis] = {"a": Choice((1,))}
    search = Search.open(tmp_path / "s.db", space, OBJECTIVES, sampler="random", seed=0)
    search.give_up(asked(search), hopeless=False, reason="out of memory")
    assert search.finished == 0
    search.give_up(asked(search), hopeless=True)
    assert search.finished == 1
    assert search.ask() is None


def test_notes_of_measured_trials_are_kept(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.tell(asked(search), [0.5, 1.0], curve=[0.1, 0.5])
    search.give_up(asked(search), hopeless=True, curve=[0.0])
    assert opened(tmp_path).notes("curve") == [[0.1, 0.5]]


def test_another_space_or_objective_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    path = tmp_path / "study.db"
    wider = SPACE | {"model.width": Interval(1, 8, integer=True)}
    with pytest.raises(UserError, match=r"model\.width .*high=4.* in its space, not .*high=8"):
        Search.open(path, wider, OBJECTIVES, sampler="tpe", seed=1)
    other: dict[str, Direction] = {"accuracy": "maximize", "latency": "maximize"}
    with pytest.raises(UserError, match="latency minimize in its objectives, not maximize"):
        Search.open(path, SPACE, other, sampler="tpe", seed=1)
    with pytest.raises(UserError, match="latency minimize in its objectives, not without"):
        Search.open(path, SPACE, {"accuracy": "maximize"}, sampler="tpe", seed=1)


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sampler=annealing is unknown: write one of tpe, nsga2"):
        opened(tmp_path, "annealing")
    for wrong in (Interval(2, 1), Interval(0, 1, log=True)):
        with pytest.raises(UserError, match="lr: "):
            Search.open(tmp_path / "s.db", {"lr": wrong}, OBJECTIVES, sampler="tpe", seed=1)
    (tmp_path / "study.db").write_bytes(b"no database, but long enough to be taken for one" * 99)
    with pytest.raises(UserError, match=r"study\.db cannot be opened as a search"):
        opened(tmp_path)


def test_the_file_is_plain_sqlite(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.tell(asked(search), [0.5, 1.0])
    connection = sqlite3.connect(tmp_path / "study.db")
    assert connection.execute("select count(*) from trials").fetchone() == (1,)
    connection.close()
