"""JAX: ``lax.scan`` over the equations, compiled by XLA; training by ``jax.vjp`` in the same compiled function.

The input product stands in the step, as in Flax and Equinox: taken for all steps at once it was never faster here
(8,200,128,256: 13.8 ms against 7.9; train 32,100,128,256: 94 against 69), nor was the loop unrolled by 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from torch import Tensor

from benches.problem import Problem, Run, named
from benches.shapes import STEP

Weights = dict[str, Any]
# The caller computes instead of waking a thread that does: nothing is done meanwhile, and it took less time.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def start(problem: Problem, after: bool, threads: int) -> Run:
    """The number of threads is that of the process, see ``environment``."""
    # Weights lie (in, out), as Flax keeps them.
    weights = {name: jnp.asarray(value.numpy().T) for name, value in problem.parameters.items()}
    x = jnp.asarray(problem.x.numpy())
    step = _after if after else _before
    if problem.kind == STEP:
        return _steps(step, weights if after else _divided(weights), x, problem.sizes[1])

    def forward(weights: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        weights = weights if after else _divided(weights)

        def body(h: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = step(weights, row, h)
            return h, h

        final, y = lax.scan(body, jnp.zeros((x.shape[1], problem.sizes[1]), x.dtype), x)
        return y, final[None]

    if not problem.training:
        run = jax.jit(forward)
        return Run(lambda: jax.block_until_ready(run(weights, x)), lambda: named(_tensors(run(weights, x))))
    dy = jnp.asarray(problem.dy.numpy())

    @jax.jit
    def train(weights: Weights, x: jax.Array, dy: jax.Array) -> tuple[Any, Any]:
        outputs, backward = jax.vjp(forward, weights, x)
        return outputs, backward((dy, jnp.zeros_like(outputs[1])))

    return Run(lambda: jax.block_until_ready(train(weights, x, dy)), lambda: _gradients(train(weights, x, dy)))


def _steps(step: Any, weights: Weights, x: jax.Array, units: int) -> Run:
    run, h0 = jax.jit(step), jnp.zeros((x.shape[1], units))
    row = x[0]

    def results() -> dict[str, Tensor]:
        outputs, h = [], h0
        for t in range(len(x)):
            h = run(weights, x[t], h)
            outputs.append(h)
        return {"y": torch.stack(_tensors(outputs))}

    return Run(lambda: run(weights, row, h0).block_until_ready(), results)


def _after(weights: Weights, x: jax.Array, h: jax.Array) -> jax.Array:
    gx = x @ weights["weight_ih_l0"] + weights["bias_ih_l0"]
    gh = h @ weights["weight_hh_l0"] + weights["bias_hh_l0"]
    (rx, zx, nx), (rh, zh, nh) = jnp.split(gx, 3, 1), jnp.split(gh, 3, 1)
    r, z = jax.nn.sigmoid(rx + rh), jax.nn.sigmoid(zx + zh)
    n = jnp.tanh(nx + r * nh)
    return (1 - z) * n + z * h


def _divided(weights: Weights) -> Weights:
    """Gates and candidate apart: divided within the loop, XLA copies them at each step: 2 to 4 times the time."""
    units = weights["weight_hh_l0"].shape[0]
    return {**weights, "gates": weights["weight_hh_l0"][:, : 2 * units], "n": weights["weight_hh_l0"][:, 2 * units :]}


def _before(weights: Weights, x: jax.Array, h: jax.Array) -> jax.Array:
    gx = x @ weights["weight_ih_l0"] + weights["bias_ih_l0"]
    rx, zx, nx = jnp.split(gx, 3, 1)
    rh, zh = jnp.split(h @ weights["gates"], 2, 1)
    r, z = jax.nn.sigmoid(rx + rh), jax.nn.sigmoid(zx + zh)
    n = jnp.tanh(nx + (r * h) @ weights["n"])
    return (1 - z) * n + z * h


def _gradients(results: tuple[Any, tuple[Mapping[str, Any], Any]]) -> dict[str, Tensor]:
    outputs, (weights, x) = results
    found = _tensors([*outputs, x, *(value.T for value in weights.values())])
    return named(found, ["x", *weights])


def _tensors(arrays: Any) -> list[Tensor]:
    return [torch.from_numpy(np.array(a)) for a in arrays]
