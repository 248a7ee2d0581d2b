# SPDX-License-Identifier: MIT
"""The rasteriser's oracle: golden numbers, cases worked out by hand, finite differences."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from rastergrad.ops.rasterize import reference
from rastergrad.ops.rasterize.reference import encode_ids, rasterize
from testing import golden

needs_golden = pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
CASES = [name for name in golden.names("r") if not name.startswith("r18")]


def on_screen(corners_px: list, size: tuple[int, int], z: float = 0.0) -> Tensor:
    """Clip-space vertices [1, V, 4] float64, w = 1, from pixel coordinates (x, y) with (0, 0) a corner."""
    height, width = size
    xy = torch.tensor(corners_px, dtype=torch.float64) / torch.tensor([width, height]) * 2 - 1
    return torch.cat((xy, torch.full_like(xy, z)[:, :1], torch.ones_like(xy)[:, :1]), 1)[None]


def ids(pos: Tensor, tri: list, size: tuple[int, int], **options) -> list:
    return rasterize(pos, torch.tensor(tri).reshape(-1, 3), *size, **options)[0][0, ..., 3].int().tolist()


# Golden numbers -------------------------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("name", CASES)
def test_golden_ids_in_every_pixel_with_their_sixteenth_of_a_pixel(name):
    """Unsafe pixels, depth ties, clipped fans and peeled layers included."""
    assert not golden.failures(golden.reference_functions(subpixel_bits=4), name, strict_ids=True)
    case = golden.loader().load(name)
    want = torch.from_numpy(case.out["rast"])
    want = want if case.meta["layers"] > 1 else want[None]
    layers = golden.reference_functions(subpixel_bits=4).depth_layers(
        torch.from_numpy(case.x["pos"]),
        torch.from_numpy(case.x["tri"]),
        case.meta["resolution"],
        ranges=torch.from_numpy(case.x["ranges"]) if "ranges" in case.x else None,
        db_grad=True,
    )
    for expected, (rast, _) in zip(want, layers):
        assert torch.equal(rast[..., 3], expected[..., 3])


@needs_golden
@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    """Gradients to 1e-5 rather than the runner's 2e-4: without the stabiliser some are off by 1.5e-4."""
    assert not golden.failures(golden.reference_functions(), name, gtol=1e-5)


@needs_golden
def test_golden_id_encoding():
    case = golden.loader().load("r18_triangle_id_encoding")
    got = encode_ids(torch.from_numpy(case.x["ids"]).long())
    assert torch.equal(got, torch.from_numpy(case.out["float"]))


# Coverage by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("winding", [[0, 1, 2], [0, 2, 1], [1, 2, 0]])
def test_corners_on_pixel_centres(winding):
    """Samples on the min-x and min-y side are in, those on the hypotenuse (the max side) are out."""
    pos = on_screen([(0.5, 0.5), (2.5, 0.5), (0.5, 2.5)], (4, 4))
    assert ids(pos, winding, (4, 4)) == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    # The other half of the square: the hypotenuse is its min side, the outer edges are max sides.
    pos = on_screen([(2.5, 0.5), (2.5, 2.5), (0.5, 2.5)], (4, 4))
    assert ids(pos, winding, (4, 4)) == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_corners_on_pixel_corners():
    """The diagonal of a square runs through pixel centres: they go to the triangle whose min-x side it is."""
    pos = on_screen([(1, 1), (3, 1), (3, 3), (1, 3)], (4, 4))
    expected = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 2, 1, 0], [0, 0, 0, 0]]
    assert ids(pos, [[0, 1, 2], [0, 2, 3]], (4, 4)) == expected


def test_horizontal_edge_through_centres():
    """One square ends, the next begins on the centres of row 1: the min-y side has them."""
    pos = on_screen([(0, 0), (4, 0), (0, 1.5), (4, 1.5), (0, 4), (4, 4)], (4, 4))
    tri = [[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4]]
    assert [[k > 2 for k in row] for row in ids(pos, tri, (4, 4))] == [[False] * 4] + [[True] * 4] * 3


