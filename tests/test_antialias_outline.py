# SPDX-License-Identifier: MIT
"""The outline method of antialias: kernel against oracle, and properties. What holds for both methods is in
test_antialias.py, the oracle's own tests in test_reference_outline.py.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from testing import scenes
from testing.antialias_scenes import KINDS, drawn, holes, run, scene, unsteady
from testing.closeness import assert_gradients_close, assert_values_close

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")


# ---- against the oracle -----------------------------------------------------------------------------------


@settings(max_examples=70)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    size=st.sampled_from([(1, 1), (1, 19), (23, 1), (6, 5), (17, 33), (20, 15)]),
    channels=st.sampled_from([1, 2, 3, 4, 7]),
    ranged=st.booleans(),
    given_topology=st.booleans(),
    intersections=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_equal_the_oracle(
    seed: int,
    kind: str,
    size: tuple[int, int],
    channels: int,
    ranged: bool,
    given_topology: bool,
    intersections: bool,
    dtype: torch.dtype,
) -> None:
    inputs = scene(seed, kind, size=size, channels=channels, ranged=ranged, dtype=dtype)
    topology = rg.edge_topology(inputs[3]) if given_topology else None
    compare_with_oracle(inputs, seed, topology=topology, intersections=intersections)


def compare_with_oracle(inputs: tuple[Tensor, Tensor, Tensor, Tensor], seed: int, **options: object) -> None:
    color, dtype = inputs[0], inputs[0].dtype
    mask = ~unsteady(*inputs)
    assert mask.double().mean() > 0.9 or mask.numel() < 100
    g = torch.Generator().manual_seed(seed)
    upstream = torch.randn(color.shape, generator=g, dtype=torch.float64) * mask
    got = run(*inputs, upstream, **options)
    exact = (t.double() if t.is_floating_point() else t for t in inputs)
    want = run(*exact, upstream, backend="reference", **options)
    assert_values_close(got[0], want[0], dtype=dtype, what="image", mask=mask)
    assert_gradients_close(got[1], want[1], dtype=dtype, what="d_color")
    assert_gradients_close(got[2], want[2], dtype=dtype, what="d_pos")


def test_the_scenes_have_outlines_and_meetings() -> None:
    """Otherwise the comparison would compare copies."""
    for kind in KINDS:
        color, rast, pos, tri = scene(4, kind)
        image, _, d_pos = run(color, rast, pos, tri)
        assert int((image != color).any(-1).sum()) > 10, kind
        assert int((d_pos != 0).any(-1).sum()) > 3, kind
        assert bool((d_pos[..., 2] != 0).any()) == (
            kind in ("soup", "crowded", "behind", "boxes", "bumps")
        ), kind


def test_large_images_are_cut_into_strips_that_fit_together() -> None:
    """Strips of 16,384 pixels forward, 54 rows here, and 32,768 backward. Pairs across borders touch both."""
    compare_with_oracle(scene(1, "bumps", n=1, size=(120, 301), channels=2), 1)


@pytest.mark.parametrize("count", [50, 5_000, 40_000])
def test_the_order_of_triangles_makes_no_difference(count: int) -> None:
    """Folds are found from bits of 16 triangles at a time, in parts of 4,096, and looked up across parts."""
    mesh = scenes.sphere(count)
    pos = mesh.clip(scenes.perspective(0.76) @ scenes.look((0.8, 0.5, 2.85)))[None].contiguous()
    shuffled = mesh.tri[torch.randperm(len(mesh.tri), generator=torch.Generator().manual_seed(1))]
    color = torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(2))
    results = []
    for tri in (mesh.tri, shuffled):
        rast, _ = rg.rasterize(pos, tri, (96, 96))
        results.append(run(color, rast, pos, tri))
    (want, *want_grads), (got, *got_grads) = results
    assert int((want != color).any(-1).sum()) > 100
    assert torch.equal(got, want)
    for a, b in zip(got_grads, want_grads, strict=True):
        assert_gradients_close(a, b, dtype=torch.float32, what="gradients")


# ---- what a blend may and may not do ----------------------------------------------------------------------


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS))
def test_colours_stay_between_those_of_the_pixel_and_its_neighbours(seed: int, kind: str) -> None:
    color, rast, pos, tri = scene(seed, kind, size=(13, 15), dtype=torch.float64)
    image, _, _ = run(color, rast, pos, tri)
    around = torch.nn.functional.pad(color, (0, 0, 1, 1, 1, 1), value=torch.nan)
    near = torch.stack(
        [color, around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:]]
    )
    assert bool((image >= near.nan_to_num(nan=torch.inf).amin(0) - 1e-12).all())
    assert bool((image <= near.nan_to_num(nan=-torch.inf).amax(0) + 1e-12).all())


def test_a_pixel_gives_no_more_than_it_has() -> None:
    """1.6 of the middle pixel are taken: nothing is left of its colour. What each takes has a gradient."""
    color, rast, pos, tri = holes()
    assert rast[0, 2, 2, 3] == 0
    color[0, 2, 2] = 1000
    image, d_color, _ = run(color, rast, pos, tri)
    around = color[0, [1, 2, 2, 3], [2, 1, 3, 2]]
    assert bool((image[0, 2, 2] >= around.amin(0)).all())
    assert bool((image[0, 2, 2] <= around.amax(0)).all())
    assert torch.allclose(d_color[0, 2, 2], torch.zeros(2).double(), atol=1e-12)

    def middle(c: Tensor, p: Tensor) -> Tensor:
        return rg.antialias(c, rast, p, tri)[:, 2, 2]

    color[0, 2, 2] = 0.3
    inputs = color.requires_grad_(), pos.requires_grad_()
    assert torch.autograd.gradcheck(middle, inputs, eps=1e-7, rtol=1e-6, atol=1e-7)
    (d_pos,) = torch.autograd.grad(middle(*inputs)[..., 0].sum(), pos)
    assert int((d_pos[0, :, :2].abs() > 1e-3).any(1).sum()) == 8  # two ends of each edge


def test_pixels_beside_another_strip_give_no_more_than_they_have() -> None:
    """Their colours have gradients in the strip that holds them, and in the next one, where a neighbour lies.

    Backward strips are 29 rows of 1100 pixels, forward ones 14.
    """
    centres = tuple(zip([13, 14, 28, 29] * 45, range(5, 1085, 6), strict=True))
    compare_with_oracle(holes((40, 1100), centres), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_transpose_of_the_part_linear_in_color(kind: str) -> None:
    """<J x, y> = <x, J^T y> for color -> image; it keeps constants, so gradients keep the upstream's sum."""
    color, rast, pos, tri = scene(2, kind, dtype=torch.float64)
    y = torch.randn(color.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image, d_color, _ = run(color, rast, pos, tri, y)
    assert torch.allclose((image * y).sum(), (color * d_color).sum(), rtol=1e-12, atol=1e-12)
    assert torch.allclose(d_color.sum((1, 2)), y.sum((1, 2)), rtol=1e-10, atol=1e-10)


# ---- areas ------------------------------------------------------------------------------------------------


def half_plane(x_px: float, slope: float, size: tuple[int, int]) -> Tensor:
    """Corners [3, 4] of what lies left of the line through (x_px, middle row) with dx/dy = slope."""
    height, width = size
    far = 40.0
    px = [
        (x_px + slope * far, height / 2 + far),
        (x_px - slope * far, height / 2 - far),
        (-3 * far, height / 2),
    ]
    return torch.tensor([[2 * x / width - 1, 2 * y / height - 1, 0, 1] for x, y in px], dtype=torch.float64)


def coverage_left_of(line: Tensor, size: tuple[int, int]) -> Tensor:
    """Share [H, W] of each pixel left of the line through two clip-space points [2, 4] with w = 1."""
    height, width = size
    x, y = (line[:, 0] + 1) * width / 2, (line[:, 1] + 1) * height / 2

    def covered(row: Tensor) -> Tensor:
        """Integral over x and y up to a row's border, as the second antiderivative of a step."""
        u = (
            x[0] + (x[1] - x[0]) * (row - y[0]) / (y[1] - y[0]) - torch.arange(width)
        )  # distance right of the pixel
        inside = u.clamp(0, 1)
        return inside * inside / 2 + (u - 1).clamp(min=0)

    per_row = (x[1] - x[0]) / (y[1] - y[0])
    rows = torch.arange(height + 1, dtype=torch.float64)
    integral = torch.stack([covered(row) for row in rows])
    return (integral[1:] - integral[:-1]) / per_row


# No centre lies on one of the lines. The last one passes a column of centres between two rows: that pair
# walks along it, and must leave it to the pairs of the rows.
@pytest.mark.parametrize(("x_px", "slope"), [*((5.31, s) for s in (0.01, 0.3, -0.7, 0.99)), (5.4973, 0.005)])
@pytest.mark.parametrize("sideways", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_half_plane_covers_its_exact_area_and_so_does_its_gradient(
    x_px: float, slope: float, sideways: bool, dtype: torch.dtype
) -> None:
    size = (9, 12)
    line = half_plane(x_px, slope, size)
    exact = line.clone().requires_grad_()
    want = coverage_left_of(exact[:2], size)
    upstream = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (d_want,) = torch.autograd.grad((want * upstream).sum(), exact)
    pos, tri = line[None], torch.tensor([[0, 1, 2]])
    rast = drawn(pos, tri, size)
    got, want, upstream = rast[..., 3:], want.detach(), upstream[None, ..., None]
    if sideways:
        got, rast, upstream = (t.transpose(1, 2) for t in (got, rast, upstream))
        pos, want, d_want = pos[..., [1, 0, 2, 3]], want.T, d_want[:, [1, 0, 2, 3]]
    image, _, d_pos = run(got.to(dtype), rast.to(dtype), pos.to(dtype), tri, upstream)
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12}[dtype]
    assert torch.allclose(image[0, ..., 0].double(), want, rtol=0, atol=tolerance)
    # x and y only: the antiderivative above takes w = 1 for granted.
    assert torch.allclose(d_pos[0, :, :2].double(), d_want[:, :2], rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize("sideways", [False, True])
def test_a_diagonal_is_taken_once(sideways: bool) -> None:
    """|dy| = |dx| exactly: by horizontal pairs, however the image lies."""
    size = (8, 8)
    pos = half_plane(4.25, 1.0, size)[None]
    tri = torch.tensor([[0, 1, 2]])
    rast = drawn(pos, tri, size)
    # On the screen the line's two ends are exactly as far apart in x as in y
    assert float((pos[0, 0, 0] - pos[0, 1, 0]) - (pos[0, 0, 1] - pos[0, 1, 1])) == 0
    want = torch.zeros(8, 8, dtype=torch.float64)
    for row in range(8):
        x = row + 0.25 + torch.linspace(0, 1, 100001, dtype=torch.float64)[:, None] - torch.arange(8)
        want[row] = x.clamp(0, 1).mean(0)
    if sideways:
        pos, rast, want = pos[..., [1, 0, 2, 3]], rast.transpose(1, 2), want.T
    image, _, _ = run(rast[..., 3:], rast, pos, tri)
    assert torch.allclose(image[0, 1:-1, 1:-1, 0], want[1:-1, 1:-1], rtol=0, atol=1e-5)


# ---- meetings ---------------------------------------------------------------------------------------------


def crossing_planes(x_px: float, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two planes over the whole image that meet in the upright line at x_px, white left of it, then black."""
    quad = torch.tensor([[-3.0, -3, 0, 1], [3, -3, 0, 1], [0, 6, 0, 1]], dtype=torch.float64)
    front = quad.clone()
    front[:, 2] = 0.02 * ((quad[:, 0] + 1) * size[1] / 2 - x_px)
    pos, tri = torch.cat([front, quad])[None], torch.tensor([[0, 1, 2], [3, 4, 5]])
    rast = drawn(pos, tri, size)
    return (rast[..., 3:] == 1).double(), rast, pos, tri


@pytest.mark.parametrize("x_px", [3.55, 4.1, 4.5, 4.93])
@pytest.mark.parametrize("sideways", [False, True])
def test_a_meeting_moves_as_the_line_in_which_the_planes_meet(x_px: float, sideways: bool) -> None:
    """Raising the white plane by dz moves the line by dz / 0.02 px to the left."""
    size = (6, 9)
    color, rast, pos, tri = crossing_planes(x_px, size)
    want = (x_px - torch.arange(9.0, dtype=torch.float64)).clamp(0, 1).expand(6, 9)
    if sideways:
        color, rast, pos, want = color.transpose(1, 2), rast.transpose(1, 2), pos[..., [1, 0, 2, 3]], want.T
    image, _, d_pos = run(color, rast, pos, tri, torch.ones_like(color))
    assert torch.allclose(image[0, ..., 0], want, rtol=0, atol=1e-12)
    rows = 6
    assert torch.allclose(d_pos[0, :3, 2].sum(), torch.tensor(-rows / 0.02).double(), rtol=1e-9)
    assert torch.allclose(d_pos[0, 3:, 2].sum(), torch.tensor(rows / 0.02).double(), rtol=1e-9)
    unasked = run(color, rast, pos, tri, intersections=False)
    assert torch.equal(unasked[0], color)
    assert bool((unasked[2] == 0).all())


def test_two_boxes_that_slide_through_each_other() -> None:
    """A box moves sideways and in depth; the lines in which its faces meet the other's stay analytic."""
    size = (24, 24)
    boxes = scenes.cube(half=0.5).pos.double()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)).double())[0]
    tri = torch.cat([scenes.cube().tri, scenes.cube().tri + 8])
    color = torch.rand(1, *size, 3, generator=torch.Generator().manual_seed(1)).double()
    upstream = torch.randn(1, *size, 3, generator=torch.Generator().manual_seed(2)).double()

    def pos(move: Tensor) -> Tensor:
        first = boxes @ turn
        both = torch.cat([first, boxes @ turn.T * 0.8 + move])
        return torch.cat([both, torch.ones(16, 1, dtype=torch.float64)], 1)[None]

    move = torch.tensor([0.3, 0.1, -0.2], dtype=torch.float64)
    rast = drawn(pos(move), tri, size)

    def loss(at: Tensor) -> Tensor:
        """Of what meets only: outlines of a box do not see z."""
        images = [rg.antialias(color, rast, pos(at), tri, intersections=on) for on in (True, False)]
        return ((images[0] - images[1]) * upstream).sum()

    at = move.clone().requires_grad_()
    (got,) = torch.autograd.grad(loss(at), at)
    with torch.no_grad():
        steps = torch.eye(3, dtype=torch.float64) * 1e-7
        want = torch.stack([(loss(move + step) - loss(move - step)) / 2e-7 for step in steps])
    assert float(want.abs().min()) > 0.1
    assert torch.allclose(got, want, rtol=1e-5)


