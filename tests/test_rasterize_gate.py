# SPDX-License-Identifier: MIT
"""No gradient from a pixel whose centre lies outside the exact triangle, which is decided in fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rastergrad.ops.rasterize.op import depth_layers, draw, rasterize
from testing import scenes, strategies
from testing.closeness import assert_gradients_close

EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
DTYPES = [torch.float32, torch.float64]
SIDE = 32  # a power of two: pixel centres are exact, and so are dyadic corners seen from them
GRID_PX = 1 / 256  # vertices snap to this


def clip(corners_px: Tensor, z: Tensor, w: Tensor, side: int = SIDE) -> Tensor:
    """[V, 4] from pixel coordinates [V, 2], z/w and w [V]."""
    ndc = corners_px.double() * 2 / side - 1
    return torch.cat([ndc, z.double()[:, None], torch.ones_like(ndc[:, :1])], 1) * w.double()[:, None]


@st.composite
def slivers(draw_from: st.DrawFn) -> tuple[Tensor, Tensor]:
    """[1, V, 4] float64 and [T, 3]: triangles along rows, columns and diagonals of pixel centres, every
    corner up to a grid step off the line; some reach out of the image, some have their own w.
    """
    g = torch.Generator().manual_seed(draw_from(strategies.seeds))
    pos = []
    for _ in range(draw_from(st.integers(1, 10))):
        centre = torch.randint(0, SIDE, (1, 2), generator=g) + 0.5
        way = torch.tensor(draw_from(st.sampled_from([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, -2.0)])))
        along = (torch.rand(3, 1, generator=g) - 0.5) * draw_from(st.sampled_from([3.0, 20.0, 90.0]))
        off = (torch.rand(3, 2, generator=g) * 2 - 1) * GRID_PX
        w = torch.rand(3, generator=g) + 0.5 if draw_from(st.booleans()) else torch.ones(3)
        pos.append(clip(centre + along * way + off, torch.rand(3, generator=g) - 0.5, w))
    return torch.cat(pos)[None], torch.arange(3 * len(pos)).reshape(-1, 3)


def exact_areas(pos: Tensor, triangle: list[int], row: int, column: int) -> list[Fraction]:
    """A_0, A_1, A_2 of definition.md 2.3 without a rounding."""
    f = [Fraction(2 * k + 1, SIDE) - 1 for k in (column, row)]
    corners = [[Fraction(x) for x in pos[0, v].tolist()] for v in triangle]
    q = [(c[0] - f[0] * c[3], c[1] - f[1] * c[3]) for c in corners]
    return [q[k - 2][0] * q[k - 1][1] - q[k - 2][1] * q[k - 1][0] for k in range(3)]


def contained(pos: Tensor, tri: Tensor, rast: Tensor) -> tuple[Tensor, Tensor]:
    """[1, H, W] each: does the exact triangle contain the centre, and can no rounding change that?"""
    inside, clear = torch.zeros(2, *rast.shape[:3], dtype=torch.bool)
    for _, row, column in rast[..., 3].nonzero().tolist():
        triangle = tri[int(rast[0, row, column, 3]) - 1].tolist()
        found = exact_areas(pos, triangle, row, column)
        inside[0, row, column] = min(found) >= 0 or max(found) <= 0
        # q is off by |x| + |w| roundings, times the longest q.
        size = pos[0, triangle][:, [0, 1, 3]].abs().sum(1).max().item()
        clear[0, row, column] = min(map(abs, found)) > 16 * EPS[pos.dtype] * size * size
    return inside, clear


def gradient(pos: Tensor, tri: Tensor, up: tuple[Tensor, ...], gate: bool, backend: str = "cpu") -> Tensor:
    leaf = pos.clone().requires_grad_()
    out = draw("test", leaf, tri, up[0].shape[1:3], backend=backend, interior_gate=gate)
    return torch.autograd.grad(out[:2], leaf, up)[0]


def upstream(shape: torch.Size, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, *shape, generator=g, dtype=torch.float64).to(dtype)
    return first, second


# Who is left out --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(slivers(), st.sampled_from(DTYPES), strategies.seeds)
def test_the_gate_is_a_mask_on_what_arrives(scene, dtype, seed):
    """Bit by bit what remains if the pixels outside, by exact fractions, are sent nothing."""
    pos, tri = scene[0].to(dtype), scene[1]
    for backend in ("cpu", "reference"):
        rast, _ = rasterize(pos, tri, (SIDE, SIDE), backend=backend)
        inside, clear = contained(pos, tri, rast)
        up = tuple(g * clear[..., None] for g in upstream(rast.shape, seed, dtype))
        want = gradient(pos, tri, tuple(g * inside[..., None] for g in up), False, backend)
        assert torch.equal(gradient(pos, tri, up, True, backend), want)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(slivers(), strategies.seeds)
def test_gradients_of_slivers_are_the_oracles(scene, seed):
    pos, tri = scene
    rast, _ = rasterize(pos, tri, (SIDE, SIDE))
    _, clear = contained(pos, tri, rast)
    steady = clear & (rasterize(pos, tri, (SIDE, SIDE), backend="reference")[0][..., 3] == rast[..., 3])
    up = tuple(g * steady[..., None] for g in upstream(rast.shape, seed, torch.float64))
    got, want = (gradient(pos, tri, up, True, backend) for backend in ("cpu", "reference"))
    assert_gradients_close(got, want, dtype=torch.float64, what="d_pos")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("winding", [[0, 1, 2], [2, 1, 0]])
def test_a_centre_on_an_edge_or_a_corner_is_inside(backend, dtype, winding):
    """Corners on pixel centres: samples on the left and the lower side are drawn, and keep their gradient."""
    corners = torch.tensor([[4.5, 4.5], [20.5, 4.5], [4.5, 12.5]])
    pos = clip(corners, torch.tensor([0.1, 0.2, -0.3]), torch.tensor([1.0, 2.0, 0.5]))[None].to(dtype)
    tri = torch.tensor([winding])
    rast, _ = rasterize(pos, tri, (SIDE, SIDE), backend=backend)
    on_edge = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    on_edge[4, 4:20] = on_edge[4:12, 4] = True
    assert (rast[0, ..., 3] == 1)[on_edge].all()
    for row, column in on_edge.nonzero().tolist():
        up = tuple(torch.zeros_like(g) for g in (rast, rast))
        up[0][0, row, column, :3] = 1.0
        kept = gradient(pos, tri, up, True, backend)
        assert kept.any()
        assert torch.equal(kept, gradient(pos, tri, up, False, backend))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_triangle_without_area_contains_no_pixel(backend, dtype):
    """Three corners on a line through a centre, one of which is snapped off it: (u, v) is 0/0 there."""
    steps = torch.tensor([[-1000.0, -2000.0], [1000.0, 2000.0], [-0.375, -0.75]])  # the last becomes (0, -1)
    pos = clip(16.5 + steps * GRID_PX, torch.tensor([0.1, 0.2, 0.4]), torch.ones(3))[None].to(dtype)
    tri = torch.tensor([[0, 1, 2]])
    assert rasterize(pos, tri, (SIDE, SIDE), backend=backend)[0][0, 16, 16, 3] == 1
    up = torch.zeros(1, SIDE, SIDE, 4, dtype=dtype)
    up[0, 16, 16] = 1.0
    assert not gradient(pos, tri, (up, up), True, backend).any()
    assert gradient(pos, tri, (up, up), False, backend).isnan().any()


# What it is for ---------------------------------------------------------------------------------------------


def mesh_with_a_sliver(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Five triangles; the third is 20 pixels long, 0.002 thick, and lies 0.001 above the centres of row 15.

    Its lower edge snaps onto them, its tip away from them, so it wins 20 pixels and contains none.
    """
    corners = torch.tensor(
        [[6.0, 4.0], [26.0, 4.0], [6.0, 15.501], [26.0, 15.501], [16.0, 15.503], [16.0, 28.0]],
        dtype=torch.float64,
    )
    pos = clip(corners, torch.tensor([0.1, 0.2, 0.3, 0.1, 0.0, 0.2]), torch.ones(6))[None].to(dtype)
    return pos, torch.tensor([[0, 1, 3], [0, 3, 2], [2, 3, 4], [2, 4, 5], [4, 3, 5]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "channels"), [(0, [0, 1]), (0, [2]), (1, [0, 1, 2, 3])])
