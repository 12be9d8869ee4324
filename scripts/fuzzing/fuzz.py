"""Damages at random what bitladder reads, and looks how it takes it: prints counts and findings.

    scripts/fuzz --seconds 3600
    scripts/fuzz --seed 7 --only artifact,checkpoint

A case must end in a right result or in exit status 1 or 2 with one line, within a time limit. Each
runs in a process of its own, forked, for native code may crash. What is found is left in a folder,
as it was read, with what was printed. Exit status 1 if anything was found.
"""

import argparse
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from targets import TARGETS, Target

from bitladder.cli.main import main as bitladder

LIMIT_SECONDS = 120
"""Of one case; far above what any takes, on a busy machine, too."""

RUN = (
    "data=synthetic", "model=mlp", "model.hidden=[16]", "trainer.max_epochs=2", "logger=csv",
    "quantization=ptq", "quantization.calibration_batches=2", "callbacks.progress=null",
    "quantization.export=[pt2,program,onnx]",
)  # fmt: skip


def fuzz(run: Path, seconds: float, seed: int, only: list[str], found: Path) -> bool:
    """Run cases until the time is over.

    Returns:
        Whether nothing was found.
    """
    print(f"seed {seed}, {seconds:.0f} s, run {run}", flush=True)
    names = [name for name in only for _ in range(TARGETS[name][1])]
    counts: Counter[tuple[str, str]] = Counter()
    findings: Counter[str] = Counter()
    end, case = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        dice = random.Random(f"{seed}/{case}")
        name = dice.choice(names)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(run, Path(folder) / "run"))
            said = Path(folder) / "said"
            outcome = _outcome(TARGETS[name][0], copy, dice, said)
            counts[name, outcome.partition(":")[0]] += 1
            if outcome.startswith("found"):
                findings[f"{name} {outcome}"] += 1
                if findings[f"{name} {outcome}"] <= 3:
                    print(f"case {seed}/{case}: {name}: {outcome}", flush=True)
                    shutil.copytree(copy, found / f"{name}-{case}", dirs_exist_ok=True)
                    shutil.copyfile(said, found / f"{name}-{case}" / "said.txt")
        case += 1
    print(f"{case} cases, {sum(findings.values())} findings of {len(findings)} kinds")
    for (name, outcome), count in sorted(counts.items()):
        print(f"  {name:12}{outcome:12}{count:8}")
    return not findings


def _outcome(target: Target, run: Path, dice: random.Random, said: Path) -> str:
    """``done``, ``refused``, ``failed``, or ``found: `` and what is wrong."""
    said.touch()
    child = os.fork()
    if child == 0:
        os._exit(_child(target, run, dice, said))
    end = time.monotonic() + LIMIT_SECONDS
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "found: it hangs"
        time.sleep(0.005)
    if os.WIFSIGNALED(ended[1]):
        return f"found: {signal.Signals(os.WTERMSIG(ended[1])).name}"
    status, text = os.waitstatus_to_exitcode(ended[1]), said.read_text(errors="replace")
    lines = [line for line in text.splitlines() if line]
    if status == 0:
        return "done"
    if status in (1, 2) and len(lines) == 1 and lines[0].startswith("bitladder: "):
        return "refused" if status == 2 else "failed"
    return f"found: status {status}, {lines[-1][:120] if lines else 'not a word'}"


def _child(target: Target, run: Path, dice: random.Random, said: Path) -> int:
    error = io.StringIO()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(error):
            status = target(run, dice)
    except BaseException:
        status = 3
        error.write(traceback.format_exc())
    said.write_text(error.getvalue(), errors="replace")
    return status


def main() -> None:
    """Make a run and damage it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, with commas")
    parser.add_argument("--run", type=Path, help="a finished run; made anew without")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a fork has none of OpenMP's threads, and would wait for them
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run
        if run is None:
            assert bitladder(["train", *RUN, f"paths.runs={folder}"]) == 0
            (run,) = Path(folder).iterdir()
        clean = fuzz(
            run, arguments.seconds, arguments.seed, arguments.only.split(","), arguments.found
        )
    sys.exit(not clean)


if __name__ == "__main__":
    main()
