import io
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset

from bitladder.callbacks.own_generators import find, set_states, states

from .resuming import Noisy

GLOBAL = np.random.default_rng(3)


def jitter(x: float) -> float:
    return x + GLOBAL.normal()


class Sampled:
    """Draws from a generator of its module."""

    def __getitem__(self, index: int) -> float:
        return GLOBAL.normal()


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __len__(self) -> int:
        return 1

    def draw(self, *_: Any) -> float:
        return self.value.random()


def closing_over(rng: Any) -> Callable[[], Any]:
    return lambda: rng.random()


def with_default(*, rng: Any) -> Callable[..., Any]:
    def draw(rng: Any = rng) -> Any:
        return rng.random()

    return draw


MAKERS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.Generator().manual_seed(1),
    "numpy": lambda: np.random.default_rng(1),
    "numpy of another kind": lambda: np.random.Generator(np.random.SFC64(1)),
    "mersenne": lambda: np.random.Generator(np.random.MT19937(1)),
    "numpy's old": lambda: np.random.RandomState(1),
    "python": lambda: random.Random(1),
}


def draw(generator: Any) -> float:
    if isinstance(generator, torch.Generator):
        return float(torch.rand((), generator=generator))
    if isinstance(generator, random.Random):
        return generator.gauss()  # which keeps the second of a pair
    return float(generator.normal())


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_a_generator_goes_on_where_it_stood_through_a_file(make: Callable[[], Any]) -> None:
    generator, content = make(), io.BytesIO()
    draw(generator)
    torch.save(states([generator]), content)
    expected = [draw(generator) for _ in range(3)]
    content.seek(0)
    fresh = make()
    assert set_states([fresh], torch.load(content, weights_only=True))
    assert [draw(fresh) for _ in range(3)] == expected


def test_another_number_of_generators_changes_nothing() -> None:
    generator = random.Random(1)
    before = generator.getstate()
    assert not set_states([generator], [])
    assert generator.getstate() == before


@pytest.mark.parametrize(
    "hide",
    [
        Holder,
        lambda rng: Holder([{"a": (rng,)}]),
        lambda rng: partial(max, rng, 1),
        lambda rng: partial(print, file=rng),
        lambda rng: Holder(rng).draw,
        closing_over,
        lambda rng: with_default(rng=rng),
        lambda rng: Subset(ConcatDataset([Noisy(), Holder(rng)]), [0]),  # type: ignore[list-item]
        lambda rng: DataLoader(Noisy(), generator=rng),
        lambda rng: DataLoader(Noisy(), collate_fn=Holder(rng).draw),
        lambda rng: DataLoader(Noisy(), sampler=RandomSampler(Noisy(), generator=rng)),
        lambda rng: DataLoader(Noisy(), batch_sampler=Holder(rng)),  # type: ignore[arg-type]
    ],
)
def test_wherever_it_is_it_is_found_once(hide: Callable[[Any], Any]) -> None:
    generator = torch.Generator()
    hidden = [hide(generator), hide(generator)]
    assert find(hidden) == [generator]


@pytest.mark.parametrize("root", [jitter, Sampled(), Holder(jitter), Subset(Sampled(), [0])])  # type: ignore[arg-type]
def test_a_global_variable_is_found_where_code_names_it(root: object) -> None:
    found = find([root])
    assert len(found) == 1
    assert found[0] is GLOBAL


def test_the_libraries_own_generators_are_not_found() -> None:
    own = [torch.default_generator, np.random.mtrand._rand, random._inst]  # type: ignore[attr-defined]
    assert find([*own, random.SystemRandom(), random, np.random, Tensor]) == []


def test_the_order_is_that_of_the_roots() -> None:
    generators = [make() for make in MAKERS.values()]
    assert [*find(map(Holder, generators))] == generators


def test_containers_of_data_are_passed_over() -> None:
    assert find([[random.Random()] * 1001]) == []


def test_it_does_not_climb_into_the_trainer() -> None:
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.hidden = random.Random()  # type: ignore[attr-defined]
    module = L.LightningModule()
    module.trainer = trainer
    module.rng = random.Random()  # type: ignore[assignment]
    assert find([module]) == [module.rng]


def test_objects_that_answer_nothing_are_passed_by() -> None:
    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("it stands for nothing")

        @__class__.setter
        def __class__(self, value: Any) -> None:
            raise RuntimeError("it stands for nothing")

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("it stands for nothing")

    rng = random.Random()
    assert find([Proxy(), rng]) == [rng]
