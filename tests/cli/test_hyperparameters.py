from collections.abc import Callable

from bitladder.cli.hyperparameters import hyperparameters
from bitladder.cli.schema import Config


def test_choices_and_values_are_flat_columns(configure: Callable[..., Config]) -> None:
    config = configure("model=mlp", "model.hidden=[16,8]", "optimizer.lr=0.5", "seed=3")
    columns = hyperparameters(config)
    assert columns["seed"] == 3
    assert columns["model"] == "mlp"
    assert columns["model/hidden"] == "[16, 8]"
    assert columns["optimizer"] == "adamw"
    assert columns["optimizer/lr"] == 0.5
    assert columns["precision"] == "fp32"
    assert columns["quantization"] == "qat"
    assert columns["quantization/method"] == "qat"


def test_columns_are_numbers_or_text_and_none_is_junk(configure: Callable[..., Config]) -> None:
    columns = hyperparameters(configure("precision=bf16_true"))
    assert columns["precision/stochastic_rounding"] == "False"
    assert {type(value) for value in columns.values()} <= {int, float, str}
    assert not [key for key in columns if key.endswith(("_target_", "_partial_"))]
    assert not [key for key in columns if key.startswith(("callbacks", "logger", "paths"))]
    assert "None" not in columns.values()


def test_a_part_without_a_choice_has_its_values(config: Callable[..., Config]) -> None:
    columns = hyperparameters(config(data={"_target_": "x.Y", "batch_size": 64}, scheduler=None))
    assert columns["data/batch_size"] == 64
    assert "data" not in columns
