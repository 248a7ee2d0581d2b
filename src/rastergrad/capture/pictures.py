# SPDX-License-Identifier: MIT
"""Targets of the fit: pictures at the resolution of a stage, read ahead, kept while memory for them lasts."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from rastergrad.capture.dataset import Dataset

# Images are compared by the square root of light: near to what eyes and sRGB do, at a tenth of the cost.
DARK = 1e-3


def encoded(light: Tensor) -> Tensor:
    """What is compared of linear light. Gradients: to `light`, where it is not negative."""
    return (light + DARK).clamp_min(1e-6).sqrt()


class Pictures:
    """Pictures of a dataset as [H, W, 5]: colour over black, encoded; mask; weight.

    Where the dataset has no mask the mask is -1, and the colour is that of the whole picture. The weight is 0
    where undistortion found no pixel.

    Args:
        dataset: where they come from.
        cache_bytes: memory for decoded pictures.
        device: where they are wanted; the CPU when None.
    """

    def __init__(self, dataset: Dataset, cache_bytes: int, device: torch.device | None = None) -> None:
        self.dataset, self.device = dataset, device
        self.room = cache_bytes
        self._kept: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._ordered: dict[tuple[int, int], Future[Tensor]] = {}
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="rastergrad-pictures")

    def batch(self, views: Sequence[int], level: int) -> Tensor:
        """[n, H, W, 5] of views that have one size; OSError or DatasetError naming a file that fails."""
        return torch.stack([self._one(view, level) for view in views])

    def expect(self, views: Iterable[int], level: int) -> None:
        """Begin to read what will be asked for."""
        for view in views:
            key = (view, level)
            if key not in self._kept and key not in self._ordered:
                self._ordered[key] = self._readers.submit(self._read, view, level)

    def close(self) -> None:
        """Stop reading."""
        self._readers.shutdown(wait=True, cancel_futures=True)

    def _one(self, view: int, level: int) -> Tensor:
        key = (view, level)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        ordered = self._ordered.pop(key, None)
        picture = ordered.result() if ordered is not None else self._read(view, level)
        picture = picture.to(self.device)
        self._kept[key] = picture
        used = sum(kept.numel() * 4 for kept in self._kept.values())
        while used > self.room and len(self._kept) > 1:
            used -= self._kept.popitem(last=False)[1].numel() * 4
        return picture

    def _read(self, view: int, level: int) -> Tensor:
        picture = self.dataset.load(self.dataset.views[view], level)
        color, mask, weight = picture.color, picture.mask, picture.valid
        if weight is None:
            weight = torch.ones_like(color[..., :1])
        if mask is None:
            mask = torch.full_like(weight, -1.0)
        elif self.dataset.background is None:
            color = color * mask
        else:
            color = (color - (1 - mask) * self.dataset.background).clamp_min(0)
        return torch.cat([encoded(color), mask, weight], dim=-1).contiguous()
