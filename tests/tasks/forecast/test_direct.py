"""The direct network against a slow one: segment after segment, step ahead after step ahead, in plain torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gatewise import cells
from gatewise.nn import gaps
from gatewise.tasks.forecast.beside import Part, Widths
from gatewise.tasks.forecast.direct import DirectNetwork, Members
from gatewise.tasks.forecast.inputs import Channels, Told
from gatewise.tasks.forecast.scaling import CHANNELS

SIZES = {"hidden_size": 7, "num_layers": 1, "dropout": 0.0, "segment": 4, "horizon": 10}


def network(cell: str = "gru", series: int = 2, **changes: Any) -> DirectNetwork:
    torch.manual_seed(0)
    net = DirectNetwork(cells.get(cell), **{**SIZES, **changes}, outputs=3, series=series).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return net


def slowly(net: DirectNetwork, x: Tensor, series: int) -> Tensor:
    """One row (W, CHANNELS) the obvious way: (horizon, 3)."""
    state, said = None, []
    for start in range(0, len(x), 4):
        segment = x[start : start + 4].reshape(1, 1, -1)
        _, state = net.encoder(torch.relu(net.project(segment)), state)
    for place in range(3):
        word = net.place[place] + net.series[series]
        y, _ = net.encoder(word.view(1, 1, -1), state)
        said += list(net.head(y[0, 0]).view(4, 3))
    return torch.stack(said[:10])


@pytest.mark.parametrize(("cell", "layers"), [("gru", 1), ("lstm", 2), ("rnn", 1), ("mgu", 1)])
def test_every_step_of_the_horizon_is_the_slow_networks(cell: str, layers: int) -> None:
    net, x = network(cell, num_layers=layers), torch.randn(3, 12, CHANNELS)
    said = net(x, torch.tensor([0, 2, 1]))
    assert said.shape == (3, 10, 3)
    for row, series in enumerate((0, 2, 1)):
        torch.testing.assert_close(said[row], slowly(net, x[row], series), rtol=1e-4, atol=1e-5)


WIDTHS = Widths(Part(3, (4,)), Part(2, (4, 2)), Part(1, (3,)))


def told(rows: int) -> Told:
    """Numbers and codes for every step of a window of 12, of a horizon of 10, and of the series."""
    parts = []
    for shape, part in zip(((rows, 12), (rows, 10), (rows,)), WIDTHS, strict=True):
        codes = [torch.randint(0, words + 2, (*shape, 1)).float() for words in part.words]
        parts.append(torch.cat([torch.randn(*shape, part.numbers), *codes], -1))
    return Told(*parts)


def embedded(channels: Channels, row: Tensor) -> Tensor:
    """The numbers of one row, and the embedding of each of its codes."""
    words = [table.weight[int(code)] for table, code in zip(channels.words, row[channels.numbers :], strict=True)]
    return torch.cat([row[: channels.numbers], *words])


def slowly_with(net: DirectNetwork, x: Tensor, beside: Told) -> Tensor:
    """As ``slowly``, with the covariates of one row."""
    state, said, parts = None, [], net.beside
    static = embedded(parts.static, beside.static)
    for start in range(0, 12, 4):
        more = torch.cat([*(embedded(parts.past, beside.past[t]) for t in range(start, start + 4)), static])
        read = net.project(x[start : start + 4].reshape(-1)) + parts.project(more)
        _, state = net.encoder(torch.relu(read).view(1, 1, -1), state)
    for place in range(3):
        steps = [embedded(parts.future, beside.future[t]) for t in range(4 * place, min(10, 4 * place + 4))]
        blank = [torch.zeros(parts.future.width)] * (4 - len(steps))
        word = net.place[place] + parts.words(torch.cat([*steps, *blank, static]))
        y, _ = net.encoder(word.view(1, 1, -1), state)
        direct = [parts.direct.weight @ step for step in steps]
        said += [a + b for a, b in zip(net.head(y[0, 0]).view(4, 3), direct, strict=False)]
    return torch.stack(said)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_covariates_are_read_as_by_the_slow_network(cell: str) -> None:
    net, x, beside = network(cell, series=0, beside=WIDTHS), torch.randn(3, 12, CHANNELS), told(3)
    said = net(x, torch.zeros(3, dtype=torch.int64), beside)
    for row in range(3):
        expected = slowly_with(net, x[row], Told(*(part[row] for part in beside)))
        torch.testing.assert_close(said[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "gru_d"])
def test_every_covariate_reaches_the_forecast(cell: str) -> None:
    net, x, beside = network(cell, series=0, beside=WIDTHS), torch.randn(2, 12, CHANNELS), told(2)
    parts = Told(*(part.requires_grad_() for part in beside))
    found = torch.autograd.grad(net(x, torch.zeros(2, dtype=torch.int64), parts).square().sum(), parts)
    for gradient, part in zip(found, WIDTHS, strict=True):
        assert (gradient[..., : part.numbers] != 0).all()
    changed = Told(*(torch.cat([p[..., :-1], (p[..., -1:] + 1) % 4], -1).detach() for p in beside))
    assert not torch.allclose(net(x, torch.zeros(2, dtype=torch.int64), changed), net(x, torch.zeros(2).long(), beside))


def test_what_is_known_ahead_adds_nothing_of_itself_before_training() -> None:
    net, said = DirectNetwork(cells.gru, **SIZES, beside=WIDTHS), torch.randn(2, 10, 1)
    assert net.beside is not None
    torch.testing.assert_close(net.beside.effect(said, told(2)), said, rtol=0, atol=0)


def test_an_unknown_and_a_missing_word_begin_as_nothing() -> None:
    channels = Channels(Part(0, (5,)))
    assert channels(torch.tensor([[0.0], [1.0]])).abs().sum() == 0
    assert (channels(torch.arange(2.0, 7.0)[:, None]).abs().sum(1) > 0).all()


def test_members_have_covariates_of_their_own_windows() -> None:
    torch.manual_seed(0)
    both, beside = Members(2, 0, cell=cells.gru, **SIZES, beside=WIDTHS).eval(), told(6)
    for parameter in both.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x, numbers = torch.randn(3, 2, 12, CHANNELS), torch.zeros(3, 2, dtype=torch.int64)
    own = Told(*(part.unflatten(0, (3, 2)) for part in beside))
    each = [net(x[:, k], numbers[:, k], Told(*(p[:, k] for p in own))) for k, net in enumerate(both.members)]
    torch.testing.assert_close(both(x, numbers, own), torch.stack(each, 1))


def test_all_of_the_window_reaches_every_step_ahead() -> None:
    net, x = network(), torch.randn(1, 12, CHANNELS, requires_grad=True)
    for step in range(10):
        (gradient,) = torch.autograd.grad(net(x, torch.zeros(1, dtype=torch.int64))[0, step, 0], x)
        assert (gradient.abs().sum(-1) > 0).all()


def test_before_training_places_and_series_differ_and_a_new_series_is_amid_them() -> None:
    torch.manual_seed(0)
    net = DirectNetwork(cells.gru, **{**SIZES, "hidden_size": 400}, series=2)
    assert net.series is not None
    assert not net.series[0].any()
    each = torch.cat([net.place, net.series[1:]]).detach()
    torch.testing.assert_close(each.std(1), torch.ones(len(each)), rtol=0.15, atol=0)


def test_a_cell_for_gaps_reads_segments_as_variables_and_where_they_are_missing() -> None:
    net, x = network("gru_d", series=0), torch.randn(2, 12, CHANNELS)
    x[..., -1] = (torch.rand(2, 12) > 0.4).float()
    known = gaps(torch.where(x[..., -1] > 0, x[..., 0], torch.nan).view(2, 3, 4), batch_first=True)
    expected = net.encoder(known.x, **known.inputs)[1]
    torch.testing.assert_close(net._encoded(x)[1], expected)
    changed = x.clone()
    changed[x[..., -1] == 0] += torch.tensor([5.0, 5.0, 0.0])  # what is missing says nothing
    numbers = torch.zeros(2, dtype=torch.int64)
    torch.testing.assert_close(net(x, numbers), net(changed, numbers))


def test_members_are_averaged_and_train_on_windows_of_their_own() -> None:
    torch.manual_seed(0)
    both = Members(2, 1, cell=cells.gru, **SIZES).eval()
    for parameter in both.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x, numbers = torch.randn(5, 2, 12, CHANNELS), torch.zeros(5, 2, dtype=torch.int64)
    each = [net(x[:, k], numbers[:, k]) for k, net in enumerate(both.members)]
    torch.testing.assert_close(both(x, numbers), torch.stack(each, 1))
    mean = (both.members[0](x[:, 0], numbers[:, 0]) + both.members[1](x[:, 0], numbers[:, 0])) / 2
    torch.testing.assert_close(both(x[:, 0], numbers[:, 0]), mean)
    assert not np.allclose(each[0].detach(), each[1].detach())
