"""What an artifact takes: known before it runs, so that a wrong tensor is refused in one line.

A compiled package checks nothing: it reads whatever memory it is given as what it was compiled for.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor
from torch.export import ExportedProgram

from bitladder.errors import UserError


@dataclass(frozen=True)
class Input:
    """One tensor that an artifact takes."""

    name: str
    dtype: str
    """As torch spells it: ``float32``."""
    shape: tuple[int | None, ...]
    """``None`` where any size goes."""

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} of shape [{sizes}]"


def inputs_of(program: ExportedProgram) -> list[Input]:
    """The tensors that a program takes, in their order."""
    wanted = set(program.graph_signature.user_inputs)
    values = [(node.name, node.meta["val"]) for node in program.graph.nodes if node.name in wanted]
    return [
        Input(
            str(name),
            str(value.dtype).removeprefix("torch."),
            tuple(size if isinstance(size, int) else None for size in value.shape),
        )
        for name, value in values
        if isinstance(value, Tensor)
    ]


def to_text(inputs: Sequence[Input]) -> str:
    """As a package keeps it among its metadata."""
    return json.dumps([asdict(x) for x in inputs])


def from_text(text: str) -> list[Input]:
    """Read what :func:`to_text` gave."""
    return [Input(x["name"], x["dtype"], tuple(x["shape"])) for x in json.loads(text)]


def check_tensors(inputs: Sequence[Input], given: Sequence[Tensor], names: Sequence[str]) -> None:
    """Refuse tensors that an artifact does not take.

    Args:
        inputs: What it takes.
        given: The tensors.
        names: What to call each in a message.

    Raises:
        UserError: If there are too few or many, or one's dtype or shape is not what is taken.
    """
    if len(given) != len(inputs):
        wanted = "; ".join(f"{x.name}: {x}" for x in inputs)
        raise UserError(
            f"the model takes {len(inputs)} inputs, and {len(given)} are given ({wanted})"
        )
    for expected, x, name in zip(inputs, given, names, strict=True):
        dtype, shape = str(x.dtype).removeprefix("torch."), tuple(x.shape)
        if dtype != expected.dtype or not _fits(shape, expected.shape):
            raise UserError(
                f"{name} holds {Input(name, dtype, shape)}, and the model takes {expected}"
            )
        if 0 in shape:
            raise UserError(f"{name} holds no sample: its shape is {list(shape)}")


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        want is None or size == want for size, want in zip(shape, expected, strict=True)
    )
