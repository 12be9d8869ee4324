"""What an export leaves in the process: nothing that grows."""

import subprocess
import sys
from pathlib import Path

# In a process of its own: a record of PyTorch's log, which a test keeps, keeps what it is about.
PROGRAM = """
import gc, linecache, sys
from pathlib import Path
import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.graph_module import _loader
from bitladder.quantization import Call, export
from bitladder.quantization.compile import trace

def model():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval()

for _ in range(4):
    trace(model(), [Call((torch.randn(4, 8),), {})])
for name in "ab":
    export(model(), torch.randn(4, 8), Path(sys.argv[1]) / f"{name}.pt2")
for _ in range(3):  # some objects end in another that ends
    gc.collect()
shapes = sum(type(x) is ShapeEnv for x in gc.get_objects())
sources = [name for name in linecache.cache if name.startswith("<eval_with_key>")]
print(shapes, len(sources), len(_loader.eval_cache))
"""


def test_no_more_than_the_shapes_of_the_last_export_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    ran = subprocess.run(command, text=True, capture_output=True, check=True)
    shapes, *sources = map(int, ran.stdout.split()[-3:])
    assert shapes <= 1
    assert sources == [0, 0]
