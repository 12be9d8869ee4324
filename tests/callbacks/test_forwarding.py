import torch
from torch import Tensor, nn

from bitladder.callbacks.forwarding import forwarded, restore_forward, send_forward


def double(x: Tensor, *, bias: Tensor | None = None) -> dict[str, Tensor]:
    assert x.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")
    return {"y": 2 * x if bias is None else 2 * x + bias}


def test_the_module_calls_the_other_with_fp32_and_without_autocast() -> None:
    module = nn.Linear(2, 3)
    keys = list(module.state_dict())
    send_forward(module, double)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = module(torch.ones(1, 2, dtype=torch.bfloat16), bias=torch.ones(2))
    assert torch.equal(outputs["y"], torch.full((1, 2), 3.0))
    assert list(module.state_dict()) == keys


def test_restoring_gives_the_modules_own_forward_back_and_may_be_repeated() -> None:
    module = nn.Linear(2, 3)
    expected = module(torch.ones(1, 2))
    send_forward(module, double)
    for _ in range(2):
        restore_forward(module)
    assert torch.equal(module(torch.ones(1, 2)), expected)


def test_a_block_gives_back_what_was_there_before() -> None:
    module = nn.Linear(2, 3)
    send_forward(module, double)
    try:
        with forwarded(module, lambda x: x):
            assert torch.equal(module(torch.ones(1)), torch.ones(1))
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(module(torch.ones(1))["y"], torch.full((1,), 2.0))
