"""What this machine is, as far as numbers and speed depend on it."""

import os
import platform
from pathlib import Path

import torch

# The instructions that decide which kernels Inductor and oneDNN choose, as Linux names them.
FLAGS_OF_INTEREST = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
)

CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, object]:
    """Return processor, memory (bytes), CUDA devices and thread counts as plain JSON types."""
    cpuinfo = _read_cpuinfo()
    flags = set(cpuinfo.get("flags", "").split())
    return {
        "cpu": cpuinfo.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS_OF_INTEREST if flag in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cuda": [_describe_cuda(index) for index in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
    }


def _read_cpuinfo() -> dict[str, str]:
    """Read the fields of the first processor; none where there is no such file."""
    try:
        first = CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _describe_cuda(index: int) -> dict[str, object]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
    }
