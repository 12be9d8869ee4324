"""Models and batches that are odd: in eval mode, frozen, tied, a lone layer, one sample a batch."""

import copy
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from bitladder import Quantization
from bitladder.data import Synthetic
from bitladder.errors import RunError, UserError
from bitladder.quantization import convert, quantized_layers
from bitladder.quantization.fake_quantize import FakeQuantize
from bitladder.quantization.recipe import Method

from .conftest import MakeTrainer, Net, Researcher, WithoutArtifact, data, researcher

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:Found \d+ module\(s\) in eval mode at the start"),
]


def test_a_model_left_in_eval_mode_is_refused_under_qat(make_trainer: MakeTrainer) -> None:
    module = researcher()
    module.net.eval()
    with pytest.raises(UserError, match=r"Net is in eval mode .*: call its train\(\) before fit"):
        make_trainer(WithoutArtifact("qat", target="net"), epochs=1).fit(module, datamodule=data())


def test_a_part_frozen_in_eval_mode_learns_ranges_and_stays_as_it_is(
    make_trainer: MakeTrainer,
) -> None:
    module, callback = researcher(), WithoutArtifact("qat", target="net", freeze_observers=1.0)
    frozen = nn.ModuleList([module.net.conv, module.net.norm]).requires_grad_(False).eval()
    before = copy.deepcopy(frozen.state_dict())
    trainer = make_trainer(callback, epochs=2)
    trainer.fit(module, datamodule=data())
    assert all(torch.equal(x, before[name]) for name, x in frozen.state_dict().items())
    layers = quantized_layers(module)
    conv = layers["net.conv"]
    assert not conv.training
    assert isinstance(conv.input_quantize, FakeQuantize)
    assert conv.input_quantize.observer.saw_data
    assert conv.batch_norm is module.net.norm
    convert(module.net)
    scale = conv.input_quantize.scale.clone()
    trainer.validate(module, datamodule=data(), verbose=False)
    assert torch.equal(conv.input_quantize.scale, scale)


def test_a_model_of_which_nothing_trains_may_be_in_eval_mode(make_trainer: MakeTrainer) -> None:
    module = researcher()
    module.net.requires_grad_(False).eval()
    head = module.head = nn.Linear(4, 4)

    def step(batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(head(module.net(batch[0])), batch[1])

    module.training_step = step  # pyright: ignore[reportAttributeAccessIssue]
    callback = WithoutArtifact("qat", target="net")
    make_trainer(callback, epochs=1).fit(module, datamodule=data())
    for layer in quantized_layers(module).values():
        assert isinstance(layer.input_quantize, FakeQuantize)
        assert layer.input_quantize.observer.saw_data


def test_an_export_that_fails_names_what_else_could_be_the_target(
    make_trainer: MakeTrainer,
) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    module = researcher()
    module.net = nn.Sequential(Net(), Branch())  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match=r"in module 1 \(.*target=net\.0 can be exported"):
        make_trainer(Quantization("qat", target="net"), epochs=1).fit(module, datamodule=data())


def test_a_model_without_a_layer_to_quantize_is_refused(make_trainer: MakeTrainer) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)

    module = researcher()
    module.net = Scale()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match=r"no layer can be quantized \(LayerNorm: .*\)"):
        make_trainer(Quantization("qat", target="net"), epochs=1).fit(module, datamodule=data())


class Flat(Researcher):
    """Whose whole model is one linear."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(64, 4)  # pyright: ignore[reportAttributeAccessIssue]

    def _images(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return batch[0].flatten(1)[:, :64], batch[1]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return super().training_step(self._images(batch), batch_idx)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().validation_step(self._images(batch), batch_idx)


@pytest.mark.vnni
@pytest.mark.parametrize("batch_size", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_a_lone_linear_trained_with_any_batch_size_leaves_an_artifact(
    batch_size: int, make_trainer: MakeTrainer
) -> None:
    L.seed_everything(0, verbose=False)
    module, callback = Flat(), Quantization("qat", target="net")
    trainer = make_trainer(callback, epochs=1)
    trainer.limit_train_batches = 20
    trainer.fit(module, datamodule=Synthetic(batch_size=batch_size, seed=1))
    assert callback.deployment is not None
    assert callback.deployment.output_sqnr_db > 30.0
    for batch in (1, 2, 5):
        assert callback.deployment.run(torch.randn(batch, 64)).shape == (batch, 4)


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_a_branch_that_no_batch_takes_is_named_at_the_end(
    method: Method, make_trainer: MakeTrainer
) -> None:
    class Rare(Net):
        def __init__(self) -> None:
            super().__init__()
            self.rare = nn.Linear(4, 4)
            self.often = True

        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            return x if self.often else self.rare(x)

    module = researcher()
    module.net = Rare()
    callback = Quantization(method, target="net", calibration_batches=1)
    with pytest.raises(RunError, match=r"of rare\.weight never saw .*skip=\[rare\]"):
        make_trainer(callback, epochs=1).fit(module, datamodule=data())


@pytest.mark.slow
def test_a_weight_tied_between_two_kinds_of_layer_is_rounded_by_each(
    make_trainer: MakeTrainer,
) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.embed(ids))

    class Language(Researcher):
        def __init__(self) -> None:
            super().__init__()
            self.net = Tied()  # pyright: ignore[reportAttributeAccessIssue]

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[1]), batch[1])

        validation_step = None  # pyright: ignore[reportAssignmentType]

    L.seed_everything(0, verbose=False)
    module, callback = Language(), Quantization("qat", target="net")
    make_trainer(callback, epochs=1).fit(module, train_dataloaders=data_loader())
    layers = quantized_layers(module.net)
    assert layers["embed"].weight is layers["head"].weight
    assert callback.deployment is not None
    kernels = {record["name"]: record["kernel"] for record in callback.deployment.layers}
    assert kernels == {"embed": "weight-only", "head": "int8"}
    assert callback.deployment.output_sqnr_db > 30.0


def data_loader() -> Any:
    given = data()
    given.setup("fit")
    return given.train_dataloader()
