from collections.abc import Callable

import pytest
from pydantic import ValidationError

from bitladder.cli.schema import Config
from bitladder.errors import UserError

Make = Callable[..., Config]


def test_names_of_what_was_chosen(config: Make) -> None:
    chosen = config(choices={"experiment": "digits", "precision": "bf16", "quantization": "ptq"})
    assert (chosen.experiment, chosen.precision_name, chosen.quantization_name) == (
        "digits",
        "bf16",
        "ptq",
    )


def test_names_of_what_was_written_out(config: Make) -> None:
    written = config()
    assert (written.experiment, written.precision_name, written.quantization_name) == (
        None,
        "bitladder.precision.Fp32Precision",
        "none",
    )


def test_nulls_take_callbacks_and_loggers_out(config: Make) -> None:
    node = {"_target_": "lightning.pytorch.callbacks.RichProgressBar"}
    assert config(callbacks={"a": node, "b": None}).callbacks == {"a": node}
    assert config(callbacks=None, logger=None).callbacks == {}


def test_an_empty_scheduler_is_none(config: Make) -> None:
    assert config(scheduler={}).scheduler is None
    assert config().scheduler is None


def test_a_name_that_leaves_the_folder_is_refused(config: Make) -> None:
    for name in ("a/b", "..", "", "a b", "-x"):
        with pytest.raises(UserError, match="write letters, digits"):
            config(name=name)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "1", True])
def test_a_seed_is_an_int_of_32_bits(config: Make, seed: object) -> None:
    with pytest.raises(ValidationError):
        config(seed=seed)


def test_paths_are_these_two(config: Make) -> None:
    with pytest.raises(UserError, match="paths has no run; did you mean runs"):
        config(paths={"run": "x", "sweeps": "sweeps"})
    with pytest.raises(UserError, match=r"paths.runs is missing"):
        config(paths={"sweeps": "sweeps"})


def test_a_configuration_does_not_change(config: Make) -> None:
    one = config()
    moved = one.in_folder("elsewhere")
    assert (one.paths["runs"], moved.paths["runs"]) == ("runs", "elsewhere")
    with pytest.raises(ValidationError):
        one.__setattr__("seed", 2)
