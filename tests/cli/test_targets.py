from pathlib import Path

import pytest

from bitladder.cli.targets import locate
from bitladder.errors import UserError


def test_classes_functions_and_methods_are_found() -> None:
    assert locate("pathlib.Path", "here") is Path
    assert locate("pathlib.Path.cwd", "here")() == Path.cwd()
    assert locate("xml.etree.ElementTree.fromstring", "here")("<a/>").tag == "a"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("bitlader.models.MLP", "there is no module bitlader; did you mean bitladder?"),
        ("bitladder.model.MLP", "there is no bitladder.model; did you mean models?"),
        ("bitladder.models.MPL", "there is no bitladder.models.MPL; did you mean MLP?"),
        ("pathlib.Path.cwdd", "there is no pathlib.Path.cwdd; did you mean cwd?"),
        ("pathlib", "pathlib is not a class or function"),
        ("a module", "write the dotted path of a class or function"),
        ("", "write the dotted path of a class or function"),
    ],
)
def test_a_wrong_path_is_told_what_is_near(path: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        locate(path, "model._target_")
    assert str(caught.value).startswith(f"model._target_={path}")
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import nowhere_to_be_found", "needs nowhere_to_be_found, not installed"),
        ("from pathlib import Nothing", "failed: cannot import name 'Nothing'"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(
    source: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=line):
        locate("broken_module.Thing", "model._target_")
