"""Making an AOTInductor package as small as it can be while PyTorch still loads it."""

import shutil
import subprocess
import zipfile
from pathlib import Path

from bitladder.errors import RunError


def slim(path: Path) -> None:
    """Rewrite a package without symbols and sources, deflated.

    A small model's package is mostly not its weights: the library's symbol table and the generated
    C++ weigh more. PyTorch reads neither, and reads deflated entries as it reads stored ones.

    Args:
        path: The ``.pt2`` file, replaced in place.
    """
    slimmed = path.with_suffix(".slim")
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(slimmed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
    ):
        for entry in source.infolist():
            if entry.filename.endswith(".kernel.cpp"):
                continue
            data = source.read(entry)
            if entry.filename.endswith(".cpp"):
                data = b""  # PyTorch 2.11 finds the model's metadata by the name of this file
            if entry.filename.endswith(".so"):
                data = _strip(data, path.with_suffix(".so"))
            target.writestr(zipfile.ZipInfo(entry.filename), data, zipfile.ZIP_DEFLATED, 9)
    slimmed.replace(path)


def _strip(library: bytes, scratch: Path) -> bytes:
    strip = shutil.which("strip")
    if strip is None:
        raise RunError("binutils' strip is missing: install it (it comes with g++)")
    scratch.write_bytes(library)
    result = subprocess.run([strip, str(scratch)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RunError(f"strip failed on the compiled model: {result.stderr.strip()}")
    stripped = scratch.read_bytes()
    scratch.unlink()
    return stripped
