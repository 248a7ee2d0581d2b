# SPDX-License-Identifier: MIT
"""Vertex normals for meshes that bring none."""

import math

import torch
from torch import Tensor

# Around a vertex with more triangles than this (the tip of a finely divided cone), only so many are averaged.
MAX_NEIGHBOURS = 64
CREASE_RAD = math.radians(40)


def face_normals(positions: Tensor, tri: Tensor) -> Tensor:
    """Normals of triangles, counter-clockwise seen from outside; their length is twice the area.

    Args:
        positions: [V, 3].  tri: [T, 3] integer.
    Returns:
        [T, 3].
    Gradients:
        to `positions`.
    """
    a, b, c = (positions[tri[:, k].long()] for k in range(3))
    return torch.linalg.cross(b - a, c - a)


def corner_normals(positions: Tensor, tri: Tensor, crease_rad: float = CREASE_RAD) -> tuple[Tensor, Tensor]:
    """One normal per triangle corner: smooth where the surface is smooth, sharp across creases.

    The normal of a corner is the area-weighted mean over those triangles around its vertex whose normals
    are within `crease_rad` of that of the corner's own triangle. How to choose `crease_rad`: 40 degrees keep
    a box, and a cylinder of at least nine sides, what they are.

    Returns:
        normals [3T, 3] of unit length (zero for a degenerate triangle) and their index buffer [T, 3] int32.
    Cost:
        Time T times the most triangles at one vertex (at most MAX_NEIGHBOURS); memory proportional to T.
    """
    area_normal = face_normals(positions, tri)  # [T, 3]
    unit = torch.nn.functional.normalize(area_normal, dim=-1)
    vertex = tri.reshape(-1).long()  # [3T], corner 3t + k
    order = torch.argsort(vertex, stable=True)  # corners grouped by vertex
    valence = torch.bincount(vertex, minlength=len(positions))  # [V]
    group_start = (torch.cumsum(valence, 0) - valence)[vertex[order]]  # [3T]
    group_size = valence[vertex[order]]
    rank = torch.arange(len(order)) - group_start
    own_face = order // 3

    total = torch.zeros_like(area_normal).repeat_interleave(3, dim=0)  # [3T, 3], in grouped order
    for step in range(min(int(valence.max()), MAX_NEIGHBOURS)):
        other_face = order[group_start + (rank + step) % group_size] // 3
        near = (unit[own_face] * unit[other_face]).sum(-1) >= math.cos(crease_rad)
        near &= step < group_size
        total += torch.where(near[:, None], area_normal[other_face], 0.0)
    normals = torch.empty_like(total)
    normals[order] = torch.nn.functional.normalize(total, dim=-1)
    return normals, torch.arange(len(order), dtype=torch.int32).reshape(-1, 3)
