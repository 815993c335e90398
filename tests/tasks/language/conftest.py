"""Small texts and networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gatewise
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.language.store import Tokens
from gatewise.tasks.text.tokenizers import Chars

ALPHABET = "abcdefgh .\n"
KINDS = {
    "plain": {},
    "two tied": {"num_layers": 2, "tied": True},
    "normalised": {"num_layers": 2, "layer_norm": True},
    "adaptive": {"cutoffs": [4, 8]},
}


@pytest.fixture
def chars() -> Chars:
    return Chars(ALPHABET)


def documents(*texts: str) -> Tokens:
    """Texts over the alphabet as tokens."""
    chars = Chars(ALPHABET)
    parts = [np.concatenate([[chars.end], chars.encode(text)]) for text in texts]
    return Tokens(np.concatenate(parts).astype(chars.dtype), chars.end)


def network(kind: str = "plain", cell: str = "gru_reset_after", **options: object) -> LanguageNetwork:
    """An untrained network with weights that are large enough to prefer some tokens."""
    torch.manual_seed(3)
    size = len(ALPHABET) + 1
    made = LanguageNetwork(getattr(gatewise.cells, cell), size, 6, 16, **{**KINDS[kind], **options})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2.5)
    return made.eval()
