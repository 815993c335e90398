"""The GPU as a backend: plans become structs of a skeleton in CUDA C++, compiled by NVRTC when they are needed.

On cards whose kernels were run and compared with float64 (``card.PROVED``) calls choose it by themselves; on others,
for which kernels are compiled and proved on the host alone, it runs where it is asked for by name,
``with gatewise.backend("cuda")`` or GATEWISE_BACKEND=cuda.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gatewise.compiler.text import parse
from gatewise.torch_internals import constant

if TYPE_CHECKING:
    from gatewise.backends.base import Backend, Engine, Meaning
    from gatewise.backends.cuda.gpu import Gpu
    from gatewise.compiler.cell import Cell

TIERS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "tf32"}
"""What products are taken in, by what they are asked for in."""
UNPROVED = (
    "the cuda backend was not run on a card of this kind ({}) yet, so it must be asked for by name "
    "(with gatewise.backend('cuda') or GATEWISE_BACKEND=cuda)"
)


@constant
def _problem() -> str:
    """Why no kernel can run here; empty where one can. A constant to torch.compile."""
    return _found_problem()


@functools.cache
def _found_problem() -> str:
    from gatewise.backends.cuda import card, driver, nvrtc

    if not torch.cuda.is_available() or driver.library() is None:
        return "the cuda backend needs a GPU of NVIDIA, its driver and a torch that was built for CUDA"
    if not hasattr(driver.library(), "cuLaunchKernelEx"):
        return "the cuda backend needs a driver of CUDA 11.8 or later"
    if nvrtc.library() is None:
        return "the cuda backend needs NVRTC, which is not installed (pip install 'gatewise[cuda]')"
    found = [torch.cuda.get_device_capability(k) for k in range(torch.cuda.device_count())]
    # Of several cards one that is too old is found out where a call is on it.
    return "" if any(card.architecture(*each) for each in found) else card.TOO_OLD.format(*found[0])


@constant
def _roomless(cell: str, tier: str, index: int | None, units: int) -> str:
    from gatewise.backends.cuda import calls, gpu, room
    from gatewise.backends.cuda.card import PROVED

    try:
        card = gpu.gpu(torch.cuda.current_device() if index is None else index).card
    except gpu.OldCardError as error:
        return str(error)
    if card.architecture not in PROVED:
        return UNPROVED.format(card.architecture)
    return room.problem(_parsed(cell), calls.NUMBERS[tier], units, card)


def _cards() -> str:
    """What ``gatewise info`` prints where kernels can run."""
    from gatewise.backends.cuda.card import PROVED, architecture

    said = []
    for k in range(torch.cuda.device_count()):
        name = architecture(*torch.cuda.get_device_capability(k))
        unproved = "" if name in PROVED or not name else ", " + UNPROVED.format(name).partition(", so it ")[2]
        said.append(f"{torch.cuda.get_device_name(k)} ({name or 'too old'}{unproved})")
    return f"kernels in {', '.join(TIERS.values())} for {'; '.join(said)}"


_parsed = functools.lru_cache(maxsize=256)(parse)


def _tf32_allowed() -> bool:
    """Whether torch takes float32 products of its RNNs in TF32, as it does where nothing else was said. The setting has
    one name per operator since torch 2.9; ``allow_tf32 = False`` reads as ``none`` there."""
    precision = getattr(torch.backends.cudnn.rnn, "fp32_precision", None)
    return bool(torch.backends.cudnn.allow_tf32) if precision is None else precision == "tf32"


class Cuda:
    """See ``base.Backend``."""

    name, dispatch_key = "cuda", "CUDA"
    together = None

    def offer(self, device: str, dtype: torch.dtype, half_products: bool) -> tuple[str, str, bool]:
        if device != "cuda":
            return f"the cuda backend computes on a GPU, but the tensors are on {device}", "", False
        if dtype not in TIERS:
            known = "float32, float16 and bfloat16"
            return f"the cuda backend computes in {known}, but the tensors are {str(dtype).split('.')[-1]}", "", False
        if dtype == torch.float32 and not half_products and not _tf32_allowed():
            asked = "torch asks for full float32 (torch.backends.cudnn.rnn.fp32_precision, or allow_tf32)"
            return f"the cuda backend takes products of float32 in TF32, but {asked}", "", False
        return _problem(), TIERS[torch.bfloat16 if half_products else dtype], half_products

    def offer_bytes(self, device: str, dtype: torch.dtype, tier: str | None) -> tuple[str, str]:
        return "the cuda backend has no int8 products", ""

    def roomless(self, cell: Cell, tier: str, device: torch.device, units: int) -> str:
        # As an index a size that torch.compile leaves open is fixed, which a constant must be.
        return _roomless(cell.text, tier, device.index, operator.index(units))

    def check_tier(self, tier: str) -> None:
        known = list(TIERS.values())
        if tier not in known:
            raise ValueError(f"tier of the cuda backend must be one of {', '.join(known)}, got {tier!r}")

    def kept_dtype(self, tier: str, dtype: torch.dtype) -> torch.dtype:
        return next(kept for kept, name in TIERS.items() if name == tier)

    def forward(
        self, identity: tuple[str, str], tier: str, meaning: Meaning, tensors: Sequence[Tensor]
    ) -> list[Tensor]:
        from gatewise.backends.cuda import calls

        return calls.forward(_gpu(tensors), calls.NUMBERS[tier], meaning, tensors)

    def trace(
        self, identity: tuple[str, str], tier: str, meaning: Meaning, tensors: Sequence[Tensor], gates: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        from gatewise.backends.cuda import calls

        return calls.trace(_gpu(tensors), calls.NUMBERS[tier], meaning, tensors, gates)

    def backward(
        self,
        identity: tuple[str, str],
        tier: str,
        meaning: Meaning,
        tensors: Sequence[Tensor],
        y: Tensor,
        saved: Tensor,
        dy: Tensor | None,
        finals: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        from gatewise.backends.cuda import calls

        gpu = _gpu(tensors)
        return calls.backward(gpu, calls.NUMBERS[tier], meaning, tensors, y, saved, dy, finals, wanted)

    def steps(
        self,
        cell: Cell,
        tier: str,
        dtype: torch.dtype,
        sizes: tuple[int, int, int],
        parameters: Sequence[Mapping[str, Tensor]],
        halves: bool,
        threads: int | None,
    ) -> Engine:
        from gatewise.backends.cuda.steps import Steps, by_graph

        like = torch.empty(0, device=next(p.device for own in parameters for p in own.values()), dtype=dtype)
        return Steps(cell, sizes, parameters, like, by_graph(like.device))

    def report(self) -> dict[str, object]:
        return {self.name: _problem() or _cards()}


def _gpu(tensors: Sequence[Tensor]) -> Gpu:
    from gatewise.backends.cuda.gpu import gpu

    found = gpu(tensors[0].device.index)
    found.raise_what_was_reported()  # before anything is asked of a card that has failed
    return found


BACKEND: Backend = Cuda()
