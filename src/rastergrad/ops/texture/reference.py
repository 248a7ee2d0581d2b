# SPDX-License-Identifier: MIT
"""Texture sampling from its definition: float64 PyTorch, gradients by autograd only.

Every pixel names a level, a layer (image, or image and cube face), a row and a column in one table that holds
the texels of all levels; filtering is a weighted sum of such look-ups. Where the definition has no derivative
(a circular or empty footprint, a clamped border, a coordinate that is not finite) the branch not taken is fed
a harmless constant first, so that autograd never multiplies a zero by an infinity.

Sources: Williams 1983, "Pyramidal Parametrics" (mip maps); the OpenGL specification, "Cube Map Texture
Selection" (faces and their orientation). The level is that of the longest axis of the pixel's footprint: the
larger eigenvalue of J J^T, with J the Jacobian of texel against pixel coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# e_s, e_t, e_n of the faces +x -x +y -y +z -z: columns run along e_s, rows along e_t, e_n points outward
_FACES = (
    ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    ((1, 0, 0), (0, 0, 1), (0, 1, 0)),
    ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
    ((1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
)


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: Sequence[Tensor] | None = None,
    *,
    rast: Tensor | None = None,
    filter_mode: str,
    boundary_mode: str,
    max_mip_level: int | None = None,
    circular_gradient: bool = True,
) -> Tensor:
    """Sample a texture at every pixel.

    Args:
        tex: [N or 1, h, w, C] float, or [N or 1, 6, h, h, C] with boundary_mode "cube".
        uv: [N, H, W, 2] float, (0, 0) and (1, 1) being opposite corners of the texture; for cubes directions
            of any length, [N, H, W, 3].
        uv_da: [N, H, W, 4] ds/dX ds/dY dt/dX dt/dY; [N, H, W, 6] for cubes. Only mipmap modes read it.
        mip_level_bias: [N, H, W], added to the level.
        mip: levels 1..M; None builds them from `tex`.
        rast: [N, H, W, 4]; pixels whose last channel is below 1 are zero.
        filter_mode: "nearest", "linear", "linear-mipmap-nearest" or "linear-mipmap-linear".
        boundary_mode: "wrap", "clamp", "zero" or "cube".
        max_mip_level: last level to build; 0 turns a mipmap mode into "linear".
        circular_gradient: at an exactly circular footprint, the level's derivative is the mean of the
            one-sided ones; False makes it zero.

    Returns:
        [N, H, W, C] in the dtype of `tex`.

    Gradients: to tex and mip; to uv unless nearest; to uv_da and mip_level_bias in linear-mipmap-linear.

    Errors: RuntimeError when a level to be built would halve an odd side.
    """
    N, H, W = uv.shape[:3]
    height, width = tex.shape[-3:-1]
    cube = boundary_mode == "cube"
    mipmapped = "mipmap" in filter_mode and max_mip_level != 0
    trilinear = mipmapped and filter_mode == "linear-mipmap-linear"
    levels = [tex.double()]
    if mipmapped:
        levels += build_mipmaps(levels[0], max_mip_level, cube) if mip is None else [m.double() for m in mip]
    pyramid = _Pyramid(levels, cube)
    quiet = _ZeroUpstream()

    # Coordinates, one row per pixel
    coords = uv.double().flatten(0, 2)  # [P, 2 or 3]
    coords = quiet.enter(coords) if filter_mode != "nearest" else coords.detach()
    image = torch.arange(N, device=uv.device).repeat_interleave(H * W)  # [P]
    layer = image if tex.shape[0] > 1 else torch.zeros_like(image)
    direction = None
    if cube:
        direction = _CubeDirection(coords, torch.float64 if uv.dtype == torch.float64 else torch.float32)
        layer, st = layer * 6 + direction.face, direction.st
    else:
        st = coords

    def sample(level: Tensor) -> Tensor:  # [P] -> [P, C]
        if direction is not None:
            find = _cube_nearest if filter_mode == "nearest" else _cube_linear
            return find(pyramid, level, layer, st, direction.valid, quiet)
        find = _plane_nearest if filter_mode == "nearest" else _plane_linear
        return find(pyramid, level, layer, st, boundary_mode, quiet)

    # Level
    level = torch.zeros(N * H * W, dtype=torch.float64, device=uv.device)
    if mipmapped:
        if uv_da is not None:
            da = quiet.enter(uv_da.double().flatten(0, 2))
            footprint = direction.footprint(da) if direction is not None else da
            level = _level_of_footprint(footprint, width, height, circular_gradient)
        if mip_level_bias is not None:
            level = level + quiet.enter(mip_level_bias.double().flatten())
        level = torch.where(level > 0, level, 0.0)  # NaN becomes 0
        level = torch.where(level < pyramid.last, level, float(pyramid.last))
    floor = level.detach().floor()
    out = sample(floor.long())
    if trilinear:
        between = floor < level.detach()
        f = torch.where(between, level - floor, 0.0)[:, None]
        above = sample(torch.where(between, floor + 1, floor).long())
        out = out + f * torch.where(between[:, None], above - out, 0.0)
    out = quiet.leave(out).reshape(N, H, W, tex.shape[-1]).to(tex.dtype)
    return out if rast is None else torch.where(rast[..., 3:] >= 1, out, 0.0)


def build_mipmaps(tex: Tensor, max_mip_level: int | None, cube: bool) -> list[Tensor]:
    """Levels 1..M of [N, h, w, C] or [N, 6, h, h, C]: means of 2x2 blocks, of pairs once a side is 1."""
    assert tex.dim() == (5 if cube else 4)
    levels: list[Tensor] = []
    sizes = [tuple(tex.shape[-3:-1])]
    while sizes[-1] != (1, 1) and (max_mip_level is None or len(levels) < max_mip_level):
        h, w = sizes[-1]
        if (h > 1 and h % 2) or (w > 1 and w % 2):
            chain = " -> ".join(f"{a}x{b}" for a, b in sizes)
            raise RuntimeError(
                f"texture: `tex` needs even sides (or sides of 1) down to the last mip level; got "
                f"height x width {chain}. Pass max_mip_level={len(levels)} or resize the texture."
            )
        rows, columns = min(h, 2), min(w, 2)
        finer = levels[-1] if levels else tex
        # [..., h / rows, rows, w / columns, columns, C]
        blocks = finer.unflatten(-2, (w // columns, columns)).unflatten(-4, (h // rows, rows))
        levels.append(blocks.mean((-4, -2)))
        sizes.append((h // rows, w // columns))
    return levels


class _Pyramid:
    """All texels of all levels as one table, so that each pixel can look into a level of its own."""

    def __init__(self, levels: Sequence[Tensor], cube: bool) -> None:
        device = levels[0].device
        tables = [x.flatten(0, -2) for x in levels]  # [images faces h w, C]
        self.table = torch.cat(tables)
        self.width = torch.tensor([x.shape[-2] for x in levels], device=device)
        self.height = torch.tensor([x.shape[-3] for x in levels], device=device)
        count = torch.tensor([x.shape[0] for x in tables], device=device)
        self.start = count.cumsum(0) - count
        self.last = len(levels) - 1

    def texel(self, level: Tensor, layer: Tensor, row: Tensor, column: Tensor, exists: Tensor) -> Tensor:
        """[P, C]; zero, and without gradient, where the texel does not exist."""
        index = self.start[level] + (layer * self.height[level] + row) * self.width[level] + column
        return torch.where(exists[:, None], self.table[torch.where(exists, index, 0)], 0.0)


# ------------------------------------------------------------------------------------------------ planes


def _plane_nearest(
    pyramid: _Pyramid, level: Tensor, layer: Tensor, st: Tensor, boundary: str, quiet: _ZeroUpstream
) -> Tensor:
    size = torch.stack([pyramid.width[level], pyramid.height[level]], 1).double()  # [P, 2]
    if boundary == "wrap":
        st = st - st.floor()
    cell = (st * size).floor().nan_to_num(0.0, torch.inf, -torch.inf)
    exists = ((cell >= 0) & (cell < size)).all(1) | (boundary != "zero")
    column, row = cell.clamp(min=0).minimum(size - 1).long().unbind(1)
    return quiet.enter(pyramid.texel(level, layer, row, column, exists))


def _plane_linear(
    pyramid: _Pyramid, level: Tensor, layer: Tensor, st: Tensor, boundary: str, quiet: _ZeroUpstream
) -> Tensor:
    columns, in_s, a = _neighbours(st[:, 0], pyramid.width[level], boundary)
    rows, in_t, b = _neighbours(st[:, 1], pyramid.height[level], boundary)
    t00, t10, t01, t11 = (
        quiet.enter(pyramid.texel(level, layer, rows[j], columns[i], in_t[j] & in_s[i]))
        for j in (0, 1)
        for i in (0, 1)
    )
    return _bilinear(t00, t10, t01, t11, a, b)


def _neighbours(s: Tensor, size: Tensor, boundary: str) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The two texels around s along one axis: indices, whether they exist, and the weight of the second."""
    if boundary == "wrap":
        s = s - s.detach().floor()
    x = s * size - 0.5
    exists = torch.ones_like(size, dtype=torch.bool)
    if boundary == "clamp":
        inside = (x > 0) & (x < size - 1)
        edge = torch.where(x.detach() >= size - 1, size - 1, 0)  # NaN: the first texel
        x = torch.where(inside, x, edge.double())
        first = x.detach().floor()
        return [first.long(), (first + inside).long()], [exists, exists], x - first
    first = x.detach().floor().nan_to_num(0.0, torch.inf, -torch.inf)
    fraction = torch.where(x.isinf(), 0.0, x - first)
    # Bounded before the conversion: an integer cannot hold every double
    indices = [k.clamp(min=-2).minimum(size.double() + 1).long() for k in (first, first + 1)]
    if boundary == "wrap":
        return [k.remainder(size) for k in indices], [exists, exists], fraction
    return indices, [(k >= 0) & (k < size) for k in indices], fraction


