# SPDX-License-Identifier: MIT
"""The oracle of the outline method: outlines and meetings worked out by hand, and finite differences.

The images are a row of four pixels with y from 0 to 1; its id channel is written down, not rasterised. Pairs
that matter are those of the pixels with centres at 1.5 and 2.5; their border lies at x = 2.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.antialias.reference import edge_twins
from rastergrad.ops.antialias.reference_outline import antialias
from testing.antialias_scenes import holes

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")

COLOR = [0.1, 0.4, 1.0, 0.7]
SIZE = (1, 4)


def clip(corners_px: list, w: list | float = 1.0, z: list | float = 0.0) -> Tensor:
    """Clip-space vertices [1, V, 4] float64 at pixel coordinates (x, y), with depth z / w."""
    xy = torch.tensor(corners_px, dtype=torch.float64) / torch.tensor([SIZE[1], SIZE[0]]) * 2 - 1
    w, z = (torch.as_tensor(v, dtype=torch.float64).expand(len(corners_px))[:, None] for v in (w, z))
    return torch.cat((xy * w, z * w, w), 1)[None]


def row(ids: list) -> Tensor:
    rast = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    rast[0, 0, :, 3] = torch.tensor(ids)
    return rast


def blended(pos: Tensor, tri: list, rast: Tensor, color: list = COLOR, **options) -> Tensor:
    image = torch.tensor(color, dtype=torch.float64).reshape(1, 1, 4, -1)
    return antialias(image, rast, pos, torch.tensor(tri), **options).squeeze()


def expect(got: Tensor, left: float, right: float) -> None:
    """`left` is taken from the pixel left of the border at 2, `right` from the other one."""
    want = torch.tensor([0.1, 0.4 + left * 0.6, 1.0 - right * 0.6, 0.7], dtype=torch.float64)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


FAR = (-20, 0.5)  # to the left of the image, at half height: edges that lead here are flat
ONE = row([1, 1, 0, 0])


def surface(outline: list) -> tuple[Tensor, list]:
    """What lies left of a polyline: a fan of triangles from FAR."""
    return clip([FAR, *outline]), [[0, k, k + 1] for k in range(1, len(outline))]


# Outlines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [1.0, [0.5, 2.0, 3.0]])
@pytest.mark.parametrize("winding", [[0, 1, 2], [2, 1, 0]])
def test_upright_border(winding, w):
    for x, left, right in ((1.8, 0.2, 0), (2.2, 0, 0.2), (2.0, 0, 0)):
        expect(blended(clip([(x, -9), (x, 10), FAR], w), [winding], ONE), left, right)


def test_border_left_of_its_triangle():
    """The second pixel's walk finds it."""
    for x, left, right in ((1.8, 0.2, 0), (2.2, 0, 0.2)):
        expect(blended(clip([(x, -9), (x, 10), (30, 0.5)]), [[0, 1, 2]], row([0, 0, 1, 1])), left, right)


def test_slanted_border():
    """From 1.7 below to 2.3 above: a triangle of 0.3 by 1/2 off each pixel."""
    expect(blended(*surface([(1.7 - 0.6 * 9, -9), (1.7 + 0.6 * 9, 9)]), ONE), 0.075, 0.075)


def test_flat_borders_are_left_to_pairs_of_the_other_direction():
    """dx/dy = 1 at x = 1.6: clamp(2 - x) from 0.9 down to 0, then 0.1 by 0.1 of the next pixel."""
    expect(blended(*surface([(1.6 - 5, -4.5), (1.6 + 5, 5.5)]), ONE), 0.81 / 2, 0.01 / 2)
    expect(blended(*surface([(1.6 - 5.001, -4.5), (1.6 + 5.001, 5.5)]), ONE), 0, 0)


def test_a_column_takes_diagonals_only_if_they_are_steeper():
    pos, tri = surface([(-3.4, -4.5), (6.6, 5.5)])
    for shift, count in ((0.0, 0), (1e-6, 2)):
        # The row on its side: 4 pixels high
        turned = (
            pos[..., [1, 0, 2, 3]]
            + torch.tensor([0, shift, 0, 0]) * torch.tensor([-1.0, 1, 0])[None, :, None]
        )
        image = torch.tensor(COLOR, dtype=torch.float64).reshape(1, 4, 1, 1)
        got = antialias(image, ONE.transpose(1, 2), turned, torch.tensor(tri))
        assert int((got != image).sum()) == count


