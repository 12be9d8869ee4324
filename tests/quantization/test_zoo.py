"""Many kinds of models, PyTorch's own and those of `transformers`, as users quantize them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"
RECURRENT = {"LSTM", "GRU"}
"""Stored in int8, computed in float."""
TRAINED_BY_ALL = ("bag of words", "GPT-2")
MODELS = {
    "zoo": [
        "MLP",
        "small ResNet",
        "small ViT",
        "mobile",
        "dense",
        "U-Net",
        "waves",
        "film",
        "TransformerEncoder",
        "tied decoder",
        "LSTM",
        "GRU",
        "bag of words",
    ],
    "transformers": [
        "BERT",
        "DistilBERT",
        "GPT-2",
        "ViT",
        "ResNet",
        "ConvNeXt",
        "MobileNetV2",
        "Whisper encoder",
    ],
}


@pytest.fixture(scope="module")
def zoo() -> Iterator[ModuleType]:
    """The benchmark: it is a program, and no part of the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import zoo  # pyright: ignore[reportMissingImports]

        yield zoo
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in [x for x in sys.modules if x == "zoo" or x.split(".")[0] == "models"]:
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers, about its own models
def test_the_list_is_the_whole_zoo(zoo: ModuleType) -> None:
    assert list(zoo.choose([])) == MODELS["zoo"] + MODELS["transformers"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS["zoo"] + MODELS["transformers"])
def test_an_int8_artifact_does_nine_tenths_of_the_arithmetic(zoo: ModuleType, name: str) -> None:
    row = zoo.measure(name, *zoo.choose([name])[name], "ptq")
    assert row.failed is None
    assert row.layers >= 1
    assert row.int8_share >= (0.0 if name in RECURRENT else 0.9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["dynamic", "qat"])
@pytest.mark.parametrize("name", TRAINED_BY_ALL)
def test_by_every_method(zoo: ModuleType, name: str, method: str) -> None:
    row = zoo.measure(name, *zoo.choose([name])[name], method)
    assert row.failed is None
    assert row.int8_share >= 0.9
