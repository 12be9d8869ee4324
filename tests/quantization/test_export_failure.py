"""Models that cannot be exported, each for a reason of its own."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bitladder.errors import UserError
from bitladder.quantization import Call, Recipe, calibrate, convert, prepare
from bitladder.quantization.compile import trace
from bitladder.quantization.reference import ReferenceLayer


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.change(x))

    def change(self, x: Tensor) -> Tensor:
        return x


class Branches(Head):
    def change(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x  # fails


class AsksForANumber(Head):
    def change(self, x: Tensor) -> Tensor:
        return x[:, : int(x.abs().max().item()) + 4]  # fails


class LeavesTorch(Head):
    def change(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)  # fails


class FixesTheBatch(Head):
    def change(self, x: Tensor) -> Tensor:
        return x.view(6, 4)  # fails


class LoopsOverSamples(Head):
    def change(self, x: Tensor) -> Tensor:
        return torch.stack([row * 2 for row in x])  # fails


class Packs(Head):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4)

    def change(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x.unsqueeze(0), torch.ones(len(x), dtype=torch.long))
        y, _ = self.lstm(packed)  # fails
        return pad_packed_sequence(y)[0].squeeze(0)


class Net(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
        self.parts = nn.ModuleDict({"head": head})

    def forward(self, x: Tensor) -> Tensor:
        return self.parts["head"](self.backbone(x))


def lines_that_fail() -> list[int]:
    lines = Path(__file__).read_text().splitlines()
    return [number for number, line in enumerate(lines, 1) if line.endswith("# fails")]


REASONS = [
    (Branches, "head", "data-dependent"),
    (AsksForANumber, "head", "data-dependent"),
    (LeavesTorch, "head", r"numpy\(\) is not supported"),
    (FixesTheBatch, "head", "from here on the batch size can only be 6"),
    (LoopsOverSamples, "head", "from here on the batch size can only be 6"),
    (Packs, "head", ""),
]


def refusal(model: nn.Module, target: str = "") -> str:
    prepare(model.eval(), Recipe(method="ptq"))
    with pytest.raises(UserError) as error:
        trace(model, [Call((torch.randn(6, 4),), {})], target=target)
    message = str(error.value)
    assert message.startswith("the model cannot be exported: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("kind", "module", "reason"), REASONS)
def test_the_module_the_line_and_a_target_that_exports_are_named(
    kind: type[Head], module: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    message = refusal(Net(kind()), target="net")
    lines = dict(zip([kind for kind, _, _ in REASONS], lines_that_fail(), strict=True))
    assert f"{__file__}:{lines[kind]}: " in message
    assert f"in module parts.{module}" in message
    assert "quantization.target=net.backbone can be exported" in message
    assert "quantization.skip does not help" in message
    assert re.search(reason, message)
    assert capfd.readouterr().err == ""


def test_what_is_proposed_as_target_was_tried() -> None:
    net = Net(Branches())
    head = net.parts["head"]
    larger = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 4), FixesTheBatch())
    head.fc = larger
    message = refusal(net)
    assert "in module parts.head (" in message
    assert "quantization.target=backbone can be exported" in message


def test_where_no_part_exports_the_line_is_to_be_changed() -> None:
    class Only(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = Branches()
            self.head.fc = FixesTheBatch()  # pyright: ignore[reportAttributeAccessIssue]

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    message = refusal(Only())
    assert "in module head (" in message
    assert "can be exported" not in message.partition(";")[2]
    assert message.endswith(
        "; change that line; quantization.skip does not help, a float layer is exported too"
    )


def test_the_models_own_code_may_be_what_fails() -> None:
    message = refusal(Branches())
    assert "in Branches (" in message
    assert "quantization.target=fc can be exported" in message


def test_an_integer_layer_that_fails_where_the_float_one_does_not_is_to_be_skipped() -> None:
    x, net = torch.randn(6, 4), Net(Head()).eval()
    prepare(net, Recipe(method="ptq"))
    calibrate(net, [x])
    reference = convert(net)
    trace(reference, [Call((x,), {})])
    layer = reference.get_submodule("parts.head.fc")
    assert isinstance(layer, ReferenceLayer)
    layer.rounded = lambda input: input if input.sum() > 0 else -input
    with pytest.raises(UserError, match=r"in module parts\.head\.fc .*\.skip=\[parts\.head\.fc\]$"):
        trace(reference, [Call((x,), {})])
