"""A recurrent policy on CartPole without velocities: with done masks, without them, and without memory.

    python -m benches.policy [--json FILE]          # needs gymnasium: the extra "rl"

The pole's and the cart's speed are hidden, so that one observation does not say what to do. Proximal policy
optimisation (Schulman et al. 2017, arXiv 1707.06347) on rollouts of fixed length, in which episodes end and begin; one
thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import gatewise as gw

ENVIRONMENTS, STEPS, UNITS = 16, 64, 64
SCALE = np.array([1.0, 10.0], dtype=np.float32)  # the track is 2.4 m each way, the pole falls at 0.21
REWARD = 0.05  # of a step, so that the value's error does not drown the policy's gradient
DISCOUNT, LAMBDA, CLIP, ENTROPY, EPOCHS = 0.99, 0.95, 0.2, 0.01, 4

Mask = Callable[[Tensor], Tensor]
# What an agent makes of the flags of first steps, while acting and in training.
WAYS: dict[str, tuple[Mask, Mask]] = {
    "done masks": (torch.clone, torch.clone),
    "masks while acting only": (torch.clone, torch.zeros_like),
    "no masks": (torch.zeros_like, torch.zeros_like),
    "no memory": (torch.ones_like, torch.ones_like),
}


Row = tuple[Tensor, ...]


class Rollout(NamedTuple):
    """(STEPS + 1, ENVIRONMENTS) of each, the last row only for its value; and the state before the first step."""

    seen: Tensor
    first: Tensor  # this observation begins an episode
    over: Tensor  # this observation is an episode's last; what is done then counts for nothing
    fell: Tensor  # and the pole has fallen, where `over` is also set after 500 steps
    actions: Tensor
    rewards: Tensor
    outputs: Tensor
    state: Tensor


class Agent:
    """A GRU with a linear head: two actions and a value."""

    def __init__(self, way: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.acting, self.training = WAYS[way]
        self.layer, self.head = gw.GRU(2, UNITS), nn.Linear(UNITS, 3)
        self.parameters = [*self.layer.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, 3e-3)
        self.stream = self.layer.stream(ENVIRONMENTS)
        self.environments = gymnasium.make_vec("CartPole-v1", ENVIRONMENTS, vectorization_mode="vector_entry_point")
        self.observation = self.environments.reset(seed=seed)[0]
        self.over = self.fell = np.zeros(ENVIRONMENTS, dtype=bool)
        self.first = ~self.over
        self.lengths, self.finished = np.zeros(ENVIRONMENTS), list[float]()

    @torch.no_grad()
    def act(self) -> Rollout:
        self.stream.refresh()
        state, rows = self.stream.state, [self.take_step() for _ in range(STEPS)]
        kept = self.stream.state
        rows.append(self.look())
        self.stream.state = kept  # the last observation is also the first of the next rollout
        return Rollout(*map(torch.stack, zip(*rows, strict=True)), state)

    def look(self) -> Row:
        """What is seen, and what would be done."""
        seen = torch.from_numpy(self.observation[:, [0, 2]] * SCALE)
        first, over, fell = map(torch.from_numpy, (self.first, self.over, self.fell))
        self.stream.reset(self.acting(first))
        output = self.stream.step(seen)
        action = torch.distributions.Categorical(logits=self.head(output)[:, :2]).sample()
        return seen, first, over, fell, action, torch.zeros(ENVIRONMENTS), output

    def take_step(self) -> Row:
        *row, action, _, output = self.look()
        self.observation, reward, self.fell, late, _ = self.environments.step(action.numpy())
        self.first, self.over = self.over, self.fell | late
        self.lengths += reward
        self.finished += list(self.lengths[self.over])
        self.lengths[self.over] = 0
        return *row, action, torch.from_numpy(reward), output

    def learn(self, rollout: Rollout) -> None:
        with torch.no_grad():
            values = self.head(rollout.outputs)[..., 2]
            advantages = advantages_of(rollout, values)
            targets = (advantages + values)[:-1]
            old = chosen(self.head(rollout.outputs), rollout.actions)[:-1]
        live = ~rollout.over[:-1]
        scaled = (advantages[:-1] - advantages[:-1][live].mean()) / (advantages[:-1][live].std() + 1e-6)
        for _ in range(EPOCHS):
            y, _ = self.layer(rollout.seen[:-1], rollout.state, reset=self.training(rollout.first[:-1]))
            scores = self.head(y)
            logs = scores[..., :2].log_softmax(-1)
            ratio = (chosen(scores, rollout.actions[:-1]) - old).exp()
            gain = torch.minimum(ratio * scaled, ratio.clamp(1 - CLIP, 1 + CLIP) * scaled)
            entropy = -(logs.exp() * logs).sum(-1)
            error = functional.mse_loss(scores[..., 2], targets, reduction="none")
            loss = (0.5 * error - gain - ENTROPY * entropy)[live].mean()
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 0.5)
            self.optimizer.step()


def chosen(scores: Tensor, actions: Tensor) -> Tensor:
    """The logarithm of the probability of what was done."""
    return scores[..., :2].log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def advantages_of(rollout: Rollout, values: Tensor) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2015, arXiv 1506.02438); none crosses the end of an episode."""
    found = torch.zeros_like(values)
    for t in reversed(range(STEPS)):
        ahead = values[t + 1] * ~rollout.fell[t + 1]
        error = REWARD * rollout.rewards[t] + DISCOUNT * ahead - values[t]
        found[t] = (error + DISCOUNT * LAMBDA * found[t + 1] * ~rollout.over[t + 1]) * ~rollout.over[t]
    return found


def train(way: str, seed: int, updates: int) -> dict[str, float]:
    """The mean length of the last 100 episodes, and seconds of processor time."""
    agent, start = Agent(way, seed), time.thread_time()
    for _ in range(updates):
        agent.learn(agent.act())
    return {"length": float(np.mean(agent.finished[-100:])), "seconds": time.thread_time() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=150, help=f"of {ENVIRONMENTS} × {STEPS} steps each")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    report = {}
    for way in WAYS:
        report[way] = runs = [train(way, seed, given.updates) for seed in range(given.seeds)]
        lengths, seconds = [run["length"] for run in runs], statistics.median(run["seconds"] for run in runs)
        each = " ".join(f"{length:5.0f}" for length in lengths)
        print(f"{way:24} {statistics.mean(lengths):5.0f} of 500 steps (seeds:{each}), {seconds:.1f} s", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
