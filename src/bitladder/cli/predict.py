"""``bitladder predict``: run an artifact on arrays of NumPy's."""

from pathlib import Path

from bitladder.cli.arguments import Parser

SUMMARY = "Run an artifact of a quantized run on arrays: a package, a program or ONNX."
USAGE = "ARTIFACT --input X.npy [--input X2.npy ...] [--output Y.npy] [--runtime RUNTIME]"
DETAILS = """\
The first dimension of an array is the batch, of any size. An artifact that gives several tensors
writes them to an .npz file, as output_0, output_1, ...

examples:
  bitladder predict runs/digits-fp32-qat-s1/model_int8.pt2 --input images.npy
  bitladder predict model_int8.onnx --runtime openvino --input x.npy --output y.npy
"""


def run(arguments: list[str]) -> int:
    """Load an artifact, run it, show what it gives and write it.

    Args:
        arguments: What follows ``predict`` on the command line.

    Returns:
        0.

    Raises:
        UserError: If a file is missing or not what it should be, or the model does not take the
            arrays; nothing is written then.
        RunError: If the artifact fails on arrays that it takes, or the output cannot be written.
    """
    options = _parser().parse_args(arguments)

    from bitladder.cli.prediction import predict

    predict(options.artifact, options.inputs, options.output, options.runtime)
    return 0


def _parser() -> Parser:
    parser = Parser("predict", summary=SUMMARY, usage=USAGE, details=DETAILS)
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="a .pt2 or .onnx file")
    parser.add_argument(
        "--input",
        dest="inputs",
        action="append",
        required=True,
        type=Path,
        metavar="X.npy",
        help="an array; once for each input of the model, in their order",
    )
    parser.add_argument("--output", type=Path, metavar="Y.npy", help="where the answer goes")
    parser.add_argument(
        "--runtime",
        choices=["onnxruntime", "openvino"],
        help="what runs an .onnx file (default: onnxruntime)",
    )
    return parser
