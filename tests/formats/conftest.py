import pytest

from bitladder.formats import FLOAT_FORMATS, FloatFormat


@pytest.fixture(params=FLOAT_FORMATS.values(), ids=list(FLOAT_FORMATS))
def format(request: pytest.FixtureRequest) -> FloatFormat:
    """Every floating-point format, one after the other."""
    return request.param


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    return request.param
