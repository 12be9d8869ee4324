"""Where the loggers of somebody else's configuration may take one's own figures: nowhere.

A run that goes on continues its records, so its loggers are built. Files in the run directory,
wandb's offline runs among them, and one's own MLflow store need nobody's word; all else needs the
user's, ``trust_loggers=true``.
"""

import shlex
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from bitladder.cli.configs import conf_dir
from bitladder.cli.reopen import BUILT
from bitladder.cli.schema import Config
from bitladder.cli.trust import own_packages
from bitladder.cli.trusted_parts import WRITERS, check_parts, nodes
from bitladder.errors import UserError
from bitladder.runs import RunDirectory

IF_YOURS = "write trust_loggers=true if this run is yours"


def check_loggers(values: Mapping[str, Any], allow: Collection[str]) -> None:
    """Refuse loggers that would send, or write elsewhere than a run of the user's own does.

    Args:
        values: A run's configuration, plain containers, whose targets are trusted.
        allow: Packages that the user trusts.

    Raises:
        UserError: Names the first such logger and what would allow it.
    """
    try:
        check_parts(values, ("logger",), allow)
    except UserError as error:
        raise UserError(f"{error}; {IF_YOURS}") from error
    folder = (values.get("paths") or {}).get("mlflow")
    for where, node in nodes(values.get("logger"), "logger"):
        kind = node["_target_"].rpartition(".")[2]
        if kind == "WandbLogger" and node.get("offline") is not True:
            raise UserError(
                f"{where} sends to wandb's servers, and a run that is taken from its directory"
                f" sends nothing; {IF_YOURS}"
            )
        if kind == "MLFlowLogger" and folder not in (None, _own_store()):
            raise UserError(
                f"paths.mlflow={folder}: a run that is taken from its directory writes to no store"
                f" but {_own_store()}/; {IF_YOURS}"
            )


def resume_command(config: Config, directory: RunDirectory) -> str:
    """What to type to go on with a run of one's own."""
    path = str(directory.path)
    words = ["bitladder", "resume", f"./{path}" if path.startswith("-") else path]
    values = config.model_dump()
    own = own_packages(values, (*BUILT, *WRITERS, "logger"))
    if own:
        words.append(f"allow=[{','.join(own)}]")
    try:
        check_loggers(values, own)
    except UserError:
        words.append("trust_loggers=true")
    if directory.trusts_links:
        words.append("trust_links=true")
    return shlex.join(words)


def _own_store() -> str:
    """The folder that MLflow's store is in where nobody says otherwise."""
    return yaml.safe_load((conf_dir() / "paths/default.yaml").read_text(encoding="utf-8"))["mlflow"]
