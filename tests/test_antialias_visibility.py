# SPDX-License-Identifier: MIT
"""Visibility at k times the resolution: the choice of pixels, its adjoint, and all of it with antialias."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.antialias import reference_gather, topology, visibility
from testing import scenes
from testing.closeness import assert_gradients_close, assert_values_close

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")

FLOATS = [torch.float32, torch.float64]
STRANGE_IDS = (-1.0, 0.4, float("nan"), float("inf"), 1e30)
SCALES = [1, 2, 3, 4, 5]


def patches(
    seed: int, n: int, size: tuple[int, int], k: int, strange: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """rast, visibility, tri: patches of three strips of triangles, as no rasteriser would draw them. There
    are few depths, so that penalties tie.
    """
    g = torch.Generator().manual_seed(seed)
    strip = torch.arange(5)[:, None] + torch.arange(3)  # five triangles in a row
    tri = torch.cat([strip, strip + 7, strip + 14])
    coarse = torch.randint(0, 16, (n, size[0] + 1, size[1] + 1), generator=g)
    fine = coarse.repeat_interleave(k, 1).repeat_interleave(k, 2)
    down, right = torch.randint(0, k + 1, (2,), generator=g).tolist()
    fine = fine[:, down : down + k * size[0], right : right + k * size[1]]  # borders inside pixels
    noise = torch.randint(0, 16, fine.shape, generator=g)
    fine = torch.where(torch.rand(fine.shape, generator=g) < 0.15, noise, fine)

    def fragments(ids: Tensor) -> Tensor:
        depth = torch.randint(-2, 3, ids.shape, generator=g) / 2.0
        ids = ids.float()
        if strange:
            wild = torch.tensor([*STRANGE_IDS, 16.0])[torch.randint(0, 6, ids.shape, generator=g)]
            ids = torch.where(torch.rand(ids.shape, generator=g) < 0.1, wild, ids)
        return torch.stack([torch.zeros_like(depth), torch.zeros_like(depth), depth, ids], -1)

    return fragments(coarse[:, : size[0], : size[1]]), fragments(fine), tri.int()


def gathered(color: Tensor, rast: Tensor, fine: Tensor, tri: Tensor, components: Any = None) -> Tensor:
    return visibility._gather(color, rast.to(color), fine.to(color), tri, components, 21)[0]


def shown(rast: Tensor, triangles: int) -> Tensor:
    """Triangle + 1, or 0 for background [N, H, W], for ids below 2^24."""
    ids = rast[..., 3].nan_to_num(0)
    return torch.where((ids >= 1) & (ids < triangles + 1), ids, 0.0).long()


def within_reach(pixels: Tensor, k: int) -> Tensor:
    """What the 7 x 7 pixels around each sub-sample's own one hold [N, kH, kW, 49]; -1 beyond the image."""
    around = torch.nn.functional.pad(pixels, (3, 3, 3, 3), value=-1).unfold(1, 7, 1).unfold(2, 7, 1)
    return around.flatten(3).repeat_interleave(k, 1).repeat_interleave(k, 2)


# ---- the choice -------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    n=st.sampled_from([1, 2]),
    size=st.sampled_from([(1, 1), (1, 9), (8, 1), (3, 5), (7, 19), (12, 17)]),
    k=st.sampled_from(SCALES),
    channels=st.sampled_from([1, 2, 3, 4, 9]),
    strange=st.booleans(),
    dtype=st.sampled_from(FLOATS),
)
def test_the_choice_and_its_gradient_equal_the_oracle(
    seed: int, n: int, size: tuple[int, int], k: int, channels: int, strange: bool, dtype: torch.dtype
) -> None:
    """Colours are copied, so they must agree exactly: a wrong choice cannot hide in rounding."""
    rast, fine, tri = patches(seed, n, size, k, strange)
    color = torch.rand(n, *size, channels, dtype=dtype, requires_grad=True)
    got = gathered(color, rast, fine, tri)
    want = reference_gather.gather(color, rast, fine, tri, 21)
    assert torch.equal(got, want)
    upstream = torch.randn(got.shape, dtype=dtype)
    assert_gradients_close(
        torch.autograd.grad(got, color, upstream)[0],
        torch.autograd.grad(want, color, upstream)[0],
        dtype=dtype,
        what="d_color",
    )


