"""Which settings a network tries, and which of them is its best: learning rate and start, by validation alone."""

from __future__ import annotations

from collections.abc import Mapping

from gatewise.study.trial.plan import LADDER, Network, Scale, Setting
from gatewise.tasks.registry import task_named


def grid(scale: Scale, network: Network) -> list[Setting]:
    """What every network tries with the first seed: each rate from each start."""
    return [Setting(rate, start) for start in network.starts for rate in scale.rates]


def best(network: Network, tried: Mapping[Setting, tuple[float, int]]) -> Setting:
    """The setting with the best validation figure. Of settings that solved the task, where training stops then, it is
    the one that did in the fewest steps: their figures all lie just below the same bound.

    Args:
        tried: validation figure and training steps of a setting.
    """
    sign = -1 if task_named(network.task).higher_is_better else 1

    def rank(setting: Setting) -> tuple[bool, float, float, int, float]:
        value, steps = tried[setting]
        done = network.stops and sign * value <= sign * network.goal.solved
        tie = network.starts.index(setting.start), setting.rate  # whichever was fitted first, in a trial gone on with
        return not done, steps if done else 0.0, sign * value, *tie

    return min(tried, key=rank)


def at_edge(setting: Setting, tried: Mapping[Setting, tuple[float, int]]) -> list[Setting]:
    """The settings beyond the edge of the rates tried from a start, where this one stands at it; none inside, and none
    beyond the ladder."""
    rates = [one.rate for one in tried if one.start == setting.start]
    lower = [rate for rate in LADDER if rate < 0.99 * min(rates)][-1:] if setting.rate == min(rates) else []
    upper = [rate for rate in LADDER if rate > 1.01 * max(rates)][:1] if setting.rate == max(rates) else []
    return [Setting(rate, setting.start) for rate in lower + upper]
