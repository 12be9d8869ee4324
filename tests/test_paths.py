import pytest

from bitladder.paths import leads_out


@pytest.mark.parametrize("text", ["/etc", "../x", "~/x", "a/../b", "s3://bucket", ".."])
def test_a_path_that_may_lead_out(text: str) -> None:
    assert leads_out(text)


@pytest.mark.parametrize("text", ["", "x", "a/b.ckpt", "a..b", "best-{epoch}"])
def test_a_path_that_stays(text: str) -> None:
    assert not leads_out(text)
