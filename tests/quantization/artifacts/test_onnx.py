from typing import Any

import onnx
import pytest
import torch
from torch import nn

from bitladder.errors import RunError
from bitladder.quantization import Call
from bitladder.quantization.artifacts.onnx import OPSET, write_onnx
from bitladder.quantization.artifacts.runtime import load
from bitladder.quantization.scheme import ACTIVATION


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_onnx_runtime_computes_what_the_reference_does(batch: int, written: Any) -> None:
    run, _ = load("onnxruntime", str(written.onnx))
    torch.manual_seed(0)
    x = torch.randn(batch, 1, 6, 6)
    difference = (run(x)[0] - written.reference(x)).abs()
    assert difference.shape == (batch, 4)
    # Of few outputs more, where a value at the edge of two steps falls to the other side.
    assert (difference > 1e-5).float().mean() < 0.05
    assert difference.max() < 1e-3


def test_openvino_computes_it_within_a_step_of_int8(written: Any) -> None:
    run, _ = load("openvino", str(written.onnx))
    (x,) = written.calls[1].args
    y, expected = run(x)[0], written.reference(x)
    # Of a range that comes at run time it takes another zero point.
    assert (y - expected).square().mean() < 1e-3 * expected.square().mean()


def test_weights_are_int8_and_their_zero_points_not_shared(written: Any) -> None:
    graph = onnx.load(written.onnx).graph
    kinds = {x.name: x.data_type for x in graph.initializer}
    weights = [
        node.input
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in kinds
    ]
    quantized = [name for name in written.reference.state_dict() if name.endswith("weight_scale")]
    assert len(weights) == len(quantized)
    assert all(kinds[inputs[0]] == onnx.TensorProto.INT8 for inputs in weights)
    assert len({inputs[2] for inputs in weights}) == len(weights)


def test_the_file_is_valid_says_its_opset_and_holds_no_path(written: Any) -> None:
    model = onnx.load(written.onnx)
    onnx.checker.check_model(model, full_check=True)
    assert [x.version for x in model.opset_import if not x.domain] == [OPSET]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert str(__file__).rpartition("/")[0].encode() not in written.onnx.read_bytes()


class FewerBits(nn.Module):
    """Rounds to four bits, held in a dtype of eight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ops, dtype = torch.ops.quantized_decomposed, ACTIVATION.format.dtype
        codes = ops.quantize_per_tensor.default(x, 0.1, 3, 0, 15, dtype)
        return ops.dequantize_per_tensor.default(codes, 0.1, 3, 0, 15, dtype)


def test_fewer_bits_saturate_where_they_should(tmp_path: Any) -> None:
    x, path = torch.linspace(-3.0, 3.0, 40).reshape(8, 5), tmp_path / "model.onnx"
    model = FewerBits().eval()
    write_onnx(model, [Call((x,), {})], path)
    run, _ = load("onnxruntime", str(path))
    torch.testing.assert_close(run(x)[0], model(x))
    assert run(x)[0].max() == pytest.approx(1.2)


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Any) -> None:
    with pytest.raises(RunError, match=r"cannot be written as ONNX: .*bessel_j0"):
        write_onnx(Unknown().eval(), [Call((torch.randn(4, 3),), {})], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
