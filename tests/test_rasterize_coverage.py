# SPDX-License-Identifier: MIT
"""Which pixels a triangle covers, and which triangle wins, decided again by brute force in exact integers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rastergrad.ops.rasterize.op import depth_layers, rasterize
from testing import scenes, strategies

slow_ok = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def inside(corners: list[tuple[int, int]], height: int, width: int) -> np.ndarray:
    """Coverage [H, W] of one triangle with corners in 1/256 pixel from the image centre, in integers."""
    (ax, ay), (bx, by), (cx, cy) = corners
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if area == 0:
        return np.zeros((height, width), bool)
    order = corners if area > 0 else [corners[0], corners[2], corners[1]]
    px = (256 * np.arange(width) + 128 - 128 * width)[None, :]
    py = (256 * np.arange(height) + 128 - 128 * height)[:, None]
    covered = np.ones((height, width), bool)
    for k in range(3):
        (x0, y0), (x1, y1) = order[k], order[(k + 1) % 3]
        dx, dy = x1 - x0, y1 - y0
        edge = dx * (py - y0) - dy * (px - x0)
        covered &= (edge > 0) | ((edge == 0) & (dy < 0 or (dy == 0 and dx > 0)))
    return covered


def brute_force(pos: Tensor, tri: Tensor, size: tuple[int, int]) -> list[np.ndarray]:
    """Ids of all layers [H, W] of one image, nearest first; triangles are whole and of one depth each."""
    height, width = size
    p = pos.numpy()
    inverse = (1 / p[:, 3]).astype(p.dtype)
    grid = [
        np.rint(p[:, c] * inverse * p.dtype.type(128 * n)).astype(np.int64).tolist()
        for c, n in ((0, width), (1, height))
    ]
    depth = (p[:, 2] * inverse).astype(p.dtype)
    hits: list[list[list[tuple[float, int]]]] = [[[] for _ in range(width)] for _ in range(height)]
    for t, corners in enumerate(tri.tolist()):
        for j, i in zip(*inside([(grid[0][v], grid[1][v]) for v in corners], height, width).nonzero()):
            hits[j][i].append((float(depth[corners[0]]), -t - 1))
    layers = []
    while any(cell for row in hits for cell in row):
        layer = np.zeros((height, width))
        for j, row in enumerate(hits):
            for i, cell in enumerate(row):
                if cell:
                    nearest, last = min(cell)
                    layer[j, i] = -last
                    row[i] = [hit for hit in cell if hit[0] > nearest]  # equal depths are seen once
        layers.append(layer)
    return layers


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Triangles from 1/1000 pixel to the image, many on pixel centres and corners, at few depths: ties."""
    height, width = draw(strategies.resolutions)
    count = draw(st.integers(1, 40))
    g = torch.Generator().manual_seed(draw(strategies.seeds))
    scale = 10 ** (torch.rand(count, 1, 1, generator=g) * 5 - 5)
    xy = (
        torch.rand(count, 1, 2, generator=g) * 2
        - 1
        + (torch.rand(count, 3, 2, generator=g) * 2 - 1) * 2 * scale
    )
    step = torch.tensor([width, height]) * 2
    snapped = (xy * step / 2).round() * 2 / step
    xy = torch.where(torch.rand(count, 1, 1, generator=g) < 0.4, snapped, xy).clamp(-1, 1)
    z = torch.randint(-2, 3, (count, 1, 1), generator=g) * 0.125
    w = 2.0 ** torch.randint(-2, 3, (count, 3, 1), generator=g)
    pos = torch.cat([xy, z.expand(-1, 3, 1), torch.ones(count, 3, 1)], -1) * w
    tri = torch.arange(3 * count).reshape(-1, 3)
    for t in range(1, count, 3):
        tri[t, :2] = tri[t - 1, 1:].flip(0)
        pos[t, :2] = pos[t - 1, 1:].flip(0)
        pos[t, :, 2] = pos[t - 1, 1, 2] / pos[t - 1, 1, 3] * pos[t, :, 3]
    return pos.reshape(-1, 4), tri, (height, width)


