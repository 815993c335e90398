"""The network: losses are those of plain torch, dropout acts where it is said to, every cell and option trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tasks.language.conftest import ALPHABET, KINDS, documents, network

import gatewise
from gatewise.compiler import cell
from gatewise.compiler.functions import sigmoid, tanh
from gatewise.tasks.errors import InputError
from gatewise.tasks.language import heads
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.language.streams import Streams, Window

SIZE = len(ALPHABET) + 1
TOKENS = documents("abcdefgh" * 6, "hgfedcba" * 5)


@cell
def leaky(gate: Any, x: Any, h: Any) -> Any:
    """A cell of one's own."""
    z = sigmoid(gate.z(x, h))
    return z * h + (1 - z) * tanh(gate.n(x))


def window() -> Window:
    return next(Streams(TOKENS, 3, 12).windows_from(7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gru_reset_after", "lstm", "lstm_peephole"])
def test_the_loss_is_the_mean_of_what_the_network_says(kind: str, name: str) -> None:
    made, given = network(kind, name), window()
    loss, state = made(given)
    seen, expected = made.run(given.given, None, given.reset)
    logs = made.log_probabilities(seen.flatten(0, 1))
    assert torch.allclose(logs.exp().sum(1), torch.ones(36), atol=1e-5)
    assert float(loss.detach()) == pytest.approx(float(F.nll_loss(logs, given.wanted.flatten()).detach()), rel=1e-5)
    for own, other in zip(state, expected, strict=True):
        for a, b in zip(*(s if isinstance(s, tuple) else (s,) for s in (own, other)), strict=True):
            assert torch.equal(a, b)
            assert not a.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_the_softmax_by_chunks_has_the_gradients_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, gradients = network(kind), []
    for most in (heads.WHOLE, 0):
        monkeypatch.setattr(heads, "WHOLE", most)
        made.zero_grad()
        made(window())[0].backward()
        gradients.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(made.parameters()))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", [leaky, gatewise.cells.rnn, gatewise.cells.mgu])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_option_together_trains(cell: Any, mixed: bool) -> None:
    torch.manual_seed(0)
    shares = {"dropout": 0.1, "input_dropout": 0.1, "embedding_dropout": 0.1, "weight_dropout": 0.2}
    made = LanguageNetwork(cell, SIZE, 8, 16, 2, **shares, layer_norm=True, tied=True)
    optimiser, losses, state = torch.optim.Adam(made.parameters(), 0.02), [], None
    for step in range(120):
        given = next(Streams(TOKENS, 3, 12).windows_from(step))
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss, state = made(given, state)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_locked_dropout_drops_the_same_units_at_all_steps() -> None:
    made, x = network(dropout=0.5).train(), torch.ones(7, 3, 16)
    dropped = made._drop(x, made.dropout)
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    made.locked = False
    dropped = made._drop(x, made.dropout)
    assert not torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert torch.equal(made.eval()._drop(x, made.dropout), x)


def test_embedding_dropout_drops_whole_tokens_wherever_they_stand() -> None:
    made = network(embedding_dropout=0.5).train()
    tokens = torch.arange(SIZE).repeat(2, 1)
    seen = made.embedded(tokens)
    assert torch.equal(seen[0], seen[1])
    gone = (seen[0] == 0).all(1)
    assert 0 < int(gone.sum()) < SIZE
    assert torch.allclose(seen[0][~gone], 2 * made.embedding.weight[~gone])
    assert torch.equal(made.eval().embedded(tokens)[0], made.embedding.weight)


@pytest.mark.parametrize("name", ["gru_reset_after", "gru", "lstm_peephole", "rnn"])
def test_weight_dropout_acts_on_what_multiplies_the_state_alone(name: str) -> None:
    made = network(cell=name, weight_dropout=0.99999).train()
    layer = made.layers[0]
    before = {n: p.clone() for n, p in layer.named_parameters()}
    given = torch.tensor([[1], [2], [3]])
    with torch.no_grad():
        dropped, _ = made.run(given)
        layer.weight_hh_l0.zero_()
        expected, _ = made.eval().run(given)
    assert torch.allclose(dropped, expected, atol=1e-6)
    assert all(torch.equal(p, before[n]) for n, p in layer.named_parameters() if n != "weight_hh_l0")
    made = network(cell=name, weight_dropout=0.5).train()
    loss, _ = made(window())
    loss.backward()
    gone = made.layers[0].weight_hh_l0.grad == 0
    assert 0.3 < float(gone.float().mean()) < 0.7


def test_tied_weights_are_saved_once_and_trained_from_both_ends() -> None:
    made = network("two tied")
    assert [n for n, p in made.named_parameters() if p.shape[0] == SIZE and p.dim() == 2] == ["embedding.weight"]
    assert len({t.data_ptr() for t in made.state_dict().values() if t.numel()}) == sum(
        t.numel() > 0 for t in made.state_dict().values()
    )
    with torch.no_grad():
        made.embedding.weight[2] += 1.0
    seen = torch.zeros(1, 16)
    assert torch.isfinite(made.log_probabilities(seen)).all()


def test_an_adaptive_softmax_puts_tokens_by_their_frequency() -> None:
    ranks = torch.arange(SIZE).flip(0)
    made = network("adaptive", ranks=ranks)
    assert isinstance(made.head, heads.Adaptive)
    seen = torch.randn(5, 16)
    logs = made.log_probabilities(seen)
    assert torch.equal(logs[:, 0], made.head.softmax.log_prob(seen)[:, SIZE - 1])
    for cutoffs in ([], [4, 4], [0, 3], [SIZE]):
        with pytest.raises(InputError, match="cutoffs must be integers that rise"):
            network(cutoffs=cutoffs)
    with pytest.raises(InputError, match="hidden_size must be at least 64 for 3 cutoffs"):
        network(cutoffs=[3, 5, 7])


def test_torch_s_layers_can_take_the_place_of_ours() -> None:
    """With the same weights they give the same loss, so that comparisons compare what they say."""
    ours = network(make=lambda c, i, h: gatewise.GRU(i, h, reset_after=True))
    theirs = network(make=lambda c, i, h: torch.nn.GRU(i, h))
    theirs.load_state_dict({n: t for n, t in ours.state_dict().items() if "formula" not in n}, strict=False)
    given = next(Streams(documents("abcdefgh" * 6), 1, 12).windows_from(0))
    plain = Window(given.given, given.wanted, torch.zeros_like(given.reset))
    loss, _ = ours(plain)
    seen, _ = theirs.run(plain.given)
    expected = theirs.head.loss(seen.flatten(0, 1), plain.wanted.flatten(), theirs.embedding.weight)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
