"""Flags of the C++ compiler for packages that are small and can be unloaded.

A library stays mapped, though nobody uses it any more, while it has a symbol that is unique in the
process, or while a thread is still to call one of its destructors. A package has both as PyTorch
builds it, and a process that loads many of them grows by each.
"""

import re
import shlex
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch._inductor import config as inductor_config
from torch._inductor.cpp_builder import get_cpp_compiler

_INCLUDE = Path(__file__).parent / "include"

# What include/device/regex replaces. A runtime that does anything else gets the real header.
_ONE_USE_OF_REGEX = [
    'std::regex re("(cpu|cuda|xpu|mps)(:([0-9]+))?");',
    "std::smatch sm;",
    "std::regex_match(device_str, sm, re);",
]

# Whose destructor include/unload/iostream leaves out; again, no other's.
_ONE_THREAD_LOCAL = ["static thread_local std::string g_aoti_last_error;"]


def runtime_flags() -> str:
    """For the code around the kernels, which should be small, as it runs once a call.

    They begin in the middle of a flag, with the optimization level.
    """
    flags = "Os -fvisibility=hidden"
    if _links_with(get_cpp_compiler(), "-flto"):
        flags += " -flto"
    torch_folder = Path(torch.__file__).parent
    header = torch_folder / "include/torch/csrc/inductor/aoti_runtime/model_base.h"
    uses = re.findall(r"std::(?:regex|smatch|regex_match|sregex\w+)\b.*", header.read_text())
    if uses == _ONE_USE_OF_REGEX:
        flags += f" -I{shlex.quote(str(_INCLUDE / 'device'))}"
    interface = torch_folder / "_inductor/codegen/aoti_runtime/interface.cpp"
    if re.findall(r".*\bthread_local\b.*", interface.read_text()) == _ONE_THREAD_LOCAL:
        flags += f" -I{shlex.quote(str(_INCLUDE / 'unload'))}"
    return flags


def contraction_flags() -> str:
    """For all code: the floating-point contraction that is configured, and no unique symbols.

    GCC makes an inline variable of a header unique, and the kernels' header defines one.
    They begin in the middle of a flag, with the kind of contraction.
    """
    flags = inductor_config.cpp.enable_floating_point_contract_flag
    if _links_with(get_cpp_compiler(), "-fno-gnu-unique"):
        flags += " -fno-gnu-unique"
    return flags


@cache
def _links_with(compiler: str, flag: str) -> bool:
    """Whether the compiler knows a flag and links what it compiles with it.

    Some installations lack the tool that optimizes at link time, and not every compiler is GCC.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, flag, "-shared", "-fPIC", "-x", "c++", "-o", f"{folder}/probe.so", "-"]
        probe = subprocess.run(
            command, input="int one() { return 1; }", text=True, capture_output=True, check=False
        )
        return probe.returncode == 0