def test_reach():
    """A walk may leave its triangle up to 1/16 before its own centre, and looks as far behind the other one:
    rounded vertices decide what a pixel shows.
    """
    expect(blended(*surface([(1.45, -9), (1.45, 9)]), ONE), 0.55, 0)
    expect(blended(*surface([(1.43, -9), (1.43, 9)]), ONE), 0, 0)
    expect(blended(*surface([(2.49, -9), (2.49, 9)]), ONE), 0, 0.49)
    expect(blended(*surface([(2.5, -9), (2.5, 9)]), ONE), 0, 0.5)
    expect(blended(*surface([(2.55, -9), (2.55, 9)]), ONE), 0, 0.55)
    expect(blended(*surface([(2.57, -9), (2.57, 9)]), ONE), 0, 0)


def test_an_outline_goes_on_at_a_vertex():
    """0.2 from y = 0 to 0.7, on to x = 2 at 0.9, and 0.1 by 0.1 into the next pixel."""
    pos, tri = surface([(1.8, -9), (1.8, 0.7), (2.8, 1.7)])
    expect(blended(pos, tri, row([1, 1, 0, 0])), 0.2 * 0.7 + 0.2 * 0.2 / 2, 0.1 * 0.1 / 2)
    # Also found in a triangle that is passed on the way, and downward.
    upside_down = clip([FAR, (1.8, 10), (1.8, 0.3), (2.8, -0.7)])
    expect(blended(upside_down, tri, row([1, 1, 0, 0])), 0.2 * 0.7 + 0.2 * 0.2 / 2, 0.1 * 0.1 / 2)


def test_an_outline_that_turns_back_goes_on_over_half_of_the_rest():
    """It ends at y = 0.7, where the triangle's upper edge leads back to the left and down."""
    expect(blended(*surface([(1.8, -9), (1.8, 0.7)]), ONE), 0.2 * (0.7 + 0.15), 0)


def test_an_outline_that_leads_down_again_does_not_go_on():
    """At (1.8, 0.7) it turns by less than 90 degrees, to the right and down."""
    taken = ((2 - 1.17) + 0.2) / 2 * 0.7
    expect(blended(*surface([(0.9, -0.3), (1.8, 0.7), (2.8, 0.4)]), ONE), taken + 0.2 * 0.15, 0)


def test_an_outline_that_turns_by_more_than_a_right_angle_does_not_go_on():
    """An edge in direction (0.6, 1), then one that leads up by 92 or by 84 degrees to the left of it."""
    slanted = [(1.2, -0.3), (1.8, 0.7)]
    taken = ((0.2 + 0.6 * 0.7) + 0.2) / 2 * 0.7  # between 2 - x at y = 0 and at 0.7
    expect(blended(*surface([*slanted, (1.8 - 0.9, 0.7 + 0.5)]), ONE), taken + 0.2 * 0.15, 0)
    # Goes on up to y = 1 at x = 1.8 - 0.4: flat, so it takes nothing there, and nothing of the rest.
    expect(blended(*surface([*slanted, (1.8 - 0.8, 0.7 + 0.6)]), ONE), taken, 0)


def test_an_outline_is_left_when_it_goes_far_along():
    """A flat edge from (1.8, 0.7) to (x, 0.9), then an upright one if that begins 1.5 pixels from 1.8. If
    not, the flat one's end is no tip either.
    """
    for x, right in ((3.25, 0.1), (3.35, 0)):
        pos, tri = surface([(1.8, -9), (1.8, 0.7), (x, 0.9), (x, 9)])
        expect(blended(pos, tri, ONE), 0.2 * 0.7, right)


