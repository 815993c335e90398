"""Exercises that are made, not collected: adding, copy memory, a chaotic series."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.tasks.exercises.base import HELD_OUT, VALIDATION, Array, Examples, Exercise
from gatewise.tasks.exercises.options import AddingOptions, CopyOptions, MackeyGlassOptions

_SEEDS = {"validation": (1, VALIDATION), "test": (2, HELD_OUT)}


class Made(Exercise):
    """Examples drawn anew for every batch; ``share`` below 1 draws them from a fixed set of that part of 10,000."""

    @abstractmethod
    def draw(self, size: int, generator: np.random.Generator) -> Examples:
        """That many examples."""

    @cached_property
    def _few(self) -> Examples:
        return self.draw(max(1, round(10_000 * self.options.share)), np.random.default_rng([3, self.options.span]))

    def training(self, size: int, generator: np.random.Generator) -> Examples:
        if self.options.share == 1.0:
            return self.draw(size, generator)
        few = self._few
        chosen = torch.from_numpy(generator.integers(few.targets.shape[1], size=size))
        return Examples(few.inputs[:, chosen], few.targets[:, chosen])

    def held_out(self, part: str) -> Examples:
        seed, size = _SEEDS[part]
        return self.draw(size, np.random.default_rng([seed, self.options.span]))


class Adding(Made):
    """The adding problem (Hochreiter & Schmidhuber 1997): numbers in [0, 1], two of them marked; their sum is asked at
    the end. One mark lies in the first half, so that it must be kept over ``span``/2 to ``span`` steps. Always saying 1
    has a mean squared error of 1/6."""

    options_type = AddingOptions
    name: ClassVar[str] = "adding"
    metric = "MSE"
    features = 2
    outputs: ClassVar[int] = 1

    def draw(self, size: int, generator: np.random.Generator) -> Examples:
        span = max(2, self.options.span)
        x: Array = np.zeros((span, size, 2), np.float32)
        x[..., 0] = generator.random((span, size), np.float32)
        rows = np.arange(size)
        first, second = generator.integers(span // 2, size=size), generator.integers(span // 2, span, size=size)
        x[first, rows, 1] = x[second, rows, 1] = 1.0
        return Examples(torch.from_numpy(x), torch.from_numpy((x[..., :1] * x[..., 1:]).sum(0, keepdims=True)))

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(output, targets)

    def measure(self, output: Tensor, targets: Tensor) -> float:
        return float(F.mse_loss(output.double(), targets.double()))

    def baselines(self, examples: Examples) -> dict[str, Tensor]:
        return {"always 1": torch.ones_like(examples.targets)}


class Copy(Made):
    """Copy memory (Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016, arXiv 1511.06464): five of eight symbols, then
    ``span`` empty steps, then a signal at which the symbols must be said in order. Guessing is wrong 87.5 % of the
    time."""

    options_type = CopyOptions
    name: ClassVar[str] = "copy"
    metric = "wrong %"
    features = 10
    outputs: ClassVar[int] = 8
    symbols: ClassVar[int] = 5

    @property
    def steps(self) -> int:
        return self.symbols

    def draw(self, size: int, generator: np.random.Generator) -> Examples:
        said = generator.integers(self.outputs, size=(self.symbols, size))
        signs = np.full((2 * self.symbols + self.options.span, size), self.outputs)
        signs[: self.symbols] = said
        signs[-self.symbols] = self.outputs + 1
        x = F.one_hot(torch.from_numpy(signs), self.features).float()
        return Examples(x, torch.from_numpy(said))

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), targets.flatten())

    def measure(self, output: Tensor, targets: Tensor) -> float:
        return 100 * float((output.argmax(-1) != targets).double().mean())

    def baselines(self, examples: Examples) -> dict[str, Tensor]:
        return {"guessing": F.one_hot(torch.zeros_like(examples.targets), self.outputs).float()}


@lru_cache(maxsize=1)
def mackey_glass() -> Array:
    """The series of Mackey & Glass 1977, dx/dt = 0.2 x(t-17) / (1 + x(t-17)¹⁰) - 0.1 x, once per unit of time from
    t = 500 on (Runge-Kutta of order 4 in steps of 0.1), scaled to mean 0 and deviation 1; (5000,)."""
    per_unit, delay = 10, 170
    x = np.full(delay + 1 + per_unit * 5500, 1.2)

    def slope(now: float, past: float) -> float:
        return 0.2 * past / (1.0 + past**10) - 0.1 * now

    for t in range(delay, len(x) - 1):
        past, following = x[t - delay], x[t - delay + 1]
        middle = 0.5 * (past + following)
        a = slope(x[t], past)
        b = slope(x[t] + 0.05 * a, middle)
        c = slope(x[t] + 0.05 * b, middle)
        d = slope(x[t] + 0.1 * c, following)
        x[t + 1] = x[t] + 0.1 / 6 * (a + 2 * b + 2 * c + d)
    series = x[delay + 1 :: per_unit][500:]
    return np.asarray((series - series.mean()) / series.std(), np.float32)


class MackeyGlass(Exercise):
    """A chaotic series: at every step of a window of 100 the value ``span`` steps ahead is asked. The error is in units
    of the series' deviation. In time: 3000 steps to train, 1000 to validate, 1000 held out."""

    options_type = MackeyGlassOptions
    name: ClassVar[str] = "mackey_glass"
    metric = "RMSE"
    features = 1
    outputs: ClassVar[int] = 1
    window: ClassVar[int] = 100
    warm: ClassVar[int] = 20
    """Steps at the start of a window whose answers do not count."""

    @property
    def steps(self) -> int:
        return self.window - self.warm

    def at(self, starts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Examples:
        series = mackey_glass()
        steps = np.arange(self.window)[:, None] + starts
        x, y = series[steps][..., None], series[steps[self.warm :] + self.options.span][..., None]
        return Examples(torch.from_numpy(x), torch.from_numpy(y))

    def _last(self, end: int) -> int:
        return max(1, end - self.window - self.options.span)

    def training(self, size: int, generator: np.random.Generator) -> Examples:
        end = max(self.window + self.options.span + 1, round(3000 * self.options.share))
        return self.at(generator.integers(self._last(end), size=size))

    def held_out(self, part: str) -> Examples:
        start = 3000 if part == "validation" else 4000
        return self.at(np.arange(start, start + self._last(1000), 5))

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(output, targets)

    def measure(self, output: Tensor, targets: Tensor) -> float:
        return float(F.mse_loss(output.double(), targets.double()).sqrt())

    def baselines(self, examples: Examples) -> dict[str, Tensor]:
        return {"last value": examples.inputs[self.warm :]}
