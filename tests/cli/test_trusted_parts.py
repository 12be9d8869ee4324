import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bitladder.cli.configs import conf_dir
from bitladder.cli.targets import locate
from bitladder.cli.trust import check_trusted
from bitladder.cli.trusted_parts import ARGUMENTS, WRITERS, check_parts
from bitladder.errors import UserError

CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
OURS = "bitladder.callbacks.NumericsMonitor"
CSV, LOGGERS = "bitladder.cli.csv_logger.CSVLogger", "lightning.pytorch.loggers"
SECTIONS = (*WRITERS, "logger")


def check(section: str, node: Any, *allow: str) -> None:
    check_trusted({section: node}, SECTIONS, allow)
    check_parts({section: node}, SECTIONS, allow)


def callback(**arguments: Any) -> dict[str, Any]:
    return {"one": {"_target_": CHECKPOINT, **arguments}}


@pytest.mark.parametrize("section", SECTIONS)
def test_what_the_program_itself_configures_may_be_given(section: str) -> None:
    for file in (conf_dir() / section).rglob("*.yaml"):
        check(section, yaml.safe_load(file.read_text()))


@pytest.mark.parametrize("target", ARGUMENTS)
def test_every_argument_that_is_listed_is_one(target: str) -> None:
    parameters = inspect.signature(locate(target, "")).parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
        assert ARGUMENTS[target] <= {parameter.name for parameter in parameters}


def test_a_refused_argument_says_what_would_allow_it() -> None:
    node = {"_target_": "lightning.Trainer", "profiler": "pytorch"}
    with pytest.raises(UserError, match=r"may not give it; write allow=\[lightning\] if you trust"):
        check("trainer", node)
    check("trainer", node, "lightning")


@pytest.mark.parametrize(
    ("section", "node"),
    [
        # Where they write.
        ("callbacks", callback(dirpath="/etc")),
        ("callbacks", callback(dirpath="checkpoints")),
        ("callbacks", callback(_args_=["elsewhere"])),
        ("callbacks", callback(filename="../../evil")),
        ("callbacks", callback(filename="/etc/cron.d/evil")),
        ("callbacks", callback(filename="sub/evil")),
        ("callbacks", callback(filename="{/tmp/evil/x}")),
        ("callbacks", callback(filename="{sub//x}")),
        ("callbacks", callback(filename="{sub/}")),
        ("callbacks", callback(filename="{epoch.__class__}")),
        ("callbacks", callback(filename="{epoch:1000000000}")),
        ("callbacks", callback(filename="{epoch}/../..")),
        ("callbacks", callback(filename=["evil"])),
        ("callbacks", {"one": {"_target_": OURS, "dirpath": "checkpoints"}}),
        ("callbacks", {"one": {"_target_": OURS, "_args_": [1]}}),
        ("callbacks", {"one": {"_target_": OURS, "modules": {"x": callback(dirpath="x")}}}),
        ("quantization", {"method": "ptq", "artifact": "../model.pt2"}),
        ("quantization", {"method": "ptq", "artifact": "~/model.pt2"}),
        ("quantization", {"method": "ptq", "artifact": "s3://bucket/model.pt2"}),
        ("trainer", {"_target_": "lightning.Trainer", "default_root_dir": "elsewhere"}),
        # What they bring in.
        ("trainer", {"_target_": "lightning.Trainer", "profiler": "pytorch"}),
        ("trainer", {"_target_": "lightning.Trainer", "model_registry": "theirs"}),
        ("trainer", {"_target_": "lightning.Trainer", "plugins": []}),
        ("trainer", {"_target_": "lightning.Trainer", "logger": True}),
        ("trainer", {"_target_": "lightning.Trainer", "_partial_": True}),
        ("trainer", {"_target_": "lightning.Trainer", "strategy": "deepspeed"}),
        ("trainer", {"_target_": "lightning.Trainer", "strategy": {"a": 1}}),
        ("callbacks", {"bar": {"_target_": "lightning.pytorch.callbacks.RichProgressBar",
                               "console_kwargs": {"file": "x"}}}),
        # Where the figures go.
        ("logger", {"one": {"_target_": CSV, "save_dir": "elsewhere"}}),
        ("logger", {"one": {"_target_": CSV, "_args_": ["elsewhere"]}}),
        ("logger", {"one": {"_target_": CSV, "version": "../../elsewhere"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.TensorBoardLogger", "save_dir": "logs"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.TensorBoardLogger", "sub_dir": "/etc"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.TensorBoardLogger", "log_dir": "x"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.WandbLogger", "dir": "x"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.WandbLogger", "id": "theirs"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.WandbLogger", "sync_tensorboard": True}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.WandbLogger",
                            "settings": {"base_url": "evil.example"}}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.WandbLogger", "notes": "https://evil"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.MLFlowLogger", "tracking_uri": "databricks"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.MLFlowLogger", "artifact_location": "x"}}),
        ("logger", {"one": {"_target_": f"{LOGGERS}.MLFlowLogger", "run_id": "theirs"}}),
    ],
)  # fmt: skip
def test_nothing_may_write_elsewhere_or_bring_in_more(section: str, node: Any) -> None:
    with pytest.raises(UserError, match=f"^{section}"):
        check(section, node)


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("callbacks", "lightning.pytorch.callbacks.LambdaCallback"),
        ("callbacks", "lightning.pytorch.callbacks.ModelCheckpoint.__init__"),
        ("callbacks", "lightning.Trainer"),
        ("callbacks", "os.system"),
        ("trainer", "bitladder.precision.Fp32Precision"),
        ("trainer", "lightning.pytorch.profilers.PyTorchProfiler"),
        ("precision", "lightning.pytorch.plugins.MixedPrecision"),
        ("precision", "bitladder.runs.files.write_atomic"),
        ("quantization", "bitladder.quantization.export"),
        ("logger", "lightning.pytorch.loggers.CSVLogger"),
        ("logger", "lightning.pytorch.loggers.CometLogger"),
        ("callbacks", "lightning.pytorch.loggers.WandbLogger"),
    ],
)
def test_no_other_class_may_be_named(section: str, target: str) -> None:
    for node in ({"_target_": target}, {"a": [{"b": {"_target_": target}}]}):
        with pytest.raises(UserError, match=f"{target}: (the run names code|it is not known)"):
            check(section, node)


