from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bitladder.errors import UserError
from bitladder.quantization import Call
from bitladder.quantization.artifacts.open import open_artifact
from bitladder.quantization.artifacts.seal import is_damaged, seal


@given(content=st.binary(max_size=300), data=st.data())
def test_a_flipped_bit_of_the_content_is_found(content: bytes, data: st.DataObject) -> None:
    sealed = seal(content)
    assert not is_damaged(sealed)
    assert sealed.startswith(content)
    if content:
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        assert is_damaged(bytes(flipped))


@given(content=st.binary(max_size=300))
def test_a_file_without_a_seal_is_not_known_to_be_damaged(content: bytes) -> None:
    assert not is_damaged(content)


def test_the_seal_is_metadata_to_onnx_and_a_changed_weight_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from bitladder.quantization.artifacts.onnx import write_onnx

    path, layer = tmp_path / "model.onnx", nn.Linear(3, 2).eval()
    write_onnx(layer, [Call((torch.randn(4, 3),), {})], path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    (entry,) = [x for x in model.metadata_props if x.key == "bitladder.sha256"]
    assert len(entry.value) == 64
    x = torch.randn(5, 3)
    for runtime in ("onnxruntime", "openvino"):
        assert torch.allclose(open_artifact(path, runtime).run(x)[0], layer(x), atol=1e-6)
    weight = layer.weight.detach().numpy().astype(np.float32)
    stored = weight.tobytes() if weight.tobytes() in path.read_bytes() else weight.T.tobytes()
    changed = bytes([stored[0] ^ 1, *stored[1:]])
    assert path.read_bytes().count(stored) == 1
    path.write_bytes(path.read_bytes().replace(stored, changed))
    with pytest.raises(UserError, match="damaged: its content does not match its checksum"):
        open_artifact(path)
