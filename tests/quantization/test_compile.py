import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node

from bitladder.errors import UserError
from bitladder.quantization import Call, export
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
        trace(nn.Sequential(Branching()).eval(), [Call((torch.randn(4, 3),), {})])
    message = str(error.value)
    first = Branching.forward.__code__.co_firstlineno
    assert message.startswith(f"the model cannot be exported: {__file__}:{first + 1}: ")
    assert "if x.sum() > 0:" in message
    assert "data-dependent" in message
    assert "\n" not in message


def test_an_error_of_the_models_own_names_its_line() -> None:
    line = Dictionary.forward.__code__.co_firstlineno + 1
    with pytest.raises(UserError, match=rf"{__file__}:{line}: y = self\.fc\(x\) \* scale"):
        trace(Dictionary().eval(), [Call((torch.randn(4, 5), torch.ones(4)), {})])


def test_the_batch_size_is_free_and_any_signature_goes_through() -> None:
    model = Dictionary().eval()
    x, mask = torch.randn(4, 3), torch.ones(4)
    program = trace(model, [Call((x, mask), {"scale": 2.0})]).module()
    for batch in (1, 2, 9):
        x, mask = torch.randn(batch, 3), torch.randn(batch)
        y, expected = program(x, mask, scale=2.0), model(x, mask, scale=2.0)
        assert y.keys() == expected.keys()
        assert all(torch.equal(y[key], expected[key]) for key in y)


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
        compile_package(Branching().eval(), [Call((torch.randn(4, 3),), {})], tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_a_length_that_varies_between_calls_is_free_and_others_are_not() -> None:
    class Lengths(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fc = nn.Embedding(9, 6), nn.Linear(6, 3)

        def forward(self, ids: Tensor, mask: Tensor, table: Tensor) -> Tensor:
            x = self.fc(self.embed(ids)) * mask.unsqueeze(-1)
            return x.sum(1) @ table

    def call(batch: int, length: int) -> Call:
        ids = torch.randint(9, (batch, length))
        table = torch.randn(3, 4)
        return Call((), {"mask": torch.ones(batch, length), "ids": ids, "table": table})

    model = Lengths().eval()
    program = trace(model, [call(1, 5), call(3, 7), call(4, 4)])
    for batch, length in ((1, 2), (2, 1), (5, 11)):
        arguments = call(batch, length).kwargs
        torch.testing.assert_close(program.module()(**arguments), model(**arguments))
    with pytest.raises(Exception, match="table"):
        program.module()(ids=arguments["ids"], mask=arguments["mask"], table=torch.randn(3, 5))


class Named(NamedTuple):
    logits: Tensor
    hidden: list[Tensor]


class Record(OrderedDict[str, Any]):
    """A dict of a library's own, which PyTorch was taught to take apart."""


register_pytree_node(
    Record,
    lambda record: (list(record.values()), list(record.keys())),
    lambda values, keys: Record(zip(keys, values, strict=True)),
    serialized_type_name="tests.Record",
)


def test_outputs_of_a_librarys_own_kind_load_with_torch_alone(tmp_path: Path) -> None:
    class Outputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Record:
            y = self.fc(x)
            return Record(pair=Named(y, [x * 2, y + 1]), logits=y)

    model, x = Outputs().eval(), torch.randn(4, 3)
    path = tmp_path / "outputs.pt2"
    output = export(model, x, path)(x)
    assert type(output) is Record
    assert type(output["pair"]) is Named
    torch.testing.assert_close(output["pair"].hidden[1], model(x)["pair"].hidden[1])
    program = (
        "import torch\n"
        f"y = torch._inductor.aoti_load_package({str(path)!r})(torch.ones(5, 3))\n"
        "print(type(y).__name__, *y, type(y['pair']).__name__, y['pair'][1][1].shape)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True, cwd=tmp_path
    )
    assert run.stdout.split("\n")[0] == "dict pair logits tuple torch.Size([5, 2])"
