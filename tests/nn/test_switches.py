"""Switches of layers are True or False: a word would silently choose another formula."""

from typing import Any

import pytest

import gatewise as gw


@pytest.mark.parametrize("value", ["no", 2, None])
@pytest.mark.parametrize("switch", ["reset_after", "bidirectional", "bias", "batch_first"])
def test_switches_are_true_or_false(switch: str, value: Any) -> None:
    with pytest.raises(TypeError, match=switch):
        gw.GRU(3, 4, **{switch: value})


@pytest.mark.parametrize("size", [0, -3, 2.5, "a", True])
def test_sizes_of_a_count(size: Any) -> None:
    with pytest.raises(ValueError, match="input_size"):
        gw.cells.gru.parameter_count(size, 4)
    with pytest.raises(ValueError, match="hidden_size"):
        gw.cells.gru.parameter_count(4, size)
