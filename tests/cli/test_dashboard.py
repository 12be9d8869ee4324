import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from torch.utils.tensorboard import SummaryWriter

from bitladder.cli.main import main
from bitladder.cli.tensorboard_server import leet_lines


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, one of them in a sweep."""
    folder = tmp_path_factory.mktemp("dashboard") / "my runs"
    for name in ("one", "ladder/two"):
        with SummaryWriter(folder / name / "tensorboard") as writer:
            writer.add_scalar("loss", 0.5, 1)
        (folder / name / "wandb" / "offline-run-20261123_000000-abc").mkdir(parents=True)
    os.utime(folder / "one" / "wandb", (0, 0))
    return folder


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


def test_it_serves_every_run_on_loopback_and_ends_at_an_interrupt(runs: Path) -> None:
    program = "import sys; from bitladder.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "dashboard", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/)  \(2 runs; Ctrl-C ends it\)", line)
        assert found, line
        deadline = time.monotonic() + 60
        while '"one/tensorboard"' not in (said := _get(f"{found[1]}data/runs")):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        assert '"ladder/two/tensorboard"' in said
        assert "wandb leet" in process.stdout.readline()
        (children,) = Path(f"/proc/{process.pid}/task/{process.pid}").glob("children")
        assert children.read_text() == ""
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert error == ""


def _get(address: str) -> str:
    with urlopen(address, timeout=30) as answer:
        return answer.read().decode()


def test_wandbs_own_terminal_program_is_named_with_the_latest_run(runs: Path) -> None:
    (line,) = leet_lines(runs)
    folder = runs / "ladder" / "two" / "wandb"
    assert line.startswith(f"wandb in the terminal: wandb leet '{folder}'  (the latest of 2")
    assert leet_lines(runs / "one" / "tensorboard") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere is not there: write a run's folder, a sweep's, or runs"),
        (["file"], "file is no folder"),
        (["empty"], "empty holds nothing of TensorBoard's: train with logger=default"),
        (["empty", "port=0"], "port=0: write a port from 1 to 65535"),
        (["empty", "port=x"], "port=x: write a port from 1 to 65535"),
        (["empty", "prot=6006"], "prot=6006: write port=PORT"),
        ([], "PATH"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert main(["dashboard", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")  # TensorBoard's own
def test_a_port_that_is_taken_is_one_line(
    runs: Path, taken_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", str(runs), f"port={taken_port}"]) == 2
    error = capsys.readouterr().err
    assert f"port={taken_port}: " in error
    assert "leave port out for a free one" in error
    assert error.count("\n") == 1
