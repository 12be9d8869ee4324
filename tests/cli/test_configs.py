from pathlib import Path

import pytest

from bitladder.cli import configs
from bitladder.errors import UserError


def _install(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the module believe that it lies in this package."""
    monkeypatch.setattr(configs, "__file__", str(package / "cli" / "configs.py"))


def _write_primary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "train.yaml").touch()
    return folder


def test_the_checkout_has_its_configs_at_the_top() -> None:
    assert (configs.conf_dir() / "train.yaml").is_file()


def test_an_installed_wheel_has_its_configs_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "site-packages" / "bitladder", monkeypatch)
    inside = _write_primary(tmp_path / "site-packages" / "bitladder" / "conf")
    _write_primary(tmp_path / "conf")  # somebody else's, where a checkout would have it
    assert configs.conf_dir() == inside


def test_a_checkout_has_its_configs_beside_src(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "src" / "bitladder", monkeypatch)
    beside = _write_primary(tmp_path / "conf")
    assert configs.conf_dir() == beside


def test_no_configs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path / "src" / "bitladder", monkeypatch)
    with pytest.raises(UserError, match=r"no configuration files in .*conf"):
        configs.conf_dir()


def test_groups_are_folders_and_nested_folders(tmp_path: Path) -> None:
    for name in ("train", "model/mlp", "model/vit", "quantization/observer/minmax"):
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert configs.groups(tmp_path) == {
        "model": ["mlp", "vit"],
        "quantization/observer": ["minmax"],
    }
