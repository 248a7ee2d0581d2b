# SPDX-License-Identifier: MIT
"""Small tables of whole numbers for kernels, written by a kernel: nothing waits, and graphs can record it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import gpu

_MODULE = gpu.Module(Path(__file__).parent / "tables.cu")
_AT_ONCE = 60


def table(numbers: Sequence[int], device: torch.device) -> Tensor:
    """The numbers as int64 on the device."""
    made = gpu.empty((len(numbers),), torch.int64, device)
    launch = _MODULE.on(device)
    for begin in range(0, len(numbers), _AT_ONCE):
        part = numbers[begin : begin + _AT_ONCE]
        rest = [0] * (_AT_ONCE - len(part))
        launch.blocks("write_table", (1, 1, 1), made.data_ptr(), begin, len(part), *part, *rest)
    return made
