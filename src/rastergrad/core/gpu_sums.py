# SPDX-License-Identifier: MIT
"""Tensors that many threads add to: quickly, or reproducibly when torch is asked for that (core/sums.h)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import gpu

_MODULE = gpu.Module(Path(__file__).parent / "sums.cu")
_QUICK, _MEASURE, _EXACT = 0, 1, 2
_NOTHING = -8192


class Sums:
    """A zeroed tensor for kernels to add to through `Sums<T>` of core/sums.h.

    A kernel that adds is launched once for each of `passes()`, with `fields()` in its argument struct where
    that has a `Sums<T>`; then `total()` is the result.

    Args:
        shape, dtype, device: of the result.
        reproducible: whether sums must not depend on the order in which threads come; None asks torch.
    """

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device, reproducible: bool | None = None
    ) -> None:
        if reproducible is None:
            reproducible = torch.are_deterministic_algorithms_enabled()
        self.values = gpu.zeros(shape, dtype, device)
        self._reproducible = reproducible
        self._pass = _QUICK
        self._exponents = self._words = None
        if reproducible:
            count = self.values.numel()
            self._exponents = gpu.empty((count,), torch.int32, device).fill_(_NOTHING)
            self._words = gpu.zeros((count * (2 if dtype == torch.float64 else 1),), torch.int64, device)

    def fields(self) -> tuple[int | None, int | None, int | None, int]:
        """The four fields of a `Sums<T>`, for the pass under way."""
        return self.values.data_ptr(), gpu.address(self._exponents), gpu.address(self._words), self._pass

    def total(self) -> Tensor:
        """The sums, once all passes have been launched."""
        if self._reproducible:
            launch = _MODULE.on(self.values.device, self.values.dtype)
            count = self.values.numel()
            pointers = self.values.data_ptr(), gpu.address(self._exponents), gpu.address(self._words)
            launch.over("sums_finish", count, *pointers, count)
        return self.values


NONE = (None, None, None, 0)


def passes(*sums: Sums | None) -> Iterator[None]:
    """`for _ in passes(a, b): launch(...)`: how often kernels that add to these must run; None is no sum."""
    wanted = [s for s in sums if s is not None]
    reproducible = any(s._reproducible for s in wanted)
    for number in (_MEASURE, _EXACT) if reproducible else (_QUICK,):
        for s in wanted:
            s._pass = number
        yield


def fields(sums: Sums | None) -> tuple[int | None, int | None, int | None, int]:
    """The fields of a `Sums<T>` that may be absent."""
    return NONE if sums is None else sums.fields()
