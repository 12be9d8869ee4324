import logging
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# How long an example takes says nothing on a shared machine.
settings.register_profile("bitladder", deadline=None)
settings.load_profile("bitladder")


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> None:
    """Networks this small lose more to a second thread than they gain, and answers must repeat."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def processor(request: pytest.FixtureRequest) -> None:
    """Without VNNI x86 adds products of int8 in 16 bits, and what suffers is refused."""
    if request.node.get_closest_marker("vnni") and not torch.cpu._is_vnni_supported():
        pytest.skip("this processor has no VNNI: sums of int8 products saturate")


@pytest.fixture(autouse=True)
def flags_of_the_process() -> None:
    """A trainer that is deterministic makes all of its process so, and the next test with it."""
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def root_log_handlers() -> Iterator[None]:
    """Sweeps leave a log handler on a stream that pytest has closed by the next test."""
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
