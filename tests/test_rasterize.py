# SPDX-License-Identifier: MIT
"""rasterize against its oracle and against what its definition demands: values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rastergrad.ops.rasterize import reference
from rastergrad.ops.rasterize.op import rasterize
from testing import scenes, strategies
from testing.closeness import assert_gradients_close

EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
DTYPES = [torch.float32, torch.float64]
slow_ok = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def areas(pos: Tensor, tri: Tensor, rast: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At each pixel in float64: corners [N, H, W, 3, 4], corners seen from it [..., 3, 2], areas [..., 3]."""
    N, H, W, _ = rast.shape
    index = tri.long()[rast[..., 3].long().clamp(min=1) - 1]
    p = pos.double()[torch.arange(N)[:, None, None, None], index]  # [N, H, W, 3, 4]
    f = torch.stack(
        torch.meshgrid((2 * torch.arange(H) + 1) / H - 1, (2 * torch.arange(W) + 1) / W - 1, indexing="ij")[
            ::-1
        ],
        -1,
    ).double()
    q = p[..., :2] - f[None, :, :, None] * p[..., 3:]
    area = torch.stack(
        [
            q[..., (k + 1) % 3, 0] * q[..., (k + 2) % 3, 1] - q[..., (k + 1) % 3, 1] * q[..., (k + 2) % 3, 0]
            for k in range(3)
        ],
        -1,
    )
    return p, q, area


