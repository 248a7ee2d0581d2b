# SPDX-License-Identifier: MIT
"""Silhouette antialiasing from its definition: the oracle of this room, and its fallback without kernels.

Two neighbouring pixels that show different triangles are blended where a silhouette edge of the nearer one
crosses the segment between their centres (Laine et al. 2020, section 3.6). Gradients to positions are
autograd of that crossing, its edge height moved away from zero.

A crossing exactly half way has alpha = 0: the blend changes nothing, and either pixel could be its target.
Here zero of either sign takes the branch "alpha <= 0": the second pixel, and positions get a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

STABILISER_PX = 1e-3  # added to the edge height in gradients
REACH = 1 / 16  # a crossing counts this far beyond the segment between the two centres

PLAIN_ID_LIMIT = 1 << 24
ID_BITS_OFFSET = 0x4A800000


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    opposites: Tensor | None = None,
    *,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    """Blend pixels along silhouettes.

    Args:
        color: [n, H, W, C] float.
        rast: [n, H, W, 4], of the same `pos` and `tri`.
        pos: [n, V, 4] or [V, 4], clip space.
        tri: [T, 3] int64.
        opposites: [T, 3] int64 from `edge_opposites`; built here when None.
        pos_gradient_boost: factor on the gradient of `pos`.

    Returns: [n, H, W, C], in the dtype of `color`.

    Gradients: `color`, and `pos` (x, y, w of the two vertices of each edge that blends).
    """
    tri = tri.to(torch.int64)
    with torch.no_grad():
        opposites = edge_opposites(tri, pos.shape[-2]) if opposites is None else opposites
        pairs, alpha, edge = _active(rast.detach(), pos.detach(), tri, opposites.to(torch.int64))
    return _Blend.apply(color, pos, pairs, alpha, edge, pos_gradient_boost)


# Topology -------------------------------------------------------------------------------------------------


def edge_opposites(tri: Tensor, vertex_count: int) -> Tensor:
    """Opposite vertex across the edge opposite corner k of each triangle: [T, 3] int64, -1 for none."""
    twins = edge_twins(tri, vertex_count)
    own = tri.to(torch.int64).reshape(-1)
    return torch.where(twins >= 0, own[twins.clamp(min=0)], -1) if len(own) else twins


def edge_twins(tri: Tensor, vertex_count: int) -> Tensor:
    """Half-edge on the other side of half-edge 3 t + k, the edge opposite corner k of triangle t: [T, 3]
    int64, -1 if there is none.

    An edge, keyed on its two vertex indices, remembers two half-edges with distinct opposite vertices, those
    of the lowest triangle indices. Triangles with repeated or invalid indices take no part.
    """
    tri = tri.to(torch.int64)
    start, end = tri.roll(-1, 1), tri.roll(-2, 1)
    valid = ((tri >= 0) & (tri < vertex_count)).all(1) & (tri != start).all(1)
    result = torch.full_like(tri, -1)
    if not valid.any():
        return result
    half = torch.arange(tri.numel(), device=tri.device).reshape(-1, 3)[valid].reshape(-1)  # [M]
    own = tri[valid].reshape(-1)  # [M] corners in triangle order, each with the edge opposite to it
    edge = (torch.minimum(start, end) * vertex_count + torch.maximum(start, end))[valid].reshape(-1)

    # First appearance of each distinct (edge, opposite vertex), listed by edge and then by triangle.
    order = torch.argsort(own, stable=True)
    order = order[torch.argsort(edge[order], stable=True)]
    known = order[_changes(edge[order]) | _changes(own[order])].sort().values
    known = known[torch.argsort(edge[known], stable=True)]

    # The first two of each edge.
    begin = _changes(edge[known]).nonzero()[:, 0]
    follower = (begin + 1).clamp(max=len(known) - 1)
    has_two = (follower > begin) & (edge[known[follower]] == edge[known[begin]])
    group = torch.searchsorted(edge[known[begin]], edge)
    one, two, has_two = known[begin][group], known[follower][group], has_two[group]
    twin = torch.where(own == own[one], half[two], torch.where(own == own[two], half[one], -1))
    result[valid] = torch.where(has_two, twin, -1).reshape(-1, 3)
    return result


def _changes(values: Tensor) -> Tensor:
    """True where a value differs from the one before it, and at the first."""
    result = torch.ones_like(values, dtype=torch.bool)
    result[1:] = values[1:] != values[:-1]
    return result


# Pairs ----------------------------------------------------------------------------------------------------


@dataclass
class Pairs:
    """Neighbouring pixels that show different triangles, P of them."""

    size: tuple[int, int]
    first: Tensor  # [P] flat pixel numbers
    second: Tensor
    vertical: Tensor  # [P] bool
    sign: Tensor  # [P] +1: the first pixel's triangle was chosen, -1: the second's
    centre: Tensor  # [P, 2] centre (x, y) of the chosen pixel, in pixels
    triangle: Tensor  # [P] the chosen one

    def __getitem__(self, kept: Tensor) -> Pairs:
        listed = (getattr(self, field.name)[kept] for field in fields(self)[1:])
        return Pairs(self.size, *listed)


def _decode_ids(ids: Tensor) -> Tensor:
    """Triangle index + 1 from float32 ids: the value up to 2^24, above it (and for NaN) the bit pattern."""
    is_plain = ids <= PLAIN_ID_LIMIT
    plain = torch.where(is_plain, ids, torch.zeros_like(ids)).clamp(min=-1).to(torch.int64)
    return torch.where(is_plain, plain, ids.view(torch.int32).to(torch.int64) - ID_BITS_OFFSET)


def shown_triangles(rast: Tensor, triangle_count: int) -> Tensor:
    """Triangle index of each pixel of `rast` [n, H, W, 4], or -1: [n * H * W]."""
    index = _decode_ids(rast[..., 3].float().contiguous()).reshape(-1) - 1
    return torch.where(index < triangle_count, index, -1).clamp(min=-1)


def neighbours(rast: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Flat pixel numbers of horizontal and vertical pairs of different ids; which ones are vertical."""
    n, height, width, _ = rast.shape
    ids = rast[..., 3].float()
    pixel = torch.arange(n * height * width, device=rast.device).reshape(n, height, width)
    across = pixel[:, :, :-1][ids[:, :, :-1] != ids[:, :, 1:]]
    along = pixel[:, :-1][ids[:, :-1] != ids[:, 1:]]
    vertical = torch.arange(len(across) + len(along), device=rast.device) >= len(across)
    return torch.cat((across, along)), torch.cat((across + 1, along + width)), vertical


