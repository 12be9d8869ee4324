import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from bitladder.errors import RunError
from bitladder.quantization.package import slim


def test_a_slim_package_is_much_smaller(float_package: Any) -> None:
    assert float_package.path.stat().st_size < 0.5 * float_package.before.stat().st_size


def test_a_slim_package_has_all_of_its_files_but_the_sources(float_package: Any) -> None:
    with (
        zipfile.ZipFile(float_package.before) as before,
        zipfile.ZipFile(float_package.path) as after,
    ):
        names = [name for name in before.namelist() if not name.endswith(".kernel.cpp")]
        assert after.namelist() == names
        for name in names:
            if name.endswith(".cpp"):
                assert after.read(name) == b""
            elif not name.endswith(".so"):
                assert after.read(name) == before.read(name)
        assert after.testzip() is None


def test_a_slim_package_computes_the_same_bits(float_package: Any) -> None:
    x = torch.randn(5, 3, 9, 9)
    fat = torch._inductor.aoti_load_package(str(float_package.before))
    thin = torch._inductor.aoti_load_package(str(float_package.path))
    assert torch.equal(fat(x), thin(x))


def test_slimming_needs_binutils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/model.so", b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="strip is missing: install it"):
        slim(path)


def test_a_broken_library_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/model.so", b"not a library")
    with pytest.raises(RunError, match="strip failed on the compiled model"):
        slim(path)


_FRESH = """
import io, sys, warnings
import torch
x = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=True)
run = torch._inductor.aoti_load_package(sys.argv[1])
answers = [[run(batch), run(batch), batch] for batch in x]
foreign = [name for name in sys.modules if name.split(".")[0] in ("bitladder", "torchao")]
assert not foreign, foreign
torch.save(answers, sys.argv[2])
"""


@pytest.mark.parametrize("artifact", ["static", pytest.param("dynamic", marks=pytest.mark.vnni)])
def test_a_fresh_interpreter_with_torch_alone_gives_the_same_answers(
    artifact: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    deployed = request.getfixturevalue(artifact)
    torch.manual_seed(0)
    batches = [torch.randn(size, 1, 8, 8) for size in (1, 7, 64)]
    buffer = io.BytesIO()
    torch.save(batches, buffer)
    answers = tmp_path / "answers.pt"
    command = [sys.executable, "-I", "-c", _FRESH, str(deployed.path), str(answers)]
    result = subprocess.run(
        command, input=buffer.getvalue(), capture_output=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr.decode()
    for batch, (first, second, left) in zip(batches, torch.load(answers), strict=True):
        assert torch.equal(first, second)
        assert torch.equal(left, batch)
        ours = deployed.deployment.run(batch)
        assert torch.equal(first.argmax(1), ours.argmax(1))
        torch.testing.assert_close(first, ours, rtol=1e-5, atol=1e-5)