@pytest.mark.parametrize("place", ["devices", "max_epochs", "profiler", "plugins", "strategy"])
def test_a_target_nested_in_the_trainer_is_refused(place: str) -> None:
    node = {"_target_": "lightning.Trainer", place: {"_target_": "os.system", "_partial_": True}}
    with pytest.raises(UserError, match=rf"trainer\.{place}\._target_=os\.system"):
        check("trainer", node)


def test_a_library_class_whose_arguments_are_unknown_is_refused() -> None:
    timer = {"timer": {"_target_": "lightning.pytorch.callbacks.Timer"}}
    with pytest.raises(UserError, match="it is not known what this may be given"):
        check_parts({"callbacks": timer}, WRITERS, ())
    check_parts({"callbacks": timer}, WRITERS, ("lightning.pytorch.callbacks",))


def test_a_checkpoint_may_be_named_by_its_metrics() -> None:
    check("callbacks", callback(filename="epoch={epoch:03d}-{val/loss:.2f}", save_last="link"))
    check("callbacks", callback(filename=None))


def test_early_stopping_needs_no_word() -> None:
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss"}
    check("callbacks", {"stop": stop | {"patience": 3}})


def test_an_allowed_package_gets_its_arguments_but_no_paths_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text("class Part:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    # Neither of another test nor left for one.
    monkeypatch.setitem(sys.modules, "theirs", None)
    monkeypatch.delitem(sys.modules, "theirs")
    check("callbacks", {"one": {"_target_": "theirs.Part", "dirpath": "sub"}}, "theirs")
    with pytest.raises(UserError, match="leads out of the run directory"):
        check("callbacks", {"one": {"_target_": "theirs.Part", "dirpath": "/etc"}}, "theirs")
