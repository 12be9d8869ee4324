import pytest

from bitladder.cli.options import EvaluateOptions, QuantizeOptions, read_options
from bitladder.errors import UserError


def test_paths_are_taken_as_they_are_written() -> None:
    path = "runs/a=b,c d+{e}"
    options, _ = read_options(QuantizeOptions, [f"run={path}", "checkpoint=x,y"], ())
    assert (options.run, options.checkpoint) == (path, "x,y")


def test_other_keys_are_typed() -> None:
    texts = ["run=r", "strict=true", "allow=[a,b.c]"]
    options, _ = read_options(EvaluateOptions, texts, ())
    assert (options.strict, options.allow, options.trust_artifact) == (True, ["a", "b.c"], False)
    for wrong in ("strict=yes", "strict=1", "allow=a", "strict"):
        with pytest.raises(UserError):
            read_options(EvaluateOptions, ["run=r", wrong], ())


def test_overrides_of_known_sections_are_left() -> None:
    known = {"data", "quantization", "quantization.skip"}
    texts = ["run=r", "data.root=x", "+data.a=1", "~data.b", "quantization/observer=minmax"]
    assert read_options(QuantizeOptions, texts, known)[1] == texts[1:]
    with pytest.raises(UserError, match=r"there is no key skip; did you mean quantization\.skip"):
        read_options(QuantizeOptions, ["run=r", "skip=[a]"], known)