@pytest.mark.parametrize(("bits", "offset"), [(8, 1 / 512), (4, 1 / 32)])
def test_snapping_rounds_halves_to_even(bits, offset):
    """A left edge half a unit past a pixel centre snaps onto it, one and a half units past it does not."""
    for units, expected in ((1, True), (3, False)):
        x = 0.5 + units * offset
        pos = on_screen([(x, 0), (x, 2), (2, 0), (2, 2)], (2, 2))
        seen = ids(pos, [[0, 2, 1], [1, 2, 3]], (2, 2), subpixel_bits=bits)
        assert [row[0] > 0 for row in seen] == [expected] * 2
        assert min(row[1] for row in seen) > 0


def test_each_pixel_once_on_a_jittered_grid():
    """Drawn one triangle at a time, the triangles of a grid cover every pixel exactly once."""
    generator = torch.Generator().manual_seed(3)
    k = 6
    y, x = torch.meshgrid(torch.linspace(-1, 1, k), torch.linspace(-1, 1, k), indexing="ij")
    inner = (x.abs() < 1) & (y.abs() < 1)
    for jitter in (0.0, 1e-3, 0.1):
        for w in (1.0, 3.0):
            noise = 2 * torch.rand(k, k, 2, generator=generator) - 1
            xy = torch.stack((x, y), 2) + jitter * inner[..., None] * noise
            pos = torch.cat((xy.reshape(-1, 2) * w, torch.zeros(k * k, 1), torch.full((k * k, 1), w)), 1)
            first = torch.tensor([r * k + c for r in range(k - 1) for c in range(k - 1)])[:, None]
            tri = torch.cat((first + torch.tensor([0, 1, k]), first + torch.tensor([1, k + 1, k])))
            ranges = torch.stack((torch.arange(len(tri)), torch.ones(len(tri), dtype=torch.int64)), 1)
            rast, _, _ = rasterize(pos, tri, 23, 20, ranges)
            assert ((rast[..., 3] > 0).sum(0) == 1).all()


# Clipping -------------------------------------------------------------------------------------------------


def solved(corners: Tensor, column: int, row: int, size: tuple[int, int]) -> list[float]:
    """(u, v, z/w): the combination of the corners that projects to this pixel's centre."""
    fx, fy = (2 * column + 1) / size[1] - 1, (2 * row + 1) / size[0] - 1
    x, y, z, w = corners.double().numpy().T
    weights = np.linalg.solve(np.stack((x - fx * w, y - fy * w, np.ones(3))), [0.0, 0.0, 1.0])
    return [weights[0], weights[1], weights @ z / (weights @ w)]


def test_vertex_behind_the_camera():
    """Both edges from the two visible corners run outwards and never come back: every pixel is covered."""
    pos = torch.tensor([[[-1.0, -1.0, 0.1, 1.0], [1.0, -1.0, 0.2, 1.0], [0.0, 3.0, 0.3, -1.0]]])
    rast, _, _ = rasterize(pos, torch.tensor([[0, 1, 2]]), 5, 6)
    assert (rast[..., 3] == 1).all()
    for row in range(5):
        for column in range(6):
            expected = solved(pos[0], column, row, (5, 6))
            torch.testing.assert_close(
                rast[0, row, column, :3], torch.tensor(expected).float(), atol=1e-6, rtol=1e-5
            )


def test_triangle_behind_the_camera():
    pos = torch.tensor([[[-1.0, -1.0, 0.0, -1.0], [1.0, -1.0, 0.0, -1.0], [0.0, 1.0, 0.0, -1.0]]])
    assert not rasterize(pos, torch.tensor([[0, 1, 2]]), 4, 4)[0].any()


