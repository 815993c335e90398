"""Instruction tiers: what the kernels may assume of a processor, and which of them this host can run.

Four tiers, not one per processor: an object in the cache then serves every machine of its tier, and the same bits come
out of all of them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import llvmlite.binding as llvm

VARIABLE = "GATEWISE_TIER"


@dataclass(frozen=True)
class Tier:
    """One level of instructions.

    ``vector_bytes`` is the width of a register, ``registers`` how many there are; ``triple``, ``cpu`` and ``features``
    are LLVM's names.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    products: str = ""
    """How products of float32 are taken, by the names of ``products.KINDS``; empty: in float32."""
    a_cycle: int = field(default=2, repr=False)
    """How many multiply-adds of a register start in a cycle: what tiles are chosen by, never what they compute, and so
    no part of the name of machine code."""


# What each level adds to the one below it (x86-64 psABI). All of it is asked for: LLVM uses all of it once a level is
# named, and hypervisors do mask single features.
_LEVEL_2 = ("cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2")
_LEVEL_3 = ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_LEVEL_4 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_NEEDS = {"avx512": _LEVEL_2 + _LEVEL_3 + _LEVEL_4, "avx2": _LEVEL_2 + _LEVEL_3, "sse2": (), "neon": ()}
# Tiers with other products than the one they are named after, best first: calls take these by themselves.
_IN_BFLOAT16 = {"+amx": ("avx512bf16", "amx-tile", "amx-bf16"), "+bf16": ("avx512bf16",)}
_IN_BYTES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "avx512": {"+vnni": ("avx512vnni",)},
    "avx2": {"+vnni": ("avxvnni",), "+bytes": ()},
}
_OF_BYTES = ("bytes", "signed")
"""Ways to take products of bytes, which give the same numbers."""
# Processors that start one multiply-add of 64 bytes a cycle, by LLVM's names; others are taken to start two. On a core
# of znver4 independent ones reach 118 GFLOP/s, and 241 on one of a Xeon with AMX, whose hypervisor says rocketlake.
_ONE_A_CYCLE = ("znver4",)
_ARCHITECTURE = {"avx512": "x86_64", "avx2": "x86_64", "sse2": "x86_64", "neon": "aarch64"}
_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def _architecture(name: str) -> str:
    return _ALIASES.get(name.lower(), name.lower())


def _process_architecture() -> str:
    """Of this process, not of the machine: a 32-bit Python runs on a 64-bit system too."""
    return _architecture(str(llvm.get_process_triple()).split("-")[0])


def _triple(architecture: str) -> str:
    """The triple of this process where the architecture is its own, else Linux's, for reading assembly only."""
    own = _process_architecture() == architecture
    return str(llvm.get_process_triple()) if own else f"{architecture}-unknown-linux-gnu"


@functools.cache
def _all() -> dict[str, Tier]:
    x86, arm = _triple("x86_64"), _triple("aarch64")
    whole = 1 if llvm.get_host_cpu_name() in _ONE_A_CYCLE else 2
    tiers = (
        # x86-64-v4 is tuned for Skylake, where LLVM prefers 256-bit vectors in code of its own making.
        Tier("avx512", x86, "x86-64-v4", "-prefer-256-bit", 64, 32, a_cycle=whole),
        Tier("avx512+amx", x86, "x86-64-v4", "-prefer-256-bit,+avx512bf16,+amx-tile,+amx-bf16", 64, 32, "tiles"),
        Tier("avx512+bf16", x86, "x86-64-v4", "-prefer-256-bit,+avx512bf16", 64, 32, "pairs", 1),
        Tier("avx512+vnni", x86, "x86-64-v4", "-prefer-256-bit,+avx512vnni", 64, 32, "bytes", whole),
        Tier("avx2", x86, "x86-64-v3", "", 32, 16),
        Tier("avx2+vnni", x86, "x86-64-v3", "+avxvnni", 32, 16, "bytes"),
        Tier("avx2+bytes", x86, "x86-64-v3", "", 32, 16, "signed"),
        Tier("sse2", x86, "x86-64", "", 16, 16),
        Tier("neon", arm, "generic", "+neon", 16, 32),
    )
    return {tier.name: tier for tier in tiers}


def _runnable(architecture: str, features: Mapping[str, bool]) -> list[str]:
    """The tiers, best first, that a processor of this architecture with these LLVM features can run."""
    return [
        name
        for name, needs in _NEEDS.items()
        # AArch64 without NEON is legal but runs no general-purpose system, so a missing report counts as present.
        if _ARCHITECTURE[name] == _architecture(architecture)
        and all(features.get(feature, False) for feature in needs)
        and (name != "neon" or features.get("neon", True))
    ]