@slow_ok
@given(stacks(), st.sampled_from([torch.float32, torch.float64]))
def test_every_pixel_of_every_layer_is_the_brute_force_one(stack, dtype):
    """Edges, fill rule, ties (the later triangle wins), and layers (equal depths are reported once)."""
    pos, tri, size = stack
    want = brute_force(pos.to(dtype), tri, size)
    got = [rast[0, ..., 3].numpy() for rast, _ in depth_layers(pos[None].to(dtype), tri, size)]
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def test_large_triangles_over_many_tiles():
    """Regions of 16 x 16 pixels, hidden ones, the sort by depth: 400 large triangles, overdraw 30."""
    g = torch.Generator().manual_seed(2)
    count, size = 400, (150, 133)
    xy = (torch.rand(count, 3, 2, generator=g) * 3 - 1.5).clamp(-1, 1)
    z = torch.randint(-7, 8, (count, 1, 1), generator=g) * 0.125
    pos = torch.cat([xy, z.expand(-1, 3, 1), torch.ones(count, 3, 1)], -1).reshape(-1, 4)
    tri = torch.arange(3 * count).reshape(-1, 3)
    want = brute_force(pos, tri, size)[:3]
    for (rast, _), w in zip(depth_layers(pos[None], tri, size, 3), want, strict=True):
        np.testing.assert_array_equal(rast[0, ..., 3].numpy(), w)


def test_sides_beyond_a_power_of_two():
    """Edge functions near the ends of their range: 16384 and 32768 pixels across."""
    for width in (16384, 20001, 32768):
        for pos in (
            [[-1, -1], [1, -1], [1, 1]],
            [[-1, 1], [1, -1], [0.999, 1]],
            [[-1, -1], [-0.99999, 1], [1, 0.3]],
        ):
            corners = torch.nn.functional.pad(torch.tensor(pos, dtype=torch.float64), (0, 2), value=1.0)
            corners[:, 2] = 0
            for size in ((3, width), (width, 2)):
                want = brute_force(corners, torch.tensor([[0, 1, 2]]), size)
                rast, _ = rasterize(corners[None], torch.tensor([[0, 1, 2]]), size)
                np.testing.assert_array_equal(rast[0, ..., 3].numpy(), want[0] if want else np.zeros(size))


# Watertight -------------------------------------------------------------------------------------------------


def times_covered(pos: Tensor, tri: Tensor, size: tuple[int, int]) -> Tensor:
    """How many triangles cover each pixel [H, W]: each is drawn into an image of its own."""
    alone = torch.stack([torch.arange(len(tri)), torch.ones(len(tri), dtype=torch.int64)], 1)
    total = torch.zeros(size, dtype=torch.int64)
    for part in alone.split(256):
        total += (rasterize(pos, tri, size, ranges=part)[0][..., 3] > 0).sum(0)
    return total


def has_hole(covered: Tensor) -> bool:
    """Whether a row or a column of a convex region is interrupted."""
    for lines in (covered, covered.T):
        steps = (lines[:, 1:] != lines[:, :-1]).sum(1) + lines[:, 0].int() + lines[:, -1].int()
        if (steps > 2).any():
            return True
    return False


def flat_mesh(seed: int, jitter: float) -> tuple[Tensor, Tensor]:
    mesh = scenes.grid(7, 9, jitter=jitter, seed=seed)
    return mesh.pos, mesh.tri