def _bilinear(t00: Tensor, t10: Tensor, t01: Tensor, t11: Tensor, a: Tensor, b: Tensor) -> Tensor:
    a, b = a[:, None], b[:, None]
    return (1 - b) * ((1 - a) * t00 + a * t10) + b * ((1 - a) * t01 + a * t11)


# ------------------------------------------------------------------------------------------------ level


def _level_of_footprint(footprint: Tensor, width: int, height: int, circular_gradient: bool) -> Tensor:
    """Level [P] of a footprint [P, 4] (ds/dX, ds/dY, dt/dX, dt/dY): log2 of its longest axis in texels."""
    texels = footprint * footprint.new_tensor([width, width, height, height])

    def squared_axis(q: Tensor) -> tuple[Tensor, Tensor]:
        sX, sY, tX, tY = q.unbind(1)
        A, B, C = sX * sX + tX * tX, sY * sY + tY * tY, sX * sY + tX * tY
        square = ((A - B) / 2) ** 2 + C * C
        circular = square == 0
        # d sqrt = 0 at the apex of the cone: the mean of the one-sided derivatives
        R = torch.where(circular, 0.0, torch.where(circular, 1.0, square).sqrt())
        return (A + B) / 2 + R, circular

    value, _ = squared_axis(texels.detach())
    regular = value.isfinite() & (value > 0)
    m, circular = squared_axis(torch.where(regular[:, None], texels, 1.0))
    level = torch.where(regular, m.log2() / 2, value.log2() / 2)  # zero footprint: -inf
    return level if circular_gradient else torch.where(circular, level.detach(), level)


