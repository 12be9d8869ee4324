"""Checks a whole configuration, once, before anything is built."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from bitladder.cli.annotations import shown
from bitladder.cli.configs import PRIMARY, conf_dir, groups
from bitladder.cli.schema import Config, Node
from bitladder.cli.signatures import Supplied, check_node
from bitladder.cli.suggest import hint
from bitladder.errors import UserError
from bitladder.quantization.recipe import METHODS

SUPPLIED = {
    "data": Supplied(),
    "model": Supplied(named={"input_shape": "data=...", "num_classes": "data=..."}),
    "task": Supplied(
        named={
            "net": "model=...",
            "optimizer": "optimizer=...",
            "scheduler": "scheduler=...",
            "num_classes": "data=...",
        }
    ),
    "optimizer": Supplied(positional=1),
    "scheduler": Supplied(positional=1, named={"total_steps": "trainer.max_epochs"}),
    "precision": Supplied(),
    "quantization": Supplied(),
    "trainer": Supplied(
        named={
            "callbacks": "callbacks=...",
            "logger": "logger=...",
            "plugins": "precision=...",
            "precision": "precision=...",
        }
    ),
}
"""What the program passes to the target of every node that stands at the top."""

LOGGER = Supplied(defaults=("save_dir", "name", "version"))
"""What the program fills in for a logger where the configuration does not."""

PARTIAL = ("optimizer", "scheduler")
"""Nodes that the program calls only when the model is there."""


def validate(values: Mapping[str, Any], built: Collection[str] | None = None) -> Config:
    """Check a composed configuration: keys, types, and every target with its arguments.

    Args:
        values: Plain containers, as :func:`bitladder.cli.compose.compose` gives them.
        built: The sections that will be built, all by default. What others name is not imported.

    Raises:
        UserError: If something is wrong; the message says where and what would be right.
    """
    for key in values:
        if key not in Config.model_fields:
            names = {*Config.model_fields, *groups(conf_dir())}
            raise UserError(f"there is no group or key {key}{hint(key, names)}")
    choices = values.get("choices", {})
    name = values.get("name") or choices.get("experiment") or PRIMARY
    try:
        config = Config.model_validate({**values, "name": name})
    except ValidationError as error:
        raise UserError(first_line(error)) from error
    if "method" not in config.quantization:
        methods = "|".join(("none", *METHODS))
        raise UserError(f"quantization lacks a method: write quantization.method={methods}")
    for section, supplied in SUPPLIED.items():
        if built is not None and section not in built:
            continue
        node = getattr(config, section)
        if section == "quantization" and node.get("method") == "none":
            _nothing_else(node)
        elif node is not None:
            _check_section(section, node, supplied)
    for group, supplied in (("callbacks", None), ("logger", LOGGER)):
        if built is None or group in built:
            for name, node in getattr(config, group).items():
                check_node(node, f"{group}.{name}", supplied)
    return config


def _check_section(section: str, node: Node, supplied: Supplied) -> None:
    check_node(node, section, supplied)
    partial = node.get("_partial_", False)
    if partial is not (section in PARTIAL):
        needed = "needs _partial_: true" if section in PARTIAL else "cannot be _partial_"
        raise UserError(f"{section} {needed}")


def _nothing_else(quantization: Node) -> None:
    for key in quantization:
        if key != "method":
            others = [name for name in groups(conf_dir()).get("quantization", []) if name != "none"]
            raise UserError(
                f"quantization.{key}: quantization=none has no such key;"
                f" write quantization={'|'.join(others)} to quantize"
            )


def first_line(error: ValidationError) -> str:
    """What pydantic complains of first, as the user wrote it."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        choices = groups(conf_dir()).get(where)
        return f"{where} is missing: write {where}={'|'.join(choices) if choices else '...'}"
    says = re.sub(r"^(Input|String|List|Dictionary) should", "should", first["msg"])
    return f"{where}={shown(first['input'])}: it {says}"
