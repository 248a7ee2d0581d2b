# SPDX-License-Identifier: MIT
"""Laplacians of a triangle mesh as sparse matrices, and the energies that are made of them."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.scene.extra import require

# A cotangent beyond these bounds belongs to a sliver; it would make the matrix indefinite or stiff.
COTANGENT_BOUNDS = (1e-3, 5.0)


def edges(tri: Tensor) -> Tensor:
    """The undirected edges of a mesh, each once.

    Args:
        tri: [T, 3] integer.
    Returns:
        [E, 2] int64, smaller index first, in ascending order.
    """
    index = tri.long()
    both = torch.cat([index[:, [0, 1]], index[:, [1, 2]], index[:, [2, 0]]])
    return torch.unique(both.sort(dim=1).values, dim=0)


def uniform_laplacian(tri: Tensor, count: int) -> Any:
    """The combinatorial Laplacian: valence on the diagonal, -1 for each edge.

    Args:
        tri: [T, 3] integer.  count: number of vertices.
    Returns:
        SciPy CSR matrix [count, count], float64, symmetric, rows sum to 0.
    """
    pair = edges(tri).cpu().numpy()
    return _from_weights(pair, np.ones(len(pair)), count)


def cotangent_laplacian(positions: Tensor, tri: Tensor) -> tuple[Any, np.ndarray]:
    """The Laplacian of the surface, however it is cut into triangles (Pinkall and Polthier 1993).

    Args:
        positions: [V, 3].  tri: [T, 3] integer.
    Returns:
        SciPy CSR matrix [V, V], symmetric, rows sum to 0, weights half the sum of the two cotangents, each
        clipped to COTANGENT_BOUNDS; and the area [V] around each vertex: a third of its triangles'.
    """
    place, index = positions.detach().cpu().numpy().astype(np.float64), tri.cpu().numpy().astype(np.int64)
    area = np.zeros(len(place))
    pairs, weights = [], []
    for k in range(3):
        a, b, c = index[:, k], index[:, (k + 1) % 3], index[:, (k + 2) % 3]
        u, v = place[b] - place[a], place[c] - place[a]
        twice = np.linalg.norm(np.cross(u, v), axis=1)
        pairs.append(np.sort(np.stack([b, c], axis=1), axis=1))
        weights.append(0.5 * (u * v).sum(1) / np.maximum(twice, 1e-30))
        np.add.at(area, a, twice / 6)
    pair, which = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    weight = np.bincount(which.reshape(-1), np.concatenate(weights))
    return _from_weights(pair, np.clip(weight, *COTANGENT_BOUNDS), len(place)), area


def bridges(positions: Tensor, tri: Tensor, weight: float) -> Any:
    """A Laplacian that ties loose pieces (eyes, teeth) to the largest one, vertex to nearest vertex.

    Without it the pieces would not follow what they lie in. Vertices of no triangle are tied, too.

    Args:
        weight: of each tie, where an edge of `uniform_laplacian` has 1.
    Returns:
        SciPy CSR matrix [V, V]; empty when all is one piece.
    """
    graph = require("scipy.sparse.csgraph", "finding the pieces of a mesh", "capture")
    spatial = require("scipy.spatial", "tying the pieces of a mesh", "capture")
    place = positions.detach().cpu().numpy().astype(np.float64)
    _, piece = graph.connected_components(uniform_laplacian(tri, len(place)), directed=False)
    main = np.flatnonzero(piece == np.bincount(piece).argmax())
    loose = np.flatnonzero(piece != np.bincount(piece).argmax())
    nearest = main[spatial.cKDTree(place[main]).query(place[loose])[1]] if len(loose) else loose
    return _from_weights(np.stack([loose, nearest], axis=1), np.full(len(loose), weight), len(place))


def _from_weights(pair: np.ndarray, weight: np.ndarray, count: int) -> Any:
    sparse = require("scipy.sparse", "building a mesh's Laplacian", "capture")
    half = sparse.coo_matrix((weight, (pair[:, 0], pair[:, 1])), (count, count))
    around = (half + half.T).tocsr()
    return (sparse.diags(np.asarray(around.sum(axis=1)).ravel()) - around).tocsr()


class SparseOperator:
    """A constant sparse matrix to multiply vertices with, with a gradient."""

    def __init__(
        self, matrix: Any, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> None:
        self.rows = _tensor(matrix, dtype).to(device)
        self.columns = _tensor(matrix.T.tocsr(), dtype).to(device)

    def __call__(self, x: Tensor) -> Tensor:
        """[M, C] = matrix [M, V] times `x` [V, C]. Gradients: to `x`."""
        return _Apply.apply(self, x)  # pyright: ignore[reportReturnType]


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operator: SparseOperator, x: Tensor) -> Tensor:
        ctx.operator = operator
        return operator.rows @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[None, Tensor]:
        return None, ctx.operator.columns @ d_y.contiguous()


def _tensor(matrix: Any, dtype: torch.dtype) -> Tensor:
    matrix = matrix.tocsr(copy=True)
    matrix.sum_duplicates()
    row_starts, columns = (
        torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices)
    )
    with warnings.catch_warnings():
        # torch calls its CSR tensors a beta whenever the first one is made.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        # Some versions say so although the checks are asked for here.
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
        return torch.sparse_csr_tensor(
            row_starts, columns, torch.from_numpy(matrix.data).to(dtype), matrix.shape, check_invariants=True
        )


def bending(positions: Tensor, tri: Tensor, ties: float = 0.2, scale: float = 1.0) -> SparseOperator:
    """The operator B whose |B d|^2 is the bending energy of a displacement field d on a surface.

    It is the thin-plate energy: the integral over the surface of the squared Laplacian of d, times `scale`.
    Constant and linear displacements cost nothing on a plane, and the cost does not depend on how a
    region is cut into triangles.

    Args:
        positions: [V, 3] at rest.  tri: [T, 3].  ties: weight of the bridges to loose pieces.
    """
    sparse = require("scipy.sparse", "building a mesh's bending energy", "capture")
    laplacian, area = cotangent_laplacian(positions, tri)
    # Tiny triangles (in the corners of eyes) would otherwise rule the energy.
    area = np.maximum(area, 0.05 * area[area > 0].mean())
    weighted = sparse.diags(np.sqrt(scale / area)) @ (laplacian + bridges(positions, tri, ties))
    return SparseOperator(weighted, device=positions.device)


def squares(x: Tensor) -> Tensor:
    """Sum of squares, the energy of what an operator returned."""
    return (x * x).sum()


def edge_length_energy(positions: Tensor, rest: Tensor, pairs: Tensor) -> Tensor:
    """How far edges are from their lengths at rest: the mean of (length / rest length - 1)^2.

    Args:
        positions, rest: [..., V, 3].  pairs: [E, 2], of `edges`.
    Gradients:
        to `positions`.
    """
    now, before = (_lengths(x, pairs) for x in (positions, rest.detach()))
    return (now / before.clamp_min(1e-12) - 1).square().mean()


def _lengths(positions: Tensor, pairs: Tensor) -> Tensor:
    a, b = (positions.index_select(-2, pairs[:, k]) for k in range(2))
    return (a - b).square().sum(-1).clamp_min(1e-24).sqrt()


def rigidity_energy(positions: Tensor, rest: Tensor, pairs: Tensor) -> Tensor:
    """As rigid as possible (Sorkine and Alexa 2007): what is left of edges after each vertex's best rotation.

    Args:
        positions, rest: [V, 3].  pairs: [E, 2], of `edges`.
    Returns:
        Mean over edges and their two ends of |p_i - p_j - R_i (r_i - r_j)|^2, in units of length squared.
    Gradients:
        to `positions`; the rotations are held, which is exact where they are the best.
    """
    ends = torch.cat([pairs, pairs.flip(1)])
    now = positions.index_select(0, ends[:, 0]) - positions.index_select(0, ends[:, 1])
    before = rest.index_select(0, ends[:, 0]) - rest.index_select(0, ends[:, 1])
    with torch.no_grad():
        outer = before[:, :, None] * now[:, None, :]
        covariance = torch.zeros(len(positions), 3, 3).to(outer).index_add_(0, ends[:, 0], outer)
        u, _, vh = torch.linalg.svd(covariance)
        turn = torch.ones_like(u[:, 0])
        turn[:, 2] = torch.det(vh.mT @ u.mT).sign()
        rotation = vh.mT @ (turn[:, :, None] * u.mT)
    turned = (rotation.index_select(0, ends[:, 0]) @ before[:, :, None])[..., 0]
    return (now - turned).square().sum(-1).mean()
