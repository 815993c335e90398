"""Large memory asks the system for large pages; small memory does not, and what is written stays."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

import gatewise as gw
from gatewise.backends.cpu import pages

SMAPS = Path("/proc/self/smaps")
linux = pytest.mark.skipif(
    not (hasattr(mmap, "MADV_HUGEPAGE") and SMAPS.exists()), reason="the system tells nothing of large pages"
)


def asked(address: int) -> bool:
    """Whether the mapping that holds an address was asked to take large pages."""
    inside = False
    for line in SMAPS.read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            low, high = (int(end, 16) for end in name.split("-"))
            inside = low <= address < high
        elif inside and name == "VmFlags:":
            return "hg" in rest
    return False


@linux
def test_large_memory_is_asked_for_in_large_pages() -> None:
    large = pages.empty((40 << 20,), torch.uint8)  # too large for the heap: a mapping of its own
    assert asked(large.data_ptr() + large.nbytes // 2)


@linux
def test_only_whole_pages_of_the_memory_are_asked_for() -> None:
    with mmap.mmap(-1, 64 * mmap.PAGESIZE) as memory:
        address = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
        pages.ask(address + mmap.PAGESIZE // 2, 3 * mmap.PAGESIZE)
        found = [asked(address + k * mmap.PAGESIZE) for k in range(5)]
    assert found == [False, True, True, False, False]


def test_results_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every allocation large, where pages are whole and where they are not."""
    layer, x = gw.GRU(5, 33), torch.randn(70, 9, 5)
    wanted = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
    monkeypatch.setattr(pages, "WORTH", 0)
    found = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
    assert all(map(torch.equal, found, wanted))