def _candidates(rast: Tensor, triangle_count: int) -> Pairs:
    """Every horizontal and vertical pair of different ids, of which at least one is a triangle."""
    _, height, width, _ = rast.shape
    index, depth = shown_triangles(rast, triangle_count), rast[..., 2].reshape(-1)
    first, second, vertical = neighbours(rast)
    has_first, has_second = index[first] >= 0, index[second] >= 0
    chosen = has_first & (~has_second | (depth[first] < depth[second]))
    nearer = torch.where(chosen, first, second)
    centre = torch.stack((nearer % width, nearer // width % height), 1).double() + 0.5
    sign = chosen.double() * 2 - 1
    pairs = Pairs((height, width), first, second, vertical, sign, centre, index[nearer])
    return pairs[has_first | has_second]


def _screen(points: Tensor, pairs: Pairs) -> Tensor:
    """Clip-space points [P, K, 4] in pixels from the chosen centre: [P, K, 2]."""
    height, width = pairs.size
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64, device=points.device)
    return points[..., :2] / points[..., 3:] * half + half - pairs.centre[:, None]


def _along_and_across(screen: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """X along the pair and Y across it: [P, K] each."""
    x, y = screen.unbind(2)
    vertical = pairs.vertical[:, None]
    return torch.where(vertical, y, x), torch.where(vertical, x, y)


def _folds(screen: Tensor, opposite: Tensor) -> Tensor:
    """Whether both triangles lie on the same side of edge k on the screen: [P, 3] bool."""
    negative = _doubled_area(screen).signbit()
    result = []
    for k in range(3):
        corners = list(screen.unbind(1))
        corners[k] = opposite[:, k]
        result.append(_doubled_area(torch.stack(corners, 1)).signbit() == negative)
    return torch.stack(result, 1)


def _doubled_area(screen: Tensor) -> Tensor:
    side, other = screen[:, 1] - screen[:, 0], screen[:, 2] - screen[:, 0]
    return side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0]


def _active(rast: Tensor, pos: Tensor, tri: Tensor, opposites: Tensor) -> tuple[Pairs, Tensor, Tensor]:
    """Pairs to blend, their alpha [P] and their edge as rows [P, 2] of pos.reshape(-1, 4)."""
    V = pos.shape[-2]
    pairs = _candidates(rast, tri.shape[0])
    pairs = pairs[((tri >= 0) & (tri < V)).all(1)[pairs.triangle]]
    own, opposite = tri[pairs.triangle], opposites[pairs.triangle]
    opposite = torch.where(opposite < 0, own, opposite)
    if pos.dim() == 3:
        offset = (pairs.first // (pairs.size[0] * pairs.size[1]) * V)[:, None]
        own, opposite = own + offset, opposite + offset
    points = pos.reshape(-1, 4).double()
    screen = _screen(points[own], pairs)  # [P, 3, 2]
    folds = _folds(screen, _screen(points[opposite], pairs))
    X, Y = _along_and_across(screen, pairs)

    best = torch.full_like(pairs.sign, -torch.inf)
    edge = torch.zeros_like(own[:, :2])
    is_silhouette, is_steep = torch.zeros_like(pairs.vertical), torch.zeros_like(pairs.vertical)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        X1, Y1, X2, Y2 = X[:, i], Y[:, i], X[:, j], Y[:, j]
        c = pairs.sign * (X1 - Y1 * (X2 - X1) / (Y2 - Y1))
        larger = (Y1.signbit() != Y2.signbit()) & (c > best)  # of equal crossings the first; never NaN
        best = torch.where(larger, c, best)
        edge = torch.where(larger[:, None], own[:, [i, j]], edge)
        is_silhouette = torch.where(larger, folds[:, k], is_silhouette)
        is_steep = torch.where(larger, (Y2 - Y1).abs() >= (X2 - X1).abs(), is_steep)
    active = is_silhouette & is_steep & (best > -REACH) & (best < 1 + REACH)
    alpha = pairs.sign * (0.5 - best.clamp(0, 1))
    return pairs[active], alpha[active], edge[active]


# Blend ----------------------------------------------------------------------------------------------------


def _target(pairs: Pairs, alpha: Tensor) -> Tensor:
    return torch.where(alpha > 0, pairs.first, pairs.second)


def _blended(pixels: Tensor, pairs: Pairs, alpha: Tensor, counts: Tensor | None = None) -> Tensor:
    """Pixels [n*H*W, C] plus alpha times each difference; channels outside `counts` [P, C] are left out."""
    difference = pixels[pairs.second] - pixels[pairs.first]
    if counts is not None:
        difference = torch.where(counts, difference, torch.zeros_like(difference))
    return pixels.index_add(0, _target(pairs, alpha), alpha[:, None] * difference)


def _stabilised_crossing(ends: Tensor, pairs: Pairs) -> Tensor:
    """X [P] where the edge [P, 2, 4] meets the line through both centres, its height moved from zero."""
    X, Y = _along_and_across(_screen(ends, pairs), pairs)
    dX, dY = X[:, 1] - X[:, 0], Y[:, 1] - Y[:, 0]
    height = dY + torch.copysign(torch.full_like(dY, STABILISER_PX), dY.detach())
    return (X[:, 0] * dY - Y[:, 0] * dX) / height


class _Blend(torch.autograd.Function):
    """Backward is autograd's, over the pairs and channels that receive an upstream gradient."""

    @staticmethod
    def forward(
        ctx: Any, color: Tensor, pos: Tensor, pairs: Pairs, alpha: Tensor, edge: Tensor, boost: float
    ) -> Tensor:
        ctx.save_for_backward(color, pos)
        ctx.pairs, ctx.alpha, ctx.edge, ctx.boost = pairs, alpha, edge, boost
        pixels = color.reshape(-1, color.shape[-1]).double()
        return _blended(pixels, pairs, alpha).reshape(color.shape).to(color.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_image: Tensor) -> tuple[Tensor | None, ...]:
        color, pos = ctx.saved_tensors
        upstream = d_image.reshape(-1, color.shape[-1]).double()
        pixels = color.detach().reshape(upstream.shape).double().requires_grad_()
        points = pos.detach().reshape(-1, 4).double().requires_grad_()
        alpha = ctx.alpha.clone().requires_grad_()
        with torch.enable_grad():
            counts = upstream[_target(ctx.pairs, alpha)] != 0
            image = _blended(pixels, ctx.pairs, alpha, counts)
            d_pixels, d_alpha = torch.autograd.grad(image, (pixels, alpha), upstream)
            if not ctx.needs_input_grad[1]:
                return d_pixels.reshape(color.shape).to(color.dtype), None, None, None, None, None
            moves = (alpha.abs() < 0.5) & (d_alpha != 0)  # at 1/2 the crossing is clamped
            crossing = _stabilised_crossing(points[ctx.edge[moves]], ctx.pairs[moves])
            (d_points,) = torch.autograd.grad(-crossing, points, d_alpha[moves])  # alpha = sign/2 - crossing
        d_color = d_pixels.reshape(color.shape).to(color.dtype)
        d_pos = (d_points * ctx.boost).reshape(pos.shape).to(pos.dtype)
        return d_color, d_pos, None, None, None, None