def _host_features() -> dict[str, bool]:
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # some systems do not say; the tier without needs remains
        return {}


@functools.cache
def _host_tiers() -> tuple[str, ...]:
    return tuple(_runnable(_process_architecture(), _host_features()))


def available() -> list[str]:
    """The names of the tiers that this host can run, best first; empty on a foreign architecture."""
    return list(_host_tiers())


@functools.cache
def in_bfloat16(name: str) -> tuple[str, ...]:
    """The tiers that compute as this one does, but for products in bfloat16, best first: on the matrix unit, where this
    host has one that the operating system lets this process use, and pair by pair."""
    return tuple(n for n in _able(name, _IN_BFLOAT16) if _all()[n].products != "tiles" or _may_use_tiles())


@functools.cache
def in_bytes(name: str) -> tuple[str, ...]:
    """The tiers that compute as this one does, but for products of bytes, best first."""
    return tuple(_able(name, _IN_BYTES.get(name, {})))


@functools.cache
def multiplies_bytes(name: str) -> bool:
    """Whether the tier of this name takes products of bytes, which have no gradients."""
    return name in _all() and _all()[name].products in _OF_BYTES


def of_bytes() -> str:
    """The best tier of this host with products of bytes; empty where there is none."""
    return next((found for name in available() for found in in_bytes(name)), "")


def _able(name: str, kinds: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Those of the tiers with these suffixes whose features this host has."""
    features, here = _host_features(), name in available()
    able = [name + suffix for suffix, needs in kinds.items() if here and all(features.get(f, False) for f in needs)]
    return [found for found in able if found in _all()]


def _may_use_tiles() -> bool:
    """Ask Linux for the tile registers, for all threads of this process (arch_prctl(2), ARCH_REQ_XCOMP_PERM)."""
    if sys.platform != "linux":
        return False
    call, request, tile_data = 158, 0x1023, 18
    return int(ctypes.CDLL(None).syscall(call, request, tile_data)) == 0


def _plain(name: str) -> str:
    """The tier that computes as this one does, but for its products."""
    return name.partition("+")[0]


def runs(name: str) -> bool:
    """Whether this host can run the tier of this name."""
    return name in available() or name in (*in_bfloat16(_plain(name)), *in_bytes(_plain(name)))


def here(name: str) -> str:
    """The tier of this name, or where this host lacks its products one with others: the same arrays go in and come out,
    so that a program exported elsewhere runs.

    Raises:
        RuntimeError: where it lacks all products of bytes, since others give other numbers.
    """
    if multiplies_bytes(name) and not runs(name):
        if found := of_bytes():
            return found
        raise RuntimeError(f"the program has int8 products, which need the tier {name}, and this host cannot run it")
    return name if runs(name) else next(iter(in_bfloat16(_plain(name))), _plain(name))


def unnamed(name: str) -> str:
    """What to add where somebody asks by name for a tier that calls take by themselves."""
    products = _all()[name].products if name in _all() else ""
    who = "quantised layers" if multiplies_bytes(name) else "calls in bfloat16"
    return f"; {who} take it by themselves" if products else ""


def get(name: str) -> Tier:
    """The tier of this name, whether or not this host can run it."""
    if name not in _all():
        known = ", ".join(tier.name for tier in _all().values() if not tier.products)
        raise ValueError(f"tier {name!r} is unknown; expected one of {known}")
    return _all()[name]


def detect() -> Tier:
    """The best tier that this host can run."""
    names = available()
    if not names:
        raise ValueError(f"no tier runs on processor {_process_architecture()!r}; expected x86_64 or aarch64")
    return get(names[0])


def default() -> Tier:
    """The tier that the environment variable GATEWISE_TIER names, or the best one of this host."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return detect()
    if name not in available():
        known, what = ", ".join(available()), "cannot be named" if unnamed(name) else "this host cannot run"
        raise ValueError(f"{VARIABLE} is {name!r}, which {what}; available: {known}{unnamed(name)}")
    return get(name)


@functools.cache
def target_machine(tier: Tier) -> Any:
    """LLVM's code generator for a tier, of this machine's architecture or another."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(tier.triple)
    # Levels 1 to 3 gave the same bytes for register tiles on every tier.
    return target.create_target_machine(cpu=tier.cpu, features=tier.features, opt=2, reloc="pic", codemodel="default")
