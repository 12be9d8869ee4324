from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import Call
from bitladder.quantization.artifacts import fresh, runtime
from bitladder.quantization.artifacts.fresh import agreement


def test_a_fresh_process_agrees_with_the_reference(static: Any) -> None:
    found = agreement("program", static.program, static.reference, static.calls)
    assert found.max_abs_difference < 1e-6
    assert found.sqnr_db > 100.0


@pytest.mark.slow
def test_another_model_does_not_agree(static: Any) -> None:
    def other(x: Tensor) -> Tensor:
        return static.reference(x) + 1.0

    found = agreement("program", static.program, other, static.calls)
    assert found.max_abs_difference == pytest.approx(1.0, abs=1e-4)
    assert found.sqnr_db < 20.0


def test_nothing_of_bitladder_is_imported() -> None:
    source = Path(runtime.__file__).read_text()
    assert "import bitladder" not in source
    assert "from bitladder" not in source


def test_a_file_that_does_not_load_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"model\.onnx failed in a fresh process: .*Protobuf") as got:
        agreement("onnxruntime", path, nn.Identity(), [Call((torch.ones(2, 2),), {})])
    assert "\n" not in str(got.value)


class Overwrites(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1.0)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1.0)
        return x + self.get_buffer("calls")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Overwrites(), "overwrites its input"),
        pytest.param(Counts(), "another answer the second time", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_changes_anything_is_refused(
    model: nn.Module, message: str, tmp_path: Path
) -> None:
    path, x = tmp_path / "model.pt2", torch.ones(2, 2)
    torch.export.save(torch.export.export(model.eval(), (x.clone(),)), path)
    with pytest.raises(RunError, match=message):
        fresh.answers_of("program", path, [Call((x,), {})])
