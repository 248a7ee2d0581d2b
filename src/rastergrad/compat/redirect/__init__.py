# SPDX-License-Identifier: MIT
"""Every request for a CUDA device lands on the CPU.

torch's own functions are replaced while it lasts, in all threads and for whoever calls them, and put back.
`torch.cuda.is_available()` says True. What a tensor says of itself stays true: `x.device` is the CPU and
`x.is_cuda` is False, as is `torch.device("cuda")`, so that comparisons of devices hold.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import overrides
from torch.utils import _device

from . import amp, cuda, data, devices, tensors
from .patches import Patches, Switch

_lock = threading.RLock()
_patches = Patches()
_depth = 0


def start() -> None:
    """Begin; each call needs a `stop`."""
    global _depth
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        _fill_caches()
        try:
            for room in (tensors, cuda, amp, data, devices):
                room.patch(_patches)
        except BaseException:
            stop()
            raise
        Switch.on = True


def stop() -> None:
    """End what the last `start` began."""
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0:
            Switch.on = False
            _patches.undo()
            _empty_caches()


@contextmanager
def cuda_on_cpu() -> Iterator[None]:
    """Let every request for a CUDA device land on the CPU, for the time of a `with` block.

    torch's functions are replaced in the whole process, all threads included, and put back at the end. Blocks
    may be nested. Processes that are spawned within it know nothing of it: `python -m rastergrad.compat`
    takes those along, too.

    Cost:
        20 ms to begin and to end; within it, a microsecond more for each tensor that is created or sent
        somewhere. What is sent to or from CUDA is copied, as it is on a GPU.

    Example:
        >>> import torch
        >>> from rastergrad.compat import cuda_on_cpu
        >>> with cuda_on_cpu():
        ...     x = torch.zeros(3, device="cuda:0").cuda()
        >>> x.device
        device(type='cpu')
    """
    start()
    try:
        yield
    finally:
        stop()


def _fill_caches() -> None:
    """Where torch remembers its own functions by identity, it is to remember the real ones."""
    _device._device_constructors()
    overrides.get_ignored_functions()
    overrides.get_overridable_functions()
    overrides.get_testing_overrides()


def _empty_caches() -> None:
    """torch.compile takes its tables when it is first used, and that may have been now."""
    rules = sys.modules.get("torch._dynamo.trace_rules")
    if rules is None:
        return
    torch.compiler.reset()
    for value in vars(rules).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()
