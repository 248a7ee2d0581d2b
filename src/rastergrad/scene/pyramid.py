# SPDX-License-Identifier: MIT
"""Image pyramids by exact area averages.

Each level has half the size, rounded down, and shows the same field: the camera of a level is
`pinhole.resized(*level_size(...))`. A pixel of an odd side averages the 2 + 1/n pixels that it covers.
"""

import torch
from torch import Tensor


def level_size(width: int, height: int, level: int) -> tuple[int, int]:
    """Width and height of a level; level 0 is the picture itself."""
    if level < 0:
        raise ValueError(f"level_size: `level` must be 0 or more; got {level}.")
    return max(1, width >> level), max(1, height >> level)


def halve(images: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """The next level.

    Args:
        images: [n, H, W, C] linear light or coverage.
        weight: [n, H, W, 1], 0 or more, or None for 1 everywhere: how much each pixel counts.
    Returns:
        Weighted averages [n, max(1, H // 2), max(1, W // 2), C] (0 where nothing counts), and the plain
        averages of `weight`, or None.
    Gradients:
        to `images` and `weight`.
    Errors:
        ValueError for other shapes.
    """
    if images.ndim != 4:
        raise ValueError(f"halve: `images` must be [n, H, W, C]; got {list(images.shape)}.")
    if weight is None:
        return _average(images), None
    if weight.shape != (*images.shape[:3], 1):
        raise ValueError(
            f"halve: `weight` must be {[*images.shape[:3], 1]} like `images`; got {list(weight.shape)}."
        )
    total = _average(weight)
    return _average(images * weight) / torch.where(total > 0, total, 1), total


def reduce(images: Tensor, level: int, weight: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """`halve`, `level` times."""
    for _ in range(level):
        images, weight = halve(images, weight)
    return images, weight


def pyramid(images: Tensor, levels: int, weight: Tensor | None = None) -> list[tuple[Tensor, Tensor | None]]:
    """Levels 0 to `levels` - 1 of images and weights, finest first; shapes as in `halve`."""
    stack = [(images, weight)]
    while len(stack) < levels:
        stack.append(halve(*stack[-1]))
    return stack


def _average(images: Tensor) -> Tensor:
    return _average_rows(_average_rows(images, 1), 2)


def _average_rows(images: Tensor, dim: int) -> Tensor:
    size = images.shape[dim]
    if size == 1:
        return images
    half = size // 2
    first = images.narrow(dim, 0, 2 * half).unflatten(dim, (half, 2))
    if size % 2 == 0:
        return first.mean(dim + 1)
    # Pixel j covers [j (2 + 1/n), (j + 1) (2 + 1/n)): the shares n - j, n and j + 1 of three pixels.
    last = images.narrow(dim, 2, 2 * half - 1)
    last = last.narrow(dim, 0, 2 * half - 1).index_select(
        dim, torch.arange(0, 2 * half - 1, 2, device=images.device)
    )
    shape = [1] * images.ndim
    shape[dim] = half
    j = torch.arange(half, dtype=images.dtype, device=images.device).reshape(shape)
    total = (half - j) * first.select(dim + 1, 0) + half * first.select(dim + 1, 1) + (j + 1) * last
    return total / size
