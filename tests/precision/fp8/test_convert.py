"""Converting in place: what becomes fp8, what stays, and all that torchao's converter loses."""

import logging
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitladder import convert_to_fp8
from bitladder.errors import UserError
from bitladder.precision.fp8 import release_fp8
from bitladder.precision.fp8.linear import Fp8Linear, fp8_linears


def square(**kwargs: Any) -> nn.Linear:
    return nn.Linear(16, 16, **kwargs)


def train_step(model: nn.Module, x: Tensor) -> None:
    model.train()(x).sum().backward()


def test_what_is_kept_is_named_with_its_reason(net: Any) -> None:
    records = convert_to_fp8(net, skip=["*.1.down"], emulate=True)
    assert {record.name: record.kept for record in records} == {
        "blocks.0.up": None,
        "blocks.0.down": None,
        "blocks.1.up": None,
        "blocks.1.down": "named in skip",
        "odd": "out_features=20 not divisible by 16",
        "head": "the last layer of the model",
    }
    assert set(fp8_linears(net)) == {"blocks.0.up", "blocks.0.down", "blocks.1.up"}


def test_the_ends_are_those_of_the_whole_model() -> None:
    def kept(model: nn.Module, **kwargs: Any) -> list[str | None]:
        return [record.kept for record in convert_to_fp8(model, emulate=True, **kwargs)]

    first, last = "the first layer of the model", "the last layer of the model"
    assert kept(nn.Sequential(square(), square(), square())) == [first, None, last]
    assert kept(nn.Sequential(nn.Conv1d(1, 1, 1), square(), square())) == [None, last]
    assert kept(nn.Sequential(square(), square(), square()), keep_ends=False) == [None] * 3


def test_a_pattern_that_matches_no_linear_is_refused(net: Any) -> None:
    with pytest.raises(UserError, match=r"^precision\.skip: 'haed' matches no linear; .*'head'\?$"):
        convert_to_fp8(net, skip=["haed"], emulate=True)
    assert not fp8_linears(net)


@pytest.mark.parametrize(("key", "choices"), [("recipe", "tensorwise, row"), ("layers", "all, a")])
def test_an_unknown_choice_is_refused(net: Any, key: str, choices: str) -> None:
    arguments: dict[str, Any] = {key: "blockwise"}
    with pytest.raises(UserError, match=rf"^precision\.{key}=blockwise: write one of {choices}"):
        convert_to_fp8(net, **arguments)


def test_hooks_flags_and_the_module_itself_stay(net: Any) -> None:
    layer = net.blocks[0].up
    calls: list[str] = []
    layer.register_forward_pre_hook(lambda *args: calls.append("before"))
    layer.register_forward_hook(lambda *args: calls.append("after"))
    layer.register_full_backward_hook(lambda *args: calls.append("backward"))
    layer.weight.requires_grad_(False)
    layer.eval()
    weight = layer.weight
    convert_to_fp8(net, emulate=True)
    assert net.blocks[0].up is layer
    assert type(layer) is Fp8Linear
    assert layer.weight is weight
    assert (layer.training, layer.weight.requires_grad) == (False, False)
    assert net.blocks[1].up.training
    train_step(net, torch.zeros(2, 8, dtype=torch.long))
    assert calls == ["before", "after", "backward"]
    assert layer.fp8_record.executed
    assert layer.weight.grad is None


def test_a_subclass_keeps_its_forward() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(square(), Doubled(16, 16), square())
    x = torch.randn(4, 16)
    expected = model(x)
    with pytest.warns(UserWarning, match=r"1: Doubled is a subclass of Linear"):
        records = convert_to_fp8(model, emulate=True)
    assert records[1].kept == "Doubled is a subclass of Linear"
    assert torch.equal(model(x), expected)


def test_a_replaced_forward_stays() -> None:
    model = nn.Sequential(square(), square(), square())
    model[1].forward = torch.zeros_like
    with pytest.warns(UserWarning, match=r"1: its forward was replaced"):
        convert_to_fp8(model, emulate=True)
    assert not model[1](torch.ones(1, 16)).any()


def test_a_module_registered_twice_is_one_fp8_linear() -> None:
    shared = square()
    model = nn.Sequential(square(), shared, nn.Sequential(shared), square())
    records = convert_to_fp8(model, emulate=True)
    assert [record.name for record in records] == ["0", "1", "3"]
    assert model[1] is model.get_submodule("2.0")
    assert type(shared) is Fp8Linear


def test_only_what_was_called_in_training_has_executed(net: Any) -> None:
    records = convert_to_fp8(net, emulate=True)
    train_step(net.blocks[0], torch.randn(2, 32))
    assert [record.name for record in records if record.executed] == [
        "blocks.0.up",
        "blocks.0.down",
    ]
    unused = records[2].to_json()
    assert unused["executed"] is False
    assert unused["reason"] == "its forward never ran in training, or only rounded to integers"


def test_a_transformer_layer_of_torch_reports_what_it_calls() -> None:
    model = nn.Sequential(
        square(), nn.TransformerEncoderLayer(16, 1, 32, 0.0, batch_first=True), square()
    )
    records = {record.name: record for record in convert_to_fp8(model, emulate=True)}
    with torch.no_grad():
        model.eval()(torch.randn(2, 16, 16))  # calls none of its linears
    assert not any(record.executed for record in records.values())
    train_step(model, torch.randn(2, 16, 16))
    assert records["1.linear1"].executed
    assert records["1.linear2"].executed
    assert "subclass" in str(records["1.self_attn.out_proj"].kept)


def test_a_root_linear_is_converted_in_place() -> None:
    linear = square()
    with pytest.warns(UserWarning, match="no linear of this model can run in fp8.*first layer"):
        convert_to_fp8(linear, emulate=True)
    (record,) = convert_to_fp8(linear, keep_ends=False, emulate=True)
    train_step(linear, torch.randn(16, 16))
    assert record.executed


def test_a_model_without_linears_says_so() -> None:
    with pytest.warns(UserWarning, match="there is no linear"):
        assert convert_to_fp8(nn.Conv2d(1, 1, 1), emulate=True) == []


def test_names_and_state_stay_those_of_the_plain_model(net: Any) -> None:
    plain = type(net)()
    state = net.state_dict()
    convert_to_fp8(net, emulate=True)
    assert list(net.state_dict()) == list(state)
    plain.load_state_dict(net.state_dict())
    net.load_state_dict(plain.state_dict())
    release_fp8(net)
    assert {type(m) for m in net.modules()} == {type(m) for m in plain.modules()}


def test_converting_twice_changes_nothing(net: Any) -> None:
    first = convert_to_fp8(net, emulate=True)
    train_step(net, torch.zeros(2, 8, dtype=torch.long))
    assert convert_to_fp8(net, emulate=True) == first
    assert [record.executed for record in first] == [True] * 4 + [False] * 2


def test_another_recipe_on_a_converted_model_is_refused(net: Any) -> None:
    convert_to_fp8(net, recipe="rowwise", emulate=True)
    with pytest.raises(UserError, match=r"precision\.recipe=tensorwise: .*another recipe"):
        convert_to_fp8(net, emulate=True)


def test_importing_it_prints_nothing() -> None:
    program = "import bitladder; bitladder.Fp8Precision"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert logging.getLogger("torchao").level == logging.NOTSET
