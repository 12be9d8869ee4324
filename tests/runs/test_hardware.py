from pathlib import Path

import pytest

from bitladder.runs import hardware, write_json

CPUINFO = """\
processor\t: 0
model name\t: Some CPU @ 2.0 GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: amx_int8
"""


def test_the_flags_that_decide_kernels_are_read_from_the_first_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    monkeypatch.setattr(hardware, "CPUINFO", cpuinfo)
    described = hardware.describe()
    assert described["cpu"] == "Some CPU @ 2.0 GHz"
    assert described["flags"] == ["avx2", "avx512f", "avx512_vnni"]


def test_a_machine_without_cpuinfo_is_described_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "missing")
    described = hardware.describe()
    assert described["cpu"]
    assert described["flags"] == []


def test_this_machine_is_described_in_plain_json_types(tmp_path: Path) -> None:
    described = hardware.describe()
    write_json(tmp_path / "hardware.json", described)
    for key in ("cores", "usable_cores", "memory_bytes", "threads", "interop_threads"):
        assert isinstance(described[key], int)
