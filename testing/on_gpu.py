# SPDX-License-Identifier: MIT
"""The tests as they are, on other kernels: `pytest --kernels cuda` or `--kernels emulated`.

With "cuda" every operation's tensors go to the GPU, forward and backward, and its results come back, so that
tests written for the CPU try the kernels of cuda.cu on a device.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

import rastergrad.ops
from rastergrad.core.autograd import Primitive

from .emulator import emulated

KERNELS = ("cpu", "emulated", "cuda")


def primitives() -> list[Primitive]:
    """All operations of the library."""
    found: dict[int, Primitive] = {}
    for info in pkgutil.walk_packages(rastergrad.ops.__path__, "rastergrad.ops."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Primitive):
                found[id(value)] = value
    return list(found.values())


@contextmanager
def kernels(name: str) -> Iterator[None]:
    """Operations on CPU tensors run these kernels in this scope."""
    if name == "emulated":
        with emulated():
            yield
    elif name == "cuda":
        yield from _carried()
    else:
        yield


def _carried() -> Iterator[None]:
    known = [(p, p.forward, p.backward) for p in primitives()]
    for primitive, forward, backward in known:
        primitive.forward = _moved(forward)
        primitive.backward = _moved(backward)
    try:
        yield
    finally:
        for primitive, forward, backward in known:
            primitive.forward, primitive.backward = forward, backward


def _moved(run: Callable[..., Any]) -> Callable[..., Any]:
    def on_device(*args: Any) -> Any:
        return _to("cpu", run(*_to("cuda", args)))

    return on_device


def _to(device: str, value: Any) -> Any:
    """Tensors in nested tuples and lists, each moved with a storage of its own. What stays on the host by
    contract, as ranges do, is asked for there by `.cpu()`.
    """
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, (tuple, list)):
        moved = [_to(device, v) for v in value]
        return tuple(moved) if isinstance(value, tuple) else moved
    return value


def device_name() -> str:
    """The GPU's."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
