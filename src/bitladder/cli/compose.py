"""From files and overrides to one resolved configuration, by Hydra; nothing is written."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from bitladder.cli.configs import PRIMARY, conf_dir, groups
from bitladder.cli.overrides import is_sweep, opened, parse, quoted, values
from bitladder.cli.suggest import hint
from bitladder.errors import UserError


@dataclass(frozen=True)
class Source:
    """Where configurations come from while Hydra is set up (see :func:`open_source`)."""

    searchpath: tuple[str, ...]
    """The override that adds the user's folder, if there is one."""

    def choices(self, group: str) -> list[str]:
        """The choices of a configuration group; none if there is no such group."""
        loader = GlobalHydra.instance().config_loader()
        return loader.get_group_options(group, config_name=PRIMARY, overrides=list(self.searchpath))

    def arguments(self, overrides: Sequence[str]) -> list[str]:
        """The overrides as Hydra gets them, every group and choice in them checked.

        Hydra knows as right keys only those that a file happens to set (``trainer.max_steps``
        would need a ``+``). Here any key may be written and the schema says which are right.

        Raises:
            UserError: If one cannot be parsed, or names a group or choice that does not exist.
        """
        return [*self.searchpath, *(self._argument(text) for text in overrides)]

    def _argument(self, text: str) -> str:
        override = parse(text)
        group = override.key_or_group
        if group.startswith("hydra.sweeper.params."):  # keys that no file has
            return opened(override)
        choices = self.choices(group) if "." not in group else []
        if override.is_hydra_override() or override.is_delete():
            if choices and not all(isinstance(choice, str) for choice in _named(override)):
                raise UserError(f"{text}: the choices of '{group}' are {', '.join(choices)}")
            return text
        if not choices:
            if "/" in group or override.package is not None:
                raise UserError(
                    f"{text}: there is no group {group}{hint(group, groups(conf_dir()))}"
                )
            return opened(override)
        if isinstance(override.value(), dict):  # keys of the group's node, not a choice
            return opened(override)
        if override.value() is None:  # Hydra takes null for a choice only in files
            return f"~{group}"
        for value in values(override):
            folder, _, name = f"{group}/{value}".rpartition("/")
            if name not in (choices if folder == group else self.choices(folder)):
                raise UserError(
                    f"{group}={value} is not a choice of the group '{group}'"
                    f"{hint(str(value), choices, prefix=f'{group}=')}"
                )
        return text


def _named(override: Override) -> list[Any]:
    """What an override that Hydra itself takes names, as far as it must be choices of a group."""
    if override.is_delete():
        return [] if override.value() is None else [override.value()]
    return values(override)


@contextmanager
def open_source(extra: Path | None = None) -> Iterator[Source]:
    """Set Hydra up on the program's own configuration files.

    Args:
        extra: A folder of the user's with more of them. Where both have a file, ours counts.

    Raises:
        UserError: If there is no such folder.
    """
    searchpath: tuple[str, ...] = ()
    if extra is not None:
        if not extra.is_dir():
            raise UserError(f"--config-dir {extra}: there is no such folder")
        searchpath = (f"hydra.searchpath=[{quoted(f'file://{extra.resolve()}')}]",)
    with initialize_config_dir(str(conf_dir()), job_name="bitladder", version_base="1.3"):
        yield Source(searchpath)


def compose(source: Source, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose the configuration of one run.

    Args:
        source: From :func:`open_source`.
        overrides: ``group=choice`` and ``key=value``, as on the command line.

    Returns:
        Plain containers with every interpolation resolved; ``choices`` says which choice of every
        group is in it.

    Raises:
        UserError: If an override or a file is wrong.
    """
    for text in overrides:
        if is_sweep(parse(text)):
            raise UserError(f"{text} asks for several runs: add -m, or quote it if it is one value")
    # A sweep tells its jobs with an override where the user's configurations are.
    found = tuple(text for text in overrides if text.startswith("hydra.searchpath="))
    source = Source((*source.searchpath, *found))
    overrides = [text for text in overrides if text not in found]
    with one_line_errors():
        arguments = source.arguments(overrides)
        _check_nested(arguments)
        composed = hydra_compose(PRIMARY, arguments, return_hydra_config=True)
        choices = composed.hydra.runtime.choices
        with open_dict(composed):
            del composed["hydra"], composed["sweep"]
    return resolve(composed, choices)


def _check_nested(arguments: list[str]) -> None:
    """Refuse ``quantization/observer=...`` where ``quantization`` has no such group to choose."""
    nested = {
        text: group
        for text in arguments
        if "/" in (group := text.partition("=")[0])
        and group[0] not in "~+"
        and not group.startswith("hydra")
    }
    if not nested:
        return
    rest = [text for text in arguments if text not in nested]
    choices = hydra_compose(PRIMARY, rest, return_hydra_config=True).hydra.runtime.choices
    for text, group in nested.items():
        parent, _, child = group.rpartition("/")
        if group not in choices:
            raise UserError(
                f"{text} has no place here: {parent}={choices.get(parent)} has no {child} to choose"
            )


def resolve(composed: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve a configuration without its ``hydra`` node, and note the choices that made it.

    Raises:
        UserError: If a value is missing or an interpolation leads nowhere.
    """
    with one_line_errors():
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    chosen = {
        group: str(choice)
        for group, choice in choices.items()
        if choice is not None and group.partition("/")[0] not in ("hydra", "local", "sweep")
    }
    return {str(key): value for key, value in plain.items()} | {"choices": chosen}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into one line without their advice and addresses."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(_line(error)) from error


def _line(error: BaseException) -> str:
    if isinstance(error, yaml.YAMLError):
        return f"a configuration file is not YAML: {error}"
    key = getattr(error, "full_key", None)
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no value yet: write {key}=..."
    own = str(error).partition("\n")[0].rstrip(".:")
    cause = _line(error.__cause__) if error.__cause__ is not None else ""
    return ": ".join(part for part in (key, own, cause) if part)
