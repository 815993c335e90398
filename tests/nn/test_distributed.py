"""A user's own model around our layers on two processes, in torch's wrappers: the losses of one process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

import gatewise as gw

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ROWS, STEPS = 6, 4
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: gw.GRU(5, 8, num_layers=2, bidirectional=True, reset_after=True),
    "lstm": lambda: gw.LSTM(5, 16, recompute=True),
    "peephole": lambda: gw.Recurrent(gw.cells.get("lstm_peephole"), 5, 16, learn_initial_state=True),
}
WRAPPERS = ("ddp", "fully_shard", "fully_shard each", "FullyShardedDataParallel")


class Model(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.inner, self.layer, self.head = nn.Linear(3, 5), LAYERS[kind](), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.inner(x))[0])


def wrapped(model: Model, how: str) -> nn.Module:
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    if how == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if how == "FullyShardedDataParallel":
        return fsdp.FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    mesh = init_device_mesh("cpu", (2,))
    if how == "fully_shard each":
        fsdp.fully_shard(model.layer, mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    return model


def losses(model: nn.Module, rank: int = 0, world: int = 1) -> list[float]:
    """Of some steps of a training on the rows of a process; the mean over the processes."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    found = []
    for step in range(STEPS):
        x = torch.from_numpy(np.random.default_rng(step).normal(size=(7, ROWS, 3))).float()[:, rank::world]
        loss = ((model(x)[..., 0] - x.sum(-1)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mean = loss.detach() / world
        if world > 1:
            torch.distributed.all_reduce(mean)
        found.append(float(mean))
    return found


def both(rank: int, folder: Path) -> None:
    """One of two processes: all layers in all wrappers, and what is refused."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    meeting = (folder / "meeting").as_uri()
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for kind in LAYERS:
        for how in WRAPPERS:
            found[f"{kind} {how}"] = losses(wrapped(Model(kind), how), rank, 2)
    found["refused"] = refused(wrapped(Model("lstm"), "fully_shard"))
    torch.distributed.destroy_process_group()
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))


def refused(model: Any) -> list[str]:
    """What a layer says whose weights lie in parts elsewhere, used outside of the model that gathers them."""
    said = []
    for use in (lambda: model.layer(torch.ones(2, 1, 5)), lambda: model.layer.stream()):
        try:
            use()
            said.append("")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two")
    spawn(both, (folder,), nprocs=2)
    read: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return read


@pytest.mark.parametrize("how", WRAPPERS)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_losses_are_those_of_one_process(found: dict[str, Any], kind: str, how: str) -> None:
    alone = losses(Model(kind))
    assert found[f"{kind} {how}"] == pytest.approx(alone, rel=1e-5)
    assert alone[-1] != alone[0]


def test_a_layer_whose_weights_are_elsewhere_refuses(found: dict[str, Any]) -> None:
    call, stream = found["refused"]
    assert call.startswith("RuntimeError: gatewise.forward.default got mixed torch.Tensor and DTensor")
    assert "parameter weight_ih of layer 0 must have memory for shape (64, 5), got a storage of 0 bytes" in stream
