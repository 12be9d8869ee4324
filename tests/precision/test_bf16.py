"""bf16 is float32 parameters under bfloat16 autocast."""

import copy
from collections.abc import Callable
from typing import Any

import torch

from bitladder.precision import Bf16Precision


def test_training_equals_a_loop_written_by_hand(
    train_only: Any, loader: Any, make_trainer: Callable[..., Any]
) -> None:
    task = train_only()
    by_hand = copy.deepcopy(task)
    optimizer = by_hand.configure_optimizers()
    for _ in range(3):
        for batch in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = by_hand.loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.1)
            optimizer.step()

    make_trainer(Bf16Precision(), max_epochs=3, gradient_clip_val=0.1).fit(task, loader)
    for name, value in by_hand.state_dict().items():
        assert torch.equal(value, task.state_dict()[name]), name
