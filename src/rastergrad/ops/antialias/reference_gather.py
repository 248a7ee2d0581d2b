# SPDX-License-Identifier: MIT
"""Colours for sub-samples from their definition (docs/definition.md 5.9): the oracle of `visibility.py`, and
its fallback without kernels.

Every sub-sample ranks all pixels within reach by a tuple: how well the pixel fits, then distances. Python
compares tuples the same way. The gradient is autograd's, of indexing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .reference import _decode_ids, edge_opposites

REACH = 3  # rows and columns of pixels around the own one
GAP_WEIGHT = 20  # square pixels that a relative difference of depths of 1 weighs


def gather(color: Tensor, rast: Tensor, visibility: Tensor, tri: Tensor, vertex_count: int) -> Tensor:
    """The colour of each sub-sample.

    Args:
        color: [n, H, W, C].
        rast: [n, H, W, 4].
        visibility: [n, kH, kW, 4].
        tri: [T, 3].
        vertex_count: triangles with other vertices are connected to none.

    Returns: [n, kH, kW, C].

    Gradients: `color`.
    """
    n, H, W, C = color.shape
    with torch.no_grad():
        source = sources(rast.detach(), visibility.detach(), tri, vertex_count)
    image = torch.arange(n, device=color.device)[:, None, None] * (H * W)
    return color.reshape(n * H * W, C)[source + image]


def average(fine: Tensor, k: int) -> Tensor:
    """[n, kH, kW, C] to its means over k x k, [n, H, W, C]."""
    return fine.unfold(1, k, k).unfold(2, k, k).mean((-1, -2))


def sources(rast: Tensor, visibility: Tensor, tri: Tensor, vertex_count: int) -> Tensor:
    """The pixel that each sub-sample takes its colour from, as row * W + column: [n, kH, kW] int64."""
    n, H, W, _ = rast.shape
    fine_size = visibility.shape[1:3]
    k = fine_size[0] // H
    device = rast.device
    labels = components(tri, vertex_count)
    seen, pixels = _triangles(visibility, len(tri)), _triangles(rast, len(tri))
    depth, pixel_depth = (x[..., 2].double() for x in (visibility, rast))
    row, column = (torch.arange(size, device=device) for size in fine_size)
    row, column = row[:, None].expand(fine_size), column.expand(fine_size)

    # Best so far, as columns of a lexicographic rank, smaller is better.
    best: tuple[Tensor, ...] | None = None
    source = torch.zeros(n, *fine_size, dtype=torch.int64, device=device)
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            y, x = row // k + dy, column // k + dx
            exists = (y >= 0) & (y < H) & (x >= 0) & (x < W)
            y, x = y.clamp(0, H - 1), x.clamp(0, W - 1)
            # Centre of the pixel from the sub-sample, in halves of a sub-sample.
            down, right = (2 * y + 1) * k - (2 * row + 1), (2 * x + 1) * k - (2 * column + 1)
            square = (down**2 + right**2).double() / (4 * k * k)
            shown = pixels[:, y, x]
            fit, cost = _fit(seen, shown, labels, depth, pixel_depth[:, y, x], square)
            fit = torch.where(exists, fit, 9)
            rank = (fit, cost, square.expand(fit.shape), down.abs().expand(fit.shape))
            better = torch.ones_like(exists) if best is None else _precedes(rank, best)
            best = rank if best is None else tuple(map(torch.where, [better] * 4, rank, best))
            source = torch.where(better, y * W + x, source)
    return source


def _fit(
    seen: Tensor, shown: Tensor, labels: Tensor, depth: Tensor, pixel_depth: Tensor, square: Tensor
) -> tuple[Tensor, Tensor]:
    """How well a pixel fits (0 the same triangle or both background, 1 connected, 2 covered, 3 neither), and
    the order among those that fit alike.
    """
    covered = (seen >= 0) & (shown >= 0)
    connected = covered.clone()
    connected[covered] = labels[seen[covered]] == labels[shown[covered]]
    fit = torch.where(connected, 1, torch.where(covered, 2, 3))
    fit = torch.where(seen == shown, 0, fit)
    z0, z1 = depth.nan_to_num(-1, 1, -1).clamp(-1, 1), pixel_depth.nan_to_num(-1, 1, -1).clamp(-1, 1)
    farther, nearer = 1 - torch.minimum(z0, z1), 1 - torch.maximum(z0, z1)
    gap = torch.where(farther > nearer, (z0 - z1).abs() / farther, 0.0)
    return fit, square + torch.where(fit == 1, GAP_WEIGHT * gap, 0.0)


def _precedes(rank: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
    """Lexicographic order."""
    result = torch.zeros_like(rank[0], dtype=torch.bool)
    for a, b in zip(reversed(rank), reversed(other), strict=True):
        result = (a < b) | ((a == b) & result)
    return result


def _triangles(rast: Tensor, count: int) -> Tensor:
    """Indices [n, H, W]; -1 for background and for what is no triangle."""
    index = _decode_ids(rast[..., 3].float().contiguous()) - 1
    return torch.where((index >= 0) & (index < count), index, -1)


def components(tri: Tensor, vertex_count: int) -> Tensor:
    """The lowest triangle that each one is connected to over edges: [T] int64.

    The neighbour across an edge is the lowest triangle made of the edge and the other opposite vertex.
    """
    count = len(tri)
    tri = tri.to(torch.int64)
    labels = torch.arange(count, device=tri.device)
    opposites = edge_opposites(tri, vertex_count)
    whole = ((tri >= 0) & (tri < vertex_count)).all(1) & (tri != tri.roll(1, 1)).all(1)
    triangle, corner = (whole[:, None] & (opposites >= 0)).nonzero().unbind(1)
    if not len(triangle):
        return labels
    across = tri[triangle].scatter(1, corner[:, None], opposites[triangle, corner][:, None])
    named = torch.cat([tri[whole], across]).sort(1).values
    _, number = named.unique(dim=0, return_inverse=True)
    own, sought = number[: int(whole.sum())], number[int(whole.sum()) :]
    lowest = torch.full((int(number.max()) + 1,), count, device=tri.device)
    lowest = lowest.scatter_reduce(0, own, labels[whole], "amin")
    neighbour = lowest[sought]
    while True:
        least = torch.minimum(labels[triangle], labels[neighbour])
        spread = labels.scatter_reduce(0, torch.cat([triangle, neighbour]), least.repeat(2), "amin")
        spread = spread[spread]
        if torch.equal(spread, labels):
            return labels
        labels = spread
