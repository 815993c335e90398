"""The music benchmark: its figure against a sum written out, pieces, resuming."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from benches import chung2014 as bench


def rolls(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(n, bench.KEYS, generator=generator) < 0.05).float() for n in lengths]


def test_the_figure_is_summed_over_keys_and_averaged_over_all_steps() -> None:
    torch.manual_seed(0)
    model, data = bench.Pianist("gru", 7, 0.0, "torch").eval(), rolls(9, 4, 6)
    nats, steps = 0.0, 0
    with torch.no_grad():
        for roll in data:
            p = torch.sigmoid(model.head(model.layer(roll[:-1, None])[0][:, 0])).double()
            hit = roll[1:].double()
            nats -= float((hit * p.log() + (1 - hit) * (1 - p).log()).sum())
            steps += len(roll) - 1
    assert bench.evaluate(model, data) == pytest.approx(nats / steps, rel=1e-5)


def test_pieces_predict_every_step_once() -> None:
    (roll,) = rolls(11)
    parts = bench.pieces([roll], 4)
    assert torch.equal(torch.cat([part[1:] for part in parts]), roll[1:])
    assert max(map(len, parts)) == 5


def test_chunks_with_a_carried_state_are_the_whole_batch() -> None:
    model = bench.Pianist("lstm", 6, 0.0, "orthogonal").eval()
    (batch,) = bench.batches(rolls(11, 4, 7), 3)
    whole, _ = bench.total(model, batch)
    nats, state, steps = 0.0, None, 0
    for chunk in bench.chunks(batch, 4):
        part, state = bench.total(model, chunk, state)
        nats, steps = nats + float(part.detach()), steps + int(chunk[2].sum())
    assert nats == pytest.approx(float(whole.detach()), rel=1e-5)
    assert steps == 10 + 3 + 6


def test_noise_is_on_the_weights_while_the_gradient_is_taken_and_then_gone() -> None:
    model = bench.Pianist("rnn", 5, 0.0, "torch")
    before = [p.detach().clone() for p in model.parameters()]
    objective = bench.Music(model, bench.PROTOCOLS["jsb"], 0.5, rolls(5, 5), rolls(5))
    with objective.around_gradient():
        moved = [float((p.detach() - q).abs().mean()) for p, q in zip(model.parameters(), before, strict=True)]
    assert min(moved) > 0.05
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_the_state_is_carried_within_sequences_and_dropped_between_them() -> None:
    model = bench.Pianist("lstm", 6, 0.0, "orthogonal").eval()
    how = dataclasses.replace(bench.PROTOCOLS["nottingham"], batch=2, piece=4)
    objective, state, nats, steps = bench.Music(model, how, 0.0, rolls(11, 9, 7, 6), []), None, 0.0, 0
    assert objective.steps() == 3 + 2
    for batch in objective.batches(bench.np.random.default_rng(0)):
        loss, state = objective.carried_loss(model, batch, state)
        nats, steps = nats + float(loss.detach()) * objective.size(batch), steps + objective.size(batch)
    assert nats / steps == pytest.approx(bench.evaluate(model, objective.train), rel=1e-5)


@pytest.mark.parametrize("name", bench.PROTOCOLS)
def test_results_are_kept_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    how = bench.PROTOCOLS[name]
    monkeypatch.setitem(bench.PROTOCOLS, name, dataclasses.replace(how, epochs=2, piece=3))
    data = {part: rolls(8, 6, 5) for part in ("train", "valid", "test")}
    one = bench.Results(tmp_path / "r.json", data, name).row("gru", 5, how.grid[:1], 2)
    again = bench.Results(tmp_path / "r.json", {}, name).row("gru", 5, how.grid[:1], 2)
    assert one == again
    fits = json.loads((tmp_path / "r.json").read_text())["fits"]
    assert [fit["seed"] for fit in fits] == [0, 1]
    assert all(math.isfinite(fit["test"]) for fit in fits)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no file .*JSB_Chorales.mat"):
        bench.main(["--data", str(tmp_path), "--json", str(tmp_path / "r.json")])
