# SPDX-License-Identifier: MIT
"""The antialiasing oracle: golden numbers, single edges worked out by hand, finite differences.

The images by hand are a row of four pixels; its id and depth channels are written down, not rasterised.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rastergrad.ops.antialias.reference import antialias, edge_opposites
from testing import golden

needs_golden = pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
COLOR = [0.1, 0.4, 1.0, 0.7]
SIZE = (1, 4)


@needs_golden
@pytest.mark.parametrize("name", golden.names("a"))
def test_golden(name):
    """Gradients to 1e-5 rather than the runner's 2e-4: without the stabiliser some are off by 6e-4.

    The runner leaves grad_pos of a09 out, whose alphas are all zero: see this room's reference.
    """
    assert not golden.failures(golden.reference_functions(), name, gtol=1e-5)


# A row of pixels ------------------------------------------------------------------------------------------


def clip(corners_px: list, w: list | float = 1.0) -> Tensor:
    """Clip-space vertices [1, V, 4] float64 from pixel coordinates (x, y), a row of pixels at y in 0..1."""
    xy = torch.tensor(corners_px, dtype=torch.float64) / torch.tensor([SIZE[1], SIZE[0]]) * 2 - 1
    w = torch.as_tensor(w, dtype=torch.float64).expand(len(corners_px))[:, None]
    return torch.cat((xy * w, torch.zeros_like(w), w), 1)[None]


def row(ids: list, depth: list | None = None) -> Tensor:
    rast = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    rast[0, 0, :, 3] = torch.tensor(ids)
    if depth is not None:
        rast[0, 0, :, 2] = torch.tensor(depth)
    return rast


def blended(pos: Tensor, tri: list, rast: Tensor, color: list = COLOR, **options) -> Tensor:
    """The row after antialiasing."""
    image = torch.tensor(color, dtype=torch.float64).reshape(1, 1, 4, 1)
    return antialias(image, rast, pos, torch.tensor(tri), **options).flatten()


def expect(got: Tensor, changed: dict[int, float]) -> None:
    want = torch.tensor([changed.get(i, COLOR[i]) for i in range(4)], dtype=torch.float64)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


def left_of(x: float, w: list | float = 1.0) -> Tensor:
    """A triangle whose right edge is the vertical line at x."""
    return clip([(x, -9), (x, 10), (-20, 0.5)], w)


@pytest.mark.parametrize("w", [1.0, [0.5, 2.0, 3.0]])
@pytest.mark.parametrize("winding", [[0, 1, 2], [2, 1, 0]])
def test_border_edge_right_of_its_triangle(winding, w):
    """Centres at 1.5 and 2.5. Edge at 1.8: alpha = 0.2, pixel 1 fades to pixel 2; at 2.2 the reverse."""
    rast = row([1, 1, 0, 0])
    expect(blended(left_of(1.8, w), [winding], rast), {1: 0.4 + 0.2 * 0.6})
    expect(blended(left_of(2.2, w), [winding], rast), {2: 1.0 - 0.2 * 0.6})


def test_border_edge_left_of_its_triangle():
    """Chosen is the second pixel: an edge 0.3 before its centre gives alpha = -(1/2 - 0.3)."""
    rast = row([0, 0, 1, 1])
    for x, changed in ((2.2, {2: 1.0 - 0.2 * 0.6}), (1.8, {1: 0.4 + 0.2 * 0.6})):
        expect(blended(clip([(x, -9), (x, 10), (30, 0.5)]), [[0, 1, 2]], rast), changed)


def test_slanted_edge():
    """The edge meets the row y = 1/2 at 1.5 + 0.1; it is steep from slope 1 on."""
    rast = row([1, 1, 0, 0])
    for lean, changed in ((4.0, {1: 0.4 + 0.4 * 0.6}), (5.0, {1: 0.4 + 0.4 * 0.6}), (5.001, {})):
        pos = clip([(1.6 - lean, -4.5), (1.6 + lean, 5.5), (-20, 0.5)])
        expect(blended(pos, [[0, 1, 2]], rast), changed)


def test_reach_beyond_the_segment():
    """1/16 of a pixel past either centre the edge still counts, as if it were on the centre."""
    rast = row([1, 1, 0, 0])
    expect(blended(left_of(1.5 - 0.06), [[0, 1, 2]], rast), {1: 0.4 + 0.5 * 0.6})
    expect(blended(left_of(1.5 - 0.07), [[0, 1, 2]], rast), {})
    expect(blended(left_of(2.5 + 0.06), [[0, 1, 2]], rast), {2: 1.0 - 0.5 * 0.6})
    expect(blended(left_of(2.5 + 0.07), [[0, 1, 2]], rast), {})


def test_a_column_is_a_row_on_its_side():
    generator = torch.Generator().manual_seed(1)
    rast = torch.zeros(1, 12, 11, 4)
    rast[..., 3] = torch.randint(0, 3, (1, 12, 11), generator=generator)
    rast[..., 2] = torch.rand(1, 12, 11, generator=generator)
    pos = torch.rand(1, 6, 4, generator=generator) * 2 - 1
    pos[..., 3] += 1.5
    color, tri = torch.rand(1, 12, 11, 3, generator=generator), torch.tensor([[0, 1, 2], [3, 4, 5]])
    upright = antialias(color, rast, pos, tri)
    assert (upright != color).any()
    sideways = antialias(color.transpose(1, 2), rast.transpose(1, 2), pos[..., [1, 0, 2, 3]], tri)
    torch.testing.assert_close(sideways.transpose(1, 2), upright)


def test_fold_is_a_silhouette_and_a_flat_join_is_not():
    """Both triangles share the edge at x = 1.8; the second leans back under the first, or goes on beyond."""
    tri = [[0, 1, 2], [1, 0, 3]]
    shared = [(1.8, -9), (1.8, 10), (-20, 0.5)]
    expect(blended(clip([*shared, (-15, 3)]), tri, row([1, 1, 0, 0])), {1: 0.4 + 0.2 * 0.6})
    expect(blended(clip([*shared, (30, 3)]), tri, row([1, 1, 0, 0])), {})
    expect(blended(clip([*shared, (30, 3)]), tri, row([1, 1, 2, 2], [0.1, 0.1, 0.2, 0.2])), {})


def test_the_nearer_triangle_decides_and_the_second_on_a_tie():
    """Triangle 1 ends at 1.8, triangle 2 begins at 1.6."""
    pos = torch.cat((left_of(1.8), clip([(1.6, -9), (1.6, 10), (30, 0.5)])), 1)
    tri = [[0, 1, 2], [3, 4, 5]]
    for depth, alpha in (([0.1, 0.2], 0.2), ([0.2, 0.1], 0.4), ([0.1, 0.1], 0.4)):
        rast = row([1, 1, 2, 2], [depth[0]] * 2 + [depth[1]] * 2)
        expect(blended(pos, tri, rast), {1: 0.4 + alpha * 0.6})


def test_only_the_farthest_crossing_counts():
    """Left edge at 1.46, right edge at 1.8: if that one is no silhouette, the left one does not step in."""
    sliver = [(1.8, -9), (1.8, 10), (1.12, -9)]
    rast, to_left = row([0, 1, 0, 0]), -0.46 * (0.4 - 0.1)
    expect(blended(clip(sliver), [[0, 1, 2]], rast), {1: 0.4 + to_left + 0.2 * 0.6})
    joined = clip([*sliver, (30, 0.5)])
    expect(blended(joined, [[0, 1, 2], [1, 0, 3]], rast), {1: 0.4 + to_left})


@pytest.mark.parametrize("other", [0.0, -3.0, 2.0, 16777220.0, torch.nan])
def test_ids_without_a_triangle_are_background(other):
    """However near they claim to be. Two of them make no pair."""
    rast = row([1, 1, other, other + 1 if other else 0.0], [0.5, 0.5, -0.9, -0.9])
    expect(blended(left_of(1.8), [[0, 1, 2]], rast), {1: 0.4 + 0.2 * 0.6})


def test_triangles_with_bad_vertices_make_no_pair():
    for bad in (-1, 3, 9):
        expect(blended(left_of(1.8), [[0, 1, bad], [0, 1, 2]], row([1, 1, 0, 0])), {})


def test_range_mode_and_minibatch():
    """2-D positions serve every image; instanced ones are each image's own."""
    rast, color = row([1, 1, 0, 0]), torch.tensor(COLOR, dtype=torch.float64).reshape(1, 1, 4, 1)
    rast, color, tri = rast.repeat(2, 1, 1, 1), color.repeat(2, 1, 1, 1), torch.tensor([[0, 1, 2]])
    both = antialias(color, rast, left_of(1.8)[0], tri)
    expect(both[0].flatten(), {1: 0.52})
    expect(both[1].flatten(), {1: 0.52})
    own = antialias(color, rast, torch.cat((left_of(1.8), left_of(1.7))), tri)
    expect(own[0].flatten(), {1: 0.52})
    expect(own[1].flatten(), {1: 0.4 + 0.3 * 0.6})


