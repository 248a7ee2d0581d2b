# SPDX-License-Identifier: MIT
"""A mesh as the image plane sees it, and the affine functions that live on its triangles.

On screen, 1/depth ("nearness"), barycentric coordinates over depth and colours over depth are affine in (x,
y). So each triangle carries three coefficients (value at its first corner, slope along x, slope along y) for
everything that visibility and shading need, and no formula below divides by more than a nearness.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

SMALLEST_AREA = 1e-11  # px^2, doubled; below it a triangle shows nothing that float64 could resolve
CELLS = 64  # per side of the grid of candidates: a cell of a 48 px image is 0.75 px wide


class Surface(NamedTuple):
    """Triangles on the image plane. All vertices must lie in front of the camera."""

    vertex: Array  # [V, 3]: x and y in px, nearness = 1 / depth
    tri: Indices  # [T, 3]
    color: Array  # [T, 3, C] at the corners, so that neighbours may differ along their common edge
    background: Array  # [C]


class Planes(NamedTuple):
    """Affine functions on the triangles: f(x, y) = f[0] + f[1] (x - origin_x) + f[2] (y - origin_y)."""

    origin: Array  # [T, 2] px, the first corner
    bary: Array  # [T, 3 corners, 3] screen-space barycentric coordinates
    near: Array  # [T, 3] nearness
    shade: Array  # [T, C, 3] colour times nearness
    box: Array  # [T, 4] px: least x, least y, greatest x, greatest y; empty for triangles without area


class Grid(NamedTuple):
    """Which triangles a cell of the image may show: triangles[first[cell] : first[cell + 1]]."""

    first: Indices  # [CELLS^2 + 1]
    triangles: Indices
    cells_per_px: Array  # [2] along x, y


def planes_of(surface: Surface) -> Planes:
    """The affine functions of every triangle."""
    corner = surface.vertex[surface.tri]  # [T, 3, 3]
    place, near = corner[..., :2], corner[..., 2]
    u, v = place[:, 1] - place[:, 0], place[:, 2] - place[:, 0]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    solid = np.abs(area) > SMALLEST_AREA
    inverse = np.where(solid, 1 / np.where(solid, area, 1), 0)
    bary = np.zeros((len(surface.tri), 3, 3))
    bary[:, 0, 0] = 1
    bary[:, 1, 1:] = np.stack([v[:, 1], -v[:, 0]], 1) * inverse[:, None]
    bary[:, 2, 1:] = np.stack([-u[:, 1], u[:, 0]], 1) * inverse[:, None]
    bary[:, 0, 1:] = -bary[:, 1, 1:] - bary[:, 2, 1:]
    box = np.concatenate([place.min(1), place.max(1)], 1)
    box[~solid] = [np.inf, np.inf, -np.inf, -np.inf]
    return Planes(
        origin=np.ascontiguousarray(place[:, 0]),
        bary=bary,
        near=np.einsum("tk,tkf->tf", near, bary),
        shade=np.ascontiguousarray(np.einsum("tk,tkc,tkf->tcf", near, surface.color, bary)),
        box=box,
    )


def grid_of(planes: Planes, height: int, width: int) -> Grid:
    """Sort the triangles into the cells that their boxes touch."""
    cells_per_px = np.array([CELLS / width, CELLS / height])
    cell = np.floor(planes.box * np.tile(cells_per_px, 2))
    inside = (cell[:, 0] < CELLS) & (cell[:, 1] < CELLS) & (cell[:, 2] >= 0) & (cell[:, 3] >= 0)
    found = np.flatnonzero(inside)
    low_x, low_y, high_x, high_y = np.clip(cell[found], 0, CELLS - 1).astype(np.int64).T
    wide, count = high_x - low_x + 1, (high_x - low_x + 1) * (high_y - low_y + 1)
    owner = np.repeat(np.arange(len(found)), count)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    at = (low_y[owner] + nth // wide[owner]) * CELLS + low_x[owner] + nth % wide[owner]
    order = np.argsort(at, kind="stable")
    first = np.searchsorted(at[order], np.arange(CELLS * CELLS + 1))
    return Grid(first.astype(np.int64), found[owner[order]].astype(np.int64), cells_per_px)


class Edges(NamedTuple):
    """The distinct edges and the triangles on them: triangles[first[edge] : first[edge + 1]]."""

    ends: Indices  # [E, 2] vertices
    first: Indices  # [E + 1]
    triangles: Indices


def edges_of(tri: Indices) -> Edges:
    """Every edge once, from its lower to its higher vertex index."""
    pairs = np.sort(np.concatenate([tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]]), 1)
    ends, edge = np.unique(pairs, axis=0, return_inverse=True)
    edge = edge.reshape(-1)
    order = np.argsort(edge, kind="stable")
    first = np.searchsorted(edge[order], np.arange(len(ends) + 1))
    owner = np.tile(np.arange(len(tri)), 3)[order]
    return Edges(ends.astype(np.int64), first.astype(np.int64), owner.astype(np.int64))