# ---- gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranged", [False, True])
def test_gradcheck(ranged: bool) -> None:
    """Two large triangles that pass through each other. Without corners in the image only x(y) moves."""
    size, n = (7, 8), 2
    xy = torch.tensor([[-2.6, -2.2], [1.1, -2.1], [0.5, 2.9], [2.6, -1.9], [-0.75, -2.6], [-0.9, 2.7]])
    z = torch.tensor([[-0.72], [0.64], [0.24], [-0.56], [0.72], [0.16]])
    w = torch.tensor([[0.7], [1.3], [0.9], [1.1], [0.6], [1.4]])
    one = torch.cat([xy * w, z * w, w], 1).double()
    pos = one if ranged else torch.stack([one, one * torch.tensor([0.9, 1.1, 1, 1])])
    tri = torch.tensor([[0, 1, 2], [3, 4, 5]])
    rast = drawn(pos[None] if ranged else pos, tri, size).expand(n, -1, -1, -1)
    color = torch.rand(n, *size, 2, generator=torch.Generator().manual_seed(0)).double()
    assert bool((run(color, rast, pos, tri)[2].abs() > 0.01).all())
    assert torch.autograd.gradcheck(
        lambda c, p: rg.antialias(c, rast, p, tri),
        [color.requires_grad_(), pos.requires_grad_()],
        eps=1e-7,
        rtol=1e-6,
        atol=1e-6,
    )