def test_dtype_channels_and_empty():
    for dtype in (torch.float32, torch.float64):
        color = torch.rand(1, 1, 4, 7, dtype=dtype)
        image = antialias(color, row([1, 1, 0, 0]), left_of(1.8).to(dtype), torch.tensor([[0, 1, 2]]))
        assert image.dtype == dtype
        torch.testing.assert_close(image[0, 0, 1], color[0, 0, 1] * 0.8 + color[0, 0, 2] * 0.2)
        assert torch.equal(image[0, 0, [0, 2, 3]], color[0, 0, [0, 2, 3]])
    none = torch.zeros(0, 3, dtype=torch.int64)
    color = torch.rand(1, 1, 4, 2, requires_grad=True)
    pos = torch.zeros(1, 0, 4, requires_grad=True)
    image = antialias(color, row([1, 1, 0, 0]), pos, none)
    assert torch.equal(image, color)
    image.sum().backward()
    assert color.grad.eq(1).all()
    assert pos.grad.shape == (1, 0, 4)


# Topology -------------------------------------------------------------------------------------------------


def opposites(tri: list, vertex_count: int = 9) -> list:
    return edge_opposites(torch.tensor(tri).reshape(-1, 3), vertex_count).tolist()


def test_opposite_vertices():
    assert opposites([[0, 1, 2]]) == [[-1, -1, -1]]
    assert opposites([[0, 1, 2], [2, 1, 3]]) == [[3, -1, -1], [-1, -1, 0]]
    assert opposites([[0, 1, 2], [1, 2, 3]]) == [[3, -1, -1], [-1, -1, 0]]  # winding does not matter
    assert opposites([]) == []