def test_fan_starts_at_the_crossing_of_the_closing_edge():
    """The closing edge 2 -> 0 leaves the frustum at (1, 0.3): the walk, and so the fan, begins there."""
    triangle = torch.tensor([[3.0, -0.3], [-3.0, -0.3], [0.0, 0.6]], dtype=torch.float64)
    corners = torch.cat((triangle, torch.zeros(3, 1), torch.ones(3, 1)), 1)[None]
    fan, owner = reference._clipped(corners)
    walk = torch.tensor([[1.0, 0.3], [1.0, -0.3], [-1.0, -0.3], [-1.0, 0.3], [0.0, 0.6]], dtype=torch.float64)
    torch.testing.assert_close(fan[..., :2], torch.stack([walk[[0, k, k + 1]] for k in (1, 2, 3)]))
    assert owner.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("sign", "rows"), [(1.0, (2, 3)), (-1.0, (0, 1))])
def test_near_and_far_plane(sign, rows):
    """A full-screen square with z/w = y - sign: half of it lies within -1..1."""
    pos = torch.tensor([[x, y, y - sign, 1.0] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))])[None]
    rast, _, _ = rasterize(pos, torch.tensor([[0, 1, 2], [0, 2, 3]]), 4, 4)
    for row in range(4):
        assert (rast[0, row, :, 3] > 0).all() == (row in rows)
        assert (rast[0, row, :, 3] > 0).any() == (row in rows)
        if row in rows:
            torch.testing.assert_close(rast[0, row, :, 2], torch.full((4,), (2 * row - 3) / 4 - sign))


@pytest.mark.parametrize("z", [-1.0, 1.0])
def test_planes_themselves_are_drawn(z):
    pos = on_screen([(0, 0), (4, 0), (0, 4), (4, 4)], (2, 2), z)
    assert all(min(row) > 0 for row in ids(pos, [[0, 1, 2], [1, 3, 2]], (2, 2)))


# Depth ----------------------------------------------------------------------------------------------------


def two_squares(z_first: float, z_second: float, size: tuple[int, int]) -> Tensor:
    corners = [(0, 0), (2 * size[1], 0), (0, 2 * size[0])]
    return torch.cat((on_screen(corners, size, z_first), on_screen(corners, size, z_second)), 1)


def test_nearer_wins_and_ties_go_to_the_later():
    tri = [[0, 1, 2], [3, 4, 5]]
    for z_first, z_second, expected in ((0.1, 0.2, 1), (0.2, 0.1, 2), (0.1, 0.1, 2), (0.5, 0.5 + 1e-9, 2)):
        pos = two_squares(z_first, z_second, (3, 3))
        assert ids(pos, tri, (3, 3)) == [[expected] * 3] * 3
    assert ids(two_squares(0.5, 0.5 + 1e-6, (3, 3)), tri, (3, 3)) == [[1] * 3] * 3


def test_depth_key_spans_the_unsigned_range():
    tri = torch.tensor([[0, 1, 2]])
    for z, expected in ((-1.0, 17600), (0.0, 2**31), (1.0, 4294949632)):  # float32 of 2^31 - 1/2 + z (...)
        _, _, key = rasterize(on_screen([(0, 0), (4, 0), (0, 4)], (2, 2), z), tri, 2, 2)
        assert key[0, 0, 0] == expected
    assert rasterize(torch.zeros(1, 3, 4), tri, 2, 2)[2].eq(reference.FAR_KEY).all()


def test_plane_is_exact():
    draw = random.Random(5)
    edges, depth, area = [], [], []
    for bits in list(range(2, 45, 3)) * 20:
        total = draw.randrange(1, 1 << bits)
        cuts = sorted(draw.randrange(total + 1) for _ in range(2))
        edges.append([cuts[0], cuts[1] - cuts[0], total - cuts[1]])
        depth.append([draw.randrange(17600 << 11, reference.FAR_KEY << 11) for _ in range(3)])
        area.append(total)
    edges[0], depth[0], area[0] = [1, 1, 0], [1 << 11, 2 << 11, 0], 2  # 1.5: the half rounds up
    got = reference._plane(torch.tensor(edges), torch.tensor(depth), torch.tensor(area)).tolist()
    for e, d, a, key in zip(edges, depth, area, got):
        exact = Fraction(sum(p * q for p, q in zip(e, d)), a << 11)
        assert key == (exact + Fraction(1, 2)).__floor__()