@pytest.mark.parametrize("size", [(40, 56), (33, 21)])
@pytest.mark.parametrize("decade", [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_shared_edges_cover_each_pixel_once_at_every_size(decade, size):
    """From triangles of many pixels to many triangles in a pixel; slivers by scaling one axis only."""
    for seed in range(4):
        xyz, tri = flat_mesh(seed, jitter=0.3)
        g = torch.Generator().manual_seed(seed)
        angle = torch.rand((), generator=g) * 6.3
        turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        for scale in ([decade, decade], [1.0, decade]):
            xy = (xyz[:, :2] * torch.tensor(scale)) @ turn.T * 0.7
            xy += (torch.rand(2, generator=g) - 0.5) * 0.2
            pos = torch.cat([xy, torch.zeros(len(xy), 1), torch.ones(len(xy), 1)], 1)
            count = times_covered(pos, tri, size)
            assert count.max() <= 1
            assert not has_hole(count > 0)
        if decade == 1.0:
            full = torch.cat([xyz[:, :2] * 1.5, torch.zeros(len(xyz), 1), torch.ones(len(xyz), 1)], 1)
            assert (times_covered(full, tri, size) == 1).all()


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_vertices_on_pixel_corners_and_centres(offset):
    """Vertices and edges meet samples exactly; the border follows the min-x, min-y rule."""
    size = (16, 20)
    rows = torch.cartesian_prod(torch.arange(2, 15, 3), torch.arange(1, 18, 4)).flip(1).float() + offset
    xy = rows * 2 / torch.tensor([size[1], size[0]]) - 1
    pos = torch.cat([xy, torch.zeros(len(xy), 1), torch.ones(len(xy), 1)], 1)
    cells = [
        (j * 5 + i, j * 5 + i + 1, (j + 1) * 5 + i, (j + 1) * 5 + i + 1) for j in range(4) for i in range(4)
    ]
    tri = torch.tensor(
        [
            t
            for k, (a, b, c, d) in enumerate(cells)
            for t in (((a, b, d), (a, d, c)) if k % 2 else ((a, b, c), (c, b, d)))
        ]
    )
    want = torch.zeros(size, dtype=torch.int64)
    want[2:14, 1:17] = 1
    assert torch.equal(times_covered(pos, tri, size), want)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipped_neighbours_share_their_crossings(seed, dtype):
    """A plane through and behind the camera, w from below to above zero, cut by near, far and side planes."""
    xyz, tri = flat_mesh(seed, jitter=0.3)
    g = torch.Generator().manual_seed(seed)
    ground = torch.cat(
        [xyz[:, :1] * 6, torch.full((len(xyz), 1), -0.4), xyz[:, 1:2] * 6, torch.ones(len(xyz), 1)], 1
    )
    tilt = torch.linalg.matrix_exp(
        torch.randn(3, 3, generator=g).tril(-1) * 0.3 - torch.randn(3, 3, generator=g).triu(1) * 0.3
    )
    view = torch.eye(4)
    view[:3, :3] = torch.linalg.qr(tilt)[0]
    pos = (ground @ (scenes.perspective(1.2, near=0.2, far=4.0) @ view).T).to(dtype)
    assert (pos[:, 3] < 0).any()
    count = times_covered(pos, tri, (67, 90))
    assert count.any()
    assert count.max() <= 1
    assert not has_hole(count > 0)


@given(
    strategies.clip_scenes(kinds=("plain", "sliver", "on centres", "tiny", "behind")),
    st.integers(-3, 3),
    st.integers(-3, 3),
)
@slow_ok
def test_shift_by_whole_pixels(scene, dx, dy):
    """Moving all vertices by whole pixels moves the ids; sides are powers of two: an exact shift."""
    size = (32, 64)
    pos = scene.pos.double()
    pos[..., 3] = 2.0 ** pos[..., 3].abs().clamp(0.25, 4).log2().round()
    pos[..., :3] = (pos[..., :3] / 8).round(decimals=3) * pos[..., 3:] / 4
    pos[..., :2] = (pos[..., :2] / pos[..., 3:] * 2**20).round() / 2**20 * pos[..., 3:]
    moved = pos.clone()
    moved[..., 0] += 2 * dx / size[1] * pos[..., 3]
    moved[..., 1] += 2 * dy / size[0] * pos[..., 3]
    a, b = (rasterize(p, scene.tri, size)[0] for p in (pos, moved))
    assert torch.equal(torch.roll(a[..., 3], (dy, dx), (1, 2)), b[..., 3])


def test_coincident_triangles_in_any_corner_order_tie():
    """A tilted triangle listed in all six orders: the last one wins everywhere, layers see one surface."""
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        corner = torch.cat([torch.rand(3, 3, generator=g) * 1.8 - 0.9, torch.ones(3, 1)], 1) * (
            torch.rand(3, 1, generator=g) + 0.5
        )
        tri = torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]])
        layers = [rast[..., 3] for rast, _ in depth_layers(corner[None], tri, (90, 100))]
        assert len(layers) == 1
        assert set(layers[0].unique().tolist()) <= {0.0, 6.0}


def test_depth_at_the_ends_of_the_range():
    """z/w = -1 and +1 exactly are drawn; beyond, they are clipped."""
    triangle = torch.tensor([[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]])
    for z, drawn in ((-1.0, True), (1.0, True), (math.nextafter(1.0, 2.0), False), (-1.0000001, False)):
        pos = triangle.double()
        pos[:, 2] = z
        rast, _ = rasterize(pos[None], torch.tensor([[0, 1, 2]]), (4, 4))
        assert (rast[..., 3] == float(drawn)).all()
