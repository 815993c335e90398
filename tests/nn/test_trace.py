"""Traces: the values of gates that the cells' own functions compute, in every layer and direction."""

from typing import Any

import pytest
import torch
from kernel_cells import ALL
from layer_problems import BATCH, HIDDEN, INPUT, LAYERS, STACKS, STEPS, packed_states, problem, tuple_of
from tensor_gate import named
from torch import Tensor

import gatewise as gw
from gatewise import cells, ops
from gatewise.backends.cpu import tiers
from gatewise.nn.trace import Trace
from gatewise.ops.operators import Keep


class Watched:
    """``gate`` on tensors with a layer's parameters, which remembers the pre-activations."""

    def __init__(self, layer: gw.Recurrent, suffix: str) -> None:
        self.layer, self.suffix, self.seen = layer, suffix, {}

    def __getattr__(self, gate: str) -> Any:
        layer, h = self.layer, self.layer.hidden_size

        def block(name: str) -> Tensor:
            k = layer.cell.rows("weight_hh" if layer.redundant_bias else name).index(gate)
            return getattr(layer, name + self.suffix)[k * h : (k + 1) * h]

        def apply(x: Tensor, state: Tensor) -> Tensor:
            total = x @ block("weight_ih").T + state @ block("weight_hh").T + block("bias_ih")
            total = total + block("bias_hh") if layer.redundant_bias else total
            self.seen.setdefault(gate, []).append(total.as_subclass(Tensor))
            return total

        return apply


def gates_of(layer: gw.Recurrent, x: Tensor, states: list[Tensor]) -> list[dict[str, Tensor]]:
    """Gates by running the cell's Python function; for cells with fused gates."""
    found = []
    for k in range(layer.num_layers):
        outputs = []
        for d in range(layer.num_directions):
            gate = Watched(layer, f"_l{k}" + ("_reverse" if d else ""))
            current, ys = [s[k * layer.num_directions + d] for s in states], []
            for row in x.flip(0) if d else x:
                result = layer.cell.function(gate, named(row, "x"), *current)
                current = [v.as_subclass(Tensor) for v in (result if isinstance(result, tuple) else (result,))]
                ys.append(current[0])
            y = torch.stack(ys)
            values = {g: torch.stack(v).tanh() if g in "gn" else torch.stack(v).sigmoid() for g, v in gate.seen.items()}
            found.append({g: v.flip(0) if d else v for g, v in values.items()})
            outputs.append(y.flip(0) if d else y)
        x = torch.cat(outputs, -1)
    return found


@pytest.mark.parametrize("name", ["gru", "lstm"])
@pytest.mark.parametrize("options", STACKS.values(), ids=STACKS.keys())
@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_gates_are_those_of_the_function(name: str, options: dict[str, Any], backend: str) -> None:
    layer = LAYERS[name](dtype=torch.float64, **options)
    x, states = problem(layer)
    with gw.backend(backend):
        found = layer.trace(x, packed_states(states))
        y, final = layer(x, packed_states(states))
    assert isinstance(found, Trace)
    assert torch.equal(found.output, y)
    for mine, other in zip(tuple_of(found.state), tuple_of(final), strict=True):
        assert torch.equal(mine, other)
    with torch.no_grad():
        expected = gates_of(layer, x.transpose(0, 1) if layer.batch_first else x, states)
    assert list(found.gates) == list(layer.cell.gates)
    for gate, values in found.gates.items():
        own = torch.stack([e[gate] for e in expected])
        torch.testing.assert_close(values, own.transpose(1, 2) if layer.batch_first else own, rtol=1e-10, atol=1e-12)
        assert not values.requires_grad


@pytest.mark.parametrize("options", [STACKS["one"], STACKS["both ways"]], ids=["one", "both ways"])
def test_lengths_and_resets(options: dict[str, Any]) -> None:
    layer = gw.GRU(INPUT, HIDDEN, dtype=torch.float64, learn_initial_state=True, **options)
    with torch.no_grad():
        for name in layer._initial_names:
            getattr(layer, name).normal_()
    x, states = problem(layer)
    lengths = [4, 6, 0, 1]
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[3, 1] = True
    found = layer.trace(x, states[0], lengths=lengths, reset=reset)
    for b, length in enumerate(lengths):
        for gate, values in found.gates.items():
            assert not values[:, length:, b].any()
            if b != 1:
                alone = layer.trace(x[:length, b : b + 1], states[0][:, b : b + 1])
                torch.testing.assert_close(values[:, :length, b], alone.gates[gate][:, :, 0])
    then = layer.trace(x[3:, 1:2])
    for gate, values in found.gates.items():
        torch.testing.assert_close(values[0, 3:, 1], then.gates[gate][0, :, 0])


