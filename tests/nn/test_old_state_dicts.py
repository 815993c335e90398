"""State_dicts that earlier versions saved load, and give what they gave then; tests/data/make.py made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from data.make import LAYERS, outputs
from safetensors.torch import load_file

from gatewise import GRU, GRUCell

OLD = Path(__file__).parents[1] / "data" / "layers"


def read(name: str, suffix: str) -> dict[str, Any]:
    path = OLD / f"{name}{suffix}"
    found: dict[str, Any] = torch.load(path, weights_only=True) if suffix == ".pt" else load_file(path)
    return found


def test_every_old_file_is_tried() -> None:
    assert {path.name.partition(".")[0] for path in OLD.iterdir()} == set(LAYERS)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", LAYERS)
def test_an_old_state_dict_loads_and_gives_what_it_gave(name: str, suffix: str) -> None:
    module = LAYERS[name]()
    module.load_state_dict(read(name, suffix))
    given = load_file(OLD / f"{name}.given.safetensors")
    found = outputs(name, module, given.pop("x"), given.pop("gap"))
    assert given.keys() == found.keys()
    for key, value in found.items():  # another processor may round otherwise
        torch.testing.assert_close(value, given[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_old_weights_of_one_equation_still_never_load_into_another(suffix: str) -> None:
    with pytest.raises(RuntimeError, match=r"holds the weights of cell leaky, but this layer computes gru\b"):
        GRU(3, 5).load_state_dict(read("own_cell", suffix))
    with pytest.raises(RuntimeError, match=r"holds the weights of cell gru, but this layer computes gru_reset_after"):
        GRUCell(3, 5, reset_after=True).load_state_dict(read("gru_cell", suffix))
    with pytest.raises(RuntimeError, match="carries no formula"):
        GRUCell(3, 5).load_state_dict(read("gru_cell_reset_after", suffix))