def test_no_more_is_taken_than_the_pixel_of_the_pair():
    """What lies left of x = 1 is the next pixel's, along a diagonal and where an outline was continued."""
    expect(
        blended(*surface([(1.46 - 5, -4.5), (1.46 + 5, 5.5)]), ONE), 0.04 + 0.96 * 0.96 / 2 + 0.96 * 0.04, 0
    )
    expect(blended(*surface([(1.6, -9), (1.6, 0.6), (0.8, 0.75)]), ONE), 0.4 * 0.6 + 0.125, 0)


def test_at_most_64_edges():
    """Upward from the middle in steps of 1/200: 64 of them, then half of the rest."""
    steps = [(1.8, 0.5 + (k - 0.5) / 200) for k in range(70)]
    pos, tri = surface([(1.8, -9), *steps, (2.6, 9)])
    reached = 63.5 / 200
    expect(blended(pos, tri, row([2, 2, 0, 0])), 0.2 * (0.5 + reached + (0.5 - reached) / 2), 0)


def test_fold_is_an_outline_and_a_flat_join_is_not():
    """Both triangles share the edge at x = 1.8; the second leans back under the first, or goes on beyond."""
    shared = [(1.8, -9), (1.8, 10), FAR]
    for tri in ([[0, 1, 2], [1, 0, 3]], [[0, 1, 2], [0, 1, 3]]):  # wound alike, and unlike
        expect(blended(clip([*shared, (-15, 3)]), tri, ONE), 0.2, 0)
        expect(blended(clip([*shared, (30, 3)]), tri, row([1, 1, 2, 2])), 0, 0)
        expect(blended(clip([*shared, (30, 3)]), tri, ONE), 0, 0)


def test_a_walk_crosses_triangles():
    """From triangle 1 over triangles 2 and 3, too small to be seen, to a border at 2.3."""
    x = [1.6, 1.7, 2.3]
    strip = [(-9, -20), *((x[0], -20), (x[0], 20)), (x[1], -20), (x[1] + 0.1, 20), (x[2], -20), (x[2], 20)]
    tri = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6]]
    expect(blended(clip(strip), tri, row([1, 1, 0, 0])), 0, 0.3)
    # It ends at the neighbour, if that lies on the way, or beside where it arrives.
    for seen in (2, 3, 4, 5):
        expect(blended(clip(strip), tri, row([1, 1, seen, seen])), 0, 0)


def test_a_fold_behind_the_other_pixel_belongs_to_both():
    """Triangle 2 hangs from the fold at 2.6 back over triangle 1 as far as 1.9: nothing ends behind it."""
    pos = clip([(2.6, -9), (2.6, 10), FAR, (1.9, 0.55)], 1.0, [0.0, 0.0, 0.0, -0.5])
    expect(blended(pos, [[0, 1, 2], [1, 0, 3]], row([1, 1, 2, 2])), 0, 0)


def test_the_nearer_outline_hides_the_other_one():
    """Triangle 1 ends at 1.8, triangle 2 begins at 1.6; of equal depth the one found from the first pixel
    counts.
    """
    corners = [(1.8, -9), (1.8, 10), FAR, (1.6, -9), (1.6, 10), (30, 0.5)]
    for depth, left in (([0.1, 0.2], 0.2), ([0.2, 0.1], 0.4), ([0.1, 0.1], 0.2)):
        pos = clip(corners, 1.0, [depth[0]] * 3 + [depth[1]] * 3)
        expect(blended(pos, [[0, 1, 2], [3, 4, 5]], row([1, 1, 2, 2])), left, 0)
    # The nearer surface goes on under the other one's end: only that end counts.
    pos = clip([(2.6, -9), (2.6, 10), FAR, (1.6, -9), (1.6, 10), (30, 0.5)])
    expect(blended(pos, [[0, 1, 2], [3, 4, 5]], row([1, 1, 2, 2])), 0.4, 0)


def test_an_edge_that_leads_behind_the_camera():
    """Its end at w = -1 lies on the line x = 1.8, which it follows to infinity."""
    pos = clip([(1.8, -0.5), (1.8, -2.0), FAR], [1.0, -1.0, 1.0])
    expect(blended(pos, [[0, 1, 2]], ONE), 0.2, 0)


