"""Decoding: the same alone and in any batch, no worse with a wider beam, true to the network's probabilities."""

from __future__ import annotations

import pytest
import torch

from gatewise import cells
from gatewise.tasks.text.exact import Exact
from gatewise.tasks.text.vocabulary import END, UNKNOWN
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.batches import batch_of
from gatewise.tasks.translate.network import TranslationNetwork
from gatewise.tasks.translate.search import BLOCK, Ended, Hypothesis, largest, translate

SOURCES = [[5, 6, 9], [7, 4, 5, 6, 9, 8, 4], [4, 4], [6, 7, 9], [8, 9], [5, 6, 9, 4], [7, 9, 5]]


@pytest.fixture(params=["small", "final"])
def network(request: pytest.FixtureRequest) -> TranslationNetwork:
    translator: Translator = request.getfixturevalue(request.param)
    return translator.network


@pytest.mark.parametrize("beam", [1, 4])
def test_alone_and_in_a_batch_give_the_same_bits(network: TranslationNetwork, beam: int) -> None:
    together = translate(network, SOURCES, beam, beam, 1.0, None)
    alone = [translate(network, [source], beam, beam, 1.0, None)[0] for source in SOURCES]
    assert together == alone
    assert translate(network, SOURCES[::-1], beam, beam, 1.0, None)[::-1] == together


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_scores_are_the_probabilities_of_the_network(network: TranslationNetwork, penalty: float) -> None:
    for source, found in zip(SOURCES, translate(network, SOURCES, 3, 3, penalty, None), strict=True):
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            batch = batch_of([source], [list(one.ids)])
            with torch.no_grad():
                log = network.logits(batch).log_softmax(-1)
            expected = float(log.gather(1, batch.wanted.T).sum())
            assert one.log_probability == pytest.approx(expected, abs=1e-4)
            assert one.score == pytest.approx(expected / (len(one.ids) + 1) ** penalty, abs=1e-4)


def test_a_wide_beam_finds_the_best_of_all(network: TranslationNetwork) -> None:
    """With a beam as wide as all short translations, the search is exhaustive."""
    found = translate(network, [[5, 6]], 200, 1, 0.0, 2)[0][0]
    pieces = [i for i in range(3, network.target.num_embeddings) if network.attends or i != UNKNOWN]
    every = [[], *([i] for i in pieces), *([i, j] for i in pieces for j in pieces)]
    with torch.no_grad():
        log = {}
        for ids in every:
            batch = batch_of([[5, 6]], [ids])
            log[tuple(ids)] = float(network.logits(batch).log_softmax(-1).gather(1, batch.wanted.T).sum())
    best = max(log, key=lambda ids: log[ids])
    assert found.ids == best


def test_a_likely_hypothesis_is_not_given_up_for_unlikely_ones_that_end_first() -> None:
    """With these probabilities a piece more is all but certain; every shorter translation is all but impossible."""
    done, ids = Ended(beam=2, penalty=1.0, limit=9), torch.tensor([5, 6])
    done.add(-15.0, ids[:1], ids[:1])
    done.add(-18.0, ids, ids)
    done.close(-0.3, 3)
    assert not done.closed
    done.add(-0.4, torch.tensor([5, 6, 7]), torch.tensor([0, 0, 0]))
    done.close(-30.0, 4)
    assert done.closed
    assert [one.score for one in done.best] == [-0.1, -6.0]


def test_the_maximum_length_holds_and_every_sentence_ends(network: TranslationNetwork) -> None:
    for found in translate(network, SOURCES, 2, 2, 1.0, 1):
        assert 1 <= len(found) <= 2
        assert all(len(one.ids) <= 1 and END not in one.ids for one in found)


def test_padding_never_changes_a_result(network: TranslationNetwork) -> None:
    """What the network says of a pair is the same beside longer ones: to the bit in the encoder, to rounding in the
    products of attention and prediction."""
    targets = [[4, 5], [6, 7, 8, 4, 5, 6], [9]]
    batch = batch_of(SOURCES[:3], targets)
    with torch.no_grad():
        together = network.logits(batch).split([len(target) + 1 for target in targets])
        encoded, _ = network.encode(batch.source, batch.source_lengths)
        for k, (source, target) in enumerate(zip(SOURCES[:3], targets, strict=True)):
            alone = batch_of([source], [target])
            torch.testing.assert_close(network.logits(alone), together[k], rtol=1e-5, atol=1e-5)
            own, _ = network.encode(alone.source, alone.source_lengths)
            assert torch.equal(own[:, 0], encoded[: len(source), k])
            assert not encoded[len(source) :, k].any()


def test_gradients_do_not_see_padding(network: TranslationNetwork) -> None:
    batch = batch_of(SOURCES[:2], [[4], [5, 6, 7]])
    whole = torch.autograd.grad(network.logits(batch).square().sum(), network.second.weight_ih_l0)[0]
    parts = [
        torch.autograd.grad(network.logits(batch_of([s], [t])).square().sum(), network.second.weight_ih_l0)[0]
        for s, t in zip(SOURCES[:2], [[4], [5, 6, 7]], strict=True)
    ]
    torch.testing.assert_close(whole, parts[0] + parts[1], rtol=1e-3, atol=1e-4)


def test_the_same_bits_in_any_batch_at_the_sizes_of_real_networks() -> None:
    """Products and sums over hundreds of numbers, where torch chooses its method by the number of rows; sentences that
    end early leave the batch."""
    torch.manual_seed(0)
    network = TranslationNetwork(cells.gru, None, 1500, 96, 64, 128, 1, "attention", 0.0).eval()
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 20, (30,), generator=generator).tolist()
    sources = [torch.randint(4, 1500, (length,), generator=generator).tolist() for length in lengths]
    together = translate(network, sources, 5, 2, 1.0, None)
    assert len({len(best[0].ids) for best in together}) > 2
    assert [translate(network, [source], 5, 2, 1.0, None)[0] for source in sources] == together


@pytest.mark.parametrize("width", [40, 10 * BLOCK, 10 * BLOCK + 7])
def test_largest_finds_what_topk_finds(width: int) -> None:
    x = torch.randn(6, width, generator=torch.Generator().manual_seed(width))
    x[:, -1] = 9.0
    x[2, 5:] = -torch.inf
    values, places = largest(x, 3)
    assert torch.equal(values, x.topk(3).values)
    assert torch.equal(x.gather(1, places), values)
    assert places[:, 0].tolist() == [width - 1, width - 1, int(x[2].argmax()), *[width - 1] * 3]


def test_exact_is_linear_and_does_not_see_other_rows() -> None:
    linear, x = torch.nn.Linear(37, 11), torch.randn(3, 5, 37)
    whole = Exact(linear.weight, linear.bias)(x)
    torch.testing.assert_close(whole, linear(x))
    assert torch.equal(Exact(linear.weight, linear.bias)(x[1:2, 2:3]), whole[1:2, 2:3])
    torch.testing.assert_close(Exact(linear.weight, None, then_tanh=True)(x), torch.tanh(x @ linear.weight.T))


def test_unknown_words_are_never_invented_without_attention(final: Translator) -> None:
    found = translate(final.network, SOURCES, 3, 3, 1.0, None)
    assert all(UNKNOWN not in one.ids and one.looked_at == () for best in found for one in best)
    assert isinstance(found[0][0], Hypothesis)
