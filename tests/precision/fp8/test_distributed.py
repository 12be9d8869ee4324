"""Two processes on the CPU: DDP, and FSDP2 with the conversion in `configure_model`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from bitladder import convert_to_fp8
from bitladder.errors import UserError

PROGRAM = """
import json
import os
import sys
import warnings

warnings.filterwarnings("ignore")
import lightning as L
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

from bitladder import Fp8Precision, convert_to_fp8


class Task(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        linears = [nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 16), nn.Linear(16, 16)]
        self.net = nn.Sequential(*linears)

    def configure_model(self):
        if sys.argv[1] == "fsdp2" and not hasattr(self, "sharded"):
            convert_to_fp8(self, emulate=True)
            for linear in self.net:
                fully_shard(linear, mesh=self.device_mesh["data_parallel"])
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])
            self.sharded = True

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).float().square().mean()

    def validation_step(self, batch, batch_idx):
        self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


torch.set_num_threads(1)
if sys.argv[1] == "fsdp2":
    strategy = L.pytorch.strategies.ModelParallelStrategy(2, tensor_parallel_size=1)
else:
    strategy = "ddp"
plugin = Fp8Precision(emulate=True, layers=sys.argv[2])
trainer = L.Trainer(
    accelerator="cpu", devices=2, strategy=strategy, plugins=[plugin], max_epochs=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
data = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=8)
task = Task()
trainer.fit(task, loader, loader)
report = {r.name: [r.executed, r.kept, r.bf16_ms] for r in plugin.records}
weights = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in task.parameters()]
weights = [w.detach().clone() for w in weights]
alike = [bool((trainer.strategy.all_gather(w)[0] == w).all()) for w in weights]
with open(f"rank{trainer.global_rank}.json", "w") as file:
    json.dump({"report": report, "alike": alike, "sum": sum(float(w.sum()) for w in weights)}, file)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
os._exit(0)  # gloo's threads, which FSDP2 leaves behind, may abort an interpreter as it ends
"""


def run_two(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    """What both ranks found."""
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_both_ranks_train_the_same_model_in_fp8(tmp_path: Path, strategy: str) -> None:
    first, second = run_two(tmp_path, strategy, "all")
    assert first == second
    assert all(first["alike"])
    executed = {name: ran for name, (ran, _, _) in first["report"].items()}
    assert executed == {"net.0": False, "net.1": True, "net.2": True, "net.3": False}


@pytest.mark.slow
def test_auto_decides_the_same_on_both_ranks(tmp_path: Path) -> None:
    first, second = run_two(tmp_path, "ddp", "auto")
    assert first == second
    (_, kept, bf16_ms) = first["report"]["net.1"]
    assert bf16_ms > 0
    assert kept.startswith("layers=auto: ")


def test_a_sharded_model_is_refused(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    try:
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16))
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(UserError, match=r"sharded already; .*convert_to_fp8.*before fully"):
            convert_to_fp8(model, emulate=True)
    finally:
        torch.distributed.destroy_process_group()
