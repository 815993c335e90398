"""Two loops in LLVM IR that do one thing as fast as the machine can: multiply-add in registers, and read memory."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import torch

from gatewise.backends.cpu import jit, openmp, tiers
from gatewise.backends.cpu.tiers import Tier

UNROLL = 8
"""Loop overhead is one compare and branch per so many uses of every accumulator."""
STREAMS = 8
"""Loads in flight per turn of the reading loop; 4, 8 and 16 measured the same."""

_FRAME = """\
  %count.p = getelementptr i64, ptr %data, i64 1
  %count = load i64, ptr %count.p
  %source.p = getelementptr i64, ptr %data, i64 2
  %source = load ptr, ptr %source.p
  %share.p = getelementptr i64, ptr %data, i64 3
  %share = load i64, ptr %share.p
  %target.p = getelementptr i64, ptr %data, i64 4
  %target = load ptr, ptr %target.p
  %thread32 = call i32 @gatewise_thread_num()
  %thread = zext i32 %thread32 to i64
  %out = getelementptr V, ptr %target, i64 %thread
"""
_ENTRY = """
define void @run(ptr %data) {
  %threads64 = load i64, ptr %data
  %threads = trunc i64 %threads64 to i32
  call void @gatewise_parallel(ptr @body, ptr %data, i32 %threads, i32 0)
  ret void
}
"""


def accumulators(tier: Tier) -> int:
    """Half of the registers: enough for 2 units with a latency of 4 or 5, and nothing is spilled."""
    return max(8, tier.registers // 2)


def lanes(tier: Tier) -> int:
    """Floats in a register."""
    return tier.vector_bytes // 4


def multiply_add_ir(tier: Tier) -> str:
    """Threads run ``count`` turns of ``UNROLL`` multiply-adds on each accumulator, from the values in ``source``."""
    sums = range(accumulators(tier))
    lines = [f"  %at{k} = getelementptr V, ptr %source, i64 {k + 2}\n  %start{k} = load V, ptr %at{k}" for k in sums]
    lines += ["  %m = load V, ptr %source\n  %a.p = getelementptr V, ptr %source, i64 1\n  %a = load V, ptr %a.p"]
    lines += ["  br label %turn\nturn:\n  %i = phi i64 [ 0, %entry ], [ %next, %turn ]"]
    lines += [f"  %s{k}.0 = phi V [ %start{k}, %entry ], [ %s{k}.{UNROLL}, %turn ]" for k in sums]
    for step in range(UNROLL):
        lines += [f"  %s{k}.{step + 1} = call V @FMA(V %s{k}.{step}, V %m, V %a)" for k in sums]
    lines += _turn_end("%count", "turn", "done")
    return _module(tier, lines + _store([f"%s{k}.{UNROLL}" for k in sums]))


def read_ir(tier: Tier) -> str:
    """Threads read ``count`` times a share of their own of ``share`` vectors, a multiple of ``STREAMS``."""
    sums = range(STREAMS)
    lines = ["  %first = mul i64 %thread, %share\n  %own = getelementptr V, ptr %source, i64 %first"]
    lines += ["  %m = load V, ptr %source\n  br label %pass\npass:"]
    lines += ["  %p = phi i64 [ 0, %entry ], [ %p.next, %pass.end ]"]
    lines += [f"  %r{k} = phi V [ %m, %entry ], [ %t{k}, %pass.end ]" for k in sums]
    lines += ["  br label %turn\nturn:\n  %i = phi i64 [ 0, %pass ], [ %next, %turn ]"]
    lines += [f"  %s{k} = phi V [ %r{k}, %pass ], [ %t{k}, %turn ]" for k in sums]
    for k in sums:
        lines += [f"  %i{k} = add i64 %i, {k}\n  %p{k} = getelementptr V, ptr %own, i64 %i{k}"]
        lines += [f"  %v{k} = load V, ptr %p{k}\n  %t{k} = call V @FMA(V %v{k}, V %m, V %s{k})"]
    lines += _turn_end("%share", "turn", "pass.end", STREAMS)
    lines += ["  %p.next = add i64 %p, 1\n  %again = icmp ult i64 %p.next, %count"]
    lines += ["  br i1 %again, label %pass, label %done\ndone:"]
    return _module(tier, lines + _store([f"%t{k}" for k in sums]))


def _turn_end(limit: str, loop: str, after: str, step: int = 1) -> list[str]:
    lines = [f"  %next = add i64 %i, {step}", f"  %more = icmp ult i64 %next, {limit}"]
    return [*lines, f"  br i1 %more, label %{loop}, label %{after}", f"{after}:"]


def _store(values: Sequence[str]) -> list[str]:
    """Without a store of all sums LLVM would drop the loop."""
    lines, total = [], values[0]
    for k, value in enumerate(values[1:]):
        lines.append(f"  %total{k} = fadd V {total}, {value}")
        total = f"%total{k}"
    return [*lines, f"  store V {total}, ptr %out", "  ret void", "}"]


def _module(tier: Tier, lines: Sequence[str]) -> str:
    vector, name = f"<{lanes(tier)} x float>", f"llvm.fmuladd.v{lanes(tier)}f32"
    text = "declare V @FMA(V, V, V)\ndefine internal void @body(ptr %data) {\nentry:\n" + _FRAME + "\n".join(lines)
    return openmp.DECLARATIONS + text.replace("V", vector).replace("@FMA", f"@{name}") + _ENTRY


def run(
    kind: str, tier: Tier, threads: int, count: int, source: torch.Tensor, share: int, target: torch.Tensor
) -> None:
    """Run the loop ``multiply_add`` or ``read`` on so many threads, each of which stores a vector to the target."""
    kernel = _loaded(kind, tier)
    frame = (ctypes.c_int64 * 5)(threads, count, source.data_ptr(), share, target.data_ptr())
    kernel(ctypes.addressof(frame))


@functools.cache
def _loaded(kind: str, tier: Tier) -> Callable[[int], None]:
    text = multiply_add_ir(tier) if kind == "multiply_add" else read_ir(tier)
    return jit.load(f"bench {kind}\n{text}", lambda: text, tier, ["run"]).function("run")


def aligned(floats: int) -> torch.Tensor:
    """Ones that start at a multiple of 64 bytes, the widest vector."""
    memory = torch.ones(floats + 16)
    offset = (-memory.data_ptr() % 64) // 4
    return memory[offset : offset + floats]


def tier() -> Tier:
    """The tier the layers run on."""
    return tiers.default()
