# SPDX-License-Identifier: MIT
"""Laplacians, energies, large steps, warps of space, normals and light of a surface."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rastergrad.scene.harmonics import basis, shading, white_light
from rastergrad.scene.laplacian import (
    SparseOperator,
    bending,
    bridges,
    cotangent_laplacian,
    edge_length_energy,
    edges,
    rigidity_energy,
    squares,
    uniform_laplacian,
)
from rastergrad.scene.large_steps import AdamUniform, LargeSteps
from rastergrad.scene.lattice import lattice
from rastergrad.scene.normals import vertex_normals
from rastergrad.scene.smooth_normals import SmoothNormals
from testing.performances import ball


def flat(seed: int = 0, side: int = 9) -> tuple[Tensor, Tensor]:
    """An irregular triangulation of a square in the plane z = 0: positions and triangles."""
    from scipy.spatial import Delaunay

    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * 2), -1).reshape(-1, 2)
    inner = ((grid > 0) & (grid < 1)).all(1)
    grid[inner] += generator.uniform(-0.03, 0.03, (inner.sum(), 2))
    tri = Delaunay(grid).simplices
    return torch.from_numpy(np.pad(grid, ((0, 0), (0, 1)))).float(), torch.from_numpy(tri.astype(np.int32))


def egg() -> tuple[Tensor, Tensor]:
    template = ball()
    return template.positions, template.tri


def test_edges_are_each_once() -> None:
    tri = torch.tensor([[0, 1, 2], [2, 1, 3]])
    assert edges(tri).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]


def test_uniform_laplacian_counts_neighbours() -> None:
    tri = torch.tensor([[0, 1, 2], [2, 1, 3]])
    expected = [[2, -1, -1, 0], [-1, 3, -1, -1], [-1, -1, 3, -1], [0, -1, -1, 2]]
    assert uniform_laplacian(tri, 4).toarray().tolist() == expected


def test_cotangent_laplacian_knows_straight_from_curved() -> None:
    """In the plane linear functions are harmonic; on a sphere z is not: its eigenvalue is 2 / r^2."""
    positions, tri = flat()
    laplacian, area = cotangent_laplacian(positions, tri)
    assert area.sum() == pytest.approx(1, abs=1e-6)
    inner = ((positions[:, :2] > 1e-6) & (positions[:, :2] < 1 - 1e-6)).all(1).numpy()
    linear = (2 * positions[:, 0] - 3 * positions[:, 1] + 1).double().numpy()
    # Weights of 0 become 1e-3, times differences of up to 0.5.
    assert abs(laplacian @ linear)[inner].max() < 5e-4
    template = ball(48, 64)
    sphere = torch.nn.functional.normalize(template.positions, dim=-1) * 0.5
    laplacian, area = cotangent_laplacian(sphere, template.tri)
    assert area.sum() == pytest.approx(4 * math.pi * 0.25, rel=0.01)
    z = sphere[:, 2].double().numpy()
    away = np.abs(sphere[:, 1].numpy()) < 0.4  # the poles' slivers have clamped cotangents
    np.testing.assert_allclose((laplacian @ z)[away] / area[away], 8 * z[away], atol=0.15)


def test_laplacians_are_symmetric_and_forget_constants() -> None:
    positions, tri = egg()
    for matrix in (uniform_laplacian(tri, len(positions)), cotangent_laplacian(positions, tri)[0]):
        assert abs(matrix - matrix.T).max() < 1e-12
        assert abs(matrix @ np.ones(len(positions))).max() < 1e-9
        assert np.linalg.eigvalsh(matrix.toarray()).min() > -1e-9


def test_bridges_tie_every_loose_piece_to_the_main_one() -> None:
    positions, tri = egg()
    count = len(positions)
    both = torch.cat([positions, positions[:4] * 0.5, torch.zeros(1, 3)])
    loose = torch.tensor([[0, 1, 2], [1, 3, 2]], dtype=torch.int32) + count
    joined = torch.cat([tri, loose])
    tied = uniform_laplacian(joined, len(both)) + bridges(both, joined, 0.2)
    values = np.linalg.eigvalsh(tied.toarray())
    assert abs(values[0]) < 1e-9
    assert values[1] > 1e-4  # only constants cost nothing
    assert bridges(positions, tri, 0.2).nnz == 0


def test_bending_does_not_depend_on_the_tessellation() -> None:
    def energy(rows: int) -> float:
        template = ball(rows, 2 * rows)
        place = template.positions
        shift = torch.sin(20 * place[:, 1:2]) * torch.tensor([[0.0, 0.0, 0.01]])
        return float(squares(bending(place, template.tri)(shift)))

    assert energy(48) == pytest.approx(energy(24), rel=0.15)
    positions, tri = egg()
    bend = bending(positions, tri)
    noise = torch.randn(positions.shape, generator=torch.Generator().manual_seed(0))
    assert float(squares(bend(torch.ones_like(noise)))) < 1e-9 * float(squares(bend(noise)))


def test_sparse_operator_is_the_matrix_and_its_gradient_the_transpose() -> None:
    import scipy.sparse

    matrix = scipy.sparse.random(5, 7, 0.5, random_state=0, format="csr")
    operator = SparseOperator(matrix, torch.float64)
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(operator(x), torch.from_numpy(matrix.toarray()) @ x)
    assert torch.autograd.gradcheck(operator, x)


def rigid(positions: Tensor) -> Tensor:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)).to(positions))[0]
    return positions @ (turn * torch.det(turn)).T + 0.3


def test_edge_and_rigidity_energies_ignore_rigid_motion_and_see_stretch() -> None:
    positions, tri = (x.double() if x.is_floating_point() else x for x in egg())
    pairs = edges(tri)
    assert float(edge_length_energy(rigid(positions), positions, pairs)) < 1e-12
    assert float(rigidity_energy(rigid(positions), positions, pairs)) < 1e-12
    stretched = positions * torch.tensor([1.1, 1.0, 1.0], dtype=torch.float64)
    assert float(edge_length_energy(positions * 1.1, positions, pairs)) == pytest.approx(0.01)
    assert float(rigidity_energy(stretched, positions, pairs)) > 1e-8


def test_gradients_of_edge_and_rigidity_energies() -> None:
    template = ball(4, 5)
    rest, pairs = template.positions.double() * 10, edges(template.tri)
    moved = rest + 0.05 * torch.randn(
        rest.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    moved.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: edge_length_energy(x, rest, pairs), moved)
    # The best rotations are stationary, so holding them changes nothing to first order.
    assert torch.autograd.gradcheck(lambda x: rigidity_energy(x, rest, pairs), moved, atol=1e-4)


def test_large_steps_invert_and_smooth() -> None:
    positions, tri = egg()
    laplacian = uniform_laplacian(tri, len(positions))
    large = LargeSteps(laplacian, 7.0)
    torch.testing.assert_close(large.vertices(large.differential(positions)), positions, rtol=0, atol=1e-6)
    matrix = torch.from_numpy(np.eye(len(positions)) + 7.0 * laplacian.toarray())
    u = torch.randn(len(positions), 3, requires_grad=True)
    weights = torch.randn(len(positions), 3)
    (large.vertices(u) * weights).sum().backward()
    assert u.grad is not None
    torch.testing.assert_close(
        u.grad.double(), torch.linalg.solve(matrix.T, weights.double()), rtol=1e-3, atol=1e-5
    )


def test_adam_uniform_against_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(4, 3, generator=generator) for _ in range(6)]
    p = torch.zeros(4, 3, requires_grad=True)
    optimizer = AdamUniform([p], 0.1, betas=(0.8, 0.9))
    expected, m, v = np.zeros((4, 3)), np.zeros((4, 3)), np.zeros((4, 3))
    for k, gradient in enumerate(gradients, 1):
        p.grad = gradient.clone()
        optimizer.step()
        g = gradient.numpy()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        expected = expected - 0.1 * (m / (1 - 0.8**k)) / np.sqrt((v / (1 - 0.9**k)).max())
        if k == 3:  # a restored optimiser goes on with the same bits
            saved = optimizer.state_dict()
            optimizer = AdamUniform([p], 0.1, betas=(0.8, 0.9))
            optimizer.load_state_dict(saved)
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@given(cell=st.floats(0.03, 0.5), seed=st.integers(0, 1000))
def test_a_lattice_gives_all_affine_maps(cell: float, seed: int) -> None:
    """Weights sum to 1, and some displacements of control points turn, shear and scale all points exactly."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(60, 3, generator=generator) * torch.tensor([0.2, 0.3, 0.25])
    warp, count = lattice(points, cell)
    torch.testing.assert_close(warp(torch.ones(count, 1)), torch.ones(60, 1), rtol=0, atol=1e-6)
    wanted = points @ torch.randn(3, 3, generator=generator)
    dense = warp.rows.to_dense().double()
    found = torch.linalg.lstsq(dense, wanted.double(), driver="gelsd").solution
    torch.testing.assert_close(dense @ found, wanted.double(), rtol=0, atol=1e-6)


