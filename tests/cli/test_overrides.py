from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.cli.overrides import combinations, is_sweep, opened, parse, quoted, values
from bitladder.errors import UserError


def test_a_choice_without_its_group_is_told_the_group() -> None:
    with pytest.raises(UserError, match="resnet lacks a '=': write model=resnet"):
        parse("resnet")


@pytest.mark.parametrize("text", ["nonsense", "=3", "x=[1,", "x=a b'", "a b=3"])
def test_what_cannot_be_parsed_is_repeated_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert str(caught.value).startswith(text)
    assert "hydra" not in str(caught.value).lower()


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_any_text_is_parsed_or_refused_as_the_users(text: str) -> None:
    with suppress(UserError):
        parse(text)


@given(st.text(st.characters(codec="ascii", exclude_characters="\\"), min_size=1))
def test_quoted_text_is_one_value(text: str) -> None:
    assert parse(f"key={quoted(text)}").value() == text


def test_opened_also_adds_the_key() -> None:
    assert opened(parse("trainer.max_steps=3")) == "++trainer.max_steps=3"
    assert opened(parse("+trainer.max_steps=3")) == "+trainer.max_steps=3"


def test_values_of_one_of_a_list_and_of_a_sweep() -> None:
    assert values(parse("model=mlp")) == ["mlp"]
    assert values(parse("logger=[csv,wandb]")) == ["csv", "wandb"]
    assert values(parse("model=mlp,vit")) == ["mlp", "vit"]
    assert values(parse("lr=interval(0,1)")) == []


def test_only_unquoted_commas_are_a_sweep() -> None:
    assert is_sweep(parse("seed=1,2"))
    assert not is_sweep(parse("name='a,b'"))
    assert not is_sweep(parse("widths=[1,2]"))


def test_combinations_are_the_product_of_what_can_be_listed() -> None:
    overrides = ["model=mlp,vit", "seed=range(1,3)", "lr=interval(0,1)", "name=x"]
    assert list(combinations(overrides)) == [
        [f"model={model}", f"seed={seed}", "name=x"] for model in ("mlp", "vit") for seed in (1, 2)
    ]


def test_one_run_is_one_combination() -> None:
    assert list(combinations([])) == [[]]