def test_layers():
    """Three surfaces, two of them coincident: the pair is reported once, then nothing is left."""
    size = (3, 3)
    pos = torch.cat((two_squares(0.2, -0.2, size), two_squares(0.2, 0.7, size)), 1)
    tri, key, seen = torch.arange(12).reshape(4, 3), None, []
    for _ in range(4):
        rast, _, key = rasterize(pos, tri, *size, previous_key=key)
        seen.append(rast[0, 1, 1, 3].item())
    assert seen == [2, 3, 4, 0]
    infinite = torch.full_like(key, torch.inf)
    assert not rasterize(pos, tri, *size, previous_key=infinite)[0].any()


# What is stored -------------------------------------------------------------------------------------------


def test_id_encoding():
    k = torch.tensor([0, 1, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2, 889192447])
    expected = [0.0, 1.0, 16777215.0, 16777216.0, 16777218.0, 16777220.0, torch.finfo(torch.float32).max]
    assert encode_ids(k).tolist() == expected


def test_barycentrics_derivatives_and_zero_background():
    """u falls and v grows along x at w = 1: u + v + third = 1 with corners (0, 0), (4, 0), (0, 2) px."""
    pos = on_screen([(0, 0), (4, 0), (0, 2)], (3, 5))
    rast, rast_db, key = rasterize(pos, torch.tensor([[0, 1, 2]]), 3, 5)
    for row in range(3):
        for column in range(5):
            x, y = column + 0.5, row + 0.5
            inside = x / 4 + y / 2 < 1
            expected = [1 - x / 4 - y / 2, x / 4, 0.0, 1.0] if inside else [0.0] * 4
            slopes = [-1 / 4, -1 / 2, 1 / 4, 0.0] if inside else [0.0] * 4
            torch.testing.assert_close(rast[0, row, column], torch.tensor(expected).double())
            torch.testing.assert_close(rast_db[0, row, column], torch.tensor(slopes).double())
            assert (key[0, row, column] < reference.FAR_KEY) == inside


def test_perspective():
    generator = torch.Generator().manual_seed(11)
    corners = torch.tensor([[-0.9, -0.9, 0.2, 0], [0.9, -0.7, -0.1, 0], [0.0, 0.9, 0.3, 0]]).double()
    corners[:, 3] = 1
    pos = corners * (0.5 + 2 * torch.rand(3, 1, generator=generator))
    rast, rast_db, _ = rasterize(pos[None], torch.tensor([[0, 1, 2]]), 9, 8)
    covered = rast[0, ..., 3].nonzero().tolist()
    assert len(covered) > 20
    step = 1e-5
    for row, column in covered:
        torch.testing.assert_close(
            rast[0, row, column, :3], torch.tensor(solved(pos, column, row, (9, 8))), atol=1e-12, rtol=1e-12
        )
        for k, (dx, dy) in enumerate(((step, 0), (0, step))):
            after = solved(pos, column + dx, row + dy, (9, 8))
            before = solved(pos, column - dx, row - dy, (9, 8))
            for channel in (0, 1):
                slope = (after[channel] - before[channel]) / (2 * step)
                assert rast_db[0, row, column, 2 * channel + k].item() == pytest.approx(slope, abs=1e-8)


