"""Flax and Equinox themselves: live modules, parameters and files, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formats.samples import LAYERS, layer

import gatewise as gw
from gatewise.errors import InputError

jax = pytest.importorskip("jax", exc_type=ImportError)
linen = pytest.importorskip("flax.linen", exc_type=ImportError)
nnx = pytest.importorskip("flax.nnx", exc_type=ImportError)
equinox = pytest.importorskip("equinox", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore:layer .* activations are not stored:UserWarning")

X = np.random.default_rng(1).normal(size=(3, 6, 3)).astype(np.float32)
CELLS = ("GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell")


def random_like(tree: Any) -> Any:
    random = np.random.default_rng(2)
    return jax.tree_util.tree_map(lambda v: jax.numpy.asarray(random.normal(size=v.shape), v.dtype), tree)


def nnx_filled(module: Any) -> Any:
    nnx.update(module, random_like(nnx.state(module, nnx.Param)))
    return module


def same(theirs: Any, ours: Any) -> None:
    with torch.no_grad():
        ours.batch_first = True
        y = ours(torch.from_numpy(X))[0].numpy()
    np.testing.assert_allclose(y, np.asarray(theirs), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", CELLS)
def test_nnx(kind: str) -> None:
    def run() -> Any:
        return nnx.RNN(getattr(nnx, kind)(3, 4, rngs=nnx.Rngs(0)))

    theirs = nnx_filled(run())
    same(theirs(X), gw.formats.layer(theirs))
    same(theirs(X), gw.formats.layer(theirs.cell))
    both = nnx_filled(nnx.Bidirectional(run(), run()))
    same(both(X), gw.formats.layer(both))


@pytest.mark.parametrize("kind", CELLS)
def test_linen(kind: str) -> None:
    def run() -> Any:
        return linen.RNN(getattr(linen, kind)(4))

    for module in (run(), linen.Bidirectional(run(), run())):
        variables = random_like(module.init(jax.random.key(0), X))
        same(module.apply(variables, X), gw.formats.layer(module, variables=variables))
        same(module.apply(variables, X), gw.formats.layer(variables))


def test_activations_of_live_cells_are_those_they_have() -> None:
    theirs = nnx_filled(
        nnx.RNN(nnx.GRUCell(3, 4, gate_fn=jax.nn.hard_sigmoid, activation_fn=jax.nn.relu, rngs=nnx.Rngs(0)))
    )
    same(theirs(X), gw.formats.layer(theirs))
    for module, sentence in (
        (nnx.GRUCell(3, 4, activation_fn=jax.nn.gelu, rngs=nnx.Rngs(0)), "the activation gelu is none of those"),
        (nnx.SimpleCell(3, 4, residual=True, rngs=nnx.Rngs(0)), "residual=True adds the state once more"),
    ):
        with pytest.raises(InputError, match=sentence):
            gw.formats.layer(module)


def test_backwards() -> None:
    theirs = nnx_filled(nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)), reverse=True, keep_order=True))
    ours = gw.formats.layer(theirs)
    with torch.no_grad():
        np.testing.assert_allclose(ours(torch.from_numpy(X))[0].numpy(), np.asarray(theirs(X)), atol=1e-5)


@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
@pytest.mark.parametrize("bias", [True, False])
def test_equinox(kind: str, bias: bool) -> None:
    cell = random_like(getattr(equinox.nn, kind)(3, 4, use_bias=bias, key=jax.random.key(0)))
    states = jax.numpy.zeros((3, 4))
    states = states if kind == "GRUCell" else (states, states)
    outputs = []
    for t in range(6):
        states = jax.vmap(cell)(X[:, t], states)
        outputs.append(states[0] if isinstance(states, tuple) else states)
    same(jax.numpy.stack(outputs, 1), gw.formats.layer(cell))


class Larger(nnx.Module):
    def __init__(self) -> None:
        self.encoder = nnx.RNN(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)))
        self.head = nnx.Linear(4, 2, rngs=nnx.Rngs(0))


def test_cells_inside_larger_modules() -> None:
    assert [one.name for one in gw.formats.find(nnx_filled(Larger()))] == ["encoder"]
    with pytest.raises(InputError, match="a linen module holds no weights: give its variables"):
        gw.formats.find(linen.Dense(3))
    for module in (linen.MGUCell(4), linen.RNN(linen.MGUCell(4))):
        with pytest.raises(InputError, match="MGUCell is no cell of linen that Gatewise computes"):
            gw.formats.find(module, variables={"params": {}})


ROUTES = {"nnx": gw.formats.to_flax, "linen": lambda own: gw.formats.to_flax(own, "linen")}


@pytest.mark.parametrize("kind", ["nnx", "linen", "equinox"])
@pytest.mark.parametrize(
    "name", ["lstm", "gru without biases", "rnn relu", "gru_reset_after", "LSTMCell", "lstm_coupled"]
)
def test_out_and_in_again(name: str, kind: str) -> None:
    own = layer(name)
    convert = ROUTES.get(kind, gw.formats.to_equinox)
    if (name, kind) in (("gru_reset_after", "nnx"), ("rnn relu", "equinox")):
        with pytest.raises(InputError, match=r"no place for the second bias of gate n|no cell of the formula rnn"):
            convert(own)
        return
    made = convert(own)
    if name in ("LSTMCell",):
        return
    y = X
    if kind == "nnx":
        for module in made:
            y = module(y)
    elif kind == "linen":
        for module, variables in made:
            y = module.apply(variables, y)
    else:
        assert len(made) == own.num_layers * own.num_directions
        return
    same(y, own)


@pytest.mark.parametrize("to", ["flax", "linen"])
@pytest.mark.parametrize("suffix", [".msgpack", ".npz", ".safetensors"])
def test_files(to: str, suffix: str, tmp_path: Path) -> None:
    own = layer("lstm")
    report = gw.formats.convert(own, to, tmp_path / f"out{suffix}")
    assert report.rows[0].written_against.startswith("flax ")
    layers = gw.formats.layers(tmp_path / f"out{suffix}")
    assert list(layers) == ["l0", "l1"]
    for k, one in enumerate(layers.values()):
        assert torch.equal(one.layer.weight_hh_l0, getattr(own, f"weight_hh_l{k}"))


def test_what_flax_saved_and_bad_files(tmp_path: Path) -> None:
    import flax.serialization

    cell = linen.GRUCell(4)
    variables = random_like(cell.init(jax.random.key(0), np.zeros((2, 4)), np.zeros((2, 3))))
    content = flax.serialization.to_bytes(variables)
    (tmp_path / "good.msgpack").write_bytes(content)
    assert list(gw.formats.layers(tmp_path / "good.msgpack")) == [""]
    for bad, sentence in (
        (content[: len(content) // 2], "is damaged, or Flax did not write it"),
        (b"\x93\x01\x02\x03", "must hold a tree of parameters, got list"),
        (b"hello", "is damaged, or Flax did not write it|must hold a tree"),
    ):
        (tmp_path / "bad.msgpack").write_bytes(bad)
        with pytest.raises(InputError, match=sentence):
            gw.formats.layers(tmp_path / "bad.msgpack")


def test_float64_needs_jaxs_own_switch() -> None:
    with pytest.raises(InputError, match="JAX makes float32 unless jax_enable_x64 is set"):
        gw.formats.to_equinox(layer("lstm in float64"))


def test_every_layer_has_its_refusals_in_words() -> None:
    for name in ("gru", "gru_renew", "lstm_peephole", "lstm proj_size", "mgu"):
        with pytest.raises(InputError, match=r"no weights make|no peepholes|no place|Gatewise alone"):
            gw.formats.to_flax(LAYERS[name]())
