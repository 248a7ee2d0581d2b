# SPDX-License-Identifier: MIT
"""Vertex normals for meshes that bring none."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

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
        Proportional to T; at creases, times the most triangles at one vertex (at most MAX_NEIGHBOURS).
    """
    area_normal = face_normals(positions, tri)  # [T, 3]
    unit = normalize(area_normal, dim=-1)
    vertex = tri.reshape(-1).long()  # [3T], corner 3t + k
    face = torch.arange(len(vertex)) // 3

    # Where all triangles lie within half the angle of their mean, any two lie within the whole of each other.
    mean = normalize(torch.zeros_like(positions).index_add_(0, vertex, area_normal[face]), dim=-1)
    normals = mean[vertex]
    creased = torch.zeros(len(positions), dtype=torch.bool)
    creased[vertex[(normals * unit[face]).sum(-1) < math.cos(crease_rad / 2)]] = True

    corner = torch.nonzero(creased[vertex])[:, 0]
    corner = corner[torch.argsort(vertex[corner], stable=True)]  # grouped by vertex
    valence = torch.bincount(vertex[corner], minlength=len(positions))
    group_start = (torch.cumsum(valence, 0) - valence)[vertex[corner]]
    group_size = valence[vertex[corner]]
    rank = torch.arange(len(corner)) - group_start
    total = torch.zeros_like(normals[corner])
    for step in range(min(int(valence.max()) if len(corner) else 0, MAX_NEIGHBOURS)):
        other = corner[group_start + (rank + step) % group_size] // 3
        near = (unit[corner // 3] * unit[other]).sum(-1) >= math.cos(crease_rad)
        near &= step < group_size
        total += torch.where(near[:, None], area_normal[other], 0.0)
    normals[corner] = normalize(total, dim=-1)
    return normals, torch.arange(len(vertex), dtype=torch.int32).reshape(-1, 3)


def vertex_normals(positions: Tensor, tri: Tensor) -> Tensor:
    """Smooth normals: the area-weighted mean over the triangles around each vertex.

    Args:
        positions: [..., V, 3].  tri: [T, 3] integer.
    Returns:
        [..., V, 3] of unit length; zero where no triangle with an area meets the vertex.
    Gradients:
        to `positions`.
    """
    index = tri.long()
    a, b, c = (positions.index_select(-2, index[:, k]) for k in range(3))
    area_normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(positions)
    for k in range(3):
        total = total.index_add(-2, index[:, k], area_normal)
    return normalize(total, dim=-1)