@pytest.mark.parametrize("k", SCALES)
def test_the_same_triangle_is_taken_whenever_a_pixel_in_reach_shows_it(k: int) -> None:
    """And then background by background, and triangles by triangles."""
    rast, fine, tri = patches(1, 2, (23, 19), k)
    pixels, wanted = shown(rast, len(tri)), shown(fine, len(tri))
    got = gathered(pixels[..., None].double(), rast, fine, tri)[..., 0].long()
    reach = within_reach(pixels, k)
    exact = (reach == wanted[..., None]).any(-1)
    assert torch.equal(got[exact], wanted[exact])
    lone = ~exact & (wanted > 0) & (reach > 0).any(-1)
    assert k == 1 or int(lone.sum()) > 10
    assert bool((got[lone] > 0).all())


def line(*pixels: tuple[int, float], seen: tuple[int, float], k: int = 2, i: int = 0, j: int = 0) -> int:
    """Which pixel of a row of (id, depth) the sub-sample (i, j) of the middle one takes its colour from."""
    rast = torch.zeros(1, 1, len(pixels), 4)
    rast[0, 0, :, 3], rast[0, 0, :, 2] = torch.tensor(pixels).T
    fine = rast.repeat_interleave(k, 1).repeat_interleave(k, 2)
    at = len(pixels) // 2 * k + j
    fine[0, i, at, 3], fine[0, i, at, 2] = seen
    tri = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [9, 10, 11], [11, 12, 13]], dtype=torch.int32)
    color = torch.arange(float(len(pixels))).reshape(1, 1, -1, 1)
    return int(gathered(color, rast, fine, tri)[0, i, at, 0])


def test_what_is_preferred_to_what() -> None:
    """Ids 1, 2, 3 are connected; 4 and 5 share a vertex only."""
    near, far = 0.0, 0.9
    assert line((1, far), (2, near), (4, near), (5, near), (3, near), seen=(1, near)) == 0  # same triangle
    assert line((2, near), (4, near), (5, near), (0, 1.0), (0, 1.0), seen=(1, near)) == 0  # connected
    assert line((2, near), (2, far), (4, near), (0, 1.0), (0, 1.0), seen=(1, near)) == 0  # at its depth
    assert line((2, far), (2, near), (4, near), (0, 1.0), (0, 1.0), seen=(1, near)) == 1
    assert line((4, near), (4, far), (0, 1.0), (0, 1.0), (1, near), seen=(5, near)) == 1  # nearest covered
    assert line((0, 1.0), (0, 1.0), (0, 1.0), (0, 1.0), (4, near), seen=(1, near)) == 4  # any covered
    assert line((1, near), (0, 1.0), (4, near), (2, near), (0, 1.0), seen=(0, 1.0)) == 1  # nearest background
    assert line((1, near), (4, near), (4, near), (2, near), (5, near), seen=(0, 1.0)) == 2  # nearest of all
    assert line((0, 1.0), (0, 1.0), (0, 1.0), (0, 1.0), (0, 1.0), seen=(1, near)) == 2


def test_of_two_pixels_the_one_on_the_side_of_the_subsample_is_nearer() -> None:
    row = (1, 0.0), (2, 0.0), (4, 0.0), (2, 0.0), (1, 0.0)
    assert [line(*row, seen=(2, 0.0), j=j) for j in (0, 1)] == [1, 3]
    assert [line(*row, seen=(1, 0.0), j=j) for j in (0, 1)] == [0, 4]
    assert [line(*row, seen=(2, 0.0), k=3, i=1, j=j) for j in (0, 1, 2)] == [1, 1, 3]  # in the middle: first


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("axis", [1, 2])
def test_mirrored_images_get_mirrored_colors(k: int, axis: int) -> None:
    """Ties included, with an even k. (With an odd one a sub-sample in the middle takes the lower pixel.)"""
    rast, fine, tri = patches(2, 2, (14, 11), k)
    color = torch.rand(2, 14, 11, 3)
    want = gathered(color, rast, fine, tri)
    got = gathered(*(x.flip(axis) for x in (color, rast, fine)), tri)
    assert torch.equal(got.flip(axis), want)


def test_images_do_not_see_each_other() -> None:
    rast, fine, tri = patches(3, 3, (9, 8), 2)
    color = torch.rand(3, 9, 8, 2)
    want = gathered(color, rast, fine, tri)
    order = [2, 0, 1]
    assert torch.equal(gathered(color[order], rast[order], fine[order], tri), want[order])