def test_tetrahedron():
    faces = [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]
    assert opposites(faces) == [[3, 3, 3], [2, 2, 2], [0, 0, 0], [1, 1, 1]]


def test_third_triangle_on_an_edge_has_no_partner():
    """Edge (0, 1) keeps vertices 2 and 3, of triangles 0 and 1."""
    assert [r[2] for r in opposites([[0, 1, 2], [0, 1, 3], [0, 1, 4]])] == [3, 2, -1]
    assert [r[2] for r in opposites([[0, 1, 4], [0, 1, 2], [0, 1, 3]])] == [2, 4, -1]


def test_a_doubled_triangle_takes_no_second_place():
    assert [r[2] for r in opposites([[0, 1, 2], [1, 0, 2]])] == [-1, -1]
    assert [r[2] for r in opposites([[0, 1, 2], [1, 0, 2], [0, 1, 3]])] == [3, 3, 2]


@pytest.mark.parametrize("bad", [[0, 1, -1], [0, 1, 9], [0, 1, 1], [0, 0, 1]])
def test_bad_triangles_are_not_entered(bad):
    assert opposites([bad, [0, 1, 2], [1, 0, 3]]) == [[-1, -1, -1], [-1, -1, 3], [-1, -1, 2]]


def test_topology_may_be_given():
    """One that hides the fold: the edge counts as joined to the vertex beyond."""
    pos, rast = clip([(1.8, -9), (1.8, 10), (-20, 0.5), (30, 0.5)]), row([1, 1, 0, 0])
    expect(blended(pos, [[0, 1, 2]], rast), {1: 0.52})
    expect(blended(pos, [[0, 1, 2]], rast, opposites=torch.tensor([[-1, -1, 3]])), {})


# Gradients ------------------------------------------------------------------------------------------------


def test_gradient_against_finite_differences():
    """Random large triangles in perspective under random ids: pairs of both directions and both signs."""
    generator = torch.Generator().manual_seed(7)
    pos = torch.rand(1, 24, 4, generator=generator).double() * 4 - 2
    pos[..., 3] = 0.7 + 0.3 * pos[..., 3].abs()
    tri = torch.arange(24).reshape(8, 3)
    rast = torch.zeros(1, 12, 11, 4)
    rast[..., 3] = torch.randint(0, 9, (1, 12, 11), generator=generator)
    rast[..., 2] = torch.rand(1, 12, 11, generator=generator)
    color = torch.rand(1, 12, 11, 1, generator=generator).double()
    changed = antialias(color, rast, pos, tri) != color
    assert changed.any(3).sum() >= 8
    for image_pos in (pos, pos[0]):
        inputs = (color.clone().requires_grad_(), image_pos.clone().requires_grad_())
        assert torch.autograd.gradcheck(lambda c, p: antialias(c, rast, p, tri), inputs, rtol=2e-3, atol=1e-4)


