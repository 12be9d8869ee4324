import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from bitladder.cli import training
from bitladder.cli.main import main
from bitladder.cli.reproducing import plan
from bitladder.cli.threads import as_many_threads
from bitladder.errors import UserError

# What our libraries say and no user of a command sees: it goes into the run's log.
pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = ("data=synthetic", "trainer.max_epochs=2", "optimizer.lr=0.01", "logger=csv")
QUIET = "callbacks.progress=null"
MLP = ("model=mlp", "model.hidden=[32,32]")
RESNET = ("model=resnet", "model.widths=[16,16,16]")
VIT = ("model=vit", "model.dim=32", "model.depth=2", "model.heads=2")

Refused = Callable[..., str]


def run_of(folder: Path) -> Path:
    (directory,) = folder.iterdir()
    return directory


def change(run: Path, changes: Mapping[str, Any]) -> None:
    """Change keys of a run's configuration (``a.b``), and the manifest so that it fits."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    text = yaml.safe_dump(config, sort_keys=False)
    (run / "config.yaml").write_text(text)
    change_manifest(run, {"config_sha256": hashlib.sha256(text.encode()).hexdigest()})


def change_manifest(run: Path, changes: Mapping[str, Any]) -> None:
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out compiling and timing, as the run of the fixture ``finished`` did."""
    monkeypatch.setattr(training, "measure", lambda *_: {})


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Runs the command, which must end with status 2 and one line and leave nothing; the line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        assert main(["reproduce", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("bitladder: error: ")
        assert captured.err.count("\n") == 1, captured.err
        assert not (tmp_path / "runs").exists()
        assert not (tmp_path / "executed").exists()
        return captured.err

    return run


@pytest.mark.usefixtures("unmeasured")
def test_a_copied_run_is_identical_and_stays_as_it_is(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert main(["reproduce", str(copied), f"paths.runs={tmp_path / 'runs'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "identical"
    assert lines[-2] == "not compared, as the run left none: metrics, quantization, rungs, outputs"
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    directory = run_of(tmp_path / "runs")
    record = json.loads((directory / "reproduction.json").read_text())
    assert (record["identical"], record["differences"]) == (True, [])
    assert record["compared"]["weights"] == 4
    assert (directory / record["run"]).resolve() == copied.resolve()


@pytest.mark.usefixtures("unmeasured")
def test_a_weight_that_is_not_the_same_is_told_with_what_differs_here(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    name = list(checkpoint["state_dict"])[1]
    weight = checkpoint["state_dict"][name].view(-1)
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    torch.save(checkpoint, path)
    manifest = json.loads((copied / "manifest.json").read_text())
    change_manifest(copied, {"packages": manifest["packages"] | {"torch": "1.0\x1b[2J"}})
    assert main(["reproduce", str(copied), f"paths.runs={tmp_path / 'runs'}"]) == 1
    out = capsys.readouterr().out
    assert f"weights: {name}: float32" in out
    assert "machine: packages.torch: 1.0\\x1b[2J recorded, " in out
    assert out.splitlines()[-1] == "not identical"
    record = json.loads((run_of(tmp_path / "runs") / "reproduction.json").read_text())
    assert [difference["name"] for difference in record["differences"]] == [name]


@pytest.mark.usefixtures("unmeasured")
def test_the_number_of_threads_is_that_of_the_run(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    change_manifest(copied, {"hardware": manifest["hardware"] | {"threads": 2}})
    runs = tmp_path / "runs"
    assert main(["reproduce", str(copied), f"paths.runs={runs}"]) in (0, 1)
    assert "computing in 2 threads, as the run did, instead of 1" in capsys.readouterr().out
    assert torch.get_num_threads() == 1
    assert json.loads((run_of(runs) / "manifest.json").read_text())["hardware"]["threads"] == 2


def both(
    tmp_path: Path, *overrides: str, model: Sequence[str] = MLP, again: Sequence[str] = ()
) -> int:
    """Train and reproduce; the exit status of the second."""
    trained, runs = tmp_path / "trained", tmp_path / "runs"
    assert main(["train", *SHORT, QUIET, *model, *overrides, f"paths.runs={trained}"]) == 0
    elsewhere = run_of(trained).rename(tmp_path / "elsewhere")
    return main(["reproduce", str(elsewhere), f"paths.runs={runs}", *again])


def test_a_run_is_bit_identical_with_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ("precision=fp32", "quantization=none", "data.num_workers=2")
    assert both(tmp_path, *pair) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "identical"
    record = json.loads((run_of(tmp_path / "runs") / "reproduction.json").read_text())
    assert record["not_compared"] == ["quantization"]
    counts = {"metrics": 18, "weights": 6, "quantization": 0, "rungs": 2, "outputs": 2}
    assert record["compared"] == counts


@pytest.mark.usefixtures("unmeasured")
def test_a_run_in_half_precision_is_bit_identical_and_another_rate_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert both(tmp_path, "precision=bf16", "quantization=none") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "identical"
    change(tmp_path / "elsewhere", {"optimizer.weight_decay": 0.06})
    again = f"paths.runs={tmp_path / 'other'}"
    assert main(["reproduce", str(tmp_path / "elsewhere"), again]) == 1
    out = capsys.readouterr().out
    assert "metrics: step 5, " in out
    assert "weights: net." in out
    assert "machine: the manifests differ in nothing that could explain it" in out


MATRIX = [
    (precision, quantization)
    for precision in ("fp32", "bf16", "bf16_true", "fp16", "fp8")
    for quantization in ("none", "dynamic", "ptq", "qat")
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("precision", "quantization"), MATRIX)
def test_every_pair_with_two_workers_is_bit_identical_without(
    tmp_path: Path, precision: str, quantization: str
) -> None:
    overrides = [f"precision={precision}", f"quantization={quantization}", "data.num_workers=2"]
    if precision == "fp8":
        overrides.append("precision.emulate=true")
        overrides += ["quantization.start=0.5"] if quantization == "qat" else []
    assert both(tmp_path, *overrides, again=["data.num_workers=0"]) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_residual_network_with_augmentation_is_bit_identical_in_a_fresh_process(
    tmp_path: Path, workers: int
) -> None:
    trained = tmp_path / "trained"
    arguments = [*("experiment=digits", "model.widths=[16,16,16]", "logger=csv"), "seed=3"]
    arguments += [*("trainer.limit_train_batches=4", "trainer.max_epochs=1", "quantization=qat")]
    program = "import sys; from bitladder.cli.main import main; sys.exit(main())"
    train = [sys.executable, "-c", program, "train", *arguments, f"paths.runs={trained}"]
    train += [f"data.num_workers={workers}"]
    subprocess.run(train, check=True, env=os.environ | {"PYTHONHASHSEED": "1"})
    again = [sys.executable, "-c", program, "reproduce", str(run_of(trained))]
    environment = os.environ | {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2"}
    runs = f"paths.runs={tmp_path / 'runs'}"
    subprocess.run([*again, runs], check=True, cwd=tmp_path, env=environment)


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("quantization", ["none", "dynamic", "ptq", "qat"])
@pytest.mark.parametrize(
    ("precision", "model"),
    [
        *((precision, RESNET) for precision in ("fp32", "tf32", "bf16", "bf16_true", "fp16")),
        *((precision, VIT) for precision in ("fp32", "bf16", "fp8")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0].removeprefix("model="),
)
def test_a_run_on_one_gpu_is_bit_identical(
    tmp_path: Path, precision: str, model: Sequence[str], quantization: str
) -> None:
    overrides = ["trainer=gpu", f"precision={precision}", f"quantization={quantization}"]
    if (precision, quantization) == ("fp8", "qat"):
        overrides.append("quantization.start=0.5")
    assert both(tmp_path, *overrides, model=model) == 0


class _Hostile:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("touch executed",)


SYSTEM = {"_target_": "os.system", "command": "touch executed"}


@pytest.mark.parametrize(
    "section",
    [
        *(
            "data",
            "model",
            "task",
            "optimizer",
            "scheduler",
            "precision",
            "quantization",
            "trainer",
        ),
        *("callbacks.one", "callbacks.checkpoint.monitor", "trainer.devices", "trainer.profiler"),
        *("trainer.plugins", "trainer.strategy", "model.hidden", "data.input_shape"),
    ],
)
def test_a_configuration_that_names_code_executes_nothing(
    copied: Path, refused: Refused, section: str
) -> None:
    change(copied, {section: SYSTEM})
    line = refused(str(copied))
    assert f"{section}._target_=os.system: the run names code that is not bitladder's own" in line


def test_a_message_about_a_foreign_file_does_not_drive_the_terminal(
    copied: Path, refused: Refused
) -> None:
    change(copied, {"trainer._target_": "\x1b[2Jgone"})
    assert "trainer._target_=\\x1b[2Jgone: it is no dotted path" in refused(str(copied))


def test_loggers_of_the_run_are_not_even_imported(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    wandb = {"_target_": "lightning.pytorch.loggers.WandbLogger", "offline": False, "save_dir": "/"}
    change(copied, {"logger": {"a": {"_target_": "theirs.Logger"}, "b": SYSTEM, "c": wandb}})
    assert list(plan(str(copied), []).config.logger) == ["csv"]
    assert "theirs" not in sys.modules


def test_targets_in_a_manifest_are_data(copied: Path, tmp_path: Path, refused: Refused) -> None:
    change_manifest(copied, {"x": SYSTEM})
    assert plan(str(copied), []).manifest["x"] == SYSTEM
    command = json.loads((copied / "manifest.json").read_text())["command"]
    change_manifest(copied, {"command": SYSTEM})
    assert "it is not whole: command" in refused(str(copied))
    change_manifest(copied, {"command": command})
    change_manifest(copied, {"config_sha256": "0" * 64})
    assert "was changed after the run" in refused(str(copied))


@pytest.mark.parametrize("name", ["metrics.csv", "manifest.json", "config.yaml"])
def test_a_file_of_gigabytes_is_not_read(copied: Path, refused: Refused, name: str) -> None:
    (copied / name).touch()
    os.truncate(copied / name, 20 * 1024**3)  # a hole: nothing is written
    assert f"{name} has 21475 MB" in refused(str(copied))


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("threads", [0, -1, 10**9, "2", None, {"_target_": "os.system"}])
def test_a_number_of_threads_that_cannot_be_is_not_taken(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], threads: object
) -> None:
    with as_many_threads({"hardware": {"threads": threads}}, Console()):
        assert torch.get_num_threads() == 1
    assert "computing in 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("callbacks.checkpoint.dirpath", "/etc", "leads out of the run directory"),
        ("callbacks.checkpoint.dirpath", "here", "may not give it"),
        ("callbacks.checkpoint.filename", "../../evil", "leads out of the run directory"),
        ("trainer.default_root_dir", "here", "may not give it"),
        ("trainer.profiler", "pytorch", "may not give it"),
        ("trainer.plugins", [], "leave it out here"),
        ("trainer.logger", True, "leave it out here"),
        ("name", "../evil", "write letters"),
        ("choices.precision", "../../evil", "cannot name a folder"),
        ("seed", "1", "was changed after the run"),
    ],
)
def test_a_configuration_that_would_write_elsewhere_is_refused(
    copied: Path, refused: Refused, key: str, value: object, says: str
) -> None:
    change(copied, {key: value})
    assert says in refused(str(copied)) or key == "seed"


def test_the_folders_that_a_run_names_are_not_used(copied: Path, tmp_path: Path) -> None:
    change(copied, {"paths": {"runs": "/etc", "sweeps": "/etc"}})
    assert plan(str(copied), []).config.paths["runs"] == "runs"
    assert plan(str(copied), [f"paths.runs={tmp_path}"]).config.paths["runs"] == str(tmp_path)


def test_a_checkpoint_that_holds_code_is_refused_before_anything_runs(
    copied: Path, refused: Refused
) -> None:
    last = copied / "checkpoints" / "last.ckpt"
    last.write_bytes(pickle.dumps({"state_dict": _Hostile()}))
    assert "it holds more than tensors and plain containers" in refused(str(copied))
    torch.save({"state_dict": {"net": _Hostile()}}, last)
    assert "it holds more than tensors and plain containers" in refused(str(copied))
    torch.save({"state_dict": {"net": torch.zeros(1).expand(10**15)}}, last)
    assert "net is no dense tensor" in refused(str(copied))


@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "manifest.json", "results.json", "metrics.csv", "quantization.json"),
        *("predictions.npz", "checkpoints/last.ckpt", "checkpoints"),
    ],
)
def test_a_link_that_leads_out_is_refused(
    copied: Path, tmp_path: Path, refused: Refused, name: str
) -> None:
    path, outside = copied / name, tmp_path / "outside"
    if path.exists():
        shutil.move(path, outside)
    else:
        outside.write_text("")
    path.symlink_to(outside)
    assert "leads out of the run directory" in refused(str(copied))


def test_what_cannot_be_repeated_is_one_line(
    copied: Path, tmp_path: Path, refused: Refused
) -> None:
    assert "there is no such folder" in refused("nowhere")
    assert "there is no key trainer.max_epochs" in refused(str(copied), "trainer.max_epochs=3")
    assert "the run started from none" in refused(str(copied), "checkpoint=x.ckpt")
    assert "write data.root=FOLDER, the one with the same data" in refused(
        str(copied), "data.num_samples=80"
    )
    other = shutil.copytree(copied, tmp_path / "other")
    source = {"run": "x", "checkpoint": "checkpoints/best.ckpt", "checkpoint_sha256": "0" * 64}
    change_manifest(other, {"source": source})
    assert "made by bitladder quantize" in refused(str(other))
    (copied / "manifest.json").unlink()
    assert "cannot read" in refused(str(copied))
    (copied / "results.json").unlink()
    assert "did not come to a good end" in refused(str(copied))


def test_a_run_that_started_from_a_checkpoint_needs_it(
    copied: Path, tmp_path: Path, refused: Refused
) -> None:
    start = shutil.copy(copied / "checkpoints" / "last.ckpt", tmp_path / "start.ckpt")
    change(copied, {"checkpoint": "/somewhere/start.ckpt"})
    change_manifest(copied, {"start_sha256": hashlib.sha256(Path(start).read_bytes()).hexdigest()})
    assert "started from the checkpoint /somewhere/start.ckpt" in refused(str(copied))
    assert plan(str(copied), [f"checkpoint={start}"]).config.checkpoint == str(start)
    Path(start).write_bytes(b"other")
    assert "is not the file that the run started from" in refused(
        str(copied), f"checkpoint={start}"
    )


def test_packages_are_allowed_in_both_ways(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    (tmp_path / "theirs.py").write_text(
        "import lightning\nclass Part(lightning.Callback):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    change(copied, {"callbacks.theirs": {"_target_": "theirs.Part"}})
    assert "write allow=[theirs] if you trust it" in refused(str(copied))
    assert "theirs" not in sys.modules
    seen: list[list[str]] = []
    monkeypatch.setattr(
        "bitladder.cli.reproducing.reproduce", lambda run, texts, allow: seen.append(allow) or 0
    )
    assert main(["reproduce", str(copied), "--allow", "theirs", "--allow", "more"]) == 0
    assert seen == [["theirs", "more"]]
    for texts, allow in ((["allow=[theirs]"], []), ([], ["theirs"])):
        assert "theirs" in plan(str(copied), texts, allow).config.callbacks


def test_a_manifest_without_the_newer_keys_is_read(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    for key in ("conditions", "not_deterministic"):
        del manifest[key]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert "conditions" not in plan(str(copied), []).manifest
    with pytest.raises(UserError, match="there is no such folder"):
        plan("nowhere", [])