def test_values_stay_in_range_where_a_sample_is_outside_the_exact_triangle():
    """Snapping draws the sample although the exact edge misses it by a thousandth of a pixel."""
    pos = on_screen([(0.501, 0), (0.501, 2), (2, 1)], (2, 2))
    pos[0, :2, 2], pos[0, 2, 2] = 1, -1
    rast, rast_db, _ = rasterize(pos, torch.tensor([[0, 1, 2]]), 2, 2)
    assert rast[0, :, 0, 3].tolist() == [1, 1]
    assert (rast[0, :, 0, :2].sum(1) <= 1).all()
    assert (rast[0, :, 0, 2] == 1).all()
    assert torch.isfinite(rast_db).all()


def test_dtype_and_shape():
    pos = on_screen([(0, 0), (4, 0), (0, 4)], (2, 3))
    for dtype in (torch.float32, torch.float64):
        rast, rast_db, key = rasterize(pos.to(dtype), torch.tensor([[0, 1, 2]]), 2, 3)
        assert rast.dtype == rast_db.dtype == dtype
        assert key.dtype == torch.float64
        assert rast.shape == rast_db.shape == (1, 2, 3, 4)
        assert key.shape == (1, 2, 3)


# Modes and bad input --------------------------------------------------------------------------------------


def test_ranges():
    """Overlapping, empty and overlong ranges; ids count in the whole buffer."""
    pos = torch.cat([on_screen([(i, 0), (i + 1, 0), (i + 1, 9), (i, 9)], (1, 3)) for i in range(3)], 1)[0]
    tri = torch.cat([torch.tensor([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(3)])
    ranges = torch.tensor([[0, 6], [2, 2], [4, 0], [2, 100], [7, 3]])
    seen = rasterize(pos, tri, 1, 3, ranges)[0][:, 0, :, 3].int()
    strip = [(i + 1) // 2 for i in seen.flatten().tolist()]  # strip number + 1
    assert strip == [1, 2, 3, 0, 2, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0]


def test_instances_have_their_own_positions():
    left, right = on_screen([(0, 0), (1, 0), (0, 9)], (1, 2)), on_screen([(1, 0), (2, 0), (1, 9)], (1, 2))
    rast, _, _ = rasterize(torch.cat((left, right, left)), torch.tensor([[0, 1, 2]]), 1, 2)
    assert rast[:, 0, :, 3].tolist() == [[1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("axis", range(4))
def test_a_bad_vertex_drops_its_triangle_only(bad, axis):
    pos = torch.cat((on_screen([(0, 0), (8, 0), (0, 8)], (3, 3), 0.5), on_screen([(0, 0)], (3, 3))), 1)
    pos[0, 3, axis] = bad
    rast, rast_db, _ = rasterize(pos, torch.tensor([[0, 1, 2], [3, 1, 2], [0, 3, 1]]), 3, 3)
    assert (rast[..., 3] == 1).all()
    assert torch.isfinite(rast_db).all()


@pytest.mark.parametrize("tri", [[0, 1, 3], [0, -1, 2], [0, 1, 1], [0, 1, 4]])
def test_undrawable_triangles(tri):
    """Index out of range, repeated index, zero area (vertex 3 doubles vertex 1 at another depth)."""
    pos = torch.cat((on_screen([(0, 0), (4, 0), (0, 4)], (2, 2)), on_screen([(4, 0)], (2, 2), 0.5)), 1)
    assert not rasterize(pos, torch.tensor([tri]), 2, 2)[0].any()


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 4)])
def test_empty(shape):
    pos = torch.zeros(shape, requires_grad=True)
    tri = torch.zeros(0, 3, dtype=torch.int64)
    rast, rast_db, _ = rasterize(pos, tri, 3, 2)
    assert rast.shape == rast_db.shape == (shape[0], 3, 2, 4)
    (rast.sum() + rast_db.sum()).backward()
    assert not pos.grad.any()


def test_large_triangles_over_a_wide_image_in_several_chunks(monkeypatch):
    """The same image whatever the chunk sizes."""
    generator = torch.Generator().manual_seed(2)
    pos = torch.randn(2, 60, 4, generator=generator) * torch.tensor([1, 1, 0.5, 0.2]) + torch.tensor(
        [0, 0, 0, 1]
    )
    pos.requires_grad_()
    tri = torch.arange(60).reshape(20, 3)
    whole = rasterize(pos, tri, 31, 45)
    upstream = torch.randn(2, 2, 31, 45, 4, generator=generator)
    expected = torch.autograd.grad(whole[:2], pos, tuple(upstream))[0]
    for name, size in (("CORNERS_PER_CHUNK", 7), ("CANDIDATES_PER_CHUNK", 300), ("PIXELS_PER_CHUNK", 64)):
        monkeypatch.setattr(reference, name, size)
    parts = rasterize(pos, tri, 31, 45)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts))
    torch.testing.assert_close(torch.autograd.grad(parts[:2], pos, tuple(upstream))[0], expected)


