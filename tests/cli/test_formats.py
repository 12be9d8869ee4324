import pytest

from bitladder.cli.main import main


@pytest.mark.parametrize(
    "value", ["0.1", "-0.1", "-1e-8", "-.5", "-inf", "-nan", "-0", "-1/3", "fp16:0x3c00"]
)
def test_every_kind_of_value_is_shown(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", value]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(value)
    assert captured.out.count("│ e4m3 ") == 1
    assert captured.err == ""


def test_options_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", "-1e6", "--saturate", "inf"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("saturates") == 3 + 6
    assert "overflows" not in printed


def test_without_saturation_there_is_overflow(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", "-1e6"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("overflows to inf") == 2
    assert printed.count("overflows to NaN") == 1


def test_the_usual_end_of_options_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", "--", "-1"]) == 0
    assert capsys.readouterr().out.startswith("-1\n")


def test_a_pipe_gets_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["formats", "1e-40"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("format") == 1
    assert "\x1b" not in printed


def test_help_says_what_a_value_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["formats", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for word in ("--saturate", "fp16:0x3c00", "nan", "1/3"):
        assert word in printed


@pytest.mark.parametrize(
    "arguments",
    [[], ["foo"], ["-x"], ["--foo", "1"], ["1", "foo"], ["0x3c00"], ["1e99999"], ["--saturate"]],
)
def test_bad_input_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bitladder: error: ")
    assert captured.err.count("\n") == 1
