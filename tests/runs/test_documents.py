import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn

from bitladder.errors import UserError
from bitladder.quantization import Call, Recipe, calibrate, prepare
from bitladder.quantization.histograms import histograms
from bitladder.runs import Results, RunDirectory, RunRecord, read_json, write_json
from bitladder.runs.document import Document
from bitladder.runs.documents import (
    Evaluation,
    HistogramsRecord,
    Manifest,
    PrecisionRecord,
    QuantizationRecord,
)
from bitladder.runs.documents.publish import FOLDER, schemas

OLD = RunDirectory(Path(__file__).parent / "version_1")
"""What a run left before `results.json` had version 2."""

FP8 = {
    "schema_version": 1,
    "summary": "fp8: 1 of 1 linears ran in fp8",
    "recipe": "tensorwise",
    "layers": "all",
    "emulated": True,
    "linears": [{"name": "head", "in_features": 16, "out_features": 16, "executed": True}],
}


def schema(name: str) -> dict[str, Any]:
    return read_json(FOLDER / f"{name}.schema.json")


def validate(name: str, value: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema(name)).validate(value)


@pytest.mark.parametrize("name", schemas())
def test_a_published_schema_is_what_its_form_gives(name: str) -> None:
    published = (FOLDER / name).read_text()
    assert published == schemas()[name], "the form has changed: run scripts/schemas"
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


def test_no_schema_is_published_that_nothing_makes() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(schemas())


def test_what_earlier_versions_wrote_is_read() -> None:
    results = Results.read(OLD.results)
    assert read_json(OLD.results)["schema_version"] == 1
    assert results.rungs["int8"].artifact == "model_int8.pt2"
    assert (results.rungs["int8"].sha256, results.artifacts) == (None, [])
    assert Manifest.read(OLD.manifest).seed == results.seed == 1
    assert QuantizationRecord.read(OLD.quantization).layers[0].kernel == "int8"
    record = RunRecord.read(OLD.path)
    assert (record.state, record.problem) == ("completed", None)


def test_old_results_written_again_have_the_new_form(tmp_path: Path) -> None:
    Results.read(OLD.results).write(tmp_path / "results.json")
    validate("results", read_json(tmp_path / "results.json"))
    with pytest.raises(jsonschema.ValidationError, match="schema_version"):
        validate("results", {**read_json(OLD.results), "schema_version": 1})


def test_what_a_run_writes_is_what_the_schemas_say() -> None:
    validate("manifest", read_json(OLD.manifest))
    validate("quantization", read_json(OLD.quantization))
    validate("precision", FP8)


@pytest.mark.parametrize(
    ("form", "name", "key"),
    [
        (Manifest, "manifest", "config_sha256"),
        (QuantizationRecord, "quantization", "layers"),
    ],
)
def test_a_file_that_is_not_ours_is_named_in_one_line(
    tmp_path: Path, form: type[Document], name: str, key: str
) -> None:
    path, value = tmp_path / f"{name}.json", read_json(OLD.path / f"{name}.json")
    for change, reason in [
        ({"schema_version": 99}, "schema_version 99, and this bitladder reads 1:"),
        ({"schema_version": True}, "schema_version True"),
        ({key: 7}, f"not whole: {key}: "),
    ]:
        write_json(path, value | change)
        with pytest.raises(UserError, match=reason) as got:
            form.read(path)
        assert str(path) in str(got.value)
        with pytest.raises(jsonschema.ValidationError):
            validate(name, value | change)


def test_keys_that_a_later_version_added_are_ignored() -> None:
    value = read_json(OLD.manifest)
    assert Manifest.from_json(value | {"mood": 1}) == Manifest.from_json(value)
    validate("manifest", value | {"mood": 1})


def test_infinity_is_read_as_a_number() -> None:
    layer = QuantizationRecord.read(OLD.quantization).layers[0]
    assert layer.sqnr_db == float("inf")


def test_every_key_is_described() -> None:
    for form in (Manifest, QuantizationRecord, HistogramsRecord, PrecisionRecord, Evaluation):
        for key, field in form.model_fields.items():
            assert field.description, f"{form.__name__}.{key}"


def test_fp8s_report_has_its_form() -> None:
    assert PrecisionRecord.from_json(FP8).linears[0].executed


def test_the_histograms_of_a_model_have_their_form() -> None:
    torch.manual_seed(0)
    indices, model = (
        torch.randint(0, 10, (6, 5)),
        nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 3)),
    )
    prepare(model.eval(), Recipe(method="ptq"))
    calibrate(model, [indices])
    value = {"schema_version": 1, "layers": histograms(model, Call((indices,), {}))}
    validate("histograms", value)
    embedding, linear = HistogramsRecord.from_json(value).layers
    assert embedding.input is None
    assert linear.input is not None
    assert linear.input.range is not None