def test_a_sliver_that_wins_by_snapping_does_not_drown_the_mesh(dtype, output, channels):
    """From (u, v), from z/w and from rast_db alike."""
    pos, tri = mesh_with_a_sliver(dtype)
    rast, _ = rasterize(pos, tri, (SIDE, SIDE))
    assert (rast[..., 3] == 3).sum() == 20
    shape = rast.shape
    up = [torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)]
    up[output][..., channels] = upstream(shape, 0, dtype)[0][..., channels]
    others = tuple(g * (rast[..., 3:] != 3) for g in up)
    without_sliver = gradient(pos, tri, others, False)
    assert gradient(pos, tri, tuple(up), False).norm() > 10 * without_sliver.norm()
    assert torch.equal(gradient(pos, tri, tuple(up), True), without_sliver)


def test_public_functions_have_the_gate():
    pos, tri = mesh_with_a_sliver(torch.float32)
    up = upstream(torch.Size([1, SIDE, SIDE, 4]), 0, torch.float32)
    want = gradient(pos, tri, up, True)
    for function in (rasterize, lambda *args: next(depth_layers(*args))):
        leaf = pos.clone().requires_grad_()
        assert torch.equal(torch.autograd.grad(function(leaf, tri, (SIDE, SIDE)), leaf, up)[0], want)