def conditioning(pos: Tensor, tri: Tensor, rast: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many roundings (u, v), z/w and the slopes may be off by: [N, H, W] each.

    The pixel is subtracted from the corners (error |x| + |w| roundings), cross products are divided by the
    area S, and slopes once
    more: slivers and far corners lose digits in any order of operations.
    """
    H, W = rast.shape[1:3]
    p, q, area = areas(pos, tri, rast)
    reach, size = q.abs().amax((-1, -2)), p[..., [0, 1, 3]].abs().sum(-1).amax(-1)
    weights = reach * size / area.sum(-1).abs()
    depth = reach * size * p[..., 2:].abs().amax((-1, -2)) / (area * p[..., 3]).sum(-1).abs()
    slopes = (
        2 / min(H, W) * size * p[..., 3].abs().amax(-1) / area.sum(-1).abs() * (1 + weights * reach / size)
    )
    return weights, depth, slopes


def off_edges(pos: Tensor, tri: Tensor, rast: Tensor) -> Tensor:
    """[N, H, W]: where no rounding moves the pixel centre across an edge of its triangle."""
    p, q, area = areas(pos, tri, rast)
    reach, size = q.abs().amax((-1, -2)), p[..., [0, 1, 3]].abs().sum(-1).amax(-1)
    return area.abs().amin(-1) > 8 * EPS[pos.dtype] * reach * size


DEPTH_STEPS = 1024  # of 2^32: four units of float32 above the middle of the range, 5e-7 in z/w


def key_alone(pos: Tensor, tri: Tensor, size: tuple[int, int], id: Tensor, at: tuple[int, int, int]) -> float:
    """The exact depth key at one pixel of the triangle with this id."""
    alone = torch.zeros_like(tri, dtype=torch.int64)
    alone[int(id) - 1] = tri[int(id) - 1].long()
    return reference.rasterize(pos, alone, *size)[2][at].item()


# Oracle -----------------------------------------------------------------------------------------------------


@slow_ok
@given(strategies.clip_scenes(), st.sampled_from(DTYPES))
def test_forward_is_the_oracle(scene, dtype):
    """Every id, whatever is special about the triangles; values to a few roundings times the conditioning.

    An id may differ only where two surfaces meet at the sample, to a few units of float32 depth.
    """
    pos = scene.pos.to(dtype)
    rast, rast_db = rasterize(pos, scene.tri, scene.size)
    want, want_db, want_key = reference.rasterize(pos, scene.tri.long(), *scene.size)
    assert rast.dtype == rast_db.dtype == dtype
    for image, row, column in (rast[..., 3] != want[..., 3]).nonzero().tolist():
        at = (image, row, column)
        assert (rast[at][3] > 0) == (want[at][3] > 0)
        gap = key_alone(pos, scene.tri, scene.size, rast[at][3], at) - want_key[at].item()
        assert 0 <= gap <= DEPTH_STEPS
    weights, depth, slopes = (8 * EPS[dtype] * (1 + c) for c in conditioning(pos, scene.tri, want))
    seen = (want[..., 3] > 0) & (rast[..., 3] == want[..., 3])
    assert ((rast[..., :2] - want[..., :2]).abs().amax(-1) <= weights)[seen].all()
    assert ((rast[..., 2] - want[..., 2]).abs() <= depth)[seen].all()
    assert ((rast_db - want_db).abs().amax(-1) <= slopes)[seen].all()
    assert not rast[want[..., 3] == 0].any()
    assert not rast_db[want[..., 3] == 0].any()


@slow_ok
@given(
    strategies.clip_scenes(kinds=("plain", "behind", "on corners")),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.booleans(),
    strategies.seeds,
)
def test_gradients_are_the_oracles(scene, dtype, db_grad, depth_grad, seed):
    generator = torch.Generator().manual_seed(seed)
    pos = scene.pos.to(dtype)
    exact = pos.double().requires_grad_()
    options = {"db_grad": db_grad, "depth_grad": depth_grad}
    want = reference.rasterize(exact, scene.tri.long(), *scene.size, **options)[:2]
    grads = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in want]
    grads[1] *= 0.1
    # Upstream only where float32 keeps three digits more than the comparison asks for.
    steady = torch.stack(conditioning(pos, scene.tri, want[0].detach())).amax(0) < 30
    steady &= want[0][..., 3] == rasterize(pos, scene.tri, scene.size)[0][..., 3]
    steady &= off_edges(pos, scene.tri, want[0].detach())
    grads = [(g * steady[..., None]).to(dtype) for g in grads]
    leaf = pos.clone().requires_grad_()
    (d_pos,) = torch.autograd.grad(rasterize(leaf, scene.tri, scene.size, **options), leaf, grads)
    (d_want,) = torch.autograd.grad(want, exact, [g.double() for g in grads])
    assert d_pos.dtype == dtype
    assert_gradients_close(d_pos, d_want, dtype=dtype, what="d_pos")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dense_mesh_and_its_gradients_are_the_oracles(dtype):
    """Every path at once: triangles of a pixel and of a tile, whole and clipped, two views, several tiles."""
    near, far = scenes.sphere(3000, bumps=0.2), scenes.cube()
    tri = torch.cat([near.tri, far.tri + len(near.pos)])
    world = torch.cat([near.pos * 0.6, far.pos * 2.5])
    world = torch.nn.functional.pad(world, (0, 1), value=1.0)
    pos = torch.stack([world @ view.T for view in scenes.orbit(2, distance=1.9)]).to(dtype)
    size = (131, 150)
    leaf, exact = pos.clone().requires_grad_(), pos.double().requires_grad_()
    rast, rast_db = rasterize(leaf, tri, size)
    want, want_db, _ = reference.rasterize(exact, tri.long(), *size)
    assert (rast[..., 3] > len(near.tri)).any()
    assert (rast[..., 3] == 0).sum() == (want[..., 3] == 0).sum()
    same = rast[..., 3] == want[..., 3]
    assert same.float().mean() > 0.9999  # surfaces closer than float32 depth can tell
    g = torch.Generator().manual_seed(0)
    mask = same & (torch.stack(conditioning(pos, tri, want.detach())).amax(0) < 100)
    mask = (mask & off_edges(pos, tri, want.detach()))[..., None]
    up = (
        (torch.randn(rast.shape, generator=g) * mask).to(dtype),
        (torch.randn(rast.shape, generator=g) * mask * 0.1).to(dtype),
    )
    (d_pos,) = torch.autograd.grad((rast, rast_db), leaf, up)
    (d_want,) = torch.autograd.grad((want, want_db), exact, [x.double() for x in up])
    assert_gradients_close(d_pos, d_want, dtype=dtype, what="d_pos")


# Gradients by their definition ------------------------------------------------------------------------------


def plain_scene(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, tuple[int, int]]:
    mesh = scenes.sphere(60)
    pos = mesh.clip(scenes.orbit(1)[0]) if mesh.pos.ndim == 2 else mesh.pos
    return pos.reshape(1, -1, 4).to(dtype), mesh.tri, (18, 23)


def upstream(rast: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rast.shape, generator=g, dtype=rast.dtype), torch.randn(
        rast.shape, generator=g, dtype=rast.dtype
    )


@pytest.mark.parametrize("ranged", [False, True])
def test_gradcheck(ranged):
    g = torch.Generator().manual_seed(1)
    pos = plain_scene()[0][:, :20].clone()
    tri = torch.randint(0, 20, (9, 3), generator=g)
    ranges = torch.tensor([[0, 6], [3, 9]]) if ranged else None
    leaf = (pos[0] if ranged else pos).requires_grad_()
    torch.autograd.gradcheck(
        lambda p: [x[..., :3] for x in rasterize(p, tri, (7, 9), ranges=ranges)], (leaf,), eps=1e-7, atol=1e-4
    )


def test_gradients_sum_to_what_moving_the_whole_scene_demands():
    """Moving all corners by e w in x moves the image: sum_k w_k d_x_k = -sum of g d(u, v)/dx over pixels."""
    pos, tri, size = plain_scene()
    leaf = pos.clone().requires_grad_()
    rast, rast_db = rasterize(leaf, tri, size, depth_grad=False)
    g, _ = upstream(rast)
    (d_pos,) = torch.autograd.grad(rast, leaf, g)
    for axis, columns in ((0, [0, 2]), (1, [1, 3])):
        per_pixel = (g[..., :2] * rast_db[..., columns]).sum() * size[1 - axis] / 2
        torch.testing.assert_close((d_pos[..., axis] * pos[..., 3]).sum(), -per_pixel, rtol=1e-4, atol=1e-6)
    # (u, v) do not change when all coordinates grow alike; 1e-6 is the stabiliser's share.
    assert abs((d_pos * pos).sum()) < 1e-4 * d_pos.abs().sum()
    assert not d_pos[..., 2].any()


def test_switched_off_gradients():
    pos, tri, size = plain_scene(torch.float32)

    def gradient(which: int, channel: slice, **options: bool) -> Tensor:
        leaf = pos.clone().requires_grad_()
        out = rasterize(leaf, tri, size, **options)
        g = torch.zeros_like(out[which])
        g[..., channel] = 1.0
        return torch.autograd.grad(out[which], leaf, g)[0]

    assert gradient(1, slice(0, 4)).any()
    assert not gradient(1, slice(0, 4), db_grad=False).any()
    assert gradient(0, slice(2, 3))[..., 2].any()
    assert not gradient(0, slice(2, 3), depth_grad=False).any()
    assert not gradient(0, slice(3, 4)).any()


def test_zero_upstream_keeps_infinities_out():
    """A triangle whose areas overflow has infinite slopes; where no gradient is asked of it, none spreads."""
    pos = torch.tensor(
        [
            [
                [-0.9, -0.9, 0, 1],
                [0.9, -0.9, 0, 1],
                [0.0, 0.9, 0, 1],
                [1e30, 1e30, 0, 1e30],
                [-1e30, 1e30, 0, 1e30],
                [0, -1e30, 0, 1e30],
            ]
        ]
    )
    tri = torch.tensor([[3, 4, 5], [0, 1, 2]])
    leaf = pos.clone().requires_grad_()
    rast, rast_db = rasterize(leaf, tri, (16, 16))
    assert set(rast[..., 3].unique().tolist()) == {0.0, 1.0, 2.0}
    g = torch.where(rast[..., 3:] == 2, torch.ones_like(rast), 0.0)
    (d_pos,) = torch.autograd.grad((rast, rast_db), leaf, (g, g))
    assert d_pos.isfinite().all()
    assert d_pos[0, :3].any()
    assert not d_pos[0, 3:].any()


def test_half_types_are_computed_in_float32():
    pos, tri, size = plain_scene(torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        leaf = pos.to(dtype).requires_grad_()
        rast, _ = rasterize(leaf, tri, size)
        assert rast.dtype == torch.float32
        assert torch.equal(rast, rasterize(leaf.detach().float(), tri, size)[0])
        rast.square().sum().backward()
        assert leaf.grad.dtype == dtype
        assert leaf.grad.any()


# Determinism ------------------------------------------------------------------------------------------------


def test_bitwise_equal_for_every_thread_count_and_from_run_to_run():
    g = torch.Generator().manual_seed(5)
    mesh = scenes.sphere(20_000, bumps=0.1)
    big = torch.cat([torch.rand(300, 3, generator=g) * 4 - 2, torch.rand(300, 1, generator=g) + 0.2], 1)
    ball = torch.nn.functional.pad(mesh.pos * 0.8, (0, 1), value=1.0)
    pos = torch.cat([ball, big])[None].repeat(3, 1, 1)
    pos[1] *= torch.tensor([1.7, 1.0, 1.0, 1.0])
    pos[2] += torch.tensor([0.5, 0.5, 0.0, 0.0])
    tri = torch.cat([mesh.tri, torch.arange(300).reshape(-1, 3).int() + len(ball)])
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5, 5):
            torch.set_num_threads(threads)
            for images, size in ((1, (300, 333)), (3, (65, 70))):
                leaf = pos[:images].clone().requires_grad_()
                out = rasterize(leaf, tri, size)
                grad = torch.autograd.grad(out, leaf, upstream(out[0]))
                results.append([x.detach() for x in (*out, *grad)])
    finally:
        torch.set_num_threads(before)
    for k in range(2, len(results)):
        for got, want in zip(results[k], results[k % 2], strict=True):
            assert torch.equal(got, want)


@pytest.mark.parametrize("width", [96, 101])
def test_a_batch_too_large_for_the_caches_holds_the_bits_of_its_images(width):
    """Large outputs are written past the caches, whole lines where rows begin on one; small ones are not."""
    mesh = scenes.sphere(2_000, bumps=0.1)
    pos = torch.nn.functional.pad(mesh.pos * 0.8, (0, 1), value=1.0)[None]
    alone = rasterize(pos, mesh.tri, (90, width))
    batch = rasterize(pos.expand(20, -1, -1), mesh.tri, (90, width))
    for one, many in zip(alone, batch, strict=True):
        assert torch.equal(many, one.expand_as(many))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("triangles", [300, 3_000, 60_000])
def test_a_triangle_has_the_bits_it_has_alone(triangles, dtype):
    """Blocks of one, of few and of many triangles are shaded in different ways."""
    mesh = scenes.sphere(triangles, bumps=0.1)
    pos = torch.nn.functional.pad(mesh.pos * 0.9, (0, 1), value=1.0).to(dtype)
    rast, rast_db = rasterize(pos[None], mesh.tri, (140, 140))
    numbers = rast[..., 3].long()
    seen = numbers.unique()[1:][:: max(1, len(numbers.unique()) // 40)]
    ranges = torch.stack([seen - 1, torch.ones_like(seen)], dim=1).int().cpu()
    alone = rasterize(pos, mesh.tri, (140, 140), ranges=ranges)
    for k, number in enumerate(seen):
        mine = numbers[0] == number
        assert torch.equal(alone[0][k][mine], rast[0][mine])
        assert torch.equal(alone[1][k][mine], rast_db[0][mine])