def test_a_pixel_gives_in_proportion():
    """Four neighbours take some 0.4 of a pixel each: it becomes their mean, weighted by what each takes."""
    color, rast, pos, tri = holes()
    image = antialias(color, rast, pos, tri)
    # The edge from (-0.09, -7) to (-0.11, 6) turned by quarter turns: each takes as much as the others.
    want = color[0, [1, 2, 2, 3], [2, 1, 3, 2]].mean(0)
    torch.testing.assert_close(image[0, 2, 2], want)
    color[0, 2, 2] = 9
    torch.testing.assert_close(antialias(color, rast, pos, tri)[0, 2, 2], want)
    inputs = color.requires_grad_(), pos.requires_grad_()
    assert torch.autograd.gradcheck(lambda c, p: antialias(c, rast, p, tri)[:, 2, 2], inputs, atol=1e-6)


# Meetings -------------------------------------------------------------------------------------------------

WALL = [(-9, -9), (20, -9), (0, 30)]


def meeting(z: list, **options) -> Tensor:
    """A tilted plane, nearer on the left, and one of depth 0 over the whole row."""
    return blended(
        clip([*WALL, *WALL], 1.0, z + [0.0] * 3), [[0, 1, 2], [3, 4, 5]], row([1, 1, 2, 2]), **options
    )


def tilted(x: float, lean: float = 0.0, slope: float = 0.01) -> list:
    """Depth of the corners of a plane that rises to the right and is 0 in the line through (x, 1/2)."""
    return [slope * (a - x - lean * (b - 0.5)) for a, b in WALL]


def test_planes_that_meet():
    for x, left, right in ((1.6, 0.4, 0), (2.3, 0, 0.3), (2.0, 0, 0)):
        expect(meeting(tilted(x)), left, right)
    expect(meeting(tilted(1.6), intersections=False), 0, 0)


def test_planes_that_do_not_meet_between_the_centres():
    for x in (1.4, 2.6):
        expect(meeting(tilted(x)), 0, 0)
    expect(meeting(tilted(1.6, slope=-0.01)), 0, 0)  # each would be hidden by the other


def test_flat_meetings_are_left_to_pairs_of_the_other_direction():
    expect(meeting(tilted(1.6, lean=0.99)), 0.4, 0)
    expect(meeting(tilted(1.6, lean=1.01)), 0, 0)


def test_surfaces_that_coincide_do_not_meet():
    expect(meeting(tilted(1.6, slope=0.9 * 2**-20)), 0, 0)
    expect(meeting(tilted(1.6, slope=1.1 * 2**-20)), 0.4, 0)


def test_triangles_with_a_common_vertex_do_not_meet():
    """Both contain the corner (0, 30); the line in which they meet passes through it and (1.6, 1/2)."""
    foot = 1.6 + 1.6 / 29.5 * 9.5  # of this line, at y = -9
    depth = [0.01 * (-9 - foot), 0.01 * (20 - foot), 0.0, 0.0, 0.0, 0.0]
    pos = clip([*WALL, *WALL], 1.0, depth)
    expect(blended(pos, [[0, 1, 2], [3, 4, 5]], row([1, 1, 2, 2])), 0.4, 0)
    expect(blended(pos, [[0, 1, 2], [3, 4, 2]], row([1, 1, 2, 2])), 0, 0)


def test_surfaces_that_bend_meet_where_their_triangles_do():
    """A surface of depth -1 at x = 1.5 that rises to 0.1 at x = 1.7, and stays there to fall again at 2.9."""
    bends = [(-9.0, -10.0), (1.6, -0.2), (1.7, 0.1), (2.9, 0.1), (9.0, -1.0)]
    corners = [(x, y) for x, _ in bends for y in (-50, 50)]
    depth = [z for _, z in bends for _ in range(2)]
    pos = clip([*corners, *WALL], 1.0, [*depth, 0.0, 0.0, 0.0])
    strip = [[k, k + 1, k + 2] for k in range(8)]
    first = next(k for k, t in enumerate(strip) if inside(corners, t, (1.5, 0.5)))
    got = blended(pos, [*strip, [10, 11, 12]], row([first + 1, first + 1, 9, 9]))
    expect(got, 2.0 - (1.6 + 0.1 * 2 / 3), 0)


