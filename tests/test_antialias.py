# SPDX-License-Identifier: MIT
"""antialias: what holds for both methods, and the pixel-pair method against its oracle and by its properties.

The outline method and the topology have their own files.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.antialias.op import METHODS, blend
from testing import golden, scenes
from testing.antialias_scenes import KINDS, drawn, run, scene, unsteady
from testing.closeness import assert_gradients_close, assert_values_close

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")

both_methods = pytest.mark.parametrize("method", METHODS)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    size=st.sampled_from([(1, 1), (1, 19), (23, 1), (6, 5), (17, 33), (20, 15)]),
    channels=st.sampled_from([1, 2, 3, 4, 7]),
    ranged=st.booleans(),
    given_topology=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_equal_the_oracle(
    seed: int,
    kind: str,
    size: tuple[int, int],
    channels: int,
    ranged: bool,
    given_topology: bool,
    dtype: torch.dtype,
) -> None:
    inputs = scene(seed, kind, size=size, channels=channels, ranged=ranged, dtype=dtype)
    topology = rg.edge_topology(inputs[3]) if given_topology else None
    mask = ~unsteady(*inputs, "pixel_pair")
    upstream = (
        torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        * mask
    )
    got = run(*inputs, upstream, topology=topology, method="pixel_pair")
    want = run(
        *(t.double() if t.is_floating_point() else t for t in inputs),
        upstream,
        topology=topology,
        backend="reference",
        method="pixel_pair",
    )
    assert_values_close(got[0], want[0], dtype=dtype, what="image", mask=mask)
    assert_gradients_close(got[1], want[1], dtype=dtype, what="d_color")
    assert_gradients_close(got[2], want[2], dtype=dtype, what="d_pos")


def test_the_scenes_of_these_tests_have_silhouettes() -> None:
    """Otherwise the comparisons would compare copies."""
    for kind in KINDS:
        color, rast, pos, tri = scene(4, kind)
        image, _, d_pos = run(color, rast, pos, tri, method="pixel_pair")
        assert int(((image != color).any(-1)).sum()) > 10, kind
        assert int((d_pos != 0).any(-1).sum()) > 3, kind


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize("name", golden.names("a"))
def test_golden(name: str) -> None:
    """At the accuracy that float32 allows, rather than the runner's own 2e-5 and 2e-4."""

    def compat(color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, pos_gradient_boost: float) -> Tensor:
        return blend(color, rast, pos, tri, pos_gradient_boost=pos_gradient_boost, strict=False)

    functions = golden.reference_functions()
    functions = type(functions)(**{**vars(functions), "antialias": compat})
    assert not golden.failures(functions, name, rtol=4e-6, gtol=1e-5)