def test_a_lattice_is_local_and_smooth() -> None:
    x = torch.linspace(0, 1, 401)
    points = torch.stack([x, torch.zeros(401), torch.zeros(401)], dim=1)
    warp, _ = lattice(points, 0.1)
    shape = warp.rows.to_dense()[:, :]
    reach = (shape > 1e-6).float().sum(0) * (1 / 400)
    assert float(reach.max()) <= 0.41  # four cells
    second = shape[2:] - 2 * shape[1:-1] + shape[:-2]
    assert float(second.abs().max()) < 1.6 * (1 / 40) ** 2  # no kinks: twice differentiable


def test_vertex_normals_against_brute_force() -> None:
    positions, tri = (x.double() if x.is_floating_point() else x for x in egg())
    expected = torch.zeros_like(positions)
    for a, b, c in tri.tolist():
        normal = torch.linalg.cross(positions[b] - positions[a], positions[c] - positions[a])
        for corner in (a, b, c):
            expected[corner] += normal
    expected = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(vertex_normals(positions, tri), expected)
    torch.testing.assert_close(vertex_normals(positions.repeat(2, 1, 1), tri)[1], expected)
    assert ((expected * positions).sum(-1) > 0).all()  # outward
    small = ball(3, 4)
    place = (small.positions.double() * 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: vertex_normals(x, small.tri), place)


