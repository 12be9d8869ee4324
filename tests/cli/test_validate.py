from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import OmegaConf

from bitladder.cli.schema import Config
from bitladder.cli.validate import validate
from bitladder.errors import UserError

Configure = Callable[..., Config]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("modle=resnet", "there is no group or key modle; did you mean model?"),
        ("debugg=fdr", "there is no group or key debugg; did you mean debug?"),
        ("trainer.max_epoch=3", "trainer has no max_epoch; did you mean max_epochs?"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: expected int or null"),
        ("trainer.precision=16", "trainer.precision comes from precision=...: leave it out"),
        ("trainer.logger=true", "trainer.logger comes from logger=...: leave it out"),
        ("trainer.callbacks=[]", "trainer.callbacks comes from callbacks=...: leave it out"),
        ("trainer.plugins=[]", "trainer.plugins comes from precision=...: leave it out"),
        ("optimizer.lr=fast", "optimizer.lr=fast: expected float"),
        ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: expected a list of float"),
        ("optimizer._partial_=false", "optimizer needs _partial_: true"),
        ("model._partial_=true", "model cannot be _partial_"),
        ("model.num_classes=3", "model.num_classes comes from data=...: leave it out"),
        ("model._target_=bitladder.models.MPL", "model._target_=bitladder.models.MPL: there is no"),
        ("~model", "model is missing: write model=mlp|"),
        ("~trainer._target_", "trainer lacks _target_"),
        ("~quantization.method", "quantization lacks a method: write quantization.method=none|dyn"),
        ("seed=-1", "seed=-1: it should be greater than or equal to 0"),
        ("seed=one", "seed=one: it should be a valid integer"),
        ("data=none_of_yours", "data=none_of_yours is not a choice of the group 'data'"),
        (
            "callbacks.checkpoint.monitr=x",
            "callbacks.checkpoint has no monitr; did you mean monitor",
        ),
        ("callbacks.checkpoint=3", "callbacks.checkpoint=3: it should be a valid dictionary"),
        ("logger.csv.nme=x", "logger.csv has no nme; did you mean name"),
        ("task.label_smoothing=much", "task.label_smoothing=much: expected float"),
        (
            "scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR",
            "scheduler: torch.optim.lr_scheduler.CosineAnnealingLR takes no total_steps",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    configure: Configure, override: str, line: str
) -> None:
    with pytest.raises(UserError) as caught:
        configure(override)
    assert str(caught.value).startswith(line)


def test_no_quantization_takes_no_keys(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"quantization.strat: quantization=none has no such key"):
        configure("quantization=none", "quantization.strat=1")


def test_any_key_of_a_signature_may_be_set_without_a_plus(configure: Configure) -> None:
    config = configure("trainer.max_steps=7", "optimizer.betas=[0.9,0.95]")
    assert config.trainer["max_steps"] == 7
    assert config.optimizer["betas"] == [0.9, 0.95]


def test_loggers_may_be_told_what_the_program_would_fill_in(configure: Configure) -> None:
    config = configure("logger.csv.save_dir=elsewhere")
    assert config.logger["csv"]["save_dir"] == "elsewhere"


def test_the_name_is_the_experiments_unless_given(configure: Configure) -> None:
    assert configure().name == "digits"
    assert configure("experiment=null").name == "train"
    assert configure("name=mine").name == "mine"


def test_what_is_written_reads_back_the_same(configure: Configure) -> None:
    config = configure("optimizer.lr=1e-5", "name='1e-5'", "model=vit")
    values: Any = OmegaConf.to_container(OmegaConf.create(config.to_yaml()))
    assert validate(values) == config
