"""Letting go of what PyTorch's export and compiler would leave in the process."""

import linecache
from collections.abc import Iterator
from contextlib import contextmanager

from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.graph_module import _loader


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


@contextmanager
def sources_forgotten() -> Iterator[None]:
    """Forget the source of every ``torch.fx`` graph that the block generates code for.

    PyTorch keeps it for as long as the process lives, some 40 graphs a run, for nobody but who
    prints a traceback through one. The graphs run as before.
    """
    before = set(_loader.eval_cache)
    try:
        yield
    finally:
        for name in _loader.eval_cache.keys() - before:
            del _loader.eval_cache[name]
            linecache.cache.pop(name, None)
