import gc
from pathlib import Path

import pytest
import torch
from torch._inductor import config as inductor_config
from torch._inductor.cpp_builder import get_cpp_compiler

from bitladder.quantization import compiler_flags
from bitladder.quantization.compile import load_package


def mapped() -> set[str]:
    """The libraries of packages that this process has in memory, deleted or not."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[5] for line in lines if ".wrapper.so" in line}


@pytest.mark.parametrize("artifact", ["static", pytest.param("dynamic", marks=pytest.mark.vnni)])
def test_a_package_that_nobody_uses_any_more_is_unloaded(
    artifact: str, request: pytest.FixtureRequest
) -> None:
    path, before = request.getfixturevalue(artifact).path, mapped()
    run = load_package(path)
    assert run(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    assert len(mapped() - before) == 1
    del run
    gc.collect()
    assert not mapped() - before


def test_the_configured_contraction_stays_as_it_is() -> None:
    with inductor_config.patch({"cpp.enable_floating_point_contract_flag": "fast"}):
        assert compiler_flags.contraction_flags().split()[0] == "fast"


def test_a_runtime_that_is_not_known_gets_the_real_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f" -I{compiler_flags._INCLUDE / 'device'}" in compiler_flags.runtime_flags()
    monkeypatch.setattr(compiler_flags, "_ONE_USE_OF_REGEX", [])
    monkeypatch.setattr(compiler_flags, "_ONE_THREAD_LOCAL", [])
    assert " -I" not in compiler_flags.runtime_flags()


def test_a_flag_that_the_compiler_does_not_know_is_left_out() -> None:
    assert compiler_flags._links_with(get_cpp_compiler(), "-fPIC")
    assert not compiler_flags._links_with(get_cpp_compiler(), "-fno-such-flag")
