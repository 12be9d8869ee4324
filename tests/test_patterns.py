import pytest

from bitladder.errors import UserError
from bitladder.patterns import matches, nearest, require_matches

NAMES = ["net.0", "net.head", "Net.tail"]


def test_a_name_matches_any_of_the_patterns_case_and_all() -> None:
    assert matches("net.head", ["x", "net.*"])
    assert not matches("Net.tail", ["net.*"])
    assert not matches("net.0", [])


def test_every_pattern_must_match_something() -> None:
    require_matches("skip", ["net.*", "*tail"], NAMES, "layer")
    with pytest.raises(
        UserError, match=r"^skip: 'net.haed' matches no layer; did you mean 'net\.h"
    ):
        require_matches("skip", ["net.*", "net.haed"], NAMES, "layer")


def test_without_names_there_is_nothing_to_propose() -> None:
    assert nearest("x", []) == ""
    with pytest.raises(UserError, match=r"only: '\*' matches no layer$"):
        require_matches("only", ["*"], [], "layer")
