"""What the tests of layers share."""

from collections.abc import Iterator

import pytest

import gatewise as gw


@pytest.fixture(params=["eager", "cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend in turn, forced."""
    with gw.backend(request.param):
        yield request.param
