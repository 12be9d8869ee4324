"""Every pairing of precision, device, optimizer and strategy runs, or is refused in one line."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import distributed

from bitladder.cli import training
from bitladder.cli.configs import conf_dir, groups
from bitladder.cli.main import main
from bitladder.cli.rules import check
from bitladder.cli.schema import Config
from bitladder.errors import UserError

# The matrix: what is written on the command line for every name. A new precision is a new row.
PRECISIONS = {
    "fp32": ["precision=fp32"],
    "tf32": ["precision=tf32"],
    "fp16": ["precision=fp16"],
    "bf16": ["precision=bf16"],
    "bf16_true": ["precision=bf16_true"],
    "fp8": ["precision=fp8"],
    "emulated": ["precision=fp8", "precision.emulate=true"],
    "stochastic": ["precision=bf16_true", "precision.stochastic_rounding=true"],
}
DEVICES = {
    "cpu": ["trainer=cpu"],
    "gpu": ["trainer=gpu"],
    "tpu": ["trainer.accelerator=tpu"],
}
OPTIMIZERS = {
    "adamw": ["optimizer=adamw"],
    "sgd": ["optimizer=sgd"],
    "foreach": ["optimizer.foreach=true"],
    "fused": ["optimizer.fused=true"],
    "fused sgd": ["optimizer=sgd", "optimizer.fused=true"],
    "fused foreach": ["optimizer.fused=true", "optimizer.foreach=true"],
    "capturable": ["optimizer.capturable=true"],
    "LBFGS": ["optimizer._target_=torch.optim.LBFGS", "~optimizer.weight_decay"],
    "SparseAdam": ["optimizer._target_=torch.optim.SparseAdam", "~optimizer.weight_decay"],
}
STRATEGIES = {
    "auto": ["trainer.strategy=auto"],
    "ddp": ["trainer.strategy=ddp"],
    "ddp_spawn": ["trainer.strategy=ddp_spawn"],
    "ddp_fork": ["trainer.strategy=ddp_fork"],
    "fsdp": ["trainer.strategy=fsdp"],
    "FSDPStrategy": ["trainer.strategy._target_=lightning.pytorch.strategies.FSDPStrategy"],
    "ModelParallelStrategy": [
        "trainer.strategy._target_=lightning.pytorch.strategies.ModelParallelStrategy"
    ],
    "deepspeed": ["trainer.strategy=deepspeed"],
    "xla": ["trainer.strategy=xla"],
    "dpp": ["trainer.strategy=dpp"],
}
AXES = (PRECISIONS, DEVICES, OPTIMIZERS, STRATEGIES)
WORDS = {name: words for axis in AXES for name, words in axis.items()}

# What cannot be, and how the line ends. A combination is impossible if it holds one of these.
IMPOSSIBLE: dict[tuple[str, ...], str] = {
    ("gpu",): "there is no CUDA device here: write trainer=cpu",
    ("tpu",): "write trainer=cpu or trainer=gpu",
    ("tf32", "cpu"): "write precision=fp32",
    ("fp8", "cpu"): "write precision.emulate=true (the same numbers, slowly), or precision=bf16",
    ("fp16", "LBFGS"): "write precision=fp32, or optimizer=adamw",
    ("stochastic", "LBFGS"): "write optimizer=adamw",
    ("LBFGS",): "write optimizer=adamw or optimizer=sgd",
    ("SparseAdam",): "write optimizer=adamw or optimizer=sgd",
    ("fused foreach",): "write optimizer.foreach=null",
    ("capturable", "cpu"): "write optimizer.capturable=false",
    ("ddp_spawn",): "write trainer.strategy=ddp",
    ("ddp_fork",): "write trainer.strategy=ddp",
    ("fsdp",): "write trainer.strategy=ddp",
    ("FSDPStrategy",): "write trainer.strategy=ddp",
    ("ModelParallelStrategy",): "write trainer.strategy=ddp",
    ("deepspeed",): "write trainer.strategy=ddp",
    ("xla",): "write trainer.strategy=ddp",
    ("dpp",): "(auto, ddp, ddp_find_unused_parameters_false, ddp_find_unused_parameters_true)",
}
SMALL = [
    "data=synthetic",
    "model=mlp",
    "model.hidden=[8]",
    "quantization=none",
    "callbacks=none",
    "logger=none",
    "trainer.max_steps=1",
    "trainer.num_sanity_val_steps=0",
]
# What our libraries say and no user of a command sees: it goes into the run's log.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def no_process_group_left() -> Iterator[None]:
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture
def matrix(configure: Callable[..., Config], tmp_path: Path) -> dict[tuple[str, ...], Config]:
    """The configuration of every combination of names."""
    alone = {
        name: configure(*SMALL, f"paths.runs={tmp_path / 'runs'}", *words)
        for name, words in WORDS.items()
    }
    return {
        (precision, device, optimizer, strategy): alone[precision].model_copy(
            update={
                "optimizer": alone[optimizer].optimizer,
                "trainer": alone[device].trainer
                | {"strategy": alone[strategy].trainer["strategy"]},
            }
        )
        for precision, device, optimizer, strategy in product(*AXES)
    }


def endings(names: tuple[str, ...]) -> list[str]:
    """How the line about a combination may end; nothing if it is possible."""
    return [line for pair, line in IMPOSSIBLE.items() if set(pair) <= set(names)]


def test_the_matrix_has_every_precision() -> None:
    shipped = {f"precision={name}" for name in groups(conf_dir())["precision"]}
    assert {words[0] for words in PRECISIONS.values()} == shipped


def test_every_combination_is_refused_or_runs_a_step(
    matrix: dict[tuple[str, ...], Config],
    monkeypatch: pytest.MonkeyPatch,
    no_process_group_left: None,
) -> None:
    steps: list[int] = []

    def example_calls(trainer: L.Trainer, _: Any) -> list[Any]:
        steps.append(trainer.global_step)
        return []

    monkeypatch.setattr(training, "example_calls", example_calls)
    monkeypatch.setattr(training, "measure", lambda *_: {})
    possible = 0
    for names, config in matrix.items():
        if expected := endings(names):
            with pytest.raises(UserError) as caught:
                check(config)
            assert str(caught.value).endswith(tuple(expected)), names
        else:
            check(config)
            assert training.train(config) == 0, names
            possible += 1
    assert steps == [1] * possible
    assert possible == 6 * 5 * 2


@pytest.mark.parametrize("pair", IMPOSSIBLE, ids=" ".join)
def test_what_is_impossible_is_one_line_and_leaves_nothing(
    pair: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for name in pair for word in WORDS[name]]
    runs = tmp_path / "runs"
    assert main(["train", *SMALL, f"paths.runs={runs}", *words]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("bitladder: error: ")
    assert line.endswith(tuple(endings(pair)))
    assert not printed.out
    assert not runs.exists()
