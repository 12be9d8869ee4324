"""The logs that wandb leaves offline: read, cut, written again."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2

from bitladder.cli.wandb_log import cut_back, framed, read_records
from bitladder.errors import UserError

messages: Any = wandb_internal_pb2  # its names are made when it is imported

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 32768

# Around the ends of blocks, where a record is divided or its block is filled up.
LENGTHS = st.integers(0, 20) | st.integers(BLOCK - 30, BLOCK + 30) | st.integers(0, 3 * BLOCK)
RECORDS = st.lists(st.builds(lambda n, seed: bytes([seed]) * n, LENGTHS, st.integers(0, 255)))


def log_of(records: list[bytes]) -> bytes:
    return b"".join(framed(HEADER, records))


def row(number: int) -> bytes:
    history = messages.HistoryRecord(step=messages.HistoryStep(num=number))
    return messages.Record(num=number, history=history).SerializeToString()


@given(RECORDS)
def test_what_is_written_is_read(records: list[bytes]) -> None:
    assert list(read_records(log_of(records))) == records


@given(RECORDS, st.data())
def test_a_log_that_was_cut_has_its_first_records(
    records: list[bytes], data: st.DataObject
) -> None:
    whole = log_of(records)
    cut = whole[: data.draw(st.integers(len(HEADER), len(whole)))]
    found = list(read_records(cut))
    assert found == records[: len(found)]


@given(st.binary(max_size=200))
def test_anything_else_has_no_records_but_those_with_a_checksum(content: bytes) -> None:
    assert list(read_records(HEADER + content + log_of([b"later"]))) in ([], [b"later"])


def test_rows_go_from_a_number_on(tmp_path: Path) -> None:
    path = tmp_path / "run-a.wandb"
    other = messages.Record(num=9).SerializeToString()
    path.write_bytes(log_of([other, *(row(x) for x in range(5)), other])[:-1])
    assert cut_back(path, 3) == 3
    assert list(read_records(path.read_bytes())) == [other, row(0), row(1), row(2)]
    assert cut_back(path, 9) == 3
    assert cut_back(path, 0) == 0
    assert list(read_records(path.read_bytes())) == [other]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", log_of([b"\xff" * 9])])
def test_what_is_no_log_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run-a.wandb"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no log of wandb's"):
        cut_back(path, 3)
    assert path.read_bytes() == content


def test_wandb_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "run-a.wandb"
    path.write_bytes(log_of([row(x) for x in range(9000)]))
    assert cut_back(path, 8000) == 8000
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == 8000
