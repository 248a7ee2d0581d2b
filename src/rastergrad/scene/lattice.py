# SPDX-License-Identifier: MIT
"""Smooth warps of space: a lattice of control points with cubic B-splines between them.

What lies close together moves together, seen or not: the inside of a mouth follows the lips. That is what a
change of identity needs, whose deformation is smooth in space; no smoothness along the surface gives it.
"""

import math

import torch
from torch import Tensor

from rastergrad.scene.extra import require
from rastergrad.scene.laplacian import SparseOperator


def lattice(positions: Tensor, cell: float) -> tuple[SparseOperator, int]:
    """The warp of a lattice around some points.

    Args:
        positions: [V, 3] at rest, world units.
        cell: the largest side of a cell, world units.
    Returns:
        An operator from displacements of control points [N, 3] to those of the points [V, 3], and N. Rows sum
        to 1, so equal displacements move all by just that.
    """
    sparse = require("scipy.sparse", "warping space", "capture")
    device, positions = positions.device, positions.cpu()
    low, high = positions.amin(0), positions.amax(0)
    extent = (high - low).clamp_min(1e-9)
    counts = [max(1, math.ceil(float(side) / cell - 1e-6)) for side in extent]
    first, weight = zip(*(_spline((positions[:, k] - low[k]) / extent[k], counts[k]) for k in range(3)))
    # All 4 x 4 x 4 control points of each point's cell.
    a, b, c = torch.meshgrid(*(torch.arange(4),) * 3, indexing="ij")
    column = torch.zeros(len(positions), 64, dtype=torch.int64)
    for k, step in enumerate((a, b, c)):
        column = column * (counts[k] + 3) + first[k][:, None] + step.reshape(1, -1)
    product = weight[0][:, :, None, None] * weight[1][:, None, :, None] * weight[2][:, None, None, :]
    used, column = torch.unique(column, return_inverse=True)
    row = torch.arange(len(positions))[:, None].expand_as(column)
    matrix = sparse.coo_matrix(
        (product.reshape(-1).double().numpy(), (row.reshape(-1).numpy(), column.reshape(-1).numpy())),
        (len(positions), len(used)),
    )
    return SparseOperator(matrix.tocsr(), device=device), len(used)


def _spline(share: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """First of four control points [V] and their weights [V, 4] at places in 0..1 along `cells` cells."""
    place = (share * cells).clamp(0, cells)
    first = place.floor().clamp_max(cells - 1)
    t = place - first
    weight = torch.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], dim=-1
    )
    return first.long(), weight / 6