def test_large_images_are_cut_into_strips_that_fit_together() -> None:
    """Strips of 16,384 pixels: 54 rows here. Pairs across their borders touch both."""
    shape = scenes.sphere(60, bumps=0.5)
    pos = shape.clip(scenes.orbit(1, distance=2.9))
    inputs = torch.rand(1, 130, 301, 2), drawn(pos, shape.tri, (130, 301)).float(), pos, shape.tri
    mask = ~unsteady(*inputs, "pixel_pair")
    upstream = (
        torch.randn(1, 130, 301, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * mask
    )
    got = run(*inputs, upstream, method="pixel_pair")
    want = run(*inputs, upstream, method="pixel_pair", backend="reference")
    assert_values_close(got[0], want[0], dtype=torch.float32, what="image", mask=mask)
    assert_gradients_close(got[1], want[1], dtype=torch.float32, what="d_color")
    assert_gradients_close(got[2], want[2], dtype=torch.float32, what="d_pos")


def test_more_triangles_than_pixels_make_no_difference() -> None:
    """A mesh of more than 8 triangles per pixel is asked per pair instead of in a table: bitwise the same."""
    color, rast, pos, tri = scene(8, "folded", size=(9, 11))
    unused = tri[:1].expand(8 * 9 * 11, 3).flip(1)  # entered after the others, and never seen
    image, d_color, d_pos = run(color, rast, pos, tri, method="pixel_pair")
    got = run(color, rast, pos, torch.cat([tri, unused]), method="pixel_pair")
    assert all(map(torch.equal, got, (image, d_color, d_pos)))


@both_methods
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_image_stays_exactly(kind: str, method: str) -> None:
    color, rast, pos, tri = scene(1, kind)
    image, _, d_pos = run(torch.full_like(color, 0.1), rast, pos, tri, method=method)
    assert bool((image == 0.1).all())
    assert bool((d_pos == 0).all())


def test_transpose_of_the_part_linear_in_color() -> None:
    """<J x, y> = <x, J^T y> for color -> image; blending keeps sums, so gradients keep the upstream's sum."""
    color, rast, pos, tri = scene(2, "soup", dtype=torch.float64)
    y = torch.randn_like(color)
    image, d_color, _ = run(color, rast, pos, tri, y, method="pixel_pair")
    assert torch.allclose((image * y).sum(), (color * d_color).sum(), rtol=1e-12)
    assert torch.allclose(d_color.sum((1, 2)), y.sum((1, 2)), rtol=1e-10)


@pytest.mark.parametrize("ranged", [False, True])
def test_gradcheck(ranged: bool) -> None:
    """The stabiliser changes gradients by 1e-3 / |dY|: the tolerance allows for edges of 0.1 px."""
    color, rast, pos, tri = scene(
        3, "closed", n=2, size=(7, 8), channels=2, ranged=ranged, dtype=torch.float64
    )

    def image(c: Tensor, p: Tensor) -> Tensor:
        return rg.antialias(c, rast, p, tri, method="pixel_pair")

    assert torch.autograd.gradcheck(
        image, [color.requires_grad_(), pos.requires_grad_()], eps=1e-7, rtol=1e-2, atol=1e-4
    )


# ---- symmetries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("move", ["left-right", "up-down", "transposed"])
def test_mirroring_and_transposing_the_scene_does_so_to_the_result(kind: str, move: str) -> None:
    color, rast, pos, tri = scene(6, kind, size=(19, 25), dtype=torch.float64)
    upstream = torch.randn_like(color)
    axes = {"left-right": [2], "up-down": [1]}.get(move)

    def image(t: Tensor) -> Tensor:
        return t.flip(axes) if axes else t.transpose(1, 2)

    def points(p: Tensor) -> Tensor:
        if not axes:
            return p[..., [1, 0, 2, 3]]
        return p * torch.tensor(
            [-1.0 if move == "left-right" else 1.0, -1.0 if move == "up-down" else 1.0, 1, 1]
        )

    want = run(color, rast, pos, tri, upstream, method="pixel_pair")
    got = run(image(color), image(rast), points(pos), tri, image(upstream), method="pixel_pair")
    assert torch.allclose(image(got[0]), want[0], rtol=0, atol=1e-12)
    assert torch.allclose(image(got[1]), want[1], rtol=0, atol=1e-12)
    assert torch.allclose(points(got[2]), want[2], rtol=1e-9, atol=1e-9)


def test_shift_by_whole_pixels() -> None:
    size, step = (16, 16), (3, -2)
    color, rast, pos, tri = scene(7, "closed", n=1, size=size, dtype=torch.float64)
    x, y = pos[..., 0] / 2, pos[..., 1] / 2  # half as large, so that it stays inside
    pos = torch.stack([x, y, pos[..., 2], pos[..., 3]], -1)
    moved = torch.stack(
        [x + 2 / 16 * step[1] * pos[..., 3], y + 2 / 16 * step[0] * pos[..., 3], pos[..., 2], pos[..., 3]], -1
    )
    rast, moved_rast = drawn(pos, tri, size), drawn(moved, tri, size)
    assert torch.equal(moved_rast[..., 3], rast[..., 3].roll(step, (1, 2)))
    upstream = torch.randn_like(color)
    want = run(color, rast, pos, tri, upstream, method="pixel_pair")
    got = run(
        color.roll(step, (1, 2)), moved_rast, moved, tri, upstream.roll(step, (1, 2)), method="pixel_pair"
    )
    assert torch.allclose(got[0], want[0].roll(step, (1, 2)), rtol=0, atol=1e-12)
    assert torch.allclose(got[1], want[1].roll(step, (1, 2)), rtol=0, atol=1e-12)
    assert torch.allclose(got[2][..., :2], want[2][..., :2], rtol=1e-9, atol=1e-9)


# ---- one edge, by hand ------------------------------------------------------------------------------------


def edge_at(x_px: float, width: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A row of pixels, covered left of a vertical edge; color counts 0, 1, 4, 9."""
    x = 2 * x_px / width - 1
    pos = torch.tensor([[[x, -3.0, 0, 1], [x, 3.0, 0, 1], [-5.0, 0, 0, 1]]], dtype=torch.float64)
    rast = torch.zeros(1, 1, width, 4, dtype=torch.float64)
    rast[..., 3] = (torch.arange(width) + 0.5 < x_px).double()
    return torch.arange(width).double().square().reshape(1, 1, width, 1), rast, pos, torch.tensor([[0, 1, 2]])


def test_an_edge_right_of_the_border_lets_its_pixel_leak() -> None:
    """Edge 0.7 px from the centre of pixel 1: pixel 2 gains 0.2 of the step, downwards."""
    color, rast, pos, tri = edge_at(2.2)
    image, _, d_pos = run(color, rast, pos, tri, torch.ones_like(color), method="pixel_pair")
    assert torch.allclose(image.flatten(), torch.tensor([0, 1, 4 - 0.2 * 3, 9], dtype=torch.float64))
    # d image / d edge = -3 per pixel, 2 px per unit of x; half of it to each end
    assert torch.allclose(d_pos[0, :, 0], torch.tensor([-3.0, -3, 0], dtype=torch.float64), rtol=1e-3)


def test_an_edge_on_the_border_of_two_pixels_changes_nothing_but_has_a_gradient() -> None:
    """Weight 0: with either sign of zero the second pixel is the target (docs/definition.md 5.6)."""
    color, rast, pos, tri = edge_at(2.0)
    image, _, d_pos = run(color, rast, pos, tri, torch.ones_like(color), method="pixel_pair")
    assert torch.equal(image, color)
    assert torch.allclose(d_pos[0, :, 0], torch.tensor([-3.0, -3, 0], dtype=torch.float64), rtol=1e-3)
    only_first = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64).reshape(1, 1, 4, 1)
    assert bool((run(color, rast, pos, tri, only_first, method="pixel_pair")[2] == 0).all())
    mirrored = run(
        color.flip(2),
        rast.flip(2),
        pos * torch.tensor([-1.0, 1, 1, 1]),
        tri,
        torch.ones_like(color),
        method="pixel_pair",
    )
    assert torch.allclose(mirrored[2][0, :, 0], torch.tensor([3.0, 3, 0], dtype=torch.float64), rtol=1e-3)


@pytest.mark.parametrize("x_px", [1.47, 2.53])
def test_a_crossing_beyond_a_centre_is_clamped_and_has_no_gradient(x_px: float) -> None:
    color, rast, pos, tri = edge_at(2.0)
    pos = edge_at(x_px)[2]
    image, d_color, d_pos = run(color, rast, pos, tri, torch.ones_like(color), method="pixel_pair")
    gained = torch.tensor([0, 1 + 1.5, 4, 9] if x_px < 2 else [0, 1, 4 - 1.5, 9], dtype=torch.float64)
    assert torch.allclose(image.flatten(), gained)
    assert not torch.equal(d_color, torch.ones_like(color))
    assert bool((d_pos == 0).all())


@both_methods
def test_boost_scales_only_the_gradient_of_pos(method: str) -> None:
    inputs = scene(9)
    image, d_color, d_pos = run(*inputs, method=method)
    boosted = run(*inputs, pos_gradient_boost=4, method=method)
    assert torch.equal(boosted[0], image)
    assert torch.equal(boosted[1], d_color)
    assert torch.equal(boosted[2], 4 * d_pos)


@both_methods
def test_gradients_go_where_they_are_wanted_only(method: str) -> None:
    color, rast, pos, tri = scene(10)
    want = run(color, rast, pos, tri, torch.ones_like(color), method=method)
    for k, name in ((1, "color"), (2, "pos")):
        leaves = {"color": color.clone(), "pos": pos.clone(), "rast": rast.clone()}
        leaf = leaves[name].requires_grad_()
        rg.antialias(leaves["color"], leaves["rast"], leaves["pos"], tri, method=method).sum().backward()
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, want[k])
    rast = rast.clone().requires_grad_()
    image = rg.antialias(color, rast, pos, tri, method=method)
    assert torch.autograd.grad(image.sum(), rast, allow_unused=True) == (None,)


# ---- strange input ----------------------------------------------------------------------------------------


@both_methods
def test_ids_out_of_range_are_background(method: str) -> None:
    """They never win against a triangle, whatever their depth; a pair of two is left alone (10.16)."""
    color, rast, pos, tri = scene(11, dtype=torch.float64)
    empty = rast[..., 3] == 0
    want = run(color, rast, pos, tri, method=method)
    for strange in (13.0, -1.0, 0.4, float("nan"), float("inf"), 1e30):
        other = rast.clone()
        other[empty] = torch.tensor([9.0, 9.0, -5.0, strange], dtype=torch.float64)
        other[..., 3] = torch.where(empty & (torch.arange(23) % 2 == 0), 0.0, other[..., 3])
        assert all(map(torch.equal, run(color, other, pos, tri, method=method), want)), strange


def test_the_nearer_triangle_owns_the_edge_and_the_second_one_a_tie() -> None:
    color, rast, pos, tri = edge_at(2.2)
    pos = torch.cat(
        [pos, pos + torch.tensor([0.1, 0, 0, 0])], 1
    )  # the second triangle's edge lies 0.2 px further right
    tri = torch.cat([tri, tri + 3])
    rast[0, 0, 2:, 3] = 2
    for z0, z1, owner in ((0.1, 0.2, 0), (0.2, 0.1, 1), (0.1, 0.1, 1)):
        rast[0, 0, :2, 2], rast[0, 0, 2:, 2] = z0, z1
        d_pos = run(color, rast, pos, tri, torch.ones_like(color), method="pixel_pair")[2]
        moved = (d_pos[0] != 0).any(-1).reshape(2, 3).any(1).tolist()
        # Seen from the right pixel, its own triangle ends beyond the left one: nothing moves
        assert moved == [owner == 0, False]


@both_methods
def test_nonfinite_points_and_w_zero_spread_nothing(method: str) -> None:
    color, rast, pos, tri = scene(12, "soup")
    for value in (0.0, float("nan"), float("inf"), -float("inf"), 1e38, 1e-38, 1e-45):
        for component in (0, 1, 2, 3):
            bad = pos.clone()
            bad[:, ::2, component] = value
            image, d_color, d_pos = run(color, rast, bad, tri, method=method)
            assert bool(image.isfinite().all()), (value, component)
            assert bool(d_color.isfinite().all()), (value, component)
            assert bool(d_pos.isfinite().all()) or abs(value) in (1e38, 1e-38, 1e-45), (value, component)


@both_methods
def test_zero_upstream_keeps_nonfinite_colors_out(method: str) -> None:
    color, rast, pos, tri = scene(13, channels=3)
    color = color.clone()
    color[..., 1] = float("nan")
    upstream = torch.ones_like(color)
    upstream[..., 1] = 0
    _, d_color, d_pos = run(color, rast, pos, tri, upstream, method=method)
    assert bool(d_color.isfinite().all())
    assert bool(d_pos.isfinite().all())
    assert bool((d_pos != 0).any())


@both_methods
@pytest.mark.parametrize("given_topology", [False, True])
def test_triangles_with_indices_out_of_range(given_topology: bool, method: str) -> None:
    color, rast, pos, tri = scene(14, "folded")
    bad = tri.clone()
    bad[7, 1] = pos.shape[1]
    bad[9, 0] = -1
    topology = rg.edge_topology(bad) if given_topology else None
    with pytest.raises(
        ValueError, match=rf"`tri` must hold indices in \[0, {pos.shape[1]}\).*in triangle 7\."
    ):
        rg.antialias(color, rast, pos, bad, topology=topology, method=method)
    with pytest.raises(ValueError, match="in triangle 7"):
        rg.antialias(color, rast, pos, bad, backend="reference", method=method)
    upstream = torch.ones_like(color)
    got = run(color, rast, pos, bad, upstream, strict=False, topology=topology)
    want = run(color, rast, pos, bad, upstream, strict=False, backend="reference")
    for a, b in zip(got, want, strict=True):
        assert torch.allclose(a, b, atol=2e-4)


@both_methods
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_topology_of_another_mesh_of_equal_size_is_harmless(backend: str, method: str) -> None:
    color, rast, pos, tri = scene(15, "folded")
    other = rg.edge_topology(tri.flip(0))
    image, _, _ = run(color, rast, pos, tri, topology=other, method=method, backend=backend)
    assert bool(image.isfinite().all())


@both_methods
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_bitwise_equal_for_every_thread_count_and_run(threads: int, method: str) -> None:
    shape = scenes.soup(30, (0.2, 0.6), seed=1)
    pos = shape.clip(scenes.orbit(2))
    rast = drawn(pos, shape.tri, (90, 100)).float().repeat_interleave(4, 2)  # 90 x 400: strips of 40 rows
    inputs = torch.rand(2, 90, 400, 3, generator=torch.Generator().manual_seed(0)), rast, pos, shape.tri
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = run(*inputs, method=method)
        torch.set_num_threads(threads)
        for _ in range(2):
            assert all(map(torch.equal, run(*inputs, method=method), want))
    finally:
        torch.set_num_threads(before)


@both_methods
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32_and_get_half_gradients(dtype: torch.dtype, method: str) -> None:
    color, rast, pos, tri = scene(16)
    half = color.to(dtype)
    image, d_color, d_pos = run(half, rast, pos, tri, method=method)
    want = run(half.float(), rast, pos, tri, method=method)
    assert torch.equal(image, want[0])
    assert torch.equal(d_color, want[1].to(dtype))
    assert torch.equal(d_pos, want[2])


@both_methods
def test_views_strides_and_index_types_make_no_difference(method: str) -> None:
    color, rast, pos, tri = scene(17)
    want = run(color, rast, pos, tri, method=method)
    wide = torch.zeros(2, 17, 23, 8)
    wide[..., 1:7:2] = color
    for index in (
        tri.long(),
        tri.short(),
        tri.to(torch.uint32),
        tri.to(torch.uint8),
        torch.cat([tri, tri], 1)[:, :3],
    ):
        image = rg.antialias(
            wide[..., 1:7:2],
            rast.transpose(1, 2).contiguous().transpose(1, 2),
            pos.flip(1).flip(1),
            index,
            method=method,
        )
        assert torch.equal(image, want[0])


@both_methods
def test_upstream_gradients_may_be_expanded(method: str) -> None:
    color, rast, pos, tri = scene(18)
    want = run(color, rast, pos, tri, torch.ones_like(color), method=method)
    color.requires_grad_()
    (d_color,) = torch.autograd.grad(rg.antialias(color, rast, pos, tri, method=method).sum(), color)
    assert torch.equal(d_color, want[1])


@both_methods
@pytest.mark.parametrize(
    ("n", "vertices", "triangles", "channels"),
    [(0, 3, 1, 3), (2, 0, 0, 3), (1, 3, 0, 3), (1, 3, 1, 0), (0, 0, 0, 0)],
)
@pytest.mark.parametrize("ranged", [False, True])
def test_empty_inputs(
    n: int, vertices: int, triangles: int, channels: int, ranged: bool, method: str
) -> None:
    color = torch.rand(n, 4, 5, channels, requires_grad=True)
    rast = torch.rand(n, 4, 5, 4)
    rast[..., 3] = torch.arange(5) % 2
    pos = torch.rand(*([] if ranged else [n]), vertices, 4, requires_grad=True)
    tri = torch.arange(3 * triangles).reshape(-1, 3)
    image = rg.antialias(color, rast, pos, tri, method=method)
    assert image.shape == color.shape
    assert n * vertices * triangles * channels > 0 or torch.equal(image, color)
    image.sum().backward()
    assert color.grad is not None
    assert pos.grad is not None
    assert bool((color.grad == 1).all())
    assert bool((pos.grad == 0).all())


@both_methods
def test_changing_an_input_between_forward_and_backward_is_caught(method: str) -> None:
    color, rast, pos, tri = scene(19)
    image = rg.antialias(color.requires_grad_(), rast, pos, tri, method=method)
    rast[..., 2] += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        image.sum().backward()


@both_methods
def test_the_result_may_be_changed_in_place(method: str) -> None:
    """Backward does not look at it."""
    color, rast, pos, tri = scene(20)
    image = rg.antialias(color.requires_grad_(), rast, pos, tri, method=method)
    image *= 2
    image.sum().backward()


COLOR, RAST, POS, TRI = scene(0)


def refused(*args: Any, **options: Any) -> Callable[[], Any]:
    """A call of antialias with some of the good arguments replaced: by position, or by keyword."""
    return lambda: rg.antialias(*[*args, *(COLOR, RAST, POS, TRI)[len(args) :]], **options)


# fmt: off
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (refused([1.0]), TypeError, r"antialias: `color` must be a float tensor .*got list.*torch.as_tensor"),
        (refused(COLOR > 0.5), TypeError, r"`color` .*got bool .*color.float\(\)"),
        (refused(COLOR[..., 0]), ValueError, r"`color` .*\[N, H, W, C\]; got float32 \[2, 17, 23\]"),
        (refused(COLOR[:, 1:]), ValueError, r"`color` must have the images, .*\[2, 17, 23\]; got"),
        (refused(COLOR[:, :0], RAST[:, :0]), ValueError, r"height and width above 0; got float32 \[2, 0,"),
        (refused(COLOR, RAST[..., :2]), ValueError, r"`rast` .*\[N, H, W, 4\]; got"),
        (refused(COLOR, RAST, POS[..., :3]), ValueError, r"`pos` .*\[N, V, 4\] or \[V, 4\]; got"),
        (refused(COLOR, RAST, POS[:1]), ValueError, r"`pos` must have 2 images, as `color` does"),
        (refused(COLOR, RAST, POS, TRI.float()), TypeError, r"`tri` must be an integer tensor .*tri.int\(\)"),
        (refused(COLOR, RAST, POS, TRI[0]), ValueError, r"`tri` .*\[T, 3\]; got int32 \[3\]"),
        (refused(COLOR, RAST, POS[:, :5]), ValueError, r"`tri` must hold indices in \[0, 5\).*triangle 0\."),
        (refused(topology=TRI), TypeError, r"`topology` must be None or .*got int32 \[12, 3\]"),
        (refused(topology=rg.edge_topology(TRI[:5])), ValueError, r"12 triangles; got one for 5"),
        (refused(pos_gradient_boost="a"), TypeError, r"`pos_gradient_boost` .*got 'a'"),
        (refused(pos_gradient_boost=None), TypeError, r"must be a number; got None"),
        (refused(method="msaa"), ValueError, r"antialias: `method` .* 'outline', 'pixel_pair'; got 'msaa'"),
        (refused(method=None), ValueError, r"`method` must be one of 'outline', 'pixel_pair'.*got None"),
        (refused(intersections=1), TypeError, r"antialias: `intersections` must be True or False.*got 1"),
        (refused(backend="metal"), ValueError, r"`backend` .* 'cpu', 'cuda', 'opengl', 'reference'"),
        (refused(COLOR.to("meta")), ValueError, r"`color` is on meta, `rast` on cpu"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
# fmt: on


@both_methods
def test_numpy_numbers_are_welcome_as_boost(method: str) -> None:
    inputs = COLOR, RAST, POS, TRI
    got = run(*inputs, pos_gradient_boost=np.float32(2), method=method)
    want = run(*inputs, pos_gradient_boost=2.0, method=method)
    assert torch.equal(got[2], want[2])
