# SPDX-License-Identifier: MIT
"""Rasterisation from its definition: the oracle of this room, and its fallback on devices without kernels.

Visibility  clip in float64, snap to 1/256 px, then everything on exact integers: fill rule and depth plane.
            Numbers: corners within +-2^22 (16384 px), edge functions below 2^45, depth keys below 2^32.
Shading     perspective-correct barycentrics of the *unsnapped* triangle by cross products in clip space
            (Olano and Greer 1997, "Triangle scan conversion using 2D homogeneous coordinates").
Gradients   autograd of the shading formula, evaluated only where the upstream gradient is not zero and no
            weight of the unsnapped triangle is negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SUBPIXEL_BITS = 8
CORNERS_PER_CHUNK, CANDIDATES_PER_CHUNK, PIXELS_PER_CHUNK = 1 << 15, 1 << 20, 1 << 18

# Depth key: unsigned 32-bit, z/w = -1 at about 17600, +1 at FAR_KEY.
DEPTH_MARGIN = 17600
DEPTH_CENTRE = 2.0**31 - 0.5
FAR_KEY = 2**32 - 1 - DEPTH_MARGIN
KEY_FRACTION_BITS = (
    11  # float32 above 2^14 has at most 9 fractional bits; 11 makes four equal limbs of 44 bits
)

STABILISER = 1e-6  # added to the doubled clip-space area in gradients

PLAIN_ID_LIMIT = 1 << 24
ID_BITS_OFFSET = 0x4A800000
NO_TRIANGLE = 0x7FFFFFFF  # low 31 bits of an empty visibility entry


def rasterize(
    pos: Tensor,
    tri: Tensor,
    height: int,
    width: int,
    ranges: Tensor | None = None,
    *,
    db_grad: bool = True,
    depth_grad: bool = True,
    interior_gate: bool = True,
    previous_key: Tensor | None = None,
    subpixel_bits: int = SUBPIXEL_BITS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rasterise triangles in clip space.

    Args:
        pos: [n, V, 4] (instanced) or [V, 4] (ranges), float, clip space.
        tri: [T, 3] int64. Triangles with an index outside [0, V) are skipped.
        height, width: image size in pixels.
        ranges: [n, 2] int64, (first triangle, count) per image; needed with `pos` of rank 2, else ignored.
        db_grad: False: `rast_db` stays attached to `pos` and passes back zero.
        depth_grad: False: the z/w channel passes back zero.
        interior_gate: False: pixels outside the unsnapped triangle pass back gradients, too.
        previous_key: [n, H, W], `depth_key` of the layer before: only fragments behind it are drawn.
        subpixel_bits: corners snap to 2^-subpixel_bits of a pixel.

    Returns:
        rast [n, H, W, 4] = (u, v, z/w, id), rast_db [n, H, W, 4] = (du/dX, du/dY, dv/dX, dv/dY) per pixel,
        both in the dtype of `pos`; depth_key [n, H, W] float64: the winner's integer key, or FAR_KEY.

    Gradients: `pos`, from u, v, z/w and `rast_db`; none from coverage.
    """
    rows, image, index = _drawn_triangles(pos, tri, ranges)
    n = pos.shape[0] if pos.dim() == 3 or ranges is None else ranges.shape[0]
    with torch.no_grad():
        points = pos.reshape(-1, 4).double()
        empty = (FAR_KEY << 31) | NO_TRIANGLE
        best = torch.full((n * height * width,), empty, dtype=torch.int64, device=pos.device)
        floor = None if previous_key is None else previous_key.reshape(-1).clamp(max=FAR_KEY).to(torch.int64)
        for part in _batches(torch.ones_like(image), CORNERS_PER_CHUNK):
            corners, owner = _clipped(points[rows[part]])
            _draw(
                best, floor, corners, image[part][owner], index[part][owner], (height, width), subpixel_bits
            )
        encoded = NO_TRIANGLE - (best & NO_TRIANGLE)  # triangle index + 1, 0 = background
        pixel = encoded.nonzero()[:, 0]
        depth_key = (best >> 31).double().reshape(n, height, width)
        rows = _corner_rows(pos, tri, encoded[pixel] - 1, pixel // (height * width))
    shape, switches = (n, height, width), (db_grad, depth_grad, interior_gate)
    rast, rast_db = _Shade.apply(pos, rows, pixel, encoded[pixel], shape, switches)
    return rast, rast_db, depth_key


def encode_ids(k: Tensor) -> Tensor:
    """Encode integers k = triangle index + 1 as float32: the value up to 2^24, above it the bit pattern."""
    bits = (k + ID_BITS_OFFSET).to(torch.int32).view(torch.float32)
    return torch.where(k <= PLAIN_ID_LIMIT, k.to(torch.float32), bits)


# Which triangles go to which image ------------------------------------------------------------------------


def _corner_rows(pos: Tensor, tri: Tensor, index: Tensor, image: Tensor) -> Tensor:
    """Rows of pos.reshape(-1, 4) that hold the corners of triangle `index` in `image`: [M, 3]."""
    rows = tri.to(torch.int64)[index]
    return rows + image[:, None] * pos.shape[1] if pos.dim() == 3 else rows


def _drawn_triangles(pos: Tensor, tri: Tensor, ranges: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(rows [M, 3], image [M], triangle index [M]) of every triangle to draw, bad vertex indices left out."""
    T, V = tri.shape[0], pos.shape[-2]
    if pos.dim() == 3:
        first = torch.zeros(pos.shape[0], dtype=torch.int64, device=pos.device)
        count = torch.full_like(first, T)
    else:
        if ranges is None:
            raise ValueError("rasterize: `ranges` is needed with `pos` of shape [V, 4]; got None.")
        first, count = ranges.to(pos.device, torch.int64).unbind(1)
        count = torch.minimum(count, T - first).clamp(min=0)
    image, rank = _expand(count)
    index = first[image] + rank
    valid = ((tri >= 0) & (tri < V)).all(1)[index]
    image, index = image[valid], index[valid]
    return _corner_rows(pos, tri, index, image), image, index


def _expand(count: Tensor) -> tuple[Tensor, Tensor]:
    """For counts (2, 0, 3): owner (0, 0, 2, 2, 2) and rank (0, 1, 0, 1, 2)."""
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    start = count.cumsum(0) - count
    return owner, torch.arange(len(owner), device=count.device) - start[owner]


def _batches(size: Tensor, budget: int) -> Iterator[slice]:
    """Consecutive slices of a list whose total size stays within the budget (one entry may exceed it)."""
    end = size.cumsum(0).cpu()
    start, before = 0, 0
    while start < len(end):
        stop = max(start + 1, int(torch.searchsorted(end, before + budget, right=True)))
        yield slice(start, stop)
        start, before = stop, int(end[stop - 1])


# Clipping -------------------------------------------------------------------------------------------------


def _clipped(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Triangles [M, 3, 4] cut to the frustum: (sub-triangles [K, 3, 4], owner [K] in 0..M-1)."""
    xyz, w = corners[..., :3], corners[..., 3:]
    outside = ((w < xyz).all(1) | (w < -xyz).all(1)).any(1)  # [M]
    drawn = corners.isfinite().all(2).all(1) & ~outside
    inside = (w >= xyz.abs()).all(2).all(1)
    whole, cut = (drawn & inside).nonzero()[:, 0], (drawn & ~inside).nonzero()[:, 0]
    polygon, count = corners[cut], torch.full_like(cut, 3)
    violated = (w < xyz.abs()).any(1)[cut]  # [M', 3] per axis
    for axis in range(3):
        for sign in (1.0, -1.0):
            distance = polygon[..., 3] + sign * polygon[..., axis]
            distance = torch.where(violated[:, axis, None], distance, torch.zeros_like(distance))
            polygon, count = _cut(polygon, count, distance)
    fan, owner = [corners[whole]], [whole]
    for k in range(1, polygon.shape[1] - 1):
        has = count > k + 1
        fan.append(polygon[has][:, [0, k, k + 1]])
        owner.append(cut[has])
    return torch.cat(fan), torch.cat(owner)


def _cut(polygon: Tensor, count: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """One Sutherland-Hodgman plane over padded vertex lists [M, S, 4] of `count` [M] entries.

    The walk starts with the closing edge, and an edge emits first its crossing, then its end. A crossing runs
    from the kept to the dropped end, so the two triangles at an edge get bitwise the same new point.
    """
    M, S = distance.shape
    slot = torch.arange(S, device=count.device).expand(M, S)
    live = slot < count[:, None]
    kept = live & (distance >= 0)
    before = torch.where(slot == 0, count[:, None] - 1, slot - 1).clamp(min=0)
    distance_before, kept_before = distance.gather(1, before), kept.gather(1, before)
    point_before = polygon.gather(1, before[..., None].expand(-1, -1, 4))
    crosses = live & (kept != kept_before)
    good, bad = torch.where(kept, distance, distance_before), torch.where(kept, distance_before, distance)
    start, end = (
        torch.where(kept[..., None], polygon, point_before),
        torch.where(kept[..., None], point_before, polygon),
    )
    crossing = start + (good / (good - bad))[..., None] * (end - start)
    emitted = torch.stack((crossing, polygon), 2).reshape(M, 2 * S, 4)
    emits = torch.stack((crosses, kept), 2).reshape(M, 2 * S)
    count = emits.sum(1)
    row, column = emits.nonzero(as_tuple=True)
    result = polygon.new_zeros(M, int(count.max()) if M else 0, 4)
    result[row, (emits.cumsum(1) - 1)[row, column]] = emitted[row, column]
    return result, count


# Coverage and depth, on integers --------------------------------------------------------------------------


def _draw(
    best: Tensor,
    floor: Tensor | None,
    corners: Tensor,
    image: Tensor,
    index: Tensor,
    size: tuple[int, int],
    subpixel_bits: int,
) -> None:
    """Lower `best` [n*H*W] = key << 31 | (NO_TRIANGLE - 1 - index) wherever a sub-triangle [K, 3, 4] wins."""
    height, width = size
    half = 1 << (subpixel_bits - 1)  # half a pixel; the centre of pixel i is at (2 i + 1) half - W half
    inverse_w = 1 / corners[..., 3:]
    extent = torch.tensor([width * half, height * half], dtype=torch.float64, device=corners.device)
    snapped = torch.round(corners[..., :2] * inverse_w * extent)  # to even, [K, 3, 2]
    finite = snapped.isfinite().all(2).all(1)  # w = 0
    depth = corners[..., 2] * inverse_w[..., 0] * (DEPTH_CENTRE - DEPTH_MARGIN) + DEPTH_CENTRE
    depth = depth.float().double()  # the rounding that makes nearly equal depths equal
    xy = snapped[finite].to(torch.int64)
    depth = (depth[finite] * (1 << KEY_FRACTION_BITS)).to(torch.int64)  # exact, [K, 3]
    image, index = image[finite], index[finite]

    area = _cross(xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0])
    clockwise = area < 0
    swapped = torch.where(clockwise[:, None], xy.new_tensor([0, 2, 1]), xy.new_tensor([0, 1, 2]))
    xy, depth, area = (
        xy.gather(1, swapped[..., None].expand(-1, -1, 2)),
        depth.gather(1, swapped),
        area.abs(),
    )

    # Edge k lies opposite corner k: E_k = dx (py - Ay) - dy (px - Ax), so E_k / area weighs corner k.
    start, end = xy.roll(-1, 1), xy.roll(-2, 1)
    dx, dy = (end - start).unbind(2)
    constant = dy * start[..., 0] - dx * start[..., 1]  # [K, 3]
    threshold = torch.where((dy < 0) | ((dy == 0) & (dx > 0)), 0, 1)  # min-x and min-y edges are inclusive

    low, high = xy.amin(1), xy.amax(1)
    limit = xy.new_tensor([width, height])
    first = torch.div(low + (limit - 1) * half + 2 * half - 1, 2 * half, rounding_mode="floor").clamp(min=0)
    last = torch.div(high + (limit - 1) * half, 2 * half, rounding_mode="floor")
    columns, lines = (torch.minimum(last, limit - 1) - first + 1).clamp(min=0).unbind(1)
    lines = torch.where((area > 0) & (columns > 0), lines, 0)

    for part in _batches(lines, CANDIDATES_PER_CHUNK):
        k, rank = _expand(lines[part])
        k = k + part.start
        line = first[k, 1] + rank
        at_line = dx[k] * ((2 * line + 1 - height) * half)[:, None] + constant[k]  # [lines, 3]
        for strip in _batches(columns[k], CANDIDATES_PER_CHUNK):
            at, rank = _expand(columns[k[strip]])
            at = at + strip.start
            column = first[k[at], 0] + rank
            edges = at_line[at] - dy[k[at]] * ((2 * column + 1 - width) * half)[:, None]  # [candidates, 3]
            hit = (edges >= threshold[k[at]]).all(1)
            at, column, edges = at[hit], column[hit], edges[hit]
            owner = k[at]
            key = _plane(edges, depth[owner], area[owner])
            pixel = (image[owner] * height + line[at]) * width + column
            entry = (key << 31) | (NO_TRIANGLE - 1 - index[owner])
            if floor is not None:
                behind = key > floor[pixel]
                pixel, entry = pixel[behind], entry[behind]
            best.scatter_reduce_(0, pixel, entry, "amin")


def _plane(edges: Tensor, depth: Tensor, area: Tensor) -> Tensor:
    """Round(sum edges * depth / area) without error: long division, four limbs of 11 bits, half rounds up."""
    quotient, remainder = torch.zeros_like(area), torch.zeros_like(area)
    for shift in range(3 * KEY_FRACTION_BITS, -1, -KEY_FRACTION_BITS):
        limb = (depth >> shift) & ((1 << KEY_FRACTION_BITS) - 1)
        numerator = (remainder << KEY_FRACTION_BITS) + (edges * limb).sum(1)  # below 2^57
        digit = torch.div(numerator, area, rounding_mode="floor")
        remainder = numerator - digit * area
        quotient = (quotient << KEY_FRACTION_BITS) + digit
    return (quotient + (1 << (KEY_FRACTION_BITS - 1))) >> KEY_FRACTION_BITS


# Shading --------------------------------------------------------------------------------------------------


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _areas(corners: Tensor, centre: Tensor) -> Tensor:
    """A_k [P, 3]: clip-space areas opposite each corner, as seen from the pixel `centre` [P, 2] in NDC."""
    q = corners[..., :2] - centre[:, None] * corners[..., 3:]
    return _cross(q.roll(-1, 1), q.roll(-2, 1))


def _area_slopes(corners: Tensor) -> tuple[Tensor, Tensor]:
    """dA_k/dfx and dA_k/dfy, [P, 3] each: the same for every pixel of the triangle."""
    x, y, _, w = corners.unbind(2)
    xj, yj, wj, xl, yl, wl = (c.roll(-shift, 1) for shift in (1, 2) for c in (x, y, w))
    return yj * wl - yl * wj, wj * xl - wl * xj


def _image_derivatives(corners: Tensor, uv: Tensor, total: Tensor, size: tuple[int, int]) -> Tensor:
    """(du/dX, du/dY, dv/dX, dv/dY) [P, 4] in 1/pixel, by the quotient rule on u = A_0/S, v = A_1/S."""
    height, width = size
    a, b = _area_slopes(corners)
    along_x = (a[:, :2] - uv * a.sum(1, keepdim=True)) * (2 / width) / total[:, None]
    along_y = (b[:, :2] - uv * b.sum(1, keepdim=True)) * (2 / height) / total[:, None]
    return torch.stack((along_x, along_y), 2).reshape(-1, 4)


def _depth(corners: Tensor, centre: Tensor) -> Tensor:
    areas = _areas(corners, centre)
    return (areas * corners[..., 2]).sum(1) / (areas * corners[..., 3]).sum(1)


def _shaded(corners: Tensor, centre: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """uv [P, 2], z/w [P], db [P, 4] as stored: clamped, NaN barycentrics as 0."""
    areas = _areas(corners, centre)
    total = areas.sum(1)
    uv = areas[:, :2] / total[:, None]
    uv = torch.where(uv.isnan(), 0.0, uv).clamp(0, 1)
    uv = uv / uv.sum(1, keepdim=True).clamp(min=1)
    return uv, _depth(corners, centre).clamp(-1, 1), _image_derivatives(corners, uv, total, size)


def _differentiated(corners: Tensor, centre: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """uv [P, 2] and db [P, 4] as the gradient sees them: not clamped, the area moved away from zero."""
    areas = _areas(corners, centre)
    total = areas.sum(1)
    total = total + torch.copysign(torch.full_like(total, STABILISER), total.detach())
    uv = areas[:, :2] / total[:, None]
    return uv, _image_derivatives(corners, uv, total, size)


def _contains(corners: Tensor, centre: Tensor) -> Tensor:
    """Whether the unsnapped triangle contains its pixel's centre [P]: no weight is negative, none is 0/0.

    Weights that overflow to NaN say nothing against it.
    """
    areas = _areas(corners, centre)
    total = areas.sum(1)
    return (total != 0) & ~(areas / total[:, None] < 0).any(1)


def _centres(pixel: Tensor, size: tuple[int, int]) -> Tensor:
    """NDC (x, y) of pixel centres [P, 2] from flat pixel numbers."""
    height, width = size
    column, line = (pixel % width).double(), (pixel // width % height).double()
    return torch.stack(((2 * column + 1) / width - 1, (2 * line + 1) / height - 1), 1)


class _Shade(torch.autograd.Function):
    """Fill the visible pixels. Backward is autograd's, over the pixels that receive an upstream gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        pos: Tensor,
        rows: Tensor,
        pixel: Tensor,
        encoded: Tensor,
        shape: tuple[int, int, int],
        switches: tuple[bool, bool, bool],
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pos, rows, pixel)
        ctx.size, ctx.switches = shape[1:], switches
        ctx.set_materialize_grads(False)
        points = pos.reshape(-1, 4).double()
        rast, rast_db = pos.new_zeros(2, shape[0] * shape[1] * shape[2], 4)
        for part in range(0, len(pixel), PIXELS_PER_CHUNK):
            at = pixel[part : part + PIXELS_PER_CHUNK]
            corners = points[rows[part : part + PIXELS_PER_CHUNK]]
            uv, depth, db = _shaded(corners, _centres(at, ctx.size), ctx.size)
            ids = encode_ids(encoded[part : part + PIXELS_PER_CHUNK])
            rast[at] = torch.cat((uv, depth[:, None], ids[:, None].double()), 1).to(pos.dtype)
            rast_db[at] = db.to(pos.dtype)
        return rast.reshape(*shape, 4), rast_db.reshape(*shape, 4)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_rast: Tensor | None, d_rast_db: Tensor | None) -> tuple[Tensor | None, ...]:
        pos, rows, pixel = ctx.saved_tensors
        db_grad, depth_grad, interior_gate = ctx.switches
        points = pos.detach().reshape(-1, 4).double().requires_grad_()
        d_points = torch.zeros_like(points)
        nothing = torch.zeros(1, 4, dtype=torch.float64, device=pos.device).expand(len(pixel), 4)
        d_shaded = nothing if d_rast is None else d_rast.reshape(-1, 4)[pixel].double()
        d_db = nothing if d_rast_db is None or not db_grad else d_rast_db.reshape(-1, 4)[pixel].double()
        d_uv, d_depth = d_shaded[:, :2], d_shaded[:, 2]
        planar = (d_uv != 0).any(1) | (d_db != 0).any(1)
        deep = (d_depth != 0) & depth_grad
        if interior_gate:
            for part in (planar | deep).nonzero()[:, 0].split(PIXELS_PER_CHUNK):
                inside = _contains(points.detach()[rows[part]], _centres(pixel[part], ctx.size))
                planar[part] &= inside
                deep[part] &= inside
        with torch.enable_grad():
            live = planar.nonzero()[:, 0]
            for part in live.split(PIXELS_PER_CHUNK):
                corners, centre = points[rows[part]], _centres(pixel[part], ctx.size)
                outputs = _differentiated(corners, centre, ctx.size)
                d_points += torch.autograd.grad(outputs, points, (d_uv[part], d_db[part]))[0]
            live = deep.nonzero()[:, 0]
            for part in live.split(PIXELS_PER_CHUNK):
                depth = _depth(points[rows[part]], _centres(pixel[part], ctx.size))
                d_points += torch.autograd.grad(depth, points, d_depth[part])[0]
        return d_points.reshape(pos.shape).to(pos.dtype), None, None, None, None, None
