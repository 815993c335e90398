"""What is measured: each column takes a problem's weights in its own way and returns what is timed and checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gatewise as gw
from benches.problem import REFERENCES, Build, Problem, Run, Start, fill, single, whole
from benches.shapes import CALL, CELL, INFERENCE, SHORT, STEP, TRAIN, TRAIN_CELL

ALL = (INFERENCE, TRAIN, STEP, *SHORT)
CELLS = (CELL, TRAIN_CELL)


@dataclass(frozen=True)
class Column:
    """A layer to be timed. ``rival`` names the column of torch whose time is divided by this one's.

    ``package`` is what must be installed for a peer; the columns of torch and of Gatewise name none.
    """

    name: str
    title: str
    formula: str
    start: Start
    rival: str = ""
    kinds: tuple[str, ...] = ALL
    package: str = ""


class LoopGRU(nn.Module):
    """Reset before the product as one writes it by hand: one input product for all steps, then a Python loop."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * hidden_size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.weight_hh_l0.shape[1]
        gates, candidate = self.weight_hh_l0.split([2 * hidden, hidden])
        h = x.new_zeros(x.shape[1], hidden)
        outputs = []
        # Indexing gx[t] instead of unbinding makes the backward quadratic in the number of steps.
        for gx in nn.functional.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(0):
            r, z = torch.sigmoid(torch.addmm(gx[:, : 2 * hidden], h, gates.T)).chunk(2, 1)
            n = torch.tanh(torch.addmm(gx[:, 2 * hidden :], r * h, candidate.T))
            h = n + z * (h - n)
            outputs.append(h)
        return torch.stack(outputs), h.unsqueeze(0)


def torch_layer(build: Build, build_cell: Build | None = None) -> Start:
    """A layer of ``torch.nn``; a step of a stream is a call with one step and the state."""

    def start(problem: Problem) -> Run:
        if problem.kind in CELLS and build_cell:
            return single(build_cell(*problem.sizes), problem)
        layer = fill(build(*problem.sizes), problem.parameters)
        return _torch_steps(layer, problem) if problem.kind == STEP else whole(layer, problem)

    return start


def gatewise_layer(build: Build, build_cell: Build | None = None) -> Start:
    """A layer of Gatewise; a step of a stream is ``layer.stream().step`` into memory that lies ready."""

    def start(problem: Problem) -> Run:
        if problem.kind in CELLS and build_cell:
            return single(build_cell(*problem.sizes), problem)
        layer = fill(build(*problem.sizes), problem.parameters)
        return _gatewise_steps(layer, problem) if problem.kind == STEP else whole(layer, problem)

    return start


def _torch_steps(layer: nn.Module, problem: Problem) -> Run:
    rows = problem.x.split(1)
    _, state = layer(torch.zeros_like(rows[0]))

    def results() -> dict[str, Tensor]:
        outputs, carried = [], None
        for row in rows:
            y, carried = layer(row, carried)
            outputs.append(y)
        return {"y": torch.cat(outputs)}

    return Run(lambda: layer(rows[0], state), results)


def _gatewise_steps(layer: nn.Module, problem: Problem) -> Run:
    assert isinstance(layer, gw.Recurrent)
    row, batch = problem.x[0], problem.x.shape[1]
    step, out = layer.stream(batch).step, torch.empty(batch, problem.sizes[1])

    def results() -> dict[str, Tensor]:
        checked = layer.stream(batch)
        return {"y": torch.stack([checked.step(x, out).clone() for x in problem.x])}

    return Run(lambda: step(row, out), results)


def _own(formula: str, title: str, build_cell: Build, rival: str) -> Column:
    """A layer of Gatewise, which has the name of its formula."""
    return Column(formula, title, formula, gatewise_layer(REFERENCES[formula], build_cell), rival)


COLUMNS = (
    Column("torch_gru", "torch.nn.GRU", "gru_after", torch_layer(nn.GRU, nn.GRUCell)),
    _own("gru_after", "GRU(reset_after)", lambda i, h: gw.GRUCell(i, h, reset_after=True), "torch_gru"),
    _own("gru_before", "GRU", gw.GRUCell, "torch_gru"),
    Column("torch_lstm", "torch.nn.LSTM", "lstm", torch_layer(nn.LSTM, nn.LSTMCell)),
    _own("lstm", "LSTM", gw.LSTMCell, "torch_lstm"),
)
LOOP = Column("torch_loop", "torch loop", "gru_before", torch_layer(LoopGRU), kinds=(CALL, INFERENCE, TRAIN))
