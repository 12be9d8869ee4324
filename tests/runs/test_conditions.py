import json

import pytest
import torch

from bitladder.runs import conditions


def test_it_says_what_decides_the_last_bits_in_plain_json_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    found = conditions.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    variables = found["variables"]
    assert isinstance(variables, dict)
    assert variables["OMP_NUM_THREADS"] == "3"
    assert "PYTHONHASHSEED" not in variables
    assert "secret" not in str(found)


def test_flags_are_those_of_the_moment() -> None:
    assert conditions.describe()["deterministic_algorithms"] is False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        found = conditions.describe()
    finally:
        torch.use_deterministic_algorithms(False)
    assert found["deterministic_algorithms"] is found["deterministic_warn_only"] is True


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_compiler_that_is_missing_or_fails_is_no_error(
    monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert conditions.describe()["compiler"] is None
