import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitladder.errors import UserError
from bitladder.quantization.signature import Input, check_tensors, from_text, to_text

IMAGE = Input("x", "float32", (None, 1, 8, 8))


@given(
    st.lists(
        st.builds(
            Input,
            name=st.text(),
            dtype=st.sampled_from(["float32", "int64"]),
            shape=st.lists(st.none() | st.integers(0, 99)).map(tuple),
        )
    )
)
def test_what_a_package_takes_comes_back_from_its_metadata(inputs: list[Input]) -> None:
    assert from_text(to_text(inputs)) == inputs


@pytest.mark.parametrize("batch", [1, 7])
def test_any_batch_goes(batch: int) -> None:
    check_tensors([IMAGE], [torch.zeros(batch, 1, 8, 8)], ["x.npy"])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 8), r"x\.npy holds float32 of shape \[2, 8\], and the model takes float32"),
        (torch.zeros(2, 1, 8, 7), r"takes float32 of shape \[any, 1, 8, 8\]"),
        (torch.zeros(2, 1, 8, 8).double(), r"x\.npy holds float64 of shape"),
        (torch.zeros(0, 1, 8, 8), "holds no sample"),
    ],
)
def test_another_tensor_is_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_tensors([IMAGE], [x], ["x.npy"])


def test_another_number_of_tensors_is_refused() -> None:
    with pytest.raises(UserError, match=r"takes 1 inputs, and 0 are given \(x: float32 of shape"):
        check_tensors([IMAGE], [], [])
