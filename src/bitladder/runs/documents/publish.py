"""The published schemas, made from the forms: ``python -m bitladder.runs.documents.publish``."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bitladder.runs.document import Document
from bitladder.runs.documents import (
    Evaluation,
    HistogramsRecord,
    Manifest,
    PrecisionRecord,
    QuantizationRecord,
)
from bitladder.runs.files import write_atomic
from bitladder.runs.results import SCHEMA_VERSION, Results

FOLDER = Path(__file__).parents[1] / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_DOCUMENTS: dict[str, type[Document]] = {
    "manifest": Manifest,
    "quantization": QuantizationRecord,
    "histograms": HistogramsRecord,
    "precision": PrecisionRecord,
    "evaluation": Evaluation,
}


def schemas() -> dict[str, str]:
    """The text of every schema, by the name of its file in `FOLDER`."""
    made = {"results": _schema("results", Results, SCHEMA_VERSION)}
    made |= {name: _schema(name, form, max(form.versions)) for name, form in _DOCUMENTS.items()}
    return {f"{name}.schema.json": json.dumps(made[name], indent=2) + "\n" for name in made}


def _schema(name: str, form: type[Any], version: int) -> dict[str, Any]:
    schema = TypeAdapter(form).json_schema(mode="validation")
    schema["properties"]["schema_version"] = {
        "const": version,
        "description": "Of the file's form: other versions have other schemas.",
    }
    schema["required"] = sorted({*schema.get("required", []), "schema_version"})
    title = f"{name}.json of a bitladder run"
    return (
        {"$schema": DIALECT, "$id": f"bitladder:{name}.json:{version}"} | schema | {"title": title}
    )


def main() -> None:
    """Write every schema."""
    for name, text in schemas().items():
        write_atomic(FOLDER / name, text)


if __name__ == "__main__":
    main()
