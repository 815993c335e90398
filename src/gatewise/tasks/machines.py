"""Where and how precisely a training runs: one process, several on a host, several hosts, with or without torchrun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gatewise.tasks.checks import check_integer, choice
from gatewise.tasks.errors import InputError

PRECISIONS = ("32-true", "bf16-mixed")
"""Of training, by Fabric's names: all in float32; or matrix products in bfloat16, the weights and sums in float32."""
ACCELERATORS = ("cpu", "cuda", "auto")
MOST_DEVICES = MOST_NODES = 1024
MEETING = ("MASTER_ADDR", "MASTER_PORT")
"""Where the processes of several hosts meet: the address of the first one, and a free port there."""
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", *MEETING)
"""What a launcher such as torchrun puts into the environment of every process that it starts."""


@dataclass(frozen=True)
class Place:
    """One process among those of a training.

    Args:
        rank: its number, from 0. world: how many there are. local_rank, local_world: the same on its host alone.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int

    @property
    def num_nodes(self) -> int:
        return self.world // self.local_world

    def environment(self, meeting: Mapping[str, str]) -> dict[str, str]:
        """As a launcher says it."""
        numbers = map(str, (self.rank, self.world, self.local_rank, self.local_world))
        return dict(zip(LAUNCHED, (*numbers, *(meeting.get(name, "") for name in MEETING)), strict=True))


def launched() -> Place | None:
    """What a launcher says of this process; None where none started it.

    Raises:
        InputError: for numbers that are none.
    """
    if any(name not in os.environ for name in LAUNCHED):
        return None
    place = Place(*(_number(name, MOST_DEVICES * MOST_NODES) for name in LAUNCHED[:4]))
    if place.world % max(1, place.local_world) or not place.rank < place.world >= place.local_world > place.local_rank:
        found = ", ".join(f"{name}={os.environ[name]}" for name in LAUNCHED[:4])
        raise InputError(f"the launcher must give every host the same number of processes, got {found}")
    return place


@dataclass(frozen=True)
class Machines:
    """Where and how precisely a training runs.

    Args:
        precision: ``32-true`` or ``bf16-mixed``. accelerator: ``cpu``, ``cuda``, or ``auto``: cuda where there is one.
        devices: processes on each host; on ``cuda`` each has a device of its own. num_nodes: hosts.

    A launcher (torchrun) says itself how many processes and hosts there are. Without one every host runs the same
    command, and of several each must know from its environment where they meet (``MASTER_ADDR``, ``MASTER_PORT``) and
    its own number from 0 (``NODE_RANK``).

    Raises:
        InputError: for a value out of range, a device that is not there, numbers that are not the launcher's, or a
            variable that is missing from the environment.
    """

    precision: str = PRECISIONS[0]
    accelerator: str = ACCELERATORS[0]
    devices: int = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        choice(*PRECISIONS)("precision", self.precision)
        choice(*ACCELERATORS)("accelerator", self.accelerator)
        most = max(8, 4 * (os.cpu_count() or 1)) if self.accelerator == "cpu" else MOST_DEVICES
        check_integer("devices", self.devices, 1, most)
        check_integer("num_nodes", self.num_nodes, 1, MOST_NODES)
        place = launched()
        if place is not None:
            for name, asked, is_ in (
                ("devices", self.devices, place.local_world),
                ("num_nodes", self.num_nodes, place.num_nodes),
            ):
                if asked not in (1, is_):
                    raise InputError(f"{name} is {is_}, as the launcher of this process says, got {asked}")
        elif self.num_nodes > 1:
            _check_meeting(self.num_nodes)
        if self.accelerator == "cuda":
            _check_cuda(self.devices if place is None else place.local_world)

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``."""
        if self.accelerator != "auto":
            return self.accelerator
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def places(self) -> list[Place]:
        """The processes that this host is to start, where no launcher did."""
        host = int(os.environ["NODE_RANK"]) if self.num_nodes > 1 else 0
        world = self.devices * self.num_nodes
        return [Place(host * self.devices + k, world, k, self.devices) for k in range(self.devices)]


def is_first(machines: Machines | None = None) -> bool:
    """Whether this process is the one that writes and prints: the first that a launcher started, and without a launcher
    the one on the host whose NODE_RANK is 0, where ``machines`` asks for several hosts."""
    place = launched()
    if place is not None:
        return place.rank == 0
    return machines is None or machines.num_nodes == 1 or os.environ["NODE_RANK"] == "0"


def _check_meeting(num_nodes: int) -> None:
    for name in (*MEETING, "NODE_RANK"):
        if not os.environ.get(name):
            raise InputError(
                f"{name} is missing from the environment: with num_nodes {num_nodes} and no launcher every host needs "
                "MASTER_ADDR, MASTER_PORT and NODE_RANK"
            )
    _number("MASTER_PORT", 65535)
    _number("NODE_RANK", num_nodes - 1)


def _number(name: str, most: int) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise InputError(f"{name} in the environment must be an integer from 0 to {most}, got {text!r}")
    return int(text)


def _check_cuda(devices: int) -> None:
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not found:
        raise InputError("accelerator: torch finds no CUDA device here, got 'cuda'")
    if devices > found:
        raise InputError(f"devices must be at most {found}, the number of CUDA devices here, got {devices}")