def test_strange_ids_are_background() -> None:
    rast, fine, tri = patches(4, 1, (9, 13), 2)
    color = torch.rand(1, 9, 13, 2)
    want = gathered(color, rast, fine, tri)
    for strange in (*STRANGE_IDS, 16.0):
        a, b = rast.clone(), fine.clone()
        for x in (a, b):
            x[..., 3] = torch.where(x[..., 3] == 0, strange, x[..., 3])
        assert torch.equal(gathered(color, a, b, tri), want), strange


@pytest.mark.parametrize("dtype", FLOATS)
def test_ids_above_2_to_24(dtype: torch.dtype) -> None:
    """Ids are then bit patterns: neighbours must not be taken for one another, 16 at a time or one by one."""
    width, first = 37, 2**24 - 20
    bits = torch.arange(width) + first + 1
    encoded = torch.where(bits <= 2**24, bits.float(), (bits + 0x4A800000).int().view(torch.float32))
    rast = torch.zeros(1, 1, width, 4)
    rast[..., 3] = encoded
    fine = torch.zeros(1, 2, 2 * width, 4)
    fine[..., 3] = encoded.roll(1).repeat_interleave(2)  # sub-samples show what the pixel on their left does
    color = torch.arange(width, dtype=dtype).reshape(1, 1, width, 1)
    components = torch.zeros(first + width, dtype=torch.int32)
    tri = torch.zeros(0, 3, dtype=torch.int32)
    got = gathered(color, rast, fine, tri, components)
    want = torch.arange(width, dtype=dtype).roll(1).repeat_interleave(2)
    assert torch.equal(got[0, :, 2:, 0], want[2:].expand(2, -1))


def test_extreme_depths_leave_the_choice_defined() -> None:
    rast, fine, tri = patches(5, 1, (9, 9), 2)
    numbers = torch.tensor([0.0, 1.0, -1.0, 2.0, -5.0, 1e38, float("inf"), -float("inf"), float("nan")])
    for x in (rast, fine):
        x[..., 2] = numbers[torch.randint(0, len(numbers), x.shape[:3])]
    color = torch.rand(1, 9, 9, 2)
    assert torch.equal(gathered(color, rast, fine, tri), reference_gather.gather(color, rast, fine, tri, 21))


# ---- components -------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    vertices=st.sampled_from([3, 4, 9, 60]),
    triangles=st.sampled_from([0, 1, 7, 80]),
)
def test_components_equal_the_oracle(seed: int, vertices: int, triangles: int) -> None:
    """Few vertices: edges of many triangles, duplicates, repeated corners; -1 and what has no vertex too."""
    g = torch.Generator().manual_seed(seed)
    tri = torch.randint(-1, vertices + 1, (triangles, 3), generator=g, dtype=torch.int32)
    got = topology.remembered(tri, vertices).components
    assert got.dtype == torch.int32
    assert torch.equal(got.long(), reference_gather.components(tri, vertices))