def inside(corners: list, t: list, p: tuple) -> bool:
    """Whether p lies in the triangle of these corners."""
    sides = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        (ax, ay), (bx, by) = corners[t[a]], corners[t[b]]
        sides.append((bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax) > 0)
    return len(set(sides)) == 1


# Topology -------------------------------------------------------------------------------------------------


def test_twins_by_hand():
    """Edge 0-1 remembers 2 (triangle 0; triangle 1 repeats it) and 3 (triangle 2); 4 is one too many."""
    tri = torch.tensor([[0, 1, 2], [1, 0, 2], [0, 1, 3], [0, 1, 4], [1, 0, 3]])
    assert edge_twins(tri, 5)[:, 2].tolist() == [8, 8, 2, -1, 2]
    assert edge_twins(torch.tensor([[0, 1, 2], [2, 1, 3]]), 4).tolist() == [[5, -1, -1], [-1, -1, 0]]
    assert edge_twins(torch.tensor([[0, 1, 2], [2, 1, 3]]), 3).tolist() == [[-1, -1, -1], [-1, -1, -1]]
    assert edge_twins(torch.zeros(0, 3), 3).shape == (0, 3)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), vertices=st.sampled_from([3, 4, 5, 7, 20]), triangles=st.integers(1, 60))
def test_twins_equal_those_of_edge_topology(seed, vertices, triangles):
    tri = torch.randint(-1, vertices, (triangles, 3), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(edge_twins(tri, vertices), rg.edge_topology(tri).twins.long())


def test_twins_may_be_given():
    """Ones that hide the fold."""
    pos, tri = clip([(1.8, -9), (1.8, 10), FAR, (-15, 3)]), [[0, 1, 2], [1, 0, 3]]
    expect(blended(pos, tri, ONE), 0.2, 0)
    border = torch.tensor([[-1, -1, -1], [-1, -1, -1]])
    expect(blended(clip([(1.8, -9), (1.8, 10), FAR, (30, 3)]), tri, row([1, 1, 2, 2]), twins=border), 0.2, 0)


# Gradients ------------------------------------------------------------------------------------------------


def test_gradient_by_hand():
    """d taken / dx = -1 along the border from (1.8, -9) to (1.8, 10); y = 1/2 weighs its ends by half."""
    pos = clip([(1.8, -9), (1.8, 10), FAR]).requires_grad_()
    blended(pos, [[0, 1, 2]], ONE).sum().backward()
    assert pos.grad is not None
    # 2 px per unit of x; the blend gains 0.6 per area
    want = -0.6 * 2 / 2
    torch.testing.assert_close(pos.grad[0, :2, 0], torch.tensor([want, want]).double())
    torch.testing.assert_close(pos.grad[0, :, 1:3], torch.zeros(3, 2).double(), atol=1e-14, rtol=0)
    x = torch.tensor([1.8 / 2 - 1] * 2).double()
    torch.testing.assert_close(pos.grad[0, :2, 3], -want * x)


def test_only_what_is_not_clamped_has_a_gradient():
    """Of the diagonal at 1.6 the part above y = 0.9 lies in the second pixel; below nothing is clamped."""
    for upstream, length in (([0, 1, 0, 0], 0.9), ([0, 0, 1, 0], 0.1)):
        pos, tri = surface([(1.6 - 5, -4.5), (1.6 + 5, 5.5)])
        pos.requires_grad_()
        blended(pos, tri, ONE).backward(torch.tensor(upstream).double())
        assert pos.grad is not None
        torch.testing.assert_close(pos.grad[0, :, 0].sum(), torch.tensor(-0.6 * 2 * length).double())


def test_what_was_continued_has_no_gradient():
    pos, tri = surface([(1.8, -9), (1.8, 0.7)])
    pos.requires_grad_()
    blended(pos, tri, ONE).sum().backward()
    assert pos.grad is not None
    torch.testing.assert_close(pos.grad[0, :, 0].sum(), torch.tensor(-0.6 * 2 * 0.7).double())


@pytest.mark.parametrize("ranged", [False, True])
def test_gradient_against_finite_differences(ranged):
    """Large triangles in perspective that pass through each other, without corners in the image."""
    xy = torch.tensor([[-2.6, -2.2], [1.1, -2.1], [0.5, 2.9], [2.6, -1.9], [-0.75, -2.6], [-0.9, 2.7]])
    w = torch.tensor([[0.7], [1.3], [0.9], [1.1], [0.6], [1.4]])
    z = torch.tensor([[-0.9], [0.8], [0.3], [-0.7], [0.9], [0.2]]) * 0.8
    pos = torch.cat([xy * w, z * w, w], 1).double()
    tri = torch.tensor([[0, 1, 2], [3, 4, 5]])
    rast, _ = rg.rasterize(pos[None], tri, (7, 8))
    color = torch.rand(1, 7, 8, 2, generator=torch.Generator().manual_seed(0)).double()
    inputs = color.requires_grad_(), (pos if ranged else pos[None]).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, p: antialias(c, rast, p, tri), inputs, rtol=1e-6, atol=1e-6)
    (d_pos,) = torch.autograd.grad(antialias(color, rast, inputs[1], tri).square().sum(), inputs[1])
    assert bool((d_pos != 0).all())