def test_keyword_inputs_and_unbatched() -> None:
    layer = gw.Recurrent(cells.augru, INPUT, HIDDEN)
    x, score = torch.randn(STEPS, INPUT), torch.rand(STEPS)
    found = layer.trace(x, attention=score)
    assert {g: tuple(v.shape) for g, v in found.gates.items()} == dict.fromkeys("rzn", (1, STEPS, HIDDEN))
    h = torch.cat([torch.zeros(1, HIDDEN), found.output[:-1]])
    z = found.gates["z"][0] * score[:, None]
    torch.testing.assert_close(found.output, (1 - z) * h + z * found.gates["n"][0])


SOME = {
    name: ALL[name] for name in ("gru_reset_after", "lstm_peephole", "rnn", "halves", "delayed", "driven", "masked")
}
SOME |= {"gru_z": cells.gru.pin(z=0.3), "lstm_f": cells.lstm.pin(f=1.0)}


@pytest.mark.parametrize(
    "made", [*SOME.values(), pytest.param(ALL["keywords"], marks=pytest.mark.slow)], ids=lambda c: c.name
)
@pytest.mark.parametrize(("batch", "cut"), [(2, False), (17, True)], ids=["few rows", "many rows that end and restart"])
def test_cells_keep_what_the_reference_keeps_and_the_bits_of_a_call(made: gw.Cell, batch: int, cut: bool) -> None:
    layer = gw.Recurrent(made, INPUT, HIDDEN, bidirectional=True, dtype=torch.float64)
    x, states = problem(layer, 4, batch)
    widths = {"input": INPUT, "hidden": HIDDEN}
    given: dict[str, Any] = {n: torch.rand(4, batch, int(widths.get(str(w), w)), dtype=x.dtype) for n, w in made.inputs}
    if cut:
        given |= {"lengths": torch.arange(batch) % 5, "reset": torch.rand(4, batch) < 0.3}
    found = layer.trace(x, packed_states(states), **given)
    y, final = layer(x, packed_states(states), **given)
    assert torch.equal(found.output, y)
    assert all(torch.equal(a, b) for a, b in zip(tuple_of(found.state), tuple_of(final), strict=True))
    with gw.backend("eager"):
        expected = layer.trace(x, packed_states(states), **given)
    assert list(found.gates) == list(made.gates) == list(expected.gates)
    for gate, values in expected.gates.items():
        torch.testing.assert_close(found.gates[gate], values, rtol=1e-10, atol=1e-12)


def test_no_steps_no_rows_and_no_values() -> None:
    layer = gw.GRU(INPUT, HIDDEN)
    assert layer.trace(torch.rand(0, 2, INPUT)).gates["z"].shape == (1, 0, 2, HIDDEN)
    assert layer.trace(torch.rand(2, 0, INPUT)).gates["z"].shape == (1, 2, 0, HIDDEN)
    assert layer.to("meta").trace(torch.rand(2, 3, INPUT, device="meta")).gates["z"].is_meta


def test_the_operator_keeps_torchs_rules() -> None:
    layer = gw.GRU(INPUT, HIDDEN)
    names = ("weight_ih", "weight_hh", "bias_ih")
    flat = [torch.rand(4, 2, INPUT), torch.rand(2, HIDDEN), *(getattr(layer, f"{n}_l0").detach() for n in names)]
    options = ops.CallOptions.text(f"cpu/{tiers.default().name}", False, Keep.NOTHING, (1, 0, 1), names)
    torch.library.opcheck(
        torch.ops.gatewise.trace,
        (layer.cell.text, options, flat, torch.zeros(3, 4, 2, HIDDEN)),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_a_projected_layer_has_no_trace() -> None:
    with pytest.raises(ValueError, match="trace is not available with proj_size"):
        gw.LSTM(3, 4, proj_size=2).trace(torch.rand(2, 1, 3))
