"""The few functions of CUDA's driver that running a kernel takes, by ctypes.

The driver's C interface is stable and is there wherever a card works; torch has made the context. Numbers are those of
``cuda.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass

_MULTIPROCESSORS, _MAJOR, _MINOR, _SHARED = 16, 75, 76, 97
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, COMPUTE_CAPABILITY_MAJOR and MINOR, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN."""
_FUNCTION_SHARED, _FUNCTION_ANY_CLUSTER = 8, 14
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, NON_PORTABLE_CLUSTER_SIZE_ALLOWED."""
_LAUNCH_COOPERATIVE, _LAUNCH_CLUSTER = 2, 4
"""CU_LAUNCH_ATTRIBUTE_COOPERATIVE, CLUSTER_DIMENSION."""
PORTABLE_CLUSTER = 8
"""Blocks of a cluster that every card with clusters allows."""


class Attribute(ctypes.Structure):
    """CUlaunchAttribute: 64 bytes of value behind 8 of head."""

    _fields_ = (("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_uint * 16))


class Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        *((name, ctypes.c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


class DriverError(RuntimeError):
    """The driver refused; the text is its own."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The driver; None where there is none."""
    for name in ("libcuda.so.1", "libcuda.so") if os.name == "posix" else ("nvcuda.dll",):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


def _call(function: str, *arguments: object) -> None:
    driver = library()
    assert driver is not None
    status = getattr(driver, function)(*arguments)
    if status:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(text))
        raise DriverError(f"CUDA failed in {function}: {(text.value or b'unknown error').decode()}")


def ensure_context(device: int) -> None:
    """Make the device's context current where this thread has none: torch's own calls do so, and a thread's first call
    may be ours."""
    context, handle = ctypes.c_void_p(), ctypes.c_int()
    _call("cuCtxGetCurrent", ctypes.byref(context))
    if not context.value:
        _call("cuDeviceGet", ctypes.byref(handle), device)
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)  # torch's; it lives as long as the process
        _call("cuCtxSetCurrent", context)


def attributes(device: int) -> tuple[tuple[int, int], int, int]:
    """Compute capability, multiprocessors, and bytes of shared memory that a block may ask for."""
    found = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS, _SHARED):
        value = ctypes.c_int()
        _call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        found.append(value.value)
    return (found[0], found[1]), found[2], found[3]


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched, but for its arguments."""

    threads: int
    shared: int
    cluster: int = 1
    together: bool = False
    """Whether all blocks must run at once."""


def _attributes(launch: Launch) -> ctypes.Array[Attribute]:
    wanted: Mapping[int, tuple[int, ...]] = {
        **({_LAUNCH_CLUSTER: (launch.cluster, 1, 1)} if launch.cluster > 1 else {}),
        **({_LAUNCH_COOPERATIVE: (1,)} if launch.together else {}),
    }
    given = (Attribute * len(wanted))()
    for attribute, (number, values) in zip(given, wanted.items(), strict=True):
        attribute.id = number
        for k, value in enumerate(values):
            attribute.value[k] = value
    return given


class Function:
    """A kernel that is loaded into the current context."""

    def __init__(self, cubin: bytes, entry: str, launch: Launch) -> None:
        self.launch = launch
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuModuleLoadData", ctypes.byref(self._module), cubin)
        _call("cuModuleGetFunction", ctypes.byref(self._function), self._module, entry.encode())
        _call("cuFuncSetAttribute", self._function, _FUNCTION_SHARED, launch.shared)
        if launch.cluster > PORTABLE_CLUSTER:
            _call("cuFuncSetAttribute", self._function, _FUNCTION_ANY_CLUSTER, 1)
        self._attributes = _attributes(launch)

    def _config(self, blocks: int, stream: int) -> Config:
        launch, given = self.launch, self._attributes
        address, count = (ctypes.addressof(given), len(given)) if given else (None, 0)
        return Config(blocks, 1, 1, launch.threads, 1, 1, launch.shared, stream, address, count)

    def at_once(self, multiprocessors: int) -> int:
        """Blocks that run at the same time, by the driver's answer."""
        count = ctypes.c_int()
        if self.launch.cluster > 1:
            config = self._config(self.launch.cluster, 0)
            _call("cuOccupancyMaxActiveClusters", ctypes.byref(count), self._function, ctypes.byref(config))
            return count.value * self.launch.cluster
        size = ctypes.c_size_t(self.launch.shared)
        function = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
        _call(function, ctypes.byref(count), self._function, self.launch.threads, size)
        return count.value * multiprocessors

    def __call__(self, blocks: int, arguments: bytes, stream: int) -> None:
        """Put the kernel into a stream's queue; ``arguments`` are its one parameter, taken by value."""
        held = ctypes.create_string_buffer(arguments, len(arguments))
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(held))
        config = self._config(blocks, stream)
        _call("cuLaunchKernelEx", ctypes.byref(config), self._function, parameters, None)
