"""Hand-written digits, read pixel by pixel."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.tasks.errors import InputError, need
from gatewise.tasks.exercises.base import Examples, Exercise
from gatewise.tasks.exercises.options import DigitsOptions

_ENDS = {"training": (0, 1200), "validation": (1200, 1450), "test": (1450, 1797)}


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], (1797, 64), and classes, in an order shuffled once and for all."""
    need("sklearn", "study")
    from sklearn.datasets import load_digits

    held = load_digits()
    order = np.random.default_rng(0).permutation(len(held.target))
    return torch.from_numpy(held.data[order] / 16).float(), torch.from_numpy(held.target[order]).long()


class Digits(Exercise):
    """The digits of scikit-learn (Alpaydin & Kaynak 1998; 1797 images of 8 x 8), a row of pixels after the other; which
    of the ten it was is asked at the end. ``span`` is the number of steps: 64 for a pixel a step, 8 for a row of eight
    a step. ``share`` is the part of the 1200 training images that may be seen."""

    options_type = DigitsOptions
    name: ClassVar[str] = "digits"
    metric = "wrong %"
    outputs: ClassVar[int] = 10

    @property
    def features(self) -> int:
        return 64 // self.options.span

    def read(self, data: Any, validation: Any = None) -> None:
        super().read(data, validation)
        if 64 % self.options.span:
            raise InputError(f"span must divide the 64 pixels of a digit, got {self.options.span}")
        _digits()

    def _of(self, indices: Tensor) -> Examples:
        pixels, classes = _digits()
        x = pixels[indices].reshape(len(indices), self.options.span, self.features).transpose(0, 1).contiguous()
        return Examples(x, classes[indices][None])

    def training(self, size: int, generator: np.random.Generator) -> Examples:
        count = max(1, round(_ENDS["training"][1] * self.options.share))
        return self._of(torch.from_numpy(generator.integers(count, size=size)))

    def held_out(self, part: str) -> Examples:
        return self._of(torch.arange(*_ENDS[part]))

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(output[0], targets[0])

    def measure(self, output: Tensor, targets: Tensor) -> float:
        return 100 * float((output.argmax(-1) != targets).double().mean())

    def baselines(self, examples: Examples) -> dict[str, Tensor]:
        _, classes = _digits()
        common = int(classes[: _ENDS["training"][1]].bincount().argmax())
        return {"most frequent": F.one_hot(torch.full_like(examples.targets, common), self.outputs).float()}
