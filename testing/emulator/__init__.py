# SPDX-License-Identifier: MIT
"""Kernels for GPUs on a CPU: `with emulated(): rg.rasterize(...)` runs every cuda.cu that the call needs.

The whole way is that of a GPU, scratch and launches included; only the machine below differs (emulator.h).
Fresh memory is filled with what no kernel should read, and has guards around it that none should write.
"""

import ctypes
import hashlib
import os
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from rastergrad.core import gpu

_HERE = Path(__file__).parent
_BUILD = _HERE.parents[1] / "build" / "emulator"
_CORE = Path(gpu.__file__).parent
_FLAGS = (
    "-std=c++20",
    "-O1",
    "-g1",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-U_FORTIFY_SOURCE",
)
_WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-function",
    "-Wno-unused-variable",
    "-Wno-unknown-pragmas",
)
ORDERS = ("forward", "backward", "shuffled")
_GUARD = 64
_PATTERN = 0xA5


def compiler() -> str:
    """The C++ compiler's name."""
    return os.environ.get("CXX", "c++")


@cache
def library(source: Path, dtype: torch.dtype) -> ctypes.CDLL:
    """A cuda.cu, compiled for this processor."""
    headers = [p for folder in (source.parent, _CORE, _HERE) for p in sorted(folder.glob("*.h"))]
    digest = hashlib.sha256(repr((compiler(), _FLAGS, str(dtype))).encode())
    for path in (source, *headers):
        digest.update(path.read_bytes())
    target = _BUILD / f"{source.parent.name}-{source.stem}-{digest.hexdigest()[:24]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        real = {torch.float32: "float", torch.float64: "double"}[dtype]
        aside = target.with_suffix(f".{os.getpid()}")
        command = [compiler(), *_FLAGS, *_WARNINGS, f"-DRG_REAL={real}", f"-I{_CORE}"]
        command += ["-include", str(_HERE / "emulator.h"), "-x", "c++", str(source), "-o", str(aside)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        os.replace(aside, target)
    return ctypes.CDLL(str(target))


class _Entry(ctypes.Structure):
    _fields_ = (("threads", ctypes.c_int32), ("fields", ctypes.c_int32), ("run", ctypes.c_void_p))


class Emulator:
    """An engine for `core.gpu` whose device is the CPU.

    Args:
        order: in which blocks and threads run.
    """

    def __init__(self, order: str = "forward") -> None:
        self.order = ORDERS.index(order)
        self.launched: list[str] = []
        self._entries: list[tuple[str, ctypes.CDLL, _Entry]] = []
        self._known: dict[tuple[Path, torch.dtype, str], gpu.Kernel] = {}
        self._guarded: deque[Tensor] = deque(maxlen=48)
        self._lock = threading.Lock()

    def runs_on(self, device: torch.device) -> bool:
        return device.type == "cpu"

    def stream(self, device: torch.device) -> int:
        return 0

    def processors(self, device: torch.device) -> int:
        return 2

    def kernel(self, source: Path, dtype: torch.dtype, device: torch.device, name: str) -> gpu.Kernel:
        with self._lock:
            key = (source, dtype, name)
            if key not in self._known:
                code = library(source, dtype)
                code.emulator_launch.restype = ctypes.c_char_p
                self._entries.append((name, code, _Entry.in_dll(code, f"{name}_entry")))
                self._known[key] = len(self._entries) - 1, self._entries[-1][2].threads
            return self._known[key]

    def launch(
        self,
        kernel: gpu.Kernel,
        device: int,
        blocks: tuple[int, int, int],
        stream: int,
        fields: tuple[gpu.Field, ...],
    ) -> None:
        name, code, entry = self._entries[kernel[0]]
        if len(fields) != entry.fields:
            raise TypeError(f"{name} takes {entry.fields} fields; got {len(fields)}")
        if blocks[0] >= 2**31 or max(blocks[1:]) >= 2**16:
            raise RuntimeError(f"{name}: a grid of {blocks} blocks is too large")
        numbers = (ctypes.c_int64 * max(len(fields), 1))(*map(_bits, fields))
        sizes = [ctypes.c_int64(n) for n in (*blocks, self.order)]
        fault = code.emulator_launch(ctypes.byref(entry), numbers, *sizes)
        self.launched.append(name)
        if fault:
            raise RuntimeError(f"{name}: {fault.decode()}")
        for memory in self._guarded:
            if not (memory[:_GUARD] == _PATTERN).all() or not (memory[-_GUARD:] == _PATTERN).all():
                self._guarded.clear()
                raise RuntimeError(f"{name} wrote outside of a tensor of {len(memory) - 2 * _GUARD} bytes")

    def empty(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        count = int(torch.Size(shape).numel()) * dtype.itemsize
        memory = torch.full((count + 2 * _GUARD,), _PATTERN, dtype=torch.uint8)
        # No view of the guarded memory: torch forbids to change in place what an operation returns as a view.
        inside = torch.empty(0, dtype=dtype)
        strides = torch.empty(tuple(shape), device="meta").stride()
        inside.set_(memory.untyped_storage(), _GUARD // dtype.itemsize, tuple(shape), strides)
        if dtype.is_floating_point:
            inside.fill_(float("nan"))
        self._guarded.append(memory)
        return inside


def _bits(value: gpu.Field) -> int:
    if isinstance(value, float):
        return int.from_bytes(bytes(ctypes.c_double(value)), "little", signed=True)
    return 0 if value is None else int(value)


@contextmanager
def emulated(order: str = "forward") -> Iterator[Emulator]:
    """All operations on CPU tensors run their GPU kernels in this scope."""
    before, engine = gpu.engine, Emulator(order)
    gpu.engine = engine
    try:
        yield engine
    finally:
        gpu.engine = before
