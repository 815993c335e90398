"""What the figures depend on: processor, tier, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import torch

import gatewise
from gatewise.backends.cpu import openmp, tiers


def features() -> dict[str, object]:
    """The machine and the versions, for the JSON and the page."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": _processor(),
        "llvm_host": llvm.get_host_cpu_name(),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "tier": tiers.default().name,
        "tiers": tiers.available(),
        "threading": openmp.reason().split(",")[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "llvmlite": llvmlite.__version__,
        "llvm": ".".join(str(v) for v in llvm.llvm_version_info),
        "gatewise": gatewise.__version__,
        "load": load(),
    }


def own_file(path: Path | None, what: str = "") -> Path | None:
    """The file of this processor in a folder, such as ``znver4.json`` or ``znver4-cells.json``; a file is itself.

    Figures of one processor say nothing of another, so that each has files of its own, named as LLVM names it.
    """
    if path is None or not path.is_dir():
        return path
    name = llvm.get_host_cpu_name()
    return path / f"{name}-{what}.json" if what else path / f"{name}.json"


def load() -> float | None:
    """Processes that wanted a core over the last minute; one of them is this."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    pairs = (line.partition(":") for line in lines)
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    parts = [fields.get("model name", platform.processor())]
    parts += [f"{name} {fields[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in fields]
    return ", ".join(parts)


def _caches() -> dict[str, str]:
    """Sizes of the data caches of the first core, by level."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found