def test_smooth_normals_are_vertex_normals() -> None:
    positions, tri = egg()
    fast = SmoothNormals(tri, len(positions))
    torch.testing.assert_close(fast(positions), vertex_normals(positions, tri), rtol=0, atol=1e-5)
    weights = torch.randn(positions.shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for normals in (fast, lambda x: vertex_normals(x, tri)):
        place = positions.clone().requires_grad_()
        (normals(place) * weights).sum().backward()
        assert place.grad is not None
        gradients.append(place.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3 * float(gradients[1].abs().max()))
    flat = SmoothNormals(torch.tensor([[0, 1, 1]]), 3)(torch.tensor([[0.0, 1, 2], [3, 1, 0], [5, 5, 5]]))
    assert (flat == 0).all()


def test_harmonics_are_orthogonal_and_convolved_with_the_cosine() -> None:
    """By quadrature over the sphere: light of one term alone, gathered by a clamped cosine over pi."""
    generator = torch.Generator().manual_seed(0)
    sky = torch.nn.functional.normalize(
        torch.randn(400_000, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    values = basis(sky)
    gram = values.T @ values / len(sky)
    off = gram - torch.diag(gram.diagonal())
    assert float(off.abs().max() / gram.diagonal().max()) < 0.01
    # Unit harmonics Y have mean square 1 / 4 pi, so Y = value / (norm sqrt(4 pi)).
    unit = values / (gram.diagonal() * 4 * math.pi).sqrt()
    tilted = torch.nn.functional.normalize(
        torch.tensor([[0.5, 0.7, -0.4], [-0.6, 0.3, 0.8]]).double(), dim=-1
    )
    for normal in torch.cat([torch.eye(3, dtype=torch.float64), tilted]):
        cosine = (sky @ normal).clamp_min(0)
        gathered = (unit * cosine[:, None]).mean(0) * 4 * math.pi / math.pi
        torch.testing.assert_close(gathered, basis(normal), rtol=0, atol=0.01)


def test_white_light_is_one_from_everywhere() -> None:
    normals = torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    torch.testing.assert_close(shading(normals, white_light(normals)), torch.ones(50, 3))
