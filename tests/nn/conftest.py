"""What the tests of layers share."""

from collections.abc import Iterator

import pytest

import gatewise as gw
from gatewise.backends.cpu import tiers


@pytest.fixture(params=["eager", "cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend in turn, forced."""
    with gw.backend(request.param):
        yield request.param


@pytest.fixture
def without_matrix_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules in bfloat16 compute in float32, also where the processor could multiply in bfloat16."""
    monkeypatch.setenv("GATEWISE_TIER", tiers.detect().name)
