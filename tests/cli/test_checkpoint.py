from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitladder.cli.checkpoint import tensor_hashes
from bitladder.errors import UserError


def hashes(folder: Path, **tensors: object) -> dict[str, str]:
    torch.save({"state_dict": tensors}, folder / "x.ckpt")
    return tensor_hashes(str(folder / "x.ckpt"))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool]
)
def test_a_tensor_has_one_hash_whatever_its_layout_in_memory(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    x = torch.arange(6).to(dtype).view(2, 3)
    found = hashes(
        tmp_path, a=x, b=x.t().clone().t(), c=x.view(3, 2), d=torch.zeros(2, 3).to(dtype)
    )
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 3
    assert hashes(tmp_path, a=torch.zeros(()).to(dtype))["a"].partition(" ")[0].endswith("[]")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**12),
        torch.eye(3).to_sparse(),
        torch.zeros(3, device="meta"),
    ],
    ids=["expanded", "sparse", "meta"],
)
def test_what_is_no_dense_tensor_is_refused(tmp_path: Path, tensor: Tensor) -> None:
    with pytest.raises(UserError, match="a is no dense tensor"):
        hashes(tmp_path, a=tensor)
