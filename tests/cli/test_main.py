import json
import subprocess
import sys

import pytest

from bitladder.cli import main as cli
from bitladder.cli import train
from bitladder.cli.main import COMMANDS, main
from bitladder.errors import RunError, UserError

HEAVY = {
    "hydra",
    "lightning",
    "numpy",
    "omegaconf",
    "pydantic",
    "rich",
    "tensorboard",
    "torch",
    "wandb",
}


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in printed
        assert command.summary in printed


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "usage: bitladder" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bitladder ")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["tarin"], *([command, "--help"] for command in COMMANDS)],
)
def test_quick_answers_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
        "from bitladder.cli.main import main\n"
        f"main({arguments})"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    modules = json.loads(process.stderr.splitlines()[-1])
    assert not HEAVY & set(modules)
    assert process.returncode == 0


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tarin"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bitladder: error: there is no command tarin; did you mean train?")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (UserError("no such data"), 2, "bitladder: error: no such data\n"),
        (RunError("NaN at step 3"), 1, "bitladder: the run failed: NaN at step 3\n"),
        (KeyboardInterrupt(), 130, "bitladder: interrupted\n"),
    ],
)
def test_bad_ends_are_one_line_and_a_status(
    raised: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(arguments: list[str]) -> int:
        raise raised

    monkeypatch.setattr(train, "run", run)
    assert main(["train"]) == status
    assert capsys.readouterr().err == line


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(train, "run", run)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


def test_arguments_come_from_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.sys, "argv", ["bitladder", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("bitladder ")
