"""The processes of one training as each sees the others: how they meet, what they tell, and when one is lost."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from gatewise.tasks.errors import InputError
from gatewise.tasks.machines import Machines, Place

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")
STEP = timedelta(minutes=30)
"""How long a step waits for the other processes. One that ended is noticed at once; a host without power is not."""
VALIDATION = timedelta(days=7)
"""How long the others wait while the first process validates."""
INTERFACE = "GLOO_SOCKET_IFNAME"


class LostError(InputError):
    """Another process of the training ended, or its host cannot be reached."""


class Together:
    """What the processes of a training say to each other; where there is one alone, it keeps to itself."""

    def __init__(self, fabric: Fabric, waiting: Any = None) -> None:
        self.fabric, self._waiting = fabric, waiting
        self.rank, self.world = fabric.global_rank, fabric.world_size

    def told(self, value: T) -> T:
        """What the first process has; the others wait for it as long as a validation may take."""
        if self.world == 1:
            return value
        held: list[Any] = [value]
        distributed.broadcast_object_list(held, 0, group=self._waiting)
        told: T = held[0]
        return told

    def mean(self, value: float) -> float:
        """The mean over all processes."""
        if self.world == 1:
            return value
        sum_ = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(sum_, group=self._waiting)
        return float(sum_) / self.world


@contextmanager
def alone(machines: Machines) -> Iterator[Together]:
    """A training in this process alone."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    here = [LightningEnvironment()]  # whatever a cluster says of other processes
    yield Together(Fabric(accelerator=machines.device_type, devices=1, plugins=[*here, *_mixed(machines)]))


@contextmanager
def joined(machines: Machines, place: Place, meeting: Path | None = None) -> Iterator[Together]:
    """A training in several processes, of which this is one, as its environment says.

    On one host they hear each other on the loopback interface alone. A process group that exists already is used.

    Args:
        meeting: a file by which the processes of one host find each other; else they meet at ``MASTER_ADDR``.

    Raises:
        LostError: when one of the others ended, or is not found.
    """
    own = not distributed.is_initialized()
    if own:
        _meet(machines, place, meeting)
    try:
        with _told_when_lost():
            waiting = distributed.new_group(backend="gloo", timeout=VALIDATION)
            yield Together(_fabric(machines, place), waiting)
            distributed.barrier(group=waiting)
    finally:
        if own:
            distributed.destroy_process_group()  # its threads abort a process that ends while they run


def _fabric(machines: Machines, place: Place) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    plugins = [TorchElasticEnvironment(), *_mixed(machines)]  # it reads what every launcher says
    how: dict[str, Any] = {"devices": place.local_world, "num_nodes": place.num_nodes, "plugins": plugins}
    fabric = Fabric(accelerator=machines.device_type, strategy="ddp", **how)
    fabric.launch()
    return fabric


def _mixed(machines: Machines) -> list[Any]:
    from lightning_fabric.plugins import MixedPrecision

    kind = machines.device_type
    return [MixedPrecision("bf16-mixed", device=kind)] if machines.precision == "bf16-mixed" else []


def _meet(machines: Machines, place: Place, meeting: Path | None) -> None:
    backend = "gloo" if machines.device_type == "cpu" else "cpu:gloo,cuda:nccl"
    if INTERFACE not in os.environ and (name := _interface(place)):
        os.environ[INTERFACE] = name
    how: dict[str, Any] = {}
    if meeting is not None:
        how = {"init_method": meeting.as_uri(), "rank": place.rank, "world_size": place.world}
    try:
        distributed.init_process_group(backend, timeout=STEP, **how)
    except (RuntimeError, ValueError) as error:
        at = "" if meeting is not None else f" at {os.environ['MASTER_ADDR']} port {os.environ['MASTER_PORT']}"
        why = str(error).splitlines()[0].strip()
        raise LostError(f"the processes of this training did not find each other{at}: {why}") from error


@contextmanager
def _told_when_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise LostError("another process of this training ended, or its host cannot be reached any more") from error


def _is_lost(error: RuntimeError) -> bool:
    """Gloo has no class of errors: it names the file that noticed. What it calls a mistake of the caller is none."""
    return isinstance(error, distributed.DistError) or ("/gloo/" in str(error) and "enforce fail" not in str(error))


def _interface(place: Place) -> str | None:
    """The network interface for gloo, which else takes the one of the host's name: on many hosts that is the loopback
    interface, where no other host hears it. None: gloo shall choose."""
    if place.num_nodes == 1:
        return {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))  # asks the routes, sends nothing
        return _named_by(probe, probe.getsockname()[0])
    return None


if sys.platform == "linux":
    import fcntl

    def _named_by(any_socket: socket.socket, address: str) -> str | None:
        """The interface that has an IPv4 address (SIOCGIFADDR, see netdevice(7))."""
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # one without an address
                found = fcntl.ioctl(any_socket.fileno(), 0x8915, struct.pack("256s", name.encode()))[20:24]
                if socket.inet_ntoa(found) == address:
                    return name
        return None

else:

    def _named_by(any_socket: socket.socket, address: str) -> str | None:
        return None
