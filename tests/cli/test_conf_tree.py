"""Every YAML of the tree is composed, checked, and what it names is built."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitladder.cli.build import instantiate
from bitladder.cli.configs import conf_dir, groups
from bitladder.cli.schema import Config
from bitladder.errors import UserError

Configure = Callable[..., Config]

GROUPS = {group: names for group, names in groups(conf_dir()).items() if group != "local"}
OF_MANY_RUNS = ("hydra", "hydra/sweeper", "sweep")
CHOICES = [(group, name) for group in GROUPS if group not in OF_MANY_RUNS for name in GROUPS[group]]
NEEDS_HARDWARE = {("trainer", "gpu")}
HISTOGRAM = "bitladder.quantization.HistogramObserver"
BELONGS_TO = {"quantization/observer": "quantization=qat"}


def _supplied(group: str, tmp_path: Path, name: str = "") -> dict[str, Any]:
    """What the program would pass."""
    if group == "model":
        return {"input_shape": (1, 8, 8), "num_classes": 10}
    if (group, name) == ("logger", "mlflow"):
        return {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    if group == "logger":
        return {"save_dir": str(tmp_path)}
    if group == "trainer":
        return {"logger": False, "callbacks": [], "plugins": []}
    return {}


def _build_partial(group: str, build: Any) -> Any:
    parameters = [torch.nn.Parameter(torch.zeros(2, 2))]
    if group == "optimizer":
        return build(parameters)
    return build(torch.optim.SGD(parameters, lr=0.1), total_steps=10)


def _nodes(config: Config, section: str) -> list[tuple[str, dict[str, Any]]]:
    found = getattr(config, section, None) or {}
    if section in ("callbacks", "logger"):
        return [(f"{section}.{name}", node) for name, node in found.items()]
    return [(section, found)] if "_target_" in found else []


def test_the_groups_are_those_of_the_design() -> None:
    named = "experiment precision quantization model data optimizer scheduler trainer"
    rest = "callbacks logger paths debug hydra hydra/sweeper sweep quantization/observer"
    assert GROUPS.keys() == {*named.split(), *rest.split()}


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_over_the_default(
    group: str, name: str, configure: Configure, tmp_path: Path
) -> None:
    owner = [BELONGS_TO[group]] if group in BELONGS_TO else []
    config = configure(*owner, f"{group}={name}")
    assert config.choices[group] == name
    if (group, name) in NEEDS_HARDWARE:
        return
    section = group.partition("/")[0]
    for where, node in _nodes(config, section):
        built = instantiate(node, where, **_supplied(section, tmp_path, name))
        if node.get("_partial_"):
            _build_partial(section, built)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            [f"+quantization.weight_observer={{_target_: {HISTOGRAM}, _partial_: true}}"],
            "quantization.weight_observer: HistogramObserver keeps one range for a tensor",
        ),
        (
            ["quantization/observer=percentile", "quantization.observer.percentile=0.999"],
            "quantization.observer: percentile must be in",
        ),
        (["quantization.weights.bits=9"], r"quantization\.weights\.bits=9: write 2 to 8"),
        (["quantization.weights.per=group"], r"as in quantization\.weights\.group_size=32"),
        (["quantization.activations.per=token"], "write quantization=dynamic"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    overrides: list[str], complaint: str, configure: Configure
) -> None:
    config = configure("quantization=ptq", *overrides)
    with pytest.raises(UserError, match=complaint):
        instantiate(config.quantization, "quantization")


@pytest.mark.parametrize("name", GROUPS.get("experiment", []))
@pytest.mark.parametrize("debug", [f"debug={name}" for name in GROUPS["debug"]])
def test_every_experiment_under_every_debug(name: str, debug: str, configure: Configure) -> None:
    config = configure(f"experiment={name}", debug)
    assert config.name == "debug"
    assert config.trainer["accelerator"] == "cpu"


@pytest.mark.parametrize("name", GROUPS.get("experiment", []))
def test_every_experiments_parts_fit_together(name: str, configure: Configure) -> None:
    config = configure(f"experiment={name}")
    data = instantiate(config.data, "data")
    net = instantiate(
        config.model, "model", input_shape=data.input_shape, num_classes=data.num_classes
    )
    logits = net.eval()(torch.zeros(2, *data.input_shape))
    assert logits.shape == (2, data.num_classes)


def test_the_numerics_monitor_comes_beside_the_default_callbacks(configure: Configure) -> None:
    alone, both = configure(), configure("callbacks=[default,numerics]")
    assert both.callbacks.keys() - alone.callbacks.keys() == {"numerics"}
    assert alone.callbacks.items() <= both.callbacks.items()