def test_components_of_known_meshes() -> None:
    ball = scenes.sphere(300).tri.int()
    corners = int(ball.max()) + 1
    two = torch.cat([ball, ball + corners])
    mixed = two[torch.randperm(len(two), generator=torch.Generator().manual_seed(0))]
    first_of_each = [int((mixed[:, 0] // corners == k).int().argmax()) for k in (0, 1)]
    assert rg.edge_topology(mixed).components.unique().tolist() == sorted(first_of_each)
    assert rg.edge_topology(torch.tensor([[0, 1, 2], [2, 3, 4], [4, 3, 5]])).components.tolist() == [0, 1, 1]
    # Connected by a vertex index that does not exist
    bad = torch.tensor([[0, 1, 2], [1, 2, 9], [2, 9, 0]], dtype=torch.int32)
    assert topology.remembered(bad, 4).components.tolist() == [0, 1, 2]


@pytest.mark.cpu_kernels("a GPU's memory is not looked at: topologies are known again by tensor and version")
def test_components_are_found_once() -> None:
    edges = rg.edge_topology(scenes.sphere(100).tri)
    assert "components" not in edges.__dict__
    before = edges.nbytes
    assert edges.components is edges.components
    assert edges.nbytes == before + 4 * edges.triangles
    tri = scenes.sphere(101).tri.int()
    assert topology.remembered(tri, 1000).components is topology.remembered(tri.clone(), 1000).components


# ---- adjoints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", SCALES)
def test_transpose_and_sum_of_the_gather(k: int) -> None:
    """<G x, y> = <x, G^T y>; each sub-sample copies one pixel, so gradients keep the upstream's sum."""
    rast, fine, tri = patches(6, 2, (13, 9), k)
    x = torch.randn(2, 13, 9, 3, dtype=torch.float64, requires_grad=True)
    out = gathered(x, rast, fine, tri)
    y = torch.randn_like(out)
    (back,) = torch.autograd.grad(out, x, y)
    assert torch.allclose((out * y).sum(), (x * back).sum(), rtol=1e-12)
    assert torch.allclose(back.sum((1, 2)), y.sum((1, 2)), rtol=1e-11)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_average_is_the_mean_and_its_adjoint(dtype: torch.dtype, k: int, channels: int) -> None:
    fine = torch.randn(2, 5 * k, 4 * k, channels, dtype=dtype, requires_grad=True)
    (got,) = visibility._average(fine, k)
    want = fine.reshape(2, 5, k, 4, k, channels).mean((2, 4))
    upstream = torch.randn_like(got)
    assert_values_close(got, want, dtype=dtype, what="mean")
    for a, b in zip(
        torch.autograd.grad(got, fine, upstream), torch.autograd.grad(want, fine, upstream), strict=True
    ):
        assert_gradients_close(a, b, dtype=dtype, what="d_fine")


# ---- with antialias ---------------------------------------------------------------------------------------


def scene(
    kind: str = "bumps",
    *,
    k: int = 2,
    size: tuple[int, int] = (17, 23),
    channels: int = 3,
    ranged: bool = False,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """color, rast, pos, tri, visibility."""
    shape = {
        "bumps": lambda: scenes.sphere(150, bumps=0.4),
        "cube": lambda: scenes.cube(shared=False),
        "soup": lambda: scenes.soup(60, (0.05, 0.8), seed=3),
    }[kind]()
    pos = shape.clip(scenes.orbit(2, distance=3.3)).to(dtype)
    ranges = None
    if ranged:
        pos, third = pos[0], len(shape.tri) // 3
        ranges = torch.tensor([[0, 2 * third], [third, 2 * third]])
    rast, fine = (rg.rasterize(pos, shape.tri, (s * size[0], s * size[1]), ranges=ranges)[0] for s in (1, k))
    color = torch.rand(2, *size, channels, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return color.to(dtype), rast, pos, shape.tri, fine


def run(
    color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, fine: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The image, and the gradients of color and pos for a seeded random upstream."""
    color, pos = color.detach().clone().requires_grad_(), pos.detach().clone().requires_grad_()
    image = rg.antialias(color, rast, pos, tri, visibility=fine, **options)
    upstream = torch.randn(image.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    d_color, d_pos = torch.autograd.grad(image, [color, pos], upstream.to(image.dtype))
    return image.detach(), d_color, d_pos


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["bumps", "cube", "soup"]),
    k=st.sampled_from([1, 2, 3, 4]),
    size=st.sampled_from([(1, 9), (7, 5), (17, 23)]),
    channels=st.sampled_from([1, 3, 6]),
    ranged=st.booleans(),
    given_topology=st.booleans(),
)
def test_the_image_and_its_gradients_equal_the_reference(
    kind: str, k: int, size: tuple[int, int], channels: int, ranged: bool, given_topology: bool
) -> None:
    inputs = scene(kind, k=k, size=size, channels=channels, ranged=ranged)
    edges = rg.edge_topology(inputs[3]) if given_topology else None
    got, want = run(*inputs, topology=edges), run(*inputs, topology=edges, backend="reference")
    assert_values_close(got[0], want[0], dtype=torch.float64, what="image")
    assert_gradients_close(got[1], want[1], dtype=torch.float64, what="d_color")
    assert_gradients_close(got[2], want[2], dtype=torch.float64, what="d_pos")


@pytest.mark.parametrize("dtype", FLOATS)
def test_with_k_1_and_rast_itself_it_is_plain_antialias(dtype: torch.dtype) -> None:
    color, rast, pos, tri, _ = scene(dtype=dtype)
    assert all(map(torch.equal, run(color, rast, pos, tri, rast), run(color, rast, pos, tri, None)))


def test_the_steps_are_gather_antialias_and_mean() -> None:
    color, rast, pos, tri, fine = scene()
    wide = reference_gather.gather(color, rast, fine, tri, pos.shape[1])
    want = rg.antialias(wide, fine, pos, tri).reshape(2, 17, 2, 23, 2, 3).mean((2, 4))
    assert torch.allclose(rg.antialias(color, rast, pos, tri, visibility=fine), want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_a_constant_image_stays(k: int) -> None:
    """Exactly with k = 2; else but for the rounding of a sum of k^2 numbers."""
    color, rast, pos, tri, fine = scene("soup", k=k)
    image, d_color, d_pos = run(torch.full_like(color, 0.1), rast, pos, tri, fine)
    assert bool(((image - 0.1).abs() <= (0 if k == 2 else 0.1 * k**2 * 2**-53)).all())
    assert bool((d_pos == 0).all())
    upstream = torch.randn(image.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert torch.allclose(d_color.sum((1, 2)), upstream.sum((1, 2)), rtol=1e-10)


def test_gradcheck() -> None:
    """Of the pixel pair: its gradient is its value's but for a stabiliser, 1e-3 / |dY|. An outline that turns
    within a row is continued without a gradient.
    """
    color, rast, pos, tri, fine = scene("cube", size=(7, 8), channels=2)

    def image(c: Tensor, p: Tensor) -> Tensor:
        return rg.antialias(c, rast, p, tri, method="pixel_pair", visibility=fine)

    inputs = [color.requires_grad_(), pos.requires_grad_()]
    assert torch.autograd.gradcheck(image, inputs, eps=1e-7, rtol=1e-2, atol=1e-4)


def test_what_is_thinner_than_a_pixel_comes_nearer_to_its_area() -> None:
    """A slanted wire 0.4 px wide and 40 px long: centres see it now and then, sub-samples much more often."""
    px = 2 / 48
    a, along = torch.tensor([-0.8, -0.5]), torch.tensor([0.9, 0.43589]) * 40 * px
    across = torch.tensor([-0.43589, 0.9]) * 0.4 * px
    corners = torch.stack([a, a + along, a + across, a + along + across])
    pos = torch.cat([corners, torch.tensor([[0.0, 1.0]]).expand(4, 2)], 1)[None].double()
    tri = torch.tensor([[0, 1, 2], [1, 3, 2]])
    area = 40 * 0.4
    errors = []
    rast = rg.rasterize(pos, tri, (48, 48))[0]
    for k in (None, 2, 4):
        fine = None if k is None else rg.rasterize(pos, tri, (48 * k, 48 * k))[0]
        image = rg.antialias((rast[..., 3:] > 0).double(), rast, pos, tri, visibility=fine)
        errors.append(abs(float(image.sum()) / area - 1))
    assert errors[1] < errors[0] * 0.65  # 0.31, 0.19, 0.055
    assert errors[2] < errors[0] / 5


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_bitwise_equal_for_every_thread_count_and_run(threads: int) -> None:
    """Strips of 40 rows here."""
    inputs = scene("bumps", size=(90, 400), dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = run(*inputs)
        torch.set_num_threads(threads)
        for _ in range(2):
            assert all(map(torch.equal, run(*inputs), want))
    finally:
        torch.set_num_threads(before)


def test_strips_fit_together() -> None:
    """Sub-samples at the border of a strip take colours from, and return gradients to, the next one."""
    rast, fine, tri = patches(7, 1, (100, 330), 2)  # strips of 49 rows
    color = torch.rand(1, 100, 330, 2, dtype=torch.float64, requires_grad=True)
    got, want = gathered(color, rast, fine, tri), reference_gather.gather(color, rast, fine, tri, 21)
    assert torch.equal(got, want)
    upstream = torch.randn_like(got)
    for a, b in zip(
        torch.autograd.grad(got, color, upstream), torch.autograd.grad(want, color, upstream), strict=True
    ):
        assert_gradients_close(a, b, dtype=torch.float64, what="d_color")


def test_large_results_pass_the_caches() -> None:
    """Above 4 MB rows are written past the caches, from addresses that are no multiple of 64 bytes."""
    rast, fine, tri = patches(8, 1, (151, 205), 4)
    color = torch.rand(1, 151, 205, 3)
    assert torch.equal(gathered(color, rast, fine, tri), reference_gather.gather(color, rast, fine, tri, 21))


# ---- input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_colors_are_computed_in_float32_and_get_half_gradients(dtype: torch.dtype) -> None:
    color, rast, pos, tri, fine = scene(dtype=torch.float32)
    half = color.to(dtype)
    got, want = run(half, rast, pos, tri, fine), run(half.float(), rast, pos, tri, fine)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1].to(dtype))


def test_views_make_no_difference() -> None:
    color, rast, pos, tri, fine = scene()
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (color, rast, fine)]
    got = rg.antialias(turned[0], turned[1], pos, tri.long(), visibility=turned[2])
    assert torch.equal(got, rg.antialias(color, rast, pos, tri, visibility=fine))


@pytest.mark.parametrize(
    ("n", "triangles", "channels", "backend"),
    [(0, 2, 3, None), (2, 0, 3, None), (2, 2, 0, None), (0, 2, 3, "reference"), (2, 0, 3, "reference")],
)
def test_empty_inputs(n: int, triangles: int, channels: int, backend: str | None) -> None:
    color = torch.rand(n, 4, 5, channels, requires_grad=True)
    rast, fine = torch.ones(n, 4, 5, 4), torch.ones(n, 8, 10, 4)
    pos = torch.rand(n, 3, 4, requires_grad=True)
    tri = torch.tensor([[0, 1, 2]] * triangles, dtype=torch.int32).reshape(triangles, 3)
    image = rg.antialias(color, rast, pos, tri, visibility=fine, backend=backend)
    assert image.shape == color.shape
    d_color, _ = torch.autograd.grad(image.sum(), [color, pos])
    assert torch.allclose(d_color, torch.ones_like(color))


def test_visibility_gets_no_gradient() -> None:
    color, rast, pos, tri, fine = scene()
    fine = fine.clone().requires_grad_()
    image = rg.antialias(color.requires_grad_(), rast, pos, tri, visibility=fine)
    assert torch.autograd.grad(image.sum(), fine, allow_unused=True) == (None,)


COLOR, RAST, POS, TRI, FINE = scene(size=(4, 6), dtype=torch.float32)


def refused(*args: Any, **options: Any) -> Callable[[], Any]:
    """A call with some of the good arguments replaced: by position, or by keyword."""
    options = {"visibility": FINE, **options}
    return lambda: rg.antialias(*[*args, *(COLOR, RAST, POS, TRI)[len(args) :]], **options)


# fmt: off
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (refused(visibility=2), TypeError, r"`visibility` must be a float .*\[N, kH, kW, 4\]; got 2"),
        (refused(visibility=FINE.int()), TypeError, r"`visibility` .*got int32 .*visibility.float\(\)"),
        (refused(visibility=FINE[..., :3]), ValueError, r"`visibility` .*kH, kW, 4\]; got .*\[2, 8, 12, 3\]"),
        (refused(visibility=FINE[:1]), ValueError, r"the images .*\[2, 4 k, 6 k, 4\]; got float32 \[1, 8,"),
        (refused(visibility=FINE[:, :7]), ValueError, r"whole multiple .*the same for both.*\[2, 7, 12, 4\]"),
        (refused(visibility=FINE[:, :4]), ValueError, r"Pass `rasterize\(pos, tri, \(k \* 4, k \* 6\)\)"),
        (refused(visibility=FINE[:, :2, :3]), ValueError, r"whole multiple .*got float32 \[2, 2, 3, 4\]"),
        (refused(visibility=FINE[:, :0]), ValueError, r"whole multiple .*got float32 \[2, 0, 12, 4\]"),
        (refused(visibility=FINE.to("meta")), ValueError, r"`visibility` on meta"),
        (refused([1.0]), TypeError, r"antialias: `color` must be a float tensor .*got list"),
        (refused(COLOR[:, 1:]), ValueError, r"`color` must have the images, .*\[2, 4, 6\]; got"),
        (refused(COLOR[:, :0], RAST[:, :0]), ValueError, r"height and width above 0; got float32 \[2, 0,"),
        (refused(COLOR, RAST[..., :2]), ValueError, r"`rast` .*\[N, H, W, 4\]; got"),
        (refused(COLOR, RAST, POS[..., :3]), ValueError, r"`pos` .*\[N, V, 4\] or \[V, 4\]; got"),
        (refused(COLOR, RAST, POS[:1]), ValueError, r"`pos` must have 2 images, as `color` does"),
        (refused(COLOR, RAST, POS, TRI.float()), TypeError, r"`tri` must be an integer tensor"),
        (refused(COLOR, RAST, POS[:, :5]), ValueError, r"`tri` must hold indices in \[0, 5\)"),
        (refused(topology=TRI), TypeError, r"`topology` must be None or .*got int32"),
        (refused(topology=rg.edge_topology(TRI[:5])), ValueError, r"triangles; got one for 5"),
        (refused(pos_gradient_boost="a"), TypeError, r"`pos_gradient_boost` .*got 'a'"),
        (refused(backend="metal"), ValueError, r"`backend` .* 'cpu', 'cuda', 'opengl', 'reference'"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
# fmt: on