# ------------------------------------------------------------------------------------------------ cubes


class _CubeDirection:
    """Directions [P, 3] on the cube: face [P], position st [P, 2] on it, and which of them mean anything."""

    def __init__(self, d: Tensor, precision: torch.dtype) -> None:
        fixed = d.detach()
        infinite = fixed.isinf()
        longest = fixed.abs().nan_to_num(0.0, torch.inf).amax(1)
        # 1/|ma| is formed in the caller's precision: where that overflows, the vector counts as zero
        representable = 1 / longest <= torch.finfo(precision).max
        self.valid = ~fixed.isnan().any(1) & (infinite.sum(1) <= 1) & representable
        finite = self.valid & ~infinite.any(1)
        # An infinite component hides the others: the centre of its face
        axis = torch.where(infinite, fixed.sign(), 0.0)
        axis = torch.where(self.valid[:, None], axis, axis.new_tensor([1.0, 0.0, 0.0]))
        # Two aliases: a gradient that is not finite is dropped for the look-up and the footprint separately
        lookup = torch.where(finite[:, None], _zero_unless_finite(d, precision), axis)
        self._for_level = torch.where(finite[:, None], _zero_unless_finite(d, precision), axis)
        self._finite = finite
        self.face = _face_of(lookup.detach())
        self._basis = d.new_tensor(_FACES)[self.face]  # [P, 3, 3]
        plane, major = self._project(lookup)
        self.st = (
            plane / major + 1
        ) / 2  # in [0, 1] without a clamp: |plane| <= major, and rounding is monotone

    def _project(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """Components of d along (e_s, e_t), [P, 2], and e_n, [P, 1]."""
        along = (self._basis * d[:, None]).sum(2)
        return along[:, :2], along[:, 2:]

    def footprint(self, da: Tensor) -> Tensor:
        """(ds/dX, ds/dY, dt/dX, dt/dY) from the derivatives [P, 6] of the direction, by the quotient rule."""
        plane, major = self._project(self._for_level)
        out = []
        for step in (da[:, 0::2], da[:, 1::2]):  # d direction / dX, / dY
            plane_step, major_step = self._project(step)
            out.append((plane_step - plane / major * major_step) / (2 * major))
        quotient = torch.stack(out, 2).flatten(1)
        return torch.where(self._finite[:, None], quotient, 0.0)


def _zero_unless_finite(d: Tensor, precision: torch.dtype) -> Tensor:
    """The same vectors; a gradient that the caller's precision cannot hold becomes the zero vector."""
    if not d.requires_grad:
        return d
    d = d.view_as(d)

    def drop(g: Tensor | None) -> Tensor | None:
        return None if g is None else torch.where(g.to(precision).isfinite().all(1, keepdim=True), g, 0.0)

    d.register_hook(drop)
    return d


def _face_of(d: Tensor) -> Tensor:
    """Face of the longest component of [P, 3]; x wins ties over y, y over z."""
    ax, ay, az = d.abs().unbind(1)
    axis = torch.where(az > torch.maximum(ax, ay), 2, torch.where(ay > ax, 1, 0))
    return 2 * axis + (d.gather(1, axis[:, None]).squeeze(1) < 0)


def _cube_nearest(
    pyramid: _Pyramid, level: Tensor, layer: Tensor, st: Tensor, valid: Tensor, quiet: _ZeroUpstream
) -> Tensor:
    size = pyramid.width[level][:, None].double()
    column, row = (st * size).floor().clamp(min=0).minimum(size - 1).long().unbind(1)
    return quiet.enter(pyramid.texel(level, layer, row, column, valid))


def _cube_linear(
    pyramid: _Pyramid, level: Tensor, layer: Tensor, st: Tensor, valid: Tensor, quiet: _ZeroUpstream
) -> Tensor:
    size = pyramid.width[level]
    x = st * size[:, None] - 0.5
    first = x.detach().floor()
    a, b = (x - first).unbind(1)
    column, row = first.long().unbind(1)
    texels, missing = [], []
    for dj in (0, 1):
        for di in (0, 1):
            face, j, i, corner = _across_edges(layer % 6, row + dj, column + di, size)
            texels.append(pyramid.texel(level, layer - layer % 6 + face, j, i, valid & ~corner))
            missing.append(corner[:, None])
    texels = [quiet.enter(t) for t in texels]
    # Three faces meet at a corner of the cube: the fourth texel is their mean (and zero in the sum)
    mean = (texels[0] + texels[1] + texels[2] + texels[3]) / 3
    return _bilinear(*(torch.where(gone, mean, t) for gone, t in zip(missing, texels)), a, b)


def _across_edges(
    face: Tensor, row: Tensor, column: Tensor, size: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Texel of a face, or one step outside of it, as (face, row, column, is it the missing one of a corner).

    In units of half a texel the cube spans [-size, size] and texel k is centred at 2k + 1 - size. A texel
    beyond an edge lies in the plane of the neighbour, one unit from the edge; that point names its face, row
    and column.
    """
    p, q = 2 * column + 1 - size, 2 * row + 1 - size
    beyond_p, beyond_q = p.abs() >= size, q.abs() >= size
    n = torch.where(beyond_p | beyond_q, size - 1, size)
    p = torch.maximum(torch.minimum(p, size), -size)
    q = torch.maximum(torch.minimum(q, size), -size)
    faces = torch.tensor(_FACES, device=face.device)
    e_s, e_t, e_n = faces[face].unbind(1)
    point = p[:, None] * e_s + q[:, None] * e_t + n[:, None] * e_n  # [P, 3]
    face = _face_of(point)
    along = (faces[face] * point[:, None]).sum(2)
    column, row = (along[:, 0] + size - 1) // 2, (along[:, 1] + size - 1) // 2
    return face, row, column, beyond_p & beyond_q


class _ZeroUpstream:
    """Keeps pixels with an all-zero upstream gradient out of every gradient, where 0 * NaN would enter."""

    def __init__(self) -> None:
        self.active: Tensor | None = None

    def enter(self, x: Tensor) -> Tensor:
        """Mark a per-pixel input, [P, ...]."""
        if not x.requires_grad:
            return x
        x = x.view_as(x)
        x.register_hook(self._filter)
        return x

    def leave(self, out: Tensor) -> Tensor:
        """Mark the per-pixel output, [P, C]."""
        if not out.requires_grad:
            return out
        out = out.view_as(out)  # hooks run in the order of registration: `out` may itself be an entered input
        out.register_hook(self._see)
        return out

    def _see(self, upstream: Tensor | None) -> None:
        # autograd passes None for a gradient that is zero by construction
        self.active = None if upstream is None else (upstream != 0).any(1)

    def _filter(self, g: Tensor | None) -> Tensor | None:
        if g is None or self.active is None:
            return None
        return torch.where(self.active.reshape(-1, *[1] * (g.dim() - 1)), g, 0.0)
