# SPDX-License-Identifier: MIT
"""Smooth normals of a mesh whose triangles stay the same, for loops: the sums over triangles are sparse
products, several times as fast as index_add.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.scene.extra import require
from rastergrad.scene.laplacian import SparseOperator


class SmoothNormals:
    """`normals.vertex_normals` for one index buffer.

    Args:
        tri: [T, 3] integer.  count: number of vertices.
    """

    def __init__(self, tri: Tensor, count: int) -> None:
        sparse = require("scipy.sparse", "summing over triangles", "capture")
        self.tri = tri.long()
        corners = self.tri.cpu().numpy().reshape(-1)
        ones, each = np.ones(corners.size), np.arange(corners.size)
        # [V, T]: which triangles meet a vertex. [V, 3T]: which corners are a vertex.
        around = sparse.csr_matrix((ones, (corners, each // 3)), (count, len(tri)))
        at = sparse.csr_matrix((ones, (corners, each)), (count, corners.size))
        self.around = SparseOperator(around, device=tri.device)
        self.corners = SparseOperator(at, device=tri.device)

    def __call__(self, positions: Tensor) -> Tensor:
        """Unit normals [V, 3] at positions [V, 3]; zero where no triangle with an area meets the vertex.

        Gradients: to `positions`.
        """
        return _Normals.apply(self, positions)  # pyright: ignore[reportReturnType]


class _Normals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mesh: SmoothNormals, positions: Tensor) -> Tensor:
        a, b, c = positions[mesh.tri].unbind(1)
        first, second = b - a, c - a
        total = mesh.around.rows @ torch.linalg.cross(first, second)
        length = total.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        normal = total / length
        ctx.mesh = mesh
        ctx.save_for_backward(first, second, normal, length)
        return normal

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_normal: Tensor) -> tuple[None, Tensor]:
        first, second, normal, length = ctx.saved_tensors
        d_total = (d_normal - normal * (normal * d_normal).sum(-1, keepdim=True)) / length
        d_face = ctx.mesh.around.columns @ d_total.contiguous()
        d_first, d_second = torch.linalg.cross(second, d_face), torch.linalg.cross(d_face, first)
        d_corners = torch.stack([-d_first - d_second, d_first, d_second], dim=1).reshape(-1, 3)
        return None, ctx.mesh.corners.rows @ d_corners
