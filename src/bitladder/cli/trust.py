"""What somebody else's configuration may name: a run directory is data, and never code.

Building a node imports its target's module and calls the target. A run's configuration may
therefore name what the program's own configuration files name in the same section, PyTorch's
optimizers and schedules, and Lightning's callbacks. A dotted path that only starts with
``bitladder`` proves nothing: ``bitladder.runs.manifest.subprocess.run`` starts so, too.
"""

from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

import yaml
from lightning import Callback
from lightning.pytorch import callbacks
from torch import optim
from torch.optim import Optimizer, lr_scheduler

from bitladder.cli.configs import PRIMARY, conf_dir
from bitladder.cli.targets import walk
from bitladder.errors import UserError

_LIBRARIES = {
    "torch.optim": (optim, Optimizer),
    "torch.optim.lr_scheduler": (lr_scheduler, lr_scheduler.LRScheduler),
    "lightning.pytorch.callbacks": (callbacks, Callback),
}
"""Modules, and the base of the classes in each that may be named."""


def check_trusted(
    values: Mapping[str, Any], sections: Collection[str], allow: Collection[str]
) -> None:
    """Refuse targets that would run code which neither the program nor the user has named.

    Nothing that the configuration names is imported for it but the packages that are trusted.

    Args:
        values: A run's configuration, plain containers.
        sections: Those that are going to be built.
        allow: Packages that the user trusts.

    Raises:
        UserError: Names the first such target and what would allow it.
    """
    for section in sections:
        shipped = _shipped(section)
        for where, target in _targets(values.get(section), section):
            if not isinstance(target, str) or not all(map(str.isidentifier, target.split("."))):
                raise UserError(f"{where}={target}: it is no dotted path of a class or function")
            if (
                target not in shipped
                and not _of_library(target)
                and not within(target, allow, where)
            ):
                raise UserError(
                    f"{where}={target}: the run names code that is not bitladder's own, and"
                    f" reading a run does not execute it; write allow=[{_package(target)}] if you"
                    " trust it"
                )


def own_packages(values: Mapping[str, Any], sections: Collection[str]) -> list[str]:
    """The packages that :func:`check_trusted` has to be allowed for a configuration."""
    return sorted(
        {
            _package(target)
            for section in sections
            for _, target in _targets(values.get(section), section)
            if target not in _shipped(section) and not _of_library(target)
        }
    )


def _package(target: str) -> str:
    return target.partition(".")[0]


def _shipped(section: str) -> set[str]:
    """What the program's own files name in a section."""
    folder = conf_dir()
    primary = yaml.safe_load((folder / f"{PRIMARY}.yaml").read_text(encoding="utf-8"))
    nodes = [primary.get(section)]
    for file in folder.glob(f"{section}/**/*.yaml"):
        nodes.append(yaml.safe_load(file.read_text(encoding="utf-8")))
    return {target for node in nodes for _, target in _targets(node, section)}


def _of_library(target: str) -> bool:
    path, _, name = target.rpartition(".")
    if path not in _LIBRARIES:
        return False
    module, base = _LIBRARIES[path]
    found = getattr(module, name, None)
    return isinstance(found, type) and issubclass(found, base)


def within(target: str, packages: Collection[str], where: str) -> bool:
    """Whether a dotted path names something of one of the packages.

    They are trusted, and imported for it. What they import from elsewhere is not theirs:
    ``package.module.torch.load`` starts so, too.

    Raises:
        UserError: If the path begins in one of the packages and leads out of it.
    """
    package = next((name for name in packages if target.startswith(f"{name}.")), None)
    if package is None:
        return False
    for passed in walk(target, where)[package.count(".") :]:
        name = getattr(passed, "__name__" if isinstance(passed, ModuleType) else "__module__", None)
        if not isinstance(name, str) or not f"{name}.".startswith(f"{package}."):
            raise UserError(
                f"{where}={target}: allow=[{package}] allows what {package} defines, not what it"
                f" imports from {name}"
            )
    return True


def _targets(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` in a tree, wherever it stands, with its place."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield f"{where}._target_", value["_target_"]
        for key, item in value.items():
            yield from _targets(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _targets(item, f"{where}[{index}]")
