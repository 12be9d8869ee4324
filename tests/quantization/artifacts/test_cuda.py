"""The package for CUDA. Its making is tested on the CPU, as far as that has the kernels."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import Call, Recipe, float_copy, prepare
from bitladder.quantization.artifacts.cuda import (
    Bf16Model,
    PaddedLinear,
    quantize_linears,
    write_cuda,
)
from bitladder.quantization.artifacts.formats import CudaLinears
from bitladder.quantization.artifacts.fresh import agreement

# What torchao says of itself, and of the extensions that it cannot load, differs by version.
pytestmark = pytest.mark.filterwarnings("ignore")


class Mlp(nn.Module):
    """Linears over the last dimension of a sequence, and a head that no int8 kernel can take."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(64, 128)
        self.down = nn.Linear(128, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor, *, scale: Tensor | None = None) -> dict[str, Tensor]:
        x = x + self.down(torch.relu(self.up(x)))
        x = x if scale is None else x * scale.unsqueeze(1)
        return {"logits": self.head(x.mean(1))}


def model_and_call() -> tuple[nn.Module, Call]:
    torch.manual_seed(0)
    return Mlp().eval(), Call((torch.randn(8, 5, 64),), {"scale": torch.rand(8, 1) + 0.5})


def test_arguments_and_outputs_keep_their_precision() -> None:
    model, call = model_and_call()
    output = Bf16Model(model)(*call.args, **call.kwargs)["logits"]
    assert output.dtype == torch.float32
    assert model.get_parameter("up.weight").dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(1, 64), (8, 64), (2, 5, 64)])
def test_a_padded_linear_computes_what_the_linear_does(shape: tuple[int, ...]) -> None:
    linear, x = nn.Linear(64, 32), torch.randn(shape)
    torch.testing.assert_close(PaddedLinear(linear)(x), linear(x))


def test_linears_of_other_sizes_stay() -> None:
    model, call = model_and_call()
    expected = model(*call.args, **call.kwargs)["logits"]
    assert quantize_linears(model, "int8_weight_only") == ["up", "down"]
    y = model(*call.args, **call.kwargs)["logits"]
    assert not torch.equal(y, expected)
    assert (y - expected).square().mean() < 1e-3 * expected.square().mean()


def test_what_was_prepared_for_another_artifact_is_quantized_too() -> None:
    model, _ = model_and_call()
    prepare(model, Recipe(method="ptq"))
    assert quantize_linears(float_copy(model), "int8_weight_only") == ["up", "down"]


def test_a_model_without_a_fitting_linear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no linear has sizes divisible by 16"):
        write_cuda(
            nn.Linear(64, 10).eval(),
            [Call((torch.randn(4, 64),), {})],
            tmp_path / "model.pt2",
            "int8_dynamic",
            device=torch.device("cpu"),
        )


@pytest.mark.slow
@pytest.mark.parametrize("linears", ["int8_dynamic", "int8_weight_only"])
def test_the_same_steps_give_a_package_for_the_cpu(linears: CudaLinears, tmp_path: Path) -> None:
    model, call = model_and_call()
    path = tmp_path / "model.pt2"
    names = write_cuda(model, [call], path, linears, device=torch.device("cpu"))
    assert names == ["up", "down"]
    assert model.get_parameter("up.weight").dtype == torch.float32
    assert [x.name for x in tmp_path.iterdir()] == ["model.pt2"]
    assert agreement("package", path, model, [call, _one(call)]).sqnr_db > 25.0


@pytest.mark.gpu
@pytest.mark.parametrize("linears", get_args(CudaLinears))
def test_a_package_for_cuda_agrees_with_the_float_model(linears: Any, tmp_path: Path) -> None:
    model, call = model_and_call()
    path = tmp_path / "model.pt2"
    assert write_cuda(model, [call], path, linears) == ["up", "down"]
    found = agreement("cuda", path, model, [call, _one(call)])
    print(linears, path.stat().st_size, found)
    assert found.sqnr_db > 20.0


def _one(call: Call) -> Call:
    return Call((call.args[0][:1].clone(),), {"scale": call.kwargs["scale"][:1].clone()})
