"""The layer's weights as other libraries order them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor


def blocks(value: Tensor | np.ndarray, order: str) -> np.ndarray:
    """The three row blocks r, z, n of a weight or bias in another order."""
    rows = dict(zip("rzn", np.split(np.asarray(value), 3), strict=True))
    return np.concatenate([rows[name] for name in order])


def biases(parameters: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Both biases; that of the state is zero where the formula has none."""
    own = parameters["bias_ih_l0"].numpy()
    other = parameters.get("bias_hh_l0")
    return own, np.zeros_like(own) if other is None else other.numpy()
