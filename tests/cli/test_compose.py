from pathlib import Path
from typing import Any

import pytest

from bitladder.cli.compose import compose, open_source
from bitladder.errors import UserError


def _compose(*overrides: str, extra: Path | None = None) -> dict[str, Any]:
    with open_source(extra) as source:
        return compose(source, overrides)


def _complaint(*overrides: str, extra: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        _compose(*overrides, extra=extra)
    return str(caught.value)


def _write(folder: Path, name: str, text: str) -> None:
    file = folder / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_default_is_resolved_and_says_what_was_chosen() -> None:
    composed = _compose("seed=7")
    assert "hydra" not in composed
    assert composed["data"]["seed"] == 7
    assert composed["choices"]["experiment"] == "digits"
    assert composed["choices"]["model"] == "resnet"
    assert not {"debug", "local", "hydra"} & composed["choices"].keys()


def test_debug_wins_over_everything() -> None:
    composed = _compose("debug=fdr")
    assert composed["trainer"]["max_epochs"] == 1
    assert composed["trainer"]["limit_train_batches"] == 2


def test_the_command_line_wins_over_debug() -> None:
    assert _compose("debug=fdr", "trainer.max_epochs=2")["trainer"]["max_epochs"] == 2


def test_no_logger_needs_no_second_override() -> None:
    composed = _compose("logger=none")
    assert composed["logger"] == {}
    assert composed["callbacks"]["learning_rate"] is None


def test_null_takes_a_group_out() -> None:
    assert "logger" not in _compose("logger=null")


def test_keys_may_be_added_changed_and_deleted() -> None:
    composed = _compose("trainer.max_steps=5", "+trainer.min_steps=2", "~callbacks.progress")
    assert (composed["trainer"]["max_steps"], composed["trainer"]["min_steps"]) == (5, 2)
    assert "progress" not in composed["callbacks"]


def test_a_group_takes_keys_as_a_mapping() -> None:
    assert _compose("optimizer={lr: 0.5}")["optimizer"]["lr"] == 0.5


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "model=resnett",
            "model=resnett is not a choice of the group 'model'; did you mean model=resnet? (mlp,",
        ),
        ("precision=fp9", "precision=fp9 is not a choice of the group 'precision'; did you mean"),
        ("model=", "model= is not a choice of the group 'model'"),
        ("model=1", "model=1 is not a choice"),
        ("quantization/observer=minmx", "quantization/observer=minmx is not a choice of the group"),
        ("quantisation/observer=minmax", "quantisation/observer=minmax: there is no group"),
        ("modle@here=resnet", "modle@here=resnet: there is no group modle; did you mean model?"),
        ("model=mlp,resnet", "model=mlp,resnet asks for several runs: add -m"),
        ("resnet", "resnet lacks a '=': write model=resnet"),
        ("~nothing", "Could not delete from config. 'nothing' does not exist"),
        ("~model=[mlp,resnet]", "~model=[mlp,resnet]: the choices of 'model' are mlp, resnet"),
        ("hydra/launcher=3", "hydra/launcher=3: the choices of 'hydra/launcher' are basic"),
        ("~data.seed=-1", "Could not delete from config. The value of 'data.seed'"),
        ("hydra.sweeep.dir=x", "Could not override 'hydra.sweeep.dir'"),
        ("data.seed=???", "data.seed has no value yet: write data.seed=..."),
        ("data.seed=${nowhere}", "data.seed: Interpolation key 'nowhere' not found"),
        ("data.seed=${oc.env:BITLADDER_NOT_SET}", "data.seed: KeyError raised while resolving"),
    ],
)
def test_a_wrong_override_is_one_line_with_the_nearest_right_one(override: str, line: str) -> None:
    complaint = _complaint(override)
    assert complaint.startswith(line)
    assert "\n" not in complaint


def test_a_nested_group_that_the_choice_does_not_have() -> None:
    assert _complaint("quantization=none", "quantization/observer=minmax") == (
        "quantization/observer=minmax has no place here:"
        " quantization=none has no observer to choose"
    )


def test_a_folder_of_the_users_adds_choices(tmp_path: Path) -> None:
    folder = tmp_path / "it's, mine"
    _write(folder, "model/tiny", "_target_: bitladder.models.MLP\nhidden: [3]\n")
    assert _compose("model=tiny", extra=folder)["model"]["hidden"] == [3]
    assert "did you mean model=tiny?" in _complaint("model=tny", extra=folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    assert _complaint(extra=folder) == f"--config-dir {folder}: there is no such folder"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("key: [1, 2", "a configuration file is not YAML"),
        ("defaults:\n  - /model/nothing\n", "In 'model/broken': Could not load 'model/nothing'"),
    ],
)
def test_a_broken_file_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    _write(tmp_path, "model/broken", text)
    complaint = _complaint("model=broken", extra=tmp_path)
    assert complaint.startswith(line)
    assert "\n" not in complaint


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _compose()
    assert list(tmp_path.iterdir()) == []