def test_boost():
    gradients = []
    for boost in (1.0, 3.0):
        pos = clip([(1.8, -9), (1.8, 10), FAR]).requires_grad_()
        blended(pos, [[0, 1, 2]], ONE, pos_gradient_boost=boost).sum().backward()
        gradients.append(pos.grad)
    torch.testing.assert_close(gradients[1], 3 * gradients[0])


def test_zero_upstream_keeps_nan_out():
    """A NaN colour reaches positions only through pixels and channels that are asked for."""
    colors = [[a, b] for a, b in zip(COLOR, [0.1, 0.4, torch.nan, 0.7], strict=True)]
    gradients = []
    for channel in (0, 1):
        pos = clip([(1.8, -9), (1.8, 10), FAR]).requires_grad_()
        blended(pos, [[0, 1, 2]], ONE, colors)[:, channel].nansum().backward()
        gradients.append(pos.grad)
    assert gradients[0][0, :2, 0].tolist() == pytest.approx([-0.6, -0.6])
    assert not gradients[1].any()


# Strange input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [0.0, torch.nan, torch.inf])
def test_hostile_w_stays_finite(w):
    pos = clip([(1.8, -9), (1.8, 10), FAR])
    pos[0, 1, 3] = w
    pos.requires_grad_()
    image = blended(pos, [[0, 1, 2]], ONE)
    assert torch.isfinite(image).all()
    image.sum().backward()
    assert torch.isfinite(pos.grad).all()


def test_dtype_channels_and_empty():
    for dtype in (torch.float32, torch.float64):
        color = torch.rand(1, 1, 4, 7, dtype=dtype)
        pos = clip([(1.8, -9), (1.8, 10), FAR]).to(dtype)
        image = antialias(color, ONE, pos, torch.tensor([[0, 1, 2]]))
        assert image.dtype == dtype
        torch.testing.assert_close(image[0, 0, 1], color[0, 0, 1] * 0.8 + color[0, 0, 2] * 0.2)
        assert torch.equal(image[0, 0, [0, 2, 3]], color[0, 0, [0, 2, 3]])
    color = torch.rand(1, 1, 4, 2, requires_grad=True)
    pos = torch.zeros(1, 0, 4, requires_grad=True)
    image = antialias(color, ONE, pos, torch.zeros(0, 3, dtype=torch.int64))
    assert torch.equal(image, color)
    image.sum().backward()
    assert color.grad.eq(1).all()
    assert pos.grad.shape == (1, 0, 4)


def test_second_derivatives_are_refused():
    pos = clip([(1.8, -9), (1.8, 10), FAR]).requires_grad_()
    image = blended(pos, [[0, 1, 2]], ONE)
    first = torch.autograd.grad(image.square().sum(), pos, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
