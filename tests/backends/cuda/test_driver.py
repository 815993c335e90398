"""The driver's structures, as its header lays them out, and what is said where there is none."""

import ctypes

import pytest
import torch

from gatewise.backends import cuda
from gatewise.backends.cuda.arguments import Place, Slab
from gatewise.backends.cuda.driver import Attribute, Config


def test_sizes_are_those_of_the_header() -> None:
    assert ctypes.sizeof(Attribute) == 72
    assert (ctypes.sizeof(Config), Config.stream.offset, Config.attributes.offset) == (56, 32, 40)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_card_a_sentence_says_what_is_missing() -> None:
    assert cuda._found_problem().startswith("the cuda backend needs a GPU of NVIDIA")
    assert cuda.BACKEND.report()["cuda"] == cuda._found_problem()


def test_places_walk_both_ways() -> None:
    values = torch.zeros(5, 3, 8)
    place, initial = Place.of(values), torch.zeros(3, 16)[:, :8]
    assert (place.step, place.row) == (96, 32)
    assert place.turned(4) == Place.of(values, backwards=True)
    before = place.before(initial)
    assert (before.base, before.special, before.special_row) == (place.base - 96, 0, 64)
    back = before.turned(4)  # step 4 of the way back is step 0
    assert (back.base, back.step, back.special, back.special_base) == (before.base + 384, -96, 4, initial.data_ptr())


def test_only_rows_that_lie_side_by_side_are_fetched_ahead() -> None:
    whole = torch.zeros(5, 3, 8)
    assert Slab.of(whole[..., 4:], whole).piece == Place.of(whole)
    assert Slab.of(whole[..., 4:], whole[..., 4:]).piece is None
    odd = torch.zeros(5, 3, 7)
    assert Slab.of(odd, odd).piece is None