# What it leaves alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mesh_whose_pixels_are_all_inside_keeps_every_bit(dtype):
    mesh = scenes.sphere(60, bumps=0.3)
    pos = mesh.clip(scenes.orbit(3)[1:2]).to(dtype)
    rast, _ = rasterize(pos, mesh.tri, (SIDE, SIDE))
    inside, clear = contained(pos, mesh.tri, rast)
    assert (inside & clear)[rast[..., 3] > 0].all()
    up = upstream(rast.shape, 0, dtype)
    assert torch.equal(gradient(pos, mesh.tri, up, True), gradient(pos, mesh.tri, up, False))


@pytest.mark.parametrize(
    ("backend", "dtype"), [("cpu", torch.float32), ("cpu", torch.float64), ("reference", torch.float64)]
)
def test_overflow_is_not_taken_for_outside(backend, dtype):
    """Every area is infinity less infinity: a gradient of zero would hide it."""
    around = torch.tensor([[8.0, 16.0], [-24.0, -8.0], [32.0, 8.0]])
    w = torch.full((3,), torch.finfo(dtype).max ** 0.6, dtype=torch.float64)
    pos = clip(16.5 + around, torch.zeros(3), w)[None].to(dtype)
    up = torch.zeros(1, SIDE, SIDE, 4, dtype=dtype)
    up[0, 16, 16, 0] = 1.0
    tri = torch.tensor([[0, 1, 2]])
    assert rasterize(pos, tri, (SIDE, SIDE), backend=backend)[0][0, 16, 16, 3] == 1
    assert gradient(pos, tri, (up, up * 0), True, backend)[..., [0, 1, 3]].isnan().all()


# Threads and compilers --------------------------------------------------------------------------------------


def test_bitwise_equal_for_every_thread_count():
    mesh = scenes.sphere(20_000, bumps=0.1)
    pos = mesh.clip(scenes.orbit(2)).float()
    up = upstream(torch.Size([2, 200, 210, 4]), 0, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append(gradient(pos, mesh.tri, up, True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(r, results[0]) for r in results)
    assert not torch.equal(results[0], gradient(pos, mesh.tri, up, False))


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what torch deprecates
def test_compiled(gate):
    pos, tri = mesh_with_a_sliver(torch.float32)
    up = upstream(torch.Size([1, SIDE, SIDE, 4]), 0, torch.float32)
    torch._dynamo.reset()
    run = torch.compile(
        lambda p: draw("test", p, tri, (SIDE, SIDE), interior_gate=gate)[:2],
        fullgraph=True,
        backend="aot_eager",
    )
    leaf = pos.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(run(leaf), leaf, up)[0], gradient(pos, tri, up, gate))
