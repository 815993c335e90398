"""Scores: a document's probability is the product over its tokens, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tasks.language.conftest import KINDS, documents, network

from gatewise.tasks.language import scoring
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.language.scoring import surprises, total_nats
from gatewise.tasks.language.store import Tokens

TEXTS = ["abc", "hgfedcba" * 40, "a", "cab. " * 30]


def expected(made: LanguageNetwork, tokens: Tokens) -> torch.Tensor:
    """The log-probabilities of everything that may come at each place, document by document."""
    found = []
    for start, stop in tokens.spans:
        given = torch.tensor([tokens.end, *tokens.ids[start:stop].tolist()])
        with torch.no_grad():
            found.append(made.log_probabilities(made.run(given[:, None])[0][:, 0]))
    return torch.cat(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [1 << 22, 30])
def test_surprises_are_those_of_the_network(kind: str, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "NUMBERS", numbers)
    monkeypatch.setattr(scoring, "STEPS", 16)
    monkeypatch.setattr(scoring, "ROWS", 3)
    made, tokens = network(kind), documents(*TEXTS)
    logs = expected(made, tokens)
    wanted = [t for a, b in tokens.spans for t in [*tokens.ids[a:b].tolist(), tokens.end]]
    found = surprises(made, tokens)
    own = logs[torch.arange(len(wanted)), wanted]
    assert found.tokens.tolist() == wanted
    np.testing.assert_allclose(found.nats, -own.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.entropy, -(logs.exp() * logs).sum(1).numpy(), rtol=1e-4)
    assert found.rank.tolist() == (1 + (logs > own[:, None]).sum(1)).tolist()
    assert total_nats(made, tokens, None) == pytest.approx(-float(own.sum()), rel=1e-5)
    assert sum(total_nats(made, documents(text)) for text in TEXTS) == pytest.approx(-float(own.sum()), rel=1e-5)


def test_parts_of_a_long_document_read_what_stands_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CONTEXT", 60)
    made, tokens = network(), documents("abcdefgh" * 50, "cab", "hgf " * 40)
    whole = total_nats(made, tokens, None)
    assert total_nats(made, tokens, 50) == pytest.approx(whole, rel=1e-5)
    monkeypatch.setattr(scoring, "CONTEXT", 0)
    assert total_nats(made, tokens, 50) != pytest.approx(whole, rel=5e-5)


def test_a_part_of_a_document_is_scored_from_its_beginning() -> None:
    made, tokens = network(), documents("abcdefgh" * 5)
    part = Tokens(tokens.ids[11:], tokens.end)
    assert total_nats(made, part) == pytest.approx(total_nats(made, documents("cdefgh" + "abcdefgh" * 3)), rel=1e-6)