# ---- symmetries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "unshared"])
@pytest.mark.parametrize("move", ["left-right", "up-down", "transposed"])
def test_mirroring_and_transposing_the_scene_does_so_to_the_result(kind: str, move: str) -> None:
    """But for exact ties, such as two faces that end at the same line without sharing vertices, of which
    rounding takes either. Nor is there a diagonal of exactly 45 degrees: it would go from horizontal pairs to
    vertical ones.
    """
    color, rast, pos, tri = scene(6, kind, size=(19, 25), dtype=torch.float64)
    mask = ~unsteady(color, rast, pos, tri)
    assert float(mask.double().mean()) > 0.99
    g = torch.Generator().manual_seed(0)
    upstream = torch.randn(color.shape, generator=g, dtype=torch.float64) * mask
    axes = {"left-right": [2], "up-down": [1]}.get(move)

    def image(t: Tensor) -> Tensor:
        return t.flip(axes) if axes else t.transpose(1, 2)

    def points(p: Tensor) -> Tensor:
        if not axes:
            return p[..., [1, 0, 2, 3]]
        return p * torch.tensor([-1.0 if axes == [2] else 1.0, -1.0 if axes == [1] else 1.0, 1, 1])

    want = run(color, rast, pos, tri, upstream)
    got = run(image(color), image(rast), points(pos), tri, image(upstream))
    assert torch.allclose(image(got[0]) * mask, want[0] * mask, rtol=0, atol=1e-11)
    assert torch.allclose(image(got[1]), want[1], rtol=0, atol=1e-11)
    assert torch.allclose(points(got[2]), want[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["closed", "bumps"])
def test_shift_by_whole_pixels(kind: str) -> None:
    size, step = (16, 16), (3, -2)
    color, _, pos, tri = scene(7, kind, n=1, size=size, dtype=torch.float64)
    x, y, z, w = pos.unbind(-1)
    pos = torch.stack([x / 2, y / 2, z, w], -1)  # half as large, so that it stays inside
    moved = torch.stack([x / 2 + 2 / 16 * step[1] * w, y / 2 + 2 / 16 * step[0] * w, z, w], -1)
    rast, moved_rast = drawn(pos, tri, size), drawn(moved, tri, size)
    assert torch.equal(moved_rast[..., 3], rast[..., 3].roll(step, (1, 2)))
    upstream = torch.randn(color.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    want = run(color, rast, pos, tri, upstream)
    got = run(color.roll(step, (1, 2)), moved_rast, moved, tri, upstream.roll(step, (1, 2)))
    assert torch.allclose(got[0], want[0].roll(step, (1, 2)), rtol=0, atol=1e-11)
    assert torch.allclose(got[1], want[1].roll(step, (1, 2)), rtol=0, atol=1e-11)
    assert torch.allclose(got[2][..., :3], want[2][..., :3], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_image_by_image(kind: str) -> None:
    color, rast, pos, tri = scene(8, kind, n=3)
    upstream = torch.randn(color.shape, generator=torch.Generator().manual_seed(0))
    want = run(color, rast, pos, tri, upstream)
    for k in range(3):
        one = slice(k, k + 1)
        got = run(color[one], rast[one], pos[one], tri, upstream[one])
        assert all(torch.equal(a, b[one]) for a, b in zip(got, want, strict=True))


def test_vertices_for_all_images_are_the_same_ones_for_each() -> None:
    color, rast, pos, tri = scene(9, "boxes", n=3, ranged=True, dtype=torch.float64)
    upstream = torch.randn(color.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got, want = run(color, rast, pos, tri, upstream), run(color, rast, pos.expand(3, -1, -1), tri, upstream)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])
    assert torch.allclose(got[2], want[2].sum(0), rtol=1e-10, atol=1e-10)


# ---- far and strange vertices -----------------------------------------------------------------------------


@pytest.mark.parametrize("sideways", [False, True])
def test_an_edge_that_leads_behind_the_camera_is_the_one_clipped_by_hand(sideways: bool) -> None:
    """One corner at w = -0.7; or two corners where w is 1e-4, and the triangles between the four."""
    size = (14, 11)
    corners = torch.tensor([[-0.4, -0.7, 0.1, 0.8], [0.6, 0.3, 0.0, 1.1], [0.2, -0.9, 0.1, -0.7]]).double()

    def cut(a: Tensor, b: Tensor) -> Tensor:
        return a + (b - a) * ((a[3] - 1e-4) / (a[3] - b[3]))

    clipped = torch.stack([corners[0], corners[1], cut(corners[1], corners[2]), cut(corners[0], corners[2])])
    both = (
        (corners[None], torch.tensor([[0, 1, 2]])),
        (clipped[None], torch.tensor([[0, 1, 2], [0, 2, 3]])),
    )
    images = []
    for pos, tri in both:
        rast = drawn(pos, tri, size)
        if sideways:
            rast, pos = rast.transpose(1, 2), pos[..., [1, 0, 2, 3]]
        color = (rast[..., 3:] > 0).double()
        images.append(run(color, rast, pos, tri, torch.ones_like(color))[0])
    assert torch.equal(images[0] > 0.5, images[1] > 0.5)
    assert int(((images[0] > 0) & (images[0] < 1)).sum()) > 8
    assert torch.allclose(images[0], images[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -float("inf"), 1e38, 1e-38, 1e-45])
@pytest.mark.parametrize("component", [0, 1, 2, 3])
def test_strange_vertices_spread_nothing(component: int, value: float) -> None:
    """One face of a cube without shared vertices is spoiled: pairs that show others change by no bit."""
    color, rast, pos, tri = scene(12, "unshared", n=1, size=(19, 21))
    shown = rast[0, ..., 3].long() - 1
    face = tri[shown[9, 10]].long()
    bad = pos.clone()
    bad[:, face, component] = value
    want, got = run(color, rast, pos, tri), run(color, rast, bad, tri)
    assert bool(got[0].isfinite().all())
    assert bool(got[1].isfinite().all())
    assert bool(got[2].isfinite().all())
    is_spoiled = torch.isin(tri.long(), face).any(1)[shown.clamp(min=0)] & (shown >= 0)
    around = torch.nn.functional.max_pool2d(is_spoiled[None].float(), 3, 1, 1)[0] > 0
    assert bool(((want[0] != color).any(-1)[0] & ~around).any())
    assert torch.equal(got[0][0, ~around], want[0][0, ~around])


def test_what_has_no_finite_derivative_contributes_nothing() -> None:
    """A corner moves along its ray to w = 1e-38: the image stays; derivatives by it overflow."""
    pos, tri = half_plane(5.3, 0.3, (9, 12))[None].float(), torch.tensor([[0, 1, 2]])
    rast = drawn(pos, tri, (9, 12)).float()
    want = run(rast[..., 3:], rast, pos, tri, 8 * torch.ones(1, 9, 12, 1))
    pos[:, 0] *= 1e-38
    image, _, d_pos = run(rast[..., 3:], rast, pos, tri, 8 * torch.ones(1, 9, 12, 1))
    assert torch.allclose(image, want[0], atol=1e-5)
    assert bool((want[2][0, :2, 0] != 0).all())
    assert bool((d_pos == 0).all())


def test_zero_upstream_keeps_nonfinite_colors_out() -> None:
    """A channel is NaN everywhere. In a pixel that gives more than it has, shares depend on each other."""
    color, rast, pos, tri = holes()
    color[..., 1] = torch.nan
    upstream = torch.tensor([1.0, 0.0]).double().expand_as(color)
    _, d_color, d_pos = run(color, rast, pos, tri, upstream)
    assert bool(d_color.isfinite().all())
    assert bool((d_color[..., 1] == 0).all())
    assert bool(d_pos.isfinite().all())
    assert bool((d_pos != 0).any())
