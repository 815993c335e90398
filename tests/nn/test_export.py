"""A model around a layer, exported with any batch and number of steps, runs in a process that never saw its code."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import gatewise as gw

RELOAD = """
import sys, torch, gatewise
program = torch.export.load(sys.argv[1]).module()
for x, y in torch.load(sys.argv[2]):
    assert torch.equal(program(x), y)
print("done")
"""


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.read = gw.GRU(4, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.layer(x)[0].relu())


def test_export_with_dynamic_sizes_and_reload_in_a_fresh_process(tmp_path: Path) -> None:
    model = Tagger().eval()
    sizes = {0: torch.export.Dim("batch", min=2), 1: torch.export.Dim("steps", min=2)}
    with torch.no_grad():
        program = torch.export.export(model, (torch.randn(5, 6, 4),), dynamic_shapes=({**sizes},))
        torch.export.save(program, tmp_path / "model.pt2")
        inputs = [torch.randn(b, t, 4) for b, t in ((5, 6), (2, 9), (17, 3))]
        torch.save([(x, program.module()(x)) for x in inputs], tmp_path / "data.pt")
        for x in inputs:
            torch.testing.assert_close(program.module()(x), model(x))
    command = [sys.executable, "-c", RELOAD, str(tmp_path / "model.pt2"), str(tmp_path / "data.pt")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "done", result.stderr
