from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import Call, Deployment, Recipe, calibrate, convert, export, prepare
from bitladder.quantization.kernels import Int8Kernels
from bitladder.quantization.verify import output_sqnr

Mode = Literal["sum", "mean", "max"]


@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_bags_are_those_of_the_float_layer(
    mode: Mode, padding_idx: int | None, last: bool, flat: bool
) -> None:
    torch.manual_seed(0)
    model = nn.EmbeddingBag(
        9, 4, mode=mode, padding_idx=padding_idx, include_last_offset=last and flat
    )
    if flat:
        offsets = torch.tensor([0, 3, 3, 7, *([12] if last else [])])  # the second bag is empty
        x = torch.tensor([3, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 3])  # the first is nothing but padding
        call = Call((x, offsets), {})
    else:
        call = Call((torch.tensor([[3, 3, 3], [1, 2, 3], [0, 8, 8]]),), {})
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [call])
    torch.testing.assert_close(convert(model)(*call.args), model(*call.args))


def test_weights_of_single_samples_count() -> None:
    torch.manual_seed(0)
    model = nn.EmbeddingBag(9, 4, mode="sum", padding_idx=3)
    args = (torch.randint(0, 9, (3, 5)), None, torch.rand(3, 5))
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [Call(args, {})])
    torch.testing.assert_close(convert(model)(*args), model(*args))


class Words(nn.Module):
    """An embedding tied to the head, and one of bags."""

    def __init__(self, words: int = 4000) -> None:
        super().__init__()
        self.table = nn.Embedding(words, 64)
        self.bag = nn.EmbeddingBag(words, 64, mode="mean", padding_idx=0)
        self.head = nn.Linear(64, words, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.table(x) + self.bag(x).unsqueeze(1)))


def test_tables_are_stored_as_codes(deploy_model: Callable[..., Deployment], tmp_path: Any) -> None:
    torch.manual_seed(0)
    model, x = Words(), torch.randint(0, 4000, (4, 6))
    deployment = deploy_model(model, Call((x,), {}), "dynamic")
    kernels = {record["name"]: record["kernel"] for record in deployment.layers}
    assert kernels == {"table": "weight-only", "bag": "weight-only", "head": "int8"}
    other = torch.randint(0, 4000, (7, 6))
    assert output_sqnr(model, deployment.run, [Call((other,), {})]) > 35.0
    # The linear's kernel has a layout of its own, so the tied weight is there twice.
    codes = 3 * 4000 * 64
    assert deployment.path.stat().st_size < codes + 250_000


@pytest.mark.slow
def test_a_table_that_the_compiler_unpacked_is_refused(
    deploy_model: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Int8Kernels, "collect", lambda self, graph: None)
    model, x = nn.Embedding(30, 8), torch.randint(0, 30, (4, 6))
    with pytest.raises(RunError, match="Inductor kept no int8 codes of 0: the artifact would"):
        deploy_model(nn.Sequential(model), Call((x,), {}))


@pytest.mark.slow
def test_bags_of_a_flat_list_deploy(deploy_model: Callable[..., Deployment]) -> None:
    torch.manual_seed(0)
    call = Call((torch.randint(0, 30, (12,)), torch.tensor([0, 3, 3, 7])), {})
    deployment = deploy_model(nn.EmbeddingBag(30, 8, mode="max"), call)
    assert deployment.output_sqnr_db > 80.0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_the_artifact_is_a_quarter_of_the_float_one(
    mode: Mode, deploy_model: Callable[..., Deployment], tmp_path: Any
) -> None:
    torch.manual_seed(0)
    model, x = nn.EmbeddingBag(20_000, 64, mode=mode), torch.randint(0, 20_000, (4, 6))
    export(model.eval(), x, tmp_path / "model_float.pt2")
    deployment = deploy_model(model, Call((x,), {}))
    size = (tmp_path / "model_float.pt2").stat().st_size
    assert deployment.path.stat().st_size < 0.3 * size