# Gradients ------------------------------------------------------------------------------------------------


def smooth_scene() -> tuple[Tensor, Tensor]:
    """Two large perspective triangles, one behind the other, every sample far from an edge in 4x3 pixels."""
    pos = torch.tensor(
        [
            [-1.2, -1.3, 0.1, 1.1],
            [1.5, -1.1, 0.5, 1.3],
            [0.15, 1.7, -0.2, 0.8],
            [-2.1, -2.6, 1.4, 2.0],
            [3.3, -2.2, 1.5, 2.4],
            [-0.4, 4.3, 1.0, 1.7],
        ],
        dtype=torch.float64,
    )
    return pos, torch.tensor([[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("mode", ["instanced", "ranges"])
def test_gradient_against_finite_differences(mode):
    pos, tri = smooth_scene()
    ranges = torch.tensor([[0, 2], [1, 1], [0, 1]]) if mode == "ranges" else None
    pos = pos if mode == "ranges" else torch.stack((pos, pos * 1.07 + 0.01))
    rast = rasterize(pos, tri, 3, 4, ranges)[0]
    assert set(rast[..., 3].unique().tolist()) >= {1.0, 2.0}

    def stored(pos: Tensor) -> tuple[Tensor, Tensor]:
        rast, rast_db, _ = rasterize(pos, tri, 3, 4, ranges)
        return rast[..., :3], rast_db

    assert torch.autograd.gradcheck(stored, pos.requires_grad_(), atol=2e-5)


def pos_gradient(pos: Tensor, tri: Tensor, d_rast: Tensor | None, d_db: Tensor | None, **options) -> Tensor:
    pos = pos.detach().clone().requires_grad_()
    rast, rast_db, _ = rasterize(pos, tri, 3, 4, **options)
    outputs = [(rast, d_rast), (rast_db, d_db)]
    outputs = [(value, upstream) for value, upstream in outputs if upstream is not None]
    return torch.autograd.grad([o[0] for o in outputs], pos, [o[1] for o in outputs])[0]


def test_gradients_that_are_switched_off():
    pos, tri = smooth_scene()
    pos = pos[None]
    ones = torch.ones(1, 3, 4, 4, dtype=torch.float64)
    depth_and_id = ones * torch.tensor([0, 0, 1, 1])
    barycentrics = ones * torch.tensor([1, 0, 0, 0])
    assert not pos_gradient(pos, tri, None, ones, db_grad=False).any()
    assert not pos_gradient(pos, tri, depth_and_id, None, depth_grad=False).any()
    assert not pos_gradient(pos, tri, ones * torch.tensor([0, 0, 0, 1]), None).any()
    only_uv = pos_gradient(pos, tri, barycentrics, None)
    assert only_uv.any()
    assert not only_uv[..., 2].any()
    assert torch.equal(only_uv, pos_gradient(pos, tri, barycentrics, ones, db_grad=False))
    assert torch.equal(only_uv, pos_gradient(pos, tri, barycentrics + depth_and_id, None, depth_grad=False))
    assert pos_gradient(pos, tri, depth_and_id, None)[..., 2].any()


@pytest.mark.parametrize("channel", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)])
@pytest.mark.parametrize("winding", [[0, 1, 2], [1, 0, 2]])
@pytest.mark.parametrize("offset", [-0.001, 0.0, 0.001])
def test_interior_gate(channel, winding, offset):
    """The left edge snaps to the pixel centre, which is covered. Where the edge lies to the right of it:
    no gradient, or without the gate that of the unclamped value. On it or to its left: the same either way.
    """
    pos = on_screen([(2, 1), (0.5 + offset, 0), (0.5 + offset, 2)], (4, 4))
    pos[0, :, 2] = torch.tensor([0.1, 0.2, 0.4])  # or z/w would not change
    tri = torch.tensor([winding])
    assert rasterize(pos, tri, 4, 4)[0][0, 0, 0, 3] == 1
    upstream = torch.zeros(2, 1, 4, 4, 4, dtype=torch.float64)
    upstream[channel[0], 0, 0, 0, channel[1]] = 1

    def gradient(gate: bool) -> Tensor:
        leaf = pos.clone().requires_grad_()
        return torch.autograd.grad(rasterize(leaf, tri, 4, 4, interior_gate=gate)[:2], leaf, tuple(upstream))[
            0
        ]

    assert gradient(False).abs().max() > 0.01
    assert torch.equal(gradient(True), gradient(False) * (offset <= 0))


def test_zero_upstream_keeps_overflow_out():
    """Triangle 1 at 1e200 is visible, but its areas overflow: it is poison only for those who ask for it."""
    pos = torch.cat(
        (on_screen([(0, 0), (2, 0), (0, 3)], (3, 4)), on_screen([(2, 0), (4, 0), (4, 3)], (3, 4))), 1
    )
    pos[:, 3:] *= 1e200
    tri = torch.tensor([[0, 1, 2], [3, 4, 5]])
    seen = rasterize(pos, tri, 3, 4)[0][..., 3:]
    assert set(seen.unique().tolist()) == {0, 1, 2}
    upstream = (seen == 1).double().expand(-1, -1, -1, 4)
    assert torch.isfinite(pos_gradient(pos, tri, upstream, upstream)).all()
    poisoned = pos_gradient(pos, tri, upstream * 0 + 1, upstream)
    assert torch.isfinite(poisoned[:, :3]).all()
    assert poisoned[:, 3:].isnan().any()


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_stabiliser(side):
    """For a small triangle of area S the gradient is that of A_0 / (S + 1e-6 sign(S)), not of A_0 / S."""
    corners = torch.tensor([[0.0, 0.0], [1e-2, 0.0], [0.0, 1e-2]], dtype=torch.float64) - 0.002
    corners = corners if side > 0 else corners[[0, 2, 1]]
    pos = torch.cat((corners, torch.zeros(3, 1), torch.ones(3, 1)), 1)[None]
    tri = torch.tensor([[0, 1, 2]])
    pos.requires_grad_()
    rast, _, _ = rasterize(pos, tri, 1, 1)
    assert rast[0, 0, 0, 3] == 1
    got = torch.autograd.grad(rast[0, 0, 0, 0], pos)[0]
    # Corner 0 does not move A_0, and moves S by (y1 - y2, x2 - x1) at w = 1.
    u, total = 0.6 * 1e-4 / (1e-4 + 1e-6), side * (1e-4 + 1e-6)
    (x1, y1), (x2, y2) = pos.detach()[0, 1:, :2].tolist()
    d_corner0 = torch.tensor([-u * (y1 - y2), -u * (x2 - x1)], dtype=torch.float64) / total
    torch.testing.assert_close(got[0, 0, :2], d_corner0, atol=0, rtol=1e-9)


def test_second_derivatives_are_refused():
    pos, tri = smooth_scene()
    pos = pos[None].requires_grad_()
    rast, _, _ = rasterize(pos, tri, 3, 4)
    first = torch.autograd.grad(rast[..., 0].square().sum(), pos, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
