"""Where the configuration files are, without asking Hydra."""

from pathlib import Path

from bitladder.errors import UserError

PRIMARY = "train"
"""The configuration that all others are composed into."""


def conf_dir() -> Path:
    """The folder of the program's own configuration files.

    An installed wheel carries it inside the package; in a checkout, and so in an editable
    install, it stands beside ``src``.

    Raises:
        UserError: If neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "conf", package.parents[1] / "conf")
    for folder in candidates:
        if (folder / f"{PRIMARY}.yaml").is_file():
            return folder
    raise UserError(f"no configuration files in {candidates[0]}: install bitladder again")


def groups(folder: Path) -> dict[str, list[str]]:
    """The configuration groups of a folder, nested ones too, and the choices in each."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.yaml")):
        if file.parent != folder:
            found.setdefault(file.parent.relative_to(folder).as_posix(), []).append(file.stem)
    return found
