import sys
from pathlib import Path

import pytest

from bitladder.cli.configs import conf_dir
from bitladder.cli.reopen import BUILT
from bitladder.cli.trust import check_trusted
from bitladder.errors import UserError


def check(section: str, target: object, *allow: str) -> None:
    check_trusted({section: {"_target_": target}}, BUILT, allow)


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("data", "bitladder.data.Digits"),
        ("model", "bitladder.models.MLP"),
        ("task", "bitladder.tasks.Classification"),
        ("optimizer", "torch.optim.AdamW"),
        ("optimizer", "torch.optim.RMSprop"),
        ("scheduler", "torch.optim.lr_scheduler.StepLR"),
        ("scheduler", "bitladder.tasks.cosine_with_warmup"),
    ],
)
def test_parts_of_our_own_and_of_torch_optim_may_be_named(section: str, target: str) -> None:
    check(section, target)


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("model", "os.system"),
        ("model", "subprocess.Popen"),
        ("model", "builtins.eval"),
        ("model", "hydra.utils.instantiate"),
        # What the package imports, and what it does that is more than to build.
        ("data", "bitladder.runs.manifest.subprocess.run"),
        ("data", "bitladder.runs.files.write_atomic"),
        ("model", "bitladder.quantization.compile.load_package"),
        ("optimizer", "torch.optim.adam.torch.hub.load"),
        ("optimizer", "torch.optim.Adam.__init__"),
        ("scheduler", "torch.optim.lr_scheduler.partial"),
        # A part, but not one of this section.
        ("data", "lightning.pytorch.loggers.WandbLogger"),
        ("model", "bitladder.data.FashionMnist"),
        # Malformed.
        ("model", "bitladder.models.MLP()"),
        ("model", "bitladder..MLP"),
        ("model", ""),
        ("model", None),
        ("model", ["os.system"]),
    ],
)
def test_nothing_else_may_be_named(section: str, target: object) -> None:
    with pytest.raises(UserError, match=f"^{section}._target_="):
        check(section, target)


def test_a_target_is_found_wherever_it_stands() -> None:
    hostile = {"_target_": "os.system"}
    for node in ({"hidden": hostile}, {"_args_": [1, [hostile]]}, {"hidden": {"x": hostile}}):
        with pytest.raises(UserError, match=r"os\.system"):
            check_trusted({"model": {"_target_": "bitladder.models.MLP", **node}}, BUILT, ())


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)  # of another test
    with pytest.raises(UserError, match=r"write allow=\[theirs\] if you trust it"):
        check("model", "theirs.Model")
    assert "theirs" not in sys.modules


def test_a_package_is_allowed_whole_and_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").touch()
    (tmp_path / "theirs" / "models.py").write_text("class Net:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("theirs", "theirs.models"):  # neither of another test nor left for one
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    check("model", "theirs.models.Net", "theirs")
    check("model", "theirs.models.Net", "theirs.models")
    for other in ("their", "theirs.model", "models"):
        with pytest.raises(UserError):
            check("model", "theirs.models.Net", other)


def test_every_shipped_choice_of_what_is_built_may_be_named() -> None:
    sections = {file.parent.name for file in conf_dir().glob("*/*.yaml")}
    assert set(BUILT) - {"task"} <= sections


@pytest.mark.parametrize(
    "target",
    [
        "allowed_package.torch.load",
        "allowed_package.parts.os.system",
        "allowed_package.parts.load",
        "allowed_package.parts.Model.load_from_checkpoint",
        "allowed_package.parts.Model.__class__",
    ],
)
def test_an_allowed_package_does_not_allow_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    package = tmp_path / "allowed_package"
    package.mkdir()
    (package / "__init__.py").write_text("import torch\n")
    (package / "parts.py").write_text(
        "import os\nimport lightning as L\nfrom torch import load\n"
        "class Model(L.LightningModule):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    trusted = {"_target_": "allowed_package.parts.Model"}
    check_trusted({"model": trusted}, ["model"], ["allowed_package"])
    hostile = trusted | {"hidden": {"_target_": target}}
    with pytest.raises(UserError, match="not what it imports from"):
        check_trusted({"model": hostile}, ["model"], ["allowed_package"])
