import io
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitladder.callbacks.plain_values import NotPlainError, pack, unpack

CPU = torch.device("cpu")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from([torch.float16, torch.device("cpu")]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=3).map(deque)
        | st.dictionaries(SCALARS, inner, max_size=3)
        | st.sets(SCALARS, max_size=3)
        | st.frozensets(SCALARS, max_size=3)
    ),
    max_leaves=8,
)


def through_a_file(value: Any) -> Any:
    content = io.BytesIO()
    torch.save(pack(value), content)
    content.seek(0)
    return unpack(torch.load(content, weights_only=True), CPU)


@given(VALUES)
def test_a_value_comes_back_from_a_file_as_it_was(value: Any) -> None:
    back = through_a_file(value)
    assert back == value
    assert type(back) is type(value)


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)))
def test_an_array_comes_back_to_the_bit(value: np.ndarray) -> None:
    back = through_a_file(value)
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    assert back.tobytes() == value.tobytes()


def test_numbers_of_numpys_stay_numpys() -> None:
    back = through_a_file([np.float32(0.1), np.int64(3)])
    assert [type(x) for x in back] == [np.float32, np.int64]
    assert back == [np.float32(0.1), 3]


def test_a_deque_keeps_its_length() -> None:
    assert through_a_file(deque([1, 2], maxlen=2)).maxlen == 2


@pytest.mark.parametrize("make", [OrderedDict, Counter, lambda x: defaultdict(int, x)])
def test_mappings_come_back_as_dicts(make: Any) -> None:
    assert through_a_file(make({"a": 1})) == {"a": 1}


def test_a_tensor_is_a_copy_without_history() -> None:
    weight = torch.ones(3, requires_grad=True)
    value = weight * 2
    packed = pack(value)
    with torch.no_grad():
        value += 1
    back = unpack(packed, CPU)
    assert torch.equal(back, torch.full((3,), 2.0))
    assert not back.requires_grad
    back += 1
    assert torch.equal(unpack(packed, CPU), torch.full((3,), 2.0))


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Parameter(torch.ones(1)),
        torch.ones(1, device="meta"),
        torch.eye(2).to_sparse(),
        np.array([object()]),
        object(),
        torch.nn.Linear(1, 1),
        b"bytes",
    ],
    ids=lambda x: type(x).__name__,
)
def test_other_objects_are_told(value: Any) -> None:
    with pytest.raises(NotPlainError):
        pack([1, {"a": (value,)}])


def test_what_shares_memory_that_lives_is_told() -> None:
    weight = torch.ones(2, 3)
    with pytest.raises(NotPlainError):
        pack([weight.t()[1]], {weight.untyped_storage().data_ptr()})


@pytest.mark.parametrize(
    "packed",
    [
        [],
        ["list"],
        ["list", 3],
        ["nothing", []],
        ["tensor", 3, True],
        ["array", "O", [1], torch.zeros(8, dtype=torch.uint8)],
        ["array", "<f8", [3], torch.zeros(8, dtype=torch.uint8)],
        ["deque", [], "long"],
    ],
)
def test_what_nobody_packed_is_an_error(packed: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(packed, CPU)