def pos_gradient(x: float, upstream: list, color: list = COLOR, tri: tuple = (0, 1, 2), **options) -> Tensor:
    """Gradient [3, 4] to the triangle left of x, for an upstream on the row of pixels."""
    pos = left_of(x).requires_grad_()
    image = blended(pos, [list(tri)], row([1, 1, 0, 0]), color, **options)
    return torch.autograd.grad(image, pos, torch.tensor(upstream, dtype=torch.float64))[0][0]


@pytest.mark.parametrize("tri", [(0, 1, 2), (1, 0, 2)])
def test_position_gradient_by_hand(tri):
    """Edge from (1.8, -9) to (1.8, 10): at y = 1/2 its ends weigh 9.5 and 9.5 of 19 (+ 1/1000).

    alpha = 1/2 - (x - 1.5), so d out[1] / dx = -(color[2] - color[1]), and 2 px are one NDC unit.
    """
    got = pos_gradient(1.8, [0, 1, 0, 0], tri=tri)
    x_slope = -0.6 * 2 * 9.5 / 19.001
    # Moving up by dy changes nothing on an exactly vertical edge, but for the stabiliser: (1 - 19/19.001) Xc.
    y_slope = 0.6 / 19.001 * 0.5 * (0.3 - 0.3 * 19 / 19.001)
    x_ndc = 1.8 / 2 - 1
    for corner, y_ndc, sign in ((0, -19, 1), (1, 19, -1)):
        want = [x_slope, sign * y_slope, 0, -(x_ndc * x_slope + y_ndc * sign * y_slope)]
        torch.testing.assert_close(
            got[corner], torch.tensor(want, dtype=torch.float64), atol=1e-14, rtol=1e-10
        )
    assert not got[2].any()


def test_boost():
    torch.testing.assert_close(
        pos_gradient(1.8, [0, 1, 0, 0], pos_gradient_boost=3.0), 3 * pos_gradient(1.8, [0, 1, 0, 0])
    )


def test_clamped_crossing_has_no_position_gradient():
    for x in (1.5, 1.47, 2.5, 2.53):
        assert not pos_gradient(x, [1, 1, 1, 1]).any()
        assert pos_gradient(x + (0.1 if x < 2 else -0.1), [1, 1, 1, 1]).any()


def test_half_way_crossing_belongs_to_the_second_pixel():
    """alpha = 0 of either sign; the corresponding golden case keeps only -0, by accident."""
    assert not pos_gradient(2.0, [1, 1, 0, 1]).any()
    torch.testing.assert_close(
        pos_gradient(2.0, [0, 0, 1, 0])[:, 0], pos_gradient(2.0 + 1e-9, [0, 0, 1, 0])[:, 0]
    )


def test_colour_gradient_by_hand():
    """out[1] = 0.8 c[1] + 0.2 c[2]."""
    color = torch.tensor(COLOR, dtype=torch.float64).reshape(1, 1, 4, 1).requires_grad_()
    image = antialias(color, row([1, 1, 0, 0]), left_of(1.8), torch.tensor([[0, 1, 2]]))
    upstream = torch.tensor([1.0, 10, 100, 1000], dtype=torch.float64).reshape(1, 1, 4, 1)
    got = torch.autograd.grad(image, color, upstream)[0].flatten()
    torch.testing.assert_close(got, torch.tensor([1.0, 8, 102, 1000], dtype=torch.float64))


def test_zero_upstream_keeps_nan_out():
    """A NaN colour reaches positions only through pixels and channels that are asked for."""
    color = [0.1, 0.4, torch.nan, 0.7]
    assert not pos_gradient(1.8, [1, 0, 1, 1], color).any()
    assert pos_gradient(1.8, [0, 1, 0, 0], color).isnan().any()
    pos = left_of(1.8).requires_grad_()
    image = torch.stack((torch.tensor(COLOR), torch.tensor(color)), 1).double().reshape(1, 1, 4, 2)
    result = antialias(image, row([1, 1, 0, 0]), pos, torch.tensor([[0, 1, 2]]))
    got = torch.autograd.grad(result[..., 0].sum(), pos)[0][0]
    torch.testing.assert_close(got, pos_gradient(1.8, [1, 1, 1, 1]))


@pytest.mark.parametrize("w", [0.0, -1.0, torch.nan, torch.inf])
def test_hostile_w_stays_finite_in_the_image(w):
    pos = left_of(1.8)
    pos[0, 1, 3] = w
    assert torch.isfinite(blended(pos, [[0, 1, 2]], row([1, 1, 0, 0]))).all()


def test_second_derivatives_are_refused():
    pos = left_of(1.8).requires_grad_()
    image = blended(pos, [[0, 1, 2]], row([1, 1, 0, 0]))
    first = torch.autograd.grad(image.square().sum(), pos, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
