"""Letting go of what ``torch.export`` would leave in the process."""

from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv


def forget_shapes(program: ExportedProgram) -> None:
    """Let a program's `ShapeEnv` end with the program, and with it some 60 kB a small model.

    It keeps the fake tensors that it was made for, and their sizes, which are C++'s, keep it: a
    cycle that Python's garbage collector cannot see. Its memoized methods keep it, too. Whoever
    uses it later fills these anew; the fake tensors serve Dynamo, which is done.

    Args:
        program: What ``torch.export`` gave. It works as before.
    """
    values = [node.meta.get("val") for node in program.graph.nodes]
    for value in values:
        if isinstance(value, FakeTensor) and (env := value.fake_mode.shape_env) is not None:
            env.tracked_fakes = None
    for method in vars(ShapeEnv).values():
        if hasattr(method, "cache_clear"):
            method.cache_clear()
