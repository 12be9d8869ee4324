import io
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitladder.callbacks.plain_graph import NotPlainError, Packer, Unpacker, digest


def pack(value: Any) -> Any:
    return Packer().pack(value)


def unpack(packed: Any) -> Any:
    return Unpacker().unpack(packed)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text("abc", max_size=3),
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
    return unpack(torch.load(content, weights_only=True))


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


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(b=1, a=2),
        Counter("aab"),
        defaultdict(list, a=[1]),
        defaultdict(None, a=1),
        {"nested": defaultdict(int, a=1)},
        torch.Size([2, 3]),
    ],
)
def test_kinds_of_containers_stay_what_they_are(value: Any) -> None:
    back = through_a_file(value)
    assert back == value
    assert type(back) is type(value)
    if isinstance(value, defaultdict):
        assert back.default_factory is value.default_factory


def test_what_is_shared_stays_shared_and_cycles_are_no_trouble() -> None:
    shared, tree = [1], {"children": []}
    tree["children"].append({"parent": tree})
    one, two, back = through_a_file([shared, (shared,), tree])
    assert one is two[0]
    assert back["children"][0]["parent"] is back


def test_an_object_of_both_processes_is_written_into_and_others_are_made() -> None:
    here, there, leaf = [1], [9], torch.zeros(2, requires_grad=True)
    table, fresh = np.ones(2), np.zeros(2)
    paths = {id(here): "a", id(leaf): "b", id(table): "c"}
    packed = Packer(paths).pack([here, [1], leaf, table])
    mine = torch.ones(2, requires_grad=True)
    first, second, tensor, array = Unpacker({"a": there, "b": mine, "c": fresh}).unpack(packed)
    assert first is there == [1] == second
    assert tensor is mine
    assert tensor.tolist() == [0, 0]
    assert tensor.requires_grad
    assert array is fresh
    assert array.tolist() == [1, 1]


def test_parameters_and_buffers_are_known_by_name() -> None:
    weight, other = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.zeros(1))
    packed = Packer(named={id(weight): "net.weight"}).pack([weight])
    assert Unpacker(named={"net.weight": other}).unpack(packed)[0] is other


def test_a_leaf_that_learns_still_does() -> None:
    back = through_a_file(torch.ones(2, requires_grad=True))
    assert back.requires_grad
    assert type(through_a_file(torch.nn.Parameter(torch.ones(1)))) is torch.nn.Parameter


def test_what_fails_leaves_nothing_to_refer_to() -> None:
    packer, shared = Packer(), [1]
    with pytest.raises(NotPlainError, match=r"builtins\.object"):
        packer.pack([shared, object()])
    assert unpack(packer.pack(shared)) == [1]


@given(VALUES, VALUES)
def test_a_digest_is_that_of_the_content(one: Any, two: Any) -> None:
    assert digest(pack(one)) == digest(pack(one))
    if repr(one) != repr(two):
        assert digest(pack(one)) != digest(pack(two))


@pytest.mark.parametrize("text", ["/etc", "../x", "~/x", "a/../b", "s3://bucket"])
def test_a_text_that_leads_elsewhere_is_no_value(text: str) -> None:
    with pytest.raises(NotPlainError):
        pack({"folder": text})
    with pytest.raises(ValueError, match="path"):
        unpack(text)


def test_a_tensor_is_a_copy_without_history() -> None:
    weight = torch.ones(3, requires_grad=True)
    value = weight * 2
    packed = pack(value)
    with torch.no_grad():
        value += 1
    back = unpack(packed)
    assert torch.equal(back, torch.full((3,), 2.0))
    assert not back.requires_grad
    back += 1
    assert torch.equal(unpack(packed), torch.full((3,), 2.0))


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(1, device="meta"),
        torch.eye(2).to_sparse(),
        np.array([object()]),
        object(),
        torch.nn.Linear(1, 1),
        b"bytes",
        np.ma.masked_array([1, 2], [True, False]),
        np.zeros(2, dtype=[("loss", "f4")]),
        np.str_("/etc"),
        np.array(["/etc"]),
        np.void(b"x"),
        defaultdict(lambda: 3),
    ],
    ids=lambda x: type(x).__name__,
)
def test_other_objects_are_told(value: Any) -> None:
    with pytest.raises(NotPlainError):
        pack([1, {"a": (value,)}])


def test_what_shares_memory_that_lives_is_told() -> None:
    weight = torch.ones(2, 3)
    with pytest.raises(NotPlainError):
        Packer(live={weight.untyped_storage().data_ptr()}).pack([weight.t()[1]])


SMALL = torch.zeros(8, dtype=torch.uint8)


@pytest.mark.parametrize(
    "packed",
    [
        [],
        ["tuple", 3],
        ["same", 0],
        ["named", "net.weight"],
        ["object", 0, None, "nothing", []],
        ["object", 0, None, "list", 3],
        ["object", 0, None, "tensor", 3, True, False],
        ["object", 0, None, "tensor", torch.zeros(1).expand(2**20), True, False],
        ["object", 0, None, "array", "O", [1], SMALL],
        ["object", 0, None, "array", "<f8", [3], SMALL],
        ["object", 0, None, "array", "<U2", [1], SMALL],
        ["object", 0, None, "array", "|u1", [2**20], SMALL[:1].expand(2**20)],
        ["number", "<U2", SMALL],
    ],
)
def test_what_nobody_packed_is_an_error(packed: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        unpack(packed)
