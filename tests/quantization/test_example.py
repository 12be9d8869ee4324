import pytest
import torch
from torch import Tensor, nn

from bitladder.errors import UserError
from bitladder.quantization import Call
from bitladder.quantization.compile import trace
from bitladder.quantization.example import example_call


class Times(nn.Module):
    def forward(self, x: Tensor | float) -> Tensor:
        return torch.ones(3) * x


class Weighed(nn.Module):
    """Takes a batch, a table that is none, and a scalar."""

    def forward(self, x: Tensor, table: Tensor, scale: Tensor) -> dict[str, Tensor]:
        y = x @ table * scale
        return {"rows": y, "mean": y.mean()}


@pytest.mark.parametrize("x", [torch.randn(0, 3), 2.0])
def test_without_a_sample_there_is_no_example(x: Tensor | float) -> None:
    with pytest.raises(UserError, match=r"at least two samples; write a larger data\.batch_size"):
        trace(Times().eval(), [Call((x,), {})])


def test_one_sample_is_taken_twice_and_the_batch_size_is_free() -> None:
    model = Weighed().eval()
    x, table, scale = torch.randn(1, 4), torch.randn(4, 3), torch.tensor(2.0)
    call = Call((), {"scale": scale, "x": x, "table": table})
    example, free = example_call(model, [call])
    assert example.kwargs["x"].shape == (2, 4)
    assert example.kwargs["table"] is table
    assert example.kwargs["scale"] is scale
    assert {name for name, dims in free.items() if dims} == {"x"}
    program = trace(model, [call]).module()
    for batch in (1, 2, 5):
        x = torch.randn(batch, 4)
        y = program(scale=scale, x=x, table=table)
        assert torch.equal(y["rows"], model(x, table, scale)["rows"])


def test_a_call_with_two_samples_comes_before_one_that_is_doubled() -> None:
    calls = [Call((torch.randn(batch, 3),), {}) for batch in (1, 0, 2)]
    assert example_call(Times(), calls)[0] is calls[2]


def test_a_length_of_one_is_not_doubled() -> None:
    calls = [Call((torch.randn(1, length, 3),), {}) for length in (1, 4)]
    assert example_call(Times(), calls)[0].args[0].shape == (2, 4, 3)


class OneAtATime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, 3) * 2


class Ranked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.shape[0]).unsqueeze(1)


def test_a_model_for_batches_of_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"batches of one sample alone \(RuntimeError: shape"):
        trace(OneAtATime().eval(), [Call((torch.randn(1, 3),), {})])


def test_a_model_that_tells_samples_apart_is_refused_where_all_batches_hold_one() -> None:
    with pytest.raises(UserError, match="two of the same are not computed as one is"):
        trace(Ranked().eval(), [Call((torch.randn(1, 3),), {})])
    trace(Ranked().eval(), [Call((torch.randn(2, 3),), {})])


def test_calls_with_other_arguments_from_batch_to_batch_are_refused() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return x if mask is None else x * mask

    x = torch.randn(3, 4)
    with pytest.raises(UserError, match="its calls differ in which tensors they pass"):
        trace(Masked().eval(), [Call((x,), {}), Call((x, x), {})])
