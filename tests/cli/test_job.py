"""What the server that jobs are forked off has imported."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import bitladder.cli.job
import torch
assert threading.active_count() == 1, threading.enumerate()
assert not torch.cuda.is_initialized()
assert {"wandb.apis.public", "torch._inductor.codegen.cpp_wrapper_cpu"} <= sys.modules.keys()
"""


@pytest.mark.slow
def test_a_fork_of_the_server_is_as_good_as_a_fresh_process() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], check=True)
