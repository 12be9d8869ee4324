import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitladder.errors import UserError
from bitladder.runs import RunDirectory
from bitladder.runs.predictions import read_predictions

LABELS = np.array([0, 2])
LOGITS = np.array([[3.0, 1.0, 1.0], [0.0, 5.0, 5.0]], dtype=np.float32)


def run(tmp_path: Path, **arrays: Any) -> RunDirectory:
    directory = RunDirectory(tmp_path)
    np.savez_compressed(directory.predictions, **arrays)
    return directory


def test_labels_and_the_logits_of_each_rung_are_read(tmp_path: Path) -> None:
    predictions = read_predictions(run(tmp_path, labels=LABELS, float=LOGITS, int8=-LOGITS))
    assert predictions is not None
    assert set(predictions.logits) == {"float", "int8"}
    assert predictions.labels.tolist() == [0, 2]
    assert predictions.classes("float").tolist() == [0, 1]
    assert predictions.classes("int8").tolist() == [1, 0]


def test_a_run_without_predictions_has_none(tmp_path: Path) -> None:
    assert read_predictions(RunDirectory(tmp_path)) is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"float": LOGITS}, "cannot read"),
        ({"labels": LABELS, "float": LOGITS[:1]}, "not the logits of 2 samples"),
        ({"labels": LABELS, "float": LABELS}, "not the logits of 2 samples"),
        ({"labels": LABELS, "float": np.array([["a"], ["b"]])}, "not the logits of 2 samples"),
        ({"labels": LABELS, "float": LOGITS[:, :0]}, "has no classes"),
        ({"labels": LOGITS, "float": LOGITS}, "not one class a sample"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_predictions(run(tmp_path, **arrays))


def test_nothing_pickled_is_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("executed",))

    trap = np.array([Trap(), Trap()], dtype=object)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([0, 0]))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": (2,)}
    )
    with zipfile.ZipFile(tmp_path / "predictions.npz", "w") as archive:
        archive.writestr("labels.npy", header.getvalue() + pickle.dumps(trap))
        archive.writestr("float.npy", stream.getvalue())
    with pytest.raises(UserError, match="cannot read"):
        read_predictions(RunDirectory(tmp_path))


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    run(tmp_path, float=LOGITS)
    with zipfile.ZipFile(tmp_path / "predictions.npz", "a") as archive:
        archive.writestr("labels.npy", b"no array")
    with pytest.raises(UserError, match="labels in it is no array"):
        read_predictions(RunDirectory(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*predictions\.npz"):
        read_predictions(RunDirectory(tmp_path))


def test_what_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitladder.runs.predictions.LARGEST_PREDICTIONS_BYTES", 10**6)
    zeros = np.zeros((2, 10**6), dtype=np.float32)
    with pytest.raises(UserError, match="unpacks to"):
        read_predictions(run(tmp_path, labels=LABELS, float=zeros))
