"""What the parts that train may be given by somebody else's configuration.

:func:`bitladder.cli.trust.check_trusted` decides what may be built. The trainer, callbacks and
precision also write files and choose devices, so what they are built with is checked, too: nothing
may write elsewhere than into the run directory, reach a network or bring in other code.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from bitladder.cli.trust import within
from bitladder.errors import UserError
from bitladder.paths import leads_out

WRITERS = ("precision", "quantization", "trainer", "callbacks")
"""What is built of a run beside its model and data to train it again."""

ARGUMENTS = {
    "lightning.Trainer": {
        *("accelerator", "strategy", "devices", "sync_batchnorm"),
        *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "fast_dev_run"),
        *("limit_train_batches", "limit_val_batches", "limit_test_batches"),
        *("limit_predict_batches", "overfit_batches", "val_check_interval"),
        *("check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps"),
        *("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "barebones"),
        *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
        *("deterministic", "benchmark", "inference_mode", "detect_anomaly"),
        *("use_distributed_sampler", "reload_dataloaders_every_n_epochs"),
    },
    "lightning.pytorch.callbacks.ModelCheckpoint": {
        *("monitor", "mode", "verbose", "filename", "save_last", "save_top_k"),
        *("save_weights_only", "auto_insert_metric_name", "every_n_train_steps"),
        *("every_n_epochs", "save_on_train_epoch_end", "enable_version_counter"),
        "save_on_exception",
    },
    "lightning.pytorch.callbacks.EarlyStopping": {
        *("monitor", "min_delta", "patience", "verbose", "mode", "strict", "check_finite"),
        *("stopping_threshold", "divergence_threshold", "check_on_train_epoch_end"),
    },
    "lightning.pytorch.callbacks.LearningRateMonitor": {
        *("logging_interval", "log_momentum", "log_weight_decay"),
    },
    "lightning.pytorch.callbacks.RichProgressBar": {"refresh_rate", "leave"},
    "bitladder.cli.csv_logger.CSVLogger": {"prefix", "flush_logs_every_n_steps"},
    "lightning.pytorch.loggers.TensorBoardLogger": {
        *("default_hp_metric", "prefix", "log_graph", "max_queue", "flush_secs"),
    },
    "lightning.pytorch.loggers.WandbLogger": {
        *("project", "entity", "name", "group", "job_type", "tags", "notes", "offline"),
        *("prefix", "log_model", "checkpoint_name", "add_file_policy"),
    },
    "lightning.pytorch.loggers.MLFlowLogger": {
        *("experiment_name", "run_name", "tags", "prefix", "log_model", "synchronous"),
    },
}
"""All that these classes may be given: others of their arguments name folders, profilers, plugins,
servers or other runs. What is no key here is not built, unless it is bitladder's own or allowed."""

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp")

FOLDERS = ("dirpath", "save_dir", "root_dir", "default_root_dir")
"""Arguments that say where to write: the program does."""

FILE_NAME = re.compile(r"(?:[\w.+=,-]|\{\w+(?:/\w+)*(?::[\d.]{0,4}[a-z]?)?\})+")
"""A checkpoint's, with the values of metrics: ``epoch={epoch:03d}-{val/loss:.2f}``."""


def check_parts(
    values: Mapping[str, Any], sections: Collection[str], allow: Collection[str]
) -> None:
    """Refuse arguments with which a part would do more than train in its run directory.

    Args:
        values: A run's configuration, plain containers, whose targets are trusted.
        sections: Those of `WRITERS`, or ``logger``, that are going to be built.
        allow: Packages that the user trusts; what is theirs may be given anything but paths that
            lead out of the run directory.

    Raises:
        UserError: Names the first such argument.
    """
    for section in sections:
        for where, text in _texts(values.get(section), section):
            if leads_out(text):
                raise UserError(
                    f"{where}={text} leads out of the run directory, and a run that is taken from"
                    " its directory writes nowhere else"
                )
        for where, node in nodes(values.get(section), section):
            if not within(node["_target_"], allow, f"{where}._target_"):
                _check_node(node, where)


def _check_node(node: dict[str, Any], where: str) -> None:
    target = node["_target_"]
    known = ARGUMENTS.get(target)
    if known is None and not target.startswith(("bitladder.", "torch.optim.")):
        raise UserError(
            f"{where}._target_={target}: it is not known what this may be given"
            f"{_remedy(target, where)}"
        )
    for key, value in node.items():
        place = f"{where}.{key}"
        refused = key not in {*known, "_target_"} if known else key in (*FOLDERS, "_args_")
        if refused:
            raise UserError(
                f"{place}: a run that is taken from its directory may not give it"
                f"{_remedy(target, where)}"
            )
        if key == "strategy" and value not in STRATEGIES:
            raise UserError(f"{place}={value}: only {', '.join(STRATEGIES)} may be given")
        if key == "filename" and not FILE_NAME.fullmatch(str(value)):  # null is Lightning's own
            raise UserError(
                f"{place}={value}: write letters, digits, any of _ . + = , - or {{key}}"
            )


def _remedy(target: str, where: str) -> str:
    """What lets a part have any argument: for ours nothing; loggers have a word of their own."""
    if target.startswith("bitladder.") or where.startswith("logger."):
        return ""
    return f"; write allow=[{target.rpartition('.')[0]}] if you trust it"


def nodes(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a target in a tree, wherever it stands, with its place."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield where, value
        for key, item in value.items():
            yield from nodes(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nodes(item, f"{where}[{index}]")


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in a tree of containers, with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{where}[{index}]")
    elif isinstance(value, str):
        yield where, value
