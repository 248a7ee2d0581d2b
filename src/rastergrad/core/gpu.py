# SPDX-License-Identifier: MIT
"""Kernels on an NVIDIA GPU: a room's cuda.cu, compiled at first use, launched on torch's current stream.

Importing this touches no GPU. A room asks `runs_on(device)`, takes a `Launcher` per operation from its
`Module`, and gets scratch from `empty`, so that all memory is torch's. The tests replace `engine` by one that
runs the same kernels on a CPU.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from . import _native, cubins, nvrtc

_log = logging.getLogger("rastergrad")
_CORE = Path(__file__).parent
_REALS = {torch.float32: "float", torch.float64: "double"}
# No contraction into fused multiply-add: coverage and derivatives then have the bits that CPUs give them.
_OPTIONS = ("--std=c++20", "--device-as-default-execution-space", "--fmad=false", "--generate-line-info")

Field = int | float | None
Kernel = tuple[int, int]  # handle, threads per block


class Engine(Protocol):
    """What runs kernels."""

    def runs_on(self, device: torch.device) -> bool: ...
    def kernel(self, source: Path, dtype: torch.dtype, device: torch.device, name: str) -> Kernel: ...
    def stream(self, device: torch.device) -> int: ...
    def processors(self, device: torch.device) -> int: ...
    def launch(
        self,
        kernel: Kernel,
        device: int,
        blocks: tuple[int, int, int],
        stream: int,
        fields: tuple[Field, ...],
    ) -> None: ...
    def empty(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor: ...


_sources: list[Path] = []  # of all modules


class Module:
    """One .cu file.

    Args:
        source: its path.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        _sources.append(source)

    def on(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "Launcher":
        """For the launches of one operation: kernels for this number type, torch's current stream."""
        return Launcher(self.source, device, dtype)


class Launcher:
    """Starts kernels of one module, on one device, in stream order. Starting does not wait."""

    __slots__ = ("_index", "_source", "_stream", "device", "dtype")

    def __init__(self, source: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._source = source
        self.device = device
        self.dtype = dtype
        self._index = device.index or 0
        self._stream = engine.stream(device)

    def over(self, name: str, items: int, *fields: Field) -> None:
        """At least `items` threads, numbered by `thread_number()`; none if there are no items."""
        kernel = engine.kernel(self._source, self.dtype, self.device, name)
        blocks = -(-items // kernel[1])
        if blocks > 0:
            self._start(name, kernel, (blocks, 1, 1), fields)

    def blocks(self, name: str, blocks: tuple[int, int, int], *fields: Field) -> None:
        """A grid of blocks; none if it is empty."""
        if min(blocks) > 0:
            kernel = engine.kernel(self._source, self.dtype, self.device, name)
            self._start(name, kernel, blocks, fields)

    def _start(
        self, name: str, kernel: Kernel, blocks: tuple[int, int, int], fields: tuple[Field, ...]
    ) -> None:
        try:
            engine.launch(kernel, self._index, blocks, self._stream, fields)
        except RuntimeError as failure:
            raise RuntimeError(
                f"rastergrad: kernel {name} ({_place(self._source, name)}): {failure}. An earlier kernel of "
                "any library may be at fault: CUDA_LAUNCH_BLOCKING=1 finds out."
            ) from failure


def runs_on(device: torch.device) -> bool:
    """Whether kernels of cuda.cu work on tensors of this device."""
    return engine.runs_on(device)


def holds(tensor: Tensor) -> bool:
    """`runs_on(tensor.device)` in half the time on a CPU."""
    return (tensor.is_cuda or engine is not _cuda) and engine.runs_on(tensor.device)


def processors(device: torch.device) -> int:
    """How many multiprocessors: kernels that divide their own work start a few blocks on each."""
    return engine.processors(device)


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor from torch's allocator."""
    return engine.empty(shape, dtype, device)


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, written in stream order."""
    return engine.empty(shape, dtype, device).zero_()


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy on a multiple of 16 bytes: a view into another one may begin anywhere."""
    return tensor.clone() if tensor.data_ptr() % 16 else tensor


def address(tensor: Tensor | None) -> int | None:
    """Where the numbers lie, as a field of a kernel."""
    return None if tensor is None else tensor.data_ptr()


def options(dtype: torch.dtype) -> list[str]:
    """The compiler's, all but the architecture."""
    return [*_OPTIONS, f"-I{_CORE}", f"-DRG_REAL={_REALS[dtype]}"]


def _place(source: Path, name: str) -> str:
    """File and line of a kernel."""
    for number, line in enumerate(source.read_text().splitlines(), 1):
        if re.match(rf"RG_GLOBAL\({name},", line):
            return f"{source}:{number}"
    return str(source)


# Private to torch: 0.1 us in place of 3.
_raw_stream: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)


class _Cuda:
    """The real one."""

    def __init__(self) -> None:
        self._kernels: dict[tuple[Path, torch.dtype, int, str], Kernel] = {}
        self._modules: dict[tuple[Path, torch.dtype, int], int] = {}
        self._compiling: dict[tuple[Path, torch.dtype, tuple[int, int]], Future[bytes]] = {}
        self._processors: dict[int, int] = {}
        self._lock = threading.Lock()

    def runs_on(self, device: torch.device) -> bool:
        return device.type == "cuda" and torch.version.hip is None

    def stream(self, device: torch.device) -> int:
        if _raw_stream is not None:
            return _raw_stream(device.index or 0)
        return torch.cuda.current_stream(device).cuda_stream

    def processors(self, device: torch.device) -> int:
        index = device.index or 0
        if index not in self._processors:
            self._processors[index] = torch.cuda.get_device_properties(index).multi_processor_count
        return self._processors[index]

    def launch(
        self,
        kernel: Kernel,
        device: int,
        blocks: tuple[int, int, int],
        stream: int,
        fields: tuple[Field, ...],
    ) -> None:
        _native.gpu_launch(kernel[0], device, *blocks, kernel[1], stream, *fields)

    def empty(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    def kernel(self, source: Path, dtype: torch.dtype, device: torch.device, name: str) -> Kernel:
        index = device.index or 0
        found = self._kernels.get((source, dtype, index, name))
        if found is None:
            with self._lock:
                module = self._modules.get((source, dtype, index))
                if module is None:
                    program = self._program(source, dtype, torch.cuda.get_device_capability(index))
                    module = self._modules[source, dtype, index] = _native.gpu_load(index, program)
                handle, threads, _, _ = _native.gpu_function(index, module, name)
                found = self._kernels[source, dtype, index, name] = handle, threads
        return found

    def _program(self, source: Path, dtype: torch.dtype, capability: tuple[int, int]) -> bytes:
        """Who needs one module for a number type will need others: all are compiled at once, by threads, as a
        program would otherwise wait for one after the other.
        """
        if (source, dtype, capability) not in self._compiling:
            pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="rastergrad-nvrtc")
            for each in sorted(_sources, key=lambda path: path != source):
                key = each, dtype, capability
                if key not in self._compiling:
                    self._compiling[key] = pool.submit(program, each, dtype, capability)
            pool.shutdown(wait=False)
        try:
            return self._compiling[source, dtype, capability].result()
        except Exception:
            del self._compiling[source, dtype, capability]  # the next call may try again
            raise


def program(source: Path, dtype: torch.dtype, capability: tuple[int, int]) -> bytes:
    """A module compiled for a device of this compute capability, from the disk if it is there."""
    compiler = nvrtc.compiler()
    target = 10 * capability[0] + capability[1]
    known = [a for a in compiler.architectures() if a <= target]
    if not known:
        raise RuntimeError(
            f"rastergrad: this GPU has compute capability {capability[0]}.{capability[1]}; NVRTC "
            f"{'.'.join(map(str, compiler.version))} makes programs from {compiler.architectures()[0] / 10} "
            "on."
        )
    # A program runs on later minor versions of its major one; beyond, the driver finishes PTX.
    ptx = known[-1] // 10 != capability[0]
    architecture = f"--gpu-architecture={'compute' if ptx else 'sm'}_{known[-1]}"
    sources = [p for folder in (source.parent, _CORE) for p in folder.iterdir() if p.suffix in (".cu", ".h")]
    chosen = options(dtype)
    portable = [o for o in chosen if not o.startswith("-I")]
    name = cubins.key(sources, source.name, *portable, architecture, str(compiler.version))
    found = cubins.stored(name)
    if found is not None:
        return found
    started = time.perf_counter()
    made, _ = compiler.compile(source, [*chosen, architecture], ptx=ptx)
    cubins.store(name, made)
    _log.info(
        "compiled %s/%s (%s) for %s in %.2f s",
        source.parent.name,
        source.name,
        _REALS[dtype],
        architecture.partition("=")[2],
        time.perf_counter() - started,
    )
    return made


_cuda = _Cuda()
engine: Engine = _cuda
