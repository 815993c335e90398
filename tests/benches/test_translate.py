"""The bench of translation: torch's layers in place of ours compute the same, and the table holds the figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tasks.translate.conftest import SMALL, toy

from benches.translate import SIZES, TorchLayer, TorchTranslator, name_of, parameters, rows, tables, units_of
from gatewise.nn import Recurrent
from gatewise.tasks.cells_by_name import cell_of
from gatewise.tasks.translate import Translator
from gatewise.tasks.translate.network import TranslationNetwork

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.mark.parametrize("cell", ["gru_reset_after", "lstm"])
def test_torch_in_place_of_our_layers_computes_the_same(cell: str) -> None:
    options = {**SMALL, "max_steps": 2, "dropout": 0.0}
    ours, torchs = Translator(cell=cell, **options).fit(toy(60)), TorchTranslator(cell=cell, **options).fit(toy(60))
    own = dict(ours.network.named_parameters())
    with torch.no_grad():
        for name, theirs in torchs.network.named_parameters():
            mine = own.get(name.replace(".layer.", "."))
            theirs.zero_()  # a bias that we leave out since another one adds to the same sum
            if mine is not None:
                theirs[len(theirs) - len(mine) :] = mine
    texts = [source for source, _ in toy(20, seed=1)]
    for one, other in zip(ours.translations(texts, 3), torchs.translations(texts, 3), strict=True):
        assert one[0].text == other[0].text
        assert one[0].log_probability == pytest.approx(other[0].log_probability, abs=1e-4)


@pytest.mark.parametrize("cell", ["gru_reset_after", "lstm", "rnn"])
def test_both_start_as_one(cell: str) -> None:
    """The same random numbers give the same network, so that a comparison is one of layers."""
    networks = []
    for make in (Recurrent, TorchLayer):
        torch.manual_seed(0)
        networks.append(TranslationNetwork(cell_of(cell), None, 20, 6, 5, 10, 1, "attention", 0.0, make=make))
    x, lengths = torch.randn(7, 3, 6), torch.tensor([7, 3, 5])
    own, theirs = (network.encoder[0](x, lengths=lengths)[0] for network in networks)
    torch.testing.assert_close(own, theirs)
    for name in ("target.weight", "bridge.weight", "out.weight"):
        assert torch.equal(*(network.get_parameter(name) for network in networks))


def test_rows_have_the_parameters_of_the_gru_with_their_decoder() -> None:
    every = rows(2)
    assert len({name_of(row) for row in every}) == len(every)
    for row in every:
        target = parameters("gru", SIZES["hidden_size"], row)
        assert parameters(row["cell"], units_of(row), row) == pytest.approx(target, rel=0.01)


def test_the_tables_have_means_and_spreads_over_seeds_and_rates() -> None:
    scores = {"gru": {"BLEU": 40.0}, "dictionary": {"BLEU": 5.0}, "copy": {"BLEU": 1.0}}
    lengths = {"up to 10 words": {"pairs": 7.0, "gru": 41.0, "dictionary": 5.0}}
    results = [
        {**row, "epochs": 5, "hidden_size": 320, "parameters": 1000, "validation": 50.0 + row["seed"]}
        | {"test": scores, "test by length": lengths, "processor seconds": 90.0}
        for row in (rows(2)[0], rows(2)[8])
    ]
    rates = {"tokens/s": {"gatewise": 3000.0, "torch": 2000.0}}
    text = "\n".join(tables({"rows": results, "speed": [{"threads": 1, "lstm": rates}]}))
    row = "| raw | 5 | 0.2 | attention | gru | gatewise | 320 | 1,000 | 2 | 1.5 | 40.0 ± 0.0 | 50.5 ± 0.7 |"
    assert row in text.splitlines()
    assert text.splitlines()[0].count("|") == row.count("|")
    assert "| raw | | | | dictionary | | | | | | 5.0 | |" in text
    assert "| up to 10 words | 7 | 41.0 |" in text
    assert "| lstm | 1 | tokens/s | 3,000 | 2,000 | 1.50 |" in text


def test_the_page_shows_what_was_measured() -> None:
    page = (DOCS / "translation.md").read_text()
    for one in tables(json.loads((DOCS / "multi30k.json").read_text())):
        assert one in page
