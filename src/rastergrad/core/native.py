# SPDX-License-Identifier: MIT
"""The door to the shared library: kernels by name, output tensors on recycled memory, what the processor can
do.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _native

_DTYPES = {
    torch.float32: (2, 32),
    torch.float64: (2, 64),
    torch.int32: (0, 32),
    torch.int64: (0, 64),
    torch.uint8: (1, 8),
}
_SUFFIX = {torch.float32: "_f32", torch.float64: "_f64"}

call = _native.call
ordinary = _native.ordinary
empty_as = _native.empty_as
gpu_driver_version = _native.gpu_driver_version
_from_dlpack = torch.from_dlpack
_exchanges = False
# How many threads a kernel may use: torch's setting, read per call.
threads = torch.get_num_threads


def kernel(name: str) -> int:
    """The handle of a kernel for `call`."""
    handle = _native.find(name)
    if handle < 0:
        level, usable, _ = _native.simd()
        if not usable:
            raise RuntimeError(
                "rastergrad: this processor has none of the instruction sets of this build "
                "(x86-64-v2 or newer). Build here: `pip install --no-binary rastergrad rastergrad`."
            )
        raise RuntimeError(
            f"rastergrad: the shared library ({level}) has no kernel {name!r}: reinstall rastergrad."
        )
    return handle


def kernels(name: str) -> dict[torch.dtype, int]:
    """Handles of the float32 and the float64 version of a kernel."""
    return {dtype: kernel(name + suffix) for dtype, suffix in _SUFFIX.items()}


def use_exchange(wanted: bool = True) -> bool:
    """Whether native code reads and makes tensors through torch's own table of C functions, which older ones
    do not have, or asks Python. The former takes a tenth of the time and gives the same.
    """
    global _exchanges
    table: Any = getattr(Tensor, "__dlpack_c_exchange_api__", None) if wanted else None
    _exchanges = _native.use_exchange(table, Tensor, torch.nn.Parameter, _empty_as)
    return _exchanges


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised contiguous CPU tensor; large ones lie on recycled huge pages and return there when
    they die. Small ones come the same way: it takes half of the time of `torch.empty`.
    """
    made: Any = _native.empty(*_DTYPES[dtype], *shape)
    return made if _exchanges else _from_dlpack(made)


def _empty_as(tensor: Tensor, *shape: int) -> Tensor:
    return empty(shape or tensor.shape, tensor.dtype)


def simd_level() -> str:
    """The instruction set in use: "v2", "v3", "v4" (of x86-64), "neon" or "baseline"."""
    return _native.simd()[0]


def simd_levels() -> tuple[str, ...]:
    """The instruction sets that are compiled in and run on this processor, best first."""
    return _native.simd()[1]


def release_memory() -> int:
    """Give recycled memory that lies idle back to the system.

    Returns:
        The number of bytes given back.

    Example:
        >>> import rastergrad as rg
        >>> rg.release_memory() >= 0
        True
    """
    return _native.release_memory()


def memory_use() -> dict[str, int]:
    """How much recycled memory there is.

    Returns:
        Bytes by name: `in_use` by tensors and scratch, `idle`, and the `limit` for idle ones.

    Example:
        >>> import rastergrad as rg
        >>> sorted(rg.memory_use())
        ['idle', 'in_use', 'limit']
    """
    return dict(zip(("in_use", "idle", "limit"), _native.memory_use(), strict=True))


def _configure() -> None:
    use_exchange()
    _, usable, failed = _native.simd()
    if failed and usable:
        raise RuntimeError(
            f"rastergrad: RASTERGRAD_SIMD={os.environ.get('RASTERGRAD_SIMD')!r} cannot be used; this machine "
            f"and build offer {', '.join(usable)}. Unset it or choose one of these."
        )
    megabytes = os.environ.get("RASTERGRAD_IDLE_MB")
    if megabytes:
        if not megabytes.isdigit():
            raise RuntimeError(
                f"rastergrad: RASTERGRAD_IDLE_MB must be a whole number of megabytes; got {megabytes!r}."
            )
        _native.set_memory_limit(int(megabytes) << 20)


_configure()
