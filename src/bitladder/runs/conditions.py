"""What decides the last bits of a result beside the code, the data and the seed."""

import os
import subprocess

import torch

# Variables that choose kernels, their order of summing or their number of threads.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "PYTHONHASHSEED",
)

COMPILER_TIMEOUT_SECONDS = 10


def describe() -> dict[str, object]:
    """Return kernels, flags, versions of libraries and variables as plain JSON types.

    Flags are those of this moment: a trainer that was told to be deterministic has set them. How
    many threads compute is among the hardware (:func:`bitladder.runs.hardware.describe`).
    """
    cudnn = torch.backends.cudnn
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),
        "mkl": torch.backends.mkl.is_available(),
        "openmp": torch.backends.openmp.is_available(),
        "compiler": _compiler(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version() if torch.cuda.is_available() else None,
        "cudnn_benchmark": cudnn.benchmark,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _compiler() -> str | None:
    """The C++ compiler that artifacts are made with, by its first line; None without one."""
    try:
        finished = subprocess.run(
            [os.environ.get("CXX", "g++"), "--version"],
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            timeout=COMPILER_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.partition("\n")[0]
