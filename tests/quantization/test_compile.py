from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import UserError
from bitladder.quantization import Call
from bitladder.quantization.compile import compile_package, load_package, trace


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.fc(x)
        return self.fc(-x)


class Dictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor, mask: Tensor, *, scale: float = 1.0) -> dict[str, Tensor]:
        y = self.fc(x) * scale
        return {"logits": y, "masked": y + mask.unsqueeze(1)}


def test_a_model_that_cannot_be_exported_is_refused_with_the_line_that_is_why() -> None:
    with pytest.raises(UserError) as error:
        trace(nn.Sequential(Branching()).eval(), Call((torch.randn(4, 3),), {}))
    message = str(error.value)
    first = Branching.forward.__code__.co_firstlineno
    assert message.startswith(f"the model cannot be exported: {__file__}:{first + 1}: ")
    assert "if x.sum() > 0:" in message
    assert "data-dependent" in message
    assert "\n" not in message


def test_an_error_of_the_models_own_names_its_line() -> None:
    line = Dictionary.forward.__code__.co_firstlineno + 1
    with pytest.raises(UserError, match=rf"{__file__}:{line}: y = self\.fc\(x\) \* scale"):
        trace(Dictionary().eval(), Call((torch.randn(4, 5), torch.ones(4)), {}))


@pytest.mark.parametrize("args", [(torch.randn(1, 3),), ()])
def test_an_example_of_fewer_than_two_samples_is_refused(args: tuple[Tensor, ...]) -> None:
    with pytest.raises(UserError, match="the example batch must hold at least two samples"):
        trace(nn.Linear(3, 2).eval(), Call(args, {}))


def test_the_batch_size_is_free_and_any_signature_goes_through() -> None:
    model = Dictionary().eval()
    x, mask = torch.randn(4, 3), torch.ones(4)
    program = trace(model, Call((x, mask), {"scale": 2.0})).module()
    for batch in (1, 2, 9):
        x, mask = torch.randn(batch, 3), torch.randn(batch)
        y, expected = program(x, mask, scale=2.0), model(x, mask, scale=2.0)
        assert y.keys() == expected.keys()
        assert all(torch.equal(y[key], expected[key]) for key in y)


def test_a_batch_size_fixed_by_the_model_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(4, -1)[: x.shape[0]] + torch.ones(4, 3)

    with pytest.raises(UserError, match="the model cannot be exported"):
        trace(Fixed().eval(), Call((torch.randn(4, 3),), {}))


def test_the_file_alone_is_written(static: Any) -> None:
    assert [path.name for path in static.path.parent.iterdir()] == ["model_int8.pt2"]


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_a_loaded_package_takes_any_batch_size(
    batch: int, static: Any, make_ready: Callable[..., Any]
) -> None:
    run = load_package(static.path)
    x = torch.randn(batch, 1, 8, 8)
    y, expected = run(x), static.net.model(x)
    assert y.shape == (batch, 10)
    assert (y - expected).square().mean() < 1e-3 * expected.square().mean()


def test_nothing_is_written_when_export_fails(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        compile_package(Branching().eval(), Call((torch.randn(4, 3),), {}), tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())
