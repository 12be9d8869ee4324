import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import RunError
from bitladder.quantization import Call
from bitladder.quantization.artifacts.fresh import Agreement
from bitladder.quantization.artifacts.write import write_artifacts

WRITE = import_module("bitladder.quantization.artifacts.write")


def test_a_program_is_proven_and_then_named(static: Any, tmp_path: Path) -> None:
    (artifact,) = write_artifacts(
        ["program"],
        tmp_path / "model_int8.pt2",
        static.model,
        static.calls,
        min_sqnr_db=20.0,
        cuda_linears="int8_dynamic",
    )
    (path,) = tmp_path.iterdir()
    assert (artifact.format, artifact.name) == ("program", path.name)
    assert artifact.name == "model_int8_program.pt2"
    assert artifact.bytes == path.stat().st_size
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert artifact.max_abs_difference < 1e-5


def test_every_format_runs_on_real_batches_and_on_one_sample(
    static: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def agree(kind: str, path: Path, model: Any, calls: list[Call]) -> Agreement:
        assert path.name == ".unproven-model_int8.onnx"
        seen.append([call.args[0].shape[0] for call in calls])
        return Agreement(0.0, 60.0)

    monkeypatch.setattr(WRITE, "agreement", agree)
    write_artifacts(
        ["onnx"],
        tmp_path / "model_int8.pt2",
        static.model,
        static.calls,
        min_sqnr_db=20.0,
        cuda_linears="int8_dynamic",
    )
    assert seen == [[8, 8, 8, 1]]


@pytest.mark.slow
def test_a_file_whose_answers_are_wrong_is_refused_and_not_left_behind(
    static: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cos(x.sum((1, 2, 3))).unsqueeze(1).expand(-1, 4)

    write = WRITE.write_program
    monkeypatch.setattr(
        WRITE, "write_program", lambda model, calls, path: write(Other().eval(), calls, path)
    )
    message = r"model_int8_program\.pt2 differs from the model: SQNR .* dB .* leave program out of"
    with pytest.raises(RunError, match=message):
        write_artifacts(
            ["program"],
            tmp_path / "model_int8.pt2",
            static.model,
            static.calls,
            min_sqnr_db=20.0,
            cuda_linears="int8_dynamic",
        )
    assert not list(tmp_path.iterdir())
