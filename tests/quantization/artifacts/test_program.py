import zipfile
from typing import Any

import pytest
import torch

from bitladder.quantization.signature import inputs_of


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_a_loaded_program_computes_what_the_reference_does(batch: int, written: Any) -> None:
    x = torch.randn(batch, 1, 6, 6)
    run = torch.export.load(written.program).module()
    assert torch.equal(run(x), written.reference(x))


def test_no_operator_needs_an_import(written: Any) -> None:
    program = torch.export.load(written.program)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert all(target.startswith(("aten.", "<built-in function")) for target in targets), targets


def test_neither_training_data_nor_paths_travel_with_it(written: Any) -> None:
    assert torch.export.load(written.program).example_inputs is None
    with zipfile.ZipFile(written.program) as archive:
        texts = b"".join(archive.read(name) for name in archive.namelist())
    assert b".py" not in texts


def test_weights_are_int8(written: Any) -> None:
    state = torch.export.load(written.program).state_dict
    scales = [name for name in state if name.endswith(".weight_scale")]
    codes = [x for x in state.values() if x.dtype == torch.int8]
    assert len(codes) == len(scales) > 1


def test_it_says_what_it_takes(written: Any) -> None:
    (x,) = inputs_of(torch.export.load(written.program))
    assert (x.dtype, x.shape) == ("float32", (None, 1, 6, 6))
