from hypothesis import given
from hypothesis import strategies as st

from bitladder.cli.suggest import FEW, hint, nearest

NAMES = ["mlp", "resnet", "vit"]


def test_a_slip_of_the_finger_is_recognised() -> None:
    assert nearest("resnett", NAMES) == "resnet"
    assert nearest("rsenet", NAMES) == "resnet"


def test_nothing_is_suggested_for_what_is_like_nothing() -> None:
    assert nearest("quantization", NAMES) is None


def test_hint_names_the_nearest_and_lists_all() -> None:
    expected = "; did you mean model=resnet? (mlp, resnet, vit)"
    assert hint("resnett", NAMES, prefix="model=") == expected


def test_a_long_list_is_left_out() -> None:
    names = [f"name{index}" for index in range(FEW + 1)]
    assert hint("name5x", names) == "; did you mean name5?"


def test_no_names_no_hint() -> None:
    assert hint("x", []) == ""


@given(st.sampled_from(NAMES))
def test_a_right_name_is_its_own_nearest(name: str) -> None:
    assert nearest(name, NAMES) == name
