"""GRU-D against the equations of its paper, and what it is told of a series with gaps."""

import math

import pytest
import torch
from torch import Tensor

import gatewise as gw
from gatewise.nn.initialise import chrono

STEPS, ROWS, WIDTH, UNITS = 7, 3, 4, 6
NAN = math.nan


def with_gaps(*shape: int) -> Tensor:
    torch.manual_seed(5)
    series = torch.randn(*shape, dtype=torch.float64)
    return series.masked_fill(torch.rand(shape) < 0.5, NAN)


def paper(layer: gw.Recurrent, told: gw.nn.Gaps, h: Tensor) -> Tensor:
    """Che et al. 2016, the equations of GRU-D, in loops over steps, on the layer's weights."""
    wr, wz, wn = layer.weight_ih_l0.split(UNITS)
    ur, uz, un = layer.weight_hh_l0.split(UNITS)
    vr, vz, vn = layer.weight_mask_l0.split(UNITS)
    bh, br, bz, bn = layer.bias_ih_l0.split(UNITS)
    outputs = []
    for x, m, delta, last in zip(*told, strict=True):
        gamma_x = torch.exp(-torch.clamp(layer.vector_rate_l0 * delta + layer.vector_offset_l0, min=0))
        gamma_h = torch.exp(-torch.clamp(delta @ layer.weight_gap_l0.T + bh, min=0))
        x_hat = m * x + (1 - m) * (gamma_x * last + (1 - gamma_x) * layer.vector_mean_l0)
        h_hat = gamma_h * h
        r = torch.sigmoid(x_hat @ wr.T + h_hat @ ur.T + m @ vr.T + br)
        z = torch.sigmoid(x_hat @ wz.T + h_hat @ uz.T + m @ vz.T + bz)
        n = torch.tanh(x_hat @ wn.T + (r * h_hat) @ un.T + m @ vn.T + bn)
        h = (1 - z) * h_hat + z * n
        outputs.append(h)
    return torch.stack(outputs)


def test_gru_d_is_that_of_the_paper(backend: str) -> None:
    layer = gw.Recurrent(gw.cells.gru_d, WIDTH, UNITS, dtype=torch.float64)
    told = gw.gaps(with_gaps(STEPS, ROWS, WIDTH))
    leaves = [v.clone().requires_grad_() for v in (torch.randn(1, ROWS, UNITS, dtype=torch.float64), *told)]
    leaves += list(layer.parameters())
    h, own = leaves[0], gw.nn.Gaps(*leaves[1:5])
    y, final = layer(own.x, h, **own.inputs)
    expected = paper(layer, own, h[0])
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(final[0], expected[-1])
    weigh = torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).sin()
    for mine, theirs in zip(*(torch.autograd.grad((v * weigh).sum(), leaves) for v in (y, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_is_missing_does_not_matter() -> None:
    """Whatever stands in x where the mask is 0, the numbers are the same."""
    layer = gw.Recurrent(gw.cells.gru_d, WIDTH, UNITS)
    told = gw.gaps(with_gaps(STEPS, ROWS, WIDTH).float())
    other = torch.where(told.mask > 0, told.x, 7.0)
    assert torch.equal(layer(told.x, **told.inputs)[0], layer(other, **told.inputs)[0])


def test_gates_are_traced_and_what_is_saved_loads() -> None:
    layer = gw.Recurrent(gw.cells.gru_d, WIDTH, UNITS, initialise="orthogonal")
    told = gw.gaps(with_gaps(STEPS, ROWS, WIDTH).float())
    trace = layer.trace(told.x, **told.inputs)
    decay = (told.gap @ layer.weight_gap_l0.T + layer.bias_ih_l0[:UNITS]).relu()
    torch.testing.assert_close(trace.gates["d"][0], decay)
    other = gw.Recurrent(gw.cells.gru_d, WIDTH, UNITS)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(told.x, **told.inputs)[0], trace.output)
    assert layer.vector_rate_l0.abs().max() <= UNITS**-0.5


def test_chrono_takes_the_decay_as_none() -> None:
    layer = gw.Recurrent(gw.cells.gru_d, WIDTH, 200, initialise=lambda made: chrono(made, longest=50))
    spans = (-layer.bias_ih_l0[400:600]).exp()  # d, r, z, n: z renews
    assert spans.min() >= 1 - 1e-4
    assert 20 < spans.mean() < 30


SERIES = torch.tensor([[NAN, 1.0], [2.0, NAN], [NAN, NAN], [3.0, 4.0], [NAN, 5.0]])


def test_gaps_by_hand() -> None:
    found = gw.gaps(SERIES)
    assert torch.equal(found.x, torch.tensor([[0.0, 1], [2, 0], [0, 0], [3, 4], [0, 5]]))
    assert torch.equal(found.mask, torch.tensor([[0.0, 1], [1, 0], [0, 0], [1, 1], [0, 1]]))
    assert torch.equal(found.gap, torch.tensor([[0.0, 0], [1, 1], [1, 2], [2, 3], [1, 1]]))
    assert torch.equal(found.last, torch.tensor([[0.0, 0], [0, 1], [2, 1], [2, 1], [3, 4]]))
    assert list(found.inputs) == [name for name, _ in gw.cells.gru_d.inputs]


def test_gaps_are_those_of_the_papers_recursion() -> None:
    """δ_t = s_t - s_{t-1}, plus δ_{t-1} where the step before was not observed; 0 at the start."""
    series = with_gaps(9, 2, 3)
    times = torch.rand(9, 2, dtype=torch.float64).cumsum(0)
    found = gw.gaps(series, times)
    delta = torch.zeros(2, 3, dtype=torch.float64)
    for t in range(1, 9):
        delta = (times[t] - times[t - 1])[:, None] + (1 - found.mask[t - 1]) * delta
        torch.testing.assert_close(found.gap[t], delta)


def test_layouts() -> None:
    series = with_gaps(9, 2, 3).float()
    times = torch.arange(18).reshape(9, 2) * 60
    whole = gw.gaps(series, times)
    turned = gw.gaps(series.transpose(0, 1), times.T, batch_first=True)
    row = gw.gaps(series[:, 1], times[:, 1])
    shared = gw.gaps(series, times[:, 0])
    for a, b, c in zip(whole, turned, row, strict=True):
        assert torch.equal(a, b.transpose(0, 1))
        assert torch.equal(a[:, 1], c)
        assert a.dtype == torch.float32
    assert torch.equal(shared.gap[:, 0], whole.gap[:, 0])
    assert gw.gaps(series[:0]).gap.shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("series", "times", "kind", "words"),
    [
        ([1.0], None, TypeError, "series must be a floating tensor, got list"),
        (torch.ones(3, 2, dtype=torch.int64), None, TypeError, "got dtype torch.int64"),
        (torch.ones(3), None, ValueError, r"series must have 2 \(steps, variables\) or 3 dimensions, got 1"),
        (SERIES, [0, 1], TypeError, "times must be a tensor of real numbers, got list"),
        (SERIES, torch.arange(4), ValueError, r"times must have shape \(5,\), got \(4,\)"),
        (torch.ones(3, 2, 1), torch.ones(2, 3), ValueError, r"shape \(3,\) or \(3, 2\), got \(2, 3\)"),
        (SERIES, torch.tensor([0, 1, 2, 1, 3]), ValueError, "times must not go back from one step to the next"),
    ],
)
def test_bad_series(series: object, times: object, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        gw.gaps(series, times)  # type: ignore[arg-type]
