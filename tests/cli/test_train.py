from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bitladder.cli.configs import conf_dir, groups
from bitladder.cli.main import main
from bitladder.cli.schema import Config


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_help_lists_groups_with_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    assert f"model: {', '.join(groups(conf_dir())['model'])}" in capsys.readouterr().out


def test_a_checked_configuration_is_trained(trained: list[Config]) -> None:
    assert main(["train", "model=mlp", "seed=3", "precision=bf16", "quantization=none"]) == 0
    (config,) = trained
    assert (config.seed, config.precision_name, config.quantization_name) == (3, "bf16", "none")
    assert config.model["_target_"] == "bitladder.models.MLP"


def test_options_may_stand_anywhere(trained: list[Config], tmp_path: Path) -> None:
    assert main(["train", "seed=3", "--config-dir", str(tmp_path), "model=mlp"]) == 0
    assert trained[0].choices["model"] == "mlp"


def test_cfg_prints_the_configuration_and_trains_nothing(
    trained: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--cfg", "trainer.max_epochs=3", "trainer=gpu"]) == 0
    printed = OmegaConf.create(capsys.readouterr().out)
    assert printed.trainer.max_epochs == 3
    assert trained == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["model=resnett"],
        ["modle=resnet"],
        ["trainer.max_epoch=3"],
        ["trainer.max_epochs=abc"],
        ["trainer.max_epochs=0"],
        ["resnet"],
        ["--modle", "resnet"],
        ["--cfg", "-m"],
        ["--config-dir", "nowhere"],
        ["-m", "model=mlp,resnett"],
        ["-m", "seed=1,x"],
        ["-m", "optimizer.lr=interval(0,1)"],
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    trained: list[Config],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("bitladder: error: ")
    assert captured.err.count("\n") == 1
    assert trained == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
