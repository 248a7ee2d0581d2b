# SPDX-License-Identifier: MIT
"""The outline method's GPU kernels, in the emulator, beside the CPU's and the oracle.

Images and colour gradients bit for bit: both add up what is taken from a pixel in the same order. Gradients
of positions but for the order of sums.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from testing.antialias_scenes import KINDS, drawn, holes, run, scene, unsteady
from testing.closeness import assert_gradients_close, assert_values_close
from testing.emulator import ORDERS, emulated
from testing.poison import Poison

TYPES = [torch.float32, torch.float64]
ROUNDING = {torch.float32: 2e-6, torch.float64: 4e-15}  # of the largest sum, for another order of additions
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def reproducible() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(nan=7e7), b.nan_to_num(nan=7e7))


def agree(got: Sequence[Tensor], want: Sequence[Tensor]) -> None:
    """image, d_color, d_pos."""
    for k, name in enumerate(("image", "d_color")):
        assert same(got[k], want[k]), name
    d, wanted = got[2], want[2]
    assert d.shape == wanted.shape
    if d.numel():
        assert float((d - wanted).abs().max()) <= ROUNDING[d.dtype] * float(wanted.abs().max())


def both(inputs: Inputs, upstream: Tensor | None = None, **options: Any) -> list[Tensor]:
    """What the GPU's kernels give, compared with the CPU's."""
    want = run(*inputs, upstream, **options)
    with emulated() as engine:
        got = run(*inputs, upstream, **options)
    if got[0].numel():
        assert {"outline_walk", "outline_blend", "outline_vertices"} <= set(engine.launched)
    agree(got, want)
    return list(got)


# ---- scenes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intersections", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_as_on_the_cpu(kind: str, dtype: torch.dtype, intersections: bool) -> None:
    inputs = scene(4, kind, dtype=dtype)
    image, _, d_pos = both(inputs, intersections=intersections)
    assert int((image != inputs[0]).any(-1).sum()) > 10
    assert int((d_pos != 0).any(-1).sum()) > 3


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    channels=st.sampled_from([1, 2, 3, 4, 5, 8]),
    ranged=st.booleans(),
    given_topology=st.booleans(),
    dtype=st.sampled_from(TYPES),
)
def test_as_on_the_cpu_for_any_scene(
    seed: int,
    kind: str,
    size: tuple[int, int],
    channels: int,
    ranged: bool,
    given_topology: bool,
    dtype: torch.dtype,
) -> None:
    inputs = scene(seed, kind, size=size, channels=channels, ranged=ranged, dtype=dtype)
    both(inputs, topology=rg.edge_topology(inputs[3]) if given_topology else None)


@pytest.mark.parametrize("kind", ["boxes", "behind", "dense"])
def test_as_the_oracle_says(kind: str) -> None:
    inputs = scene(7, kind, dtype=torch.float64)
    mask = ~unsteady(*inputs)
    assert mask.double().mean() > 0.9
    g = torch.Generator().manual_seed(1)
    upstream = torch.randn(inputs[0].shape, generator=g, dtype=torch.float64) * mask
    with emulated():
        got = run(*inputs, upstream)
    want = run(*inputs, upstream, backend="reference")
    assert_values_close(got[0], want[0], dtype=torch.float64, what="image", mask=mask)
    assert_gradients_close(got[1], want[1], dtype=torch.float64, what="d_color")
    assert_gradients_close(got[2], want[2], dtype=torch.float64, what="d_pos")


@pytest.mark.parametrize("channels", [3, 257, 300])
def test_many_blocks_and_more_channels_than_threads(channels: int) -> None:
    """Blocks of 256 pixels begin anywhere in a row of 301; above 256 channels a pixel takes several."""
    both(scene(1, "bumps", n=1, size=(33, 301) if channels == 3 else (9, 11), channels=channels))


@pytest.mark.parametrize("intersections", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_near_an_edge_is_missed(seed: int, intersections: bool) -> None:
    """Most cells of 8 x 8 pixels hold no outline; outlines run along the borders of cells, and beside."""
    g = torch.Generator().manual_seed(seed)
    size = 71, 93
    corner = torch.stack(
        [torch.randint(0, 12, (2, 12), generator=g), torch.randint(0, 9, (2, 12), generator=g)], -1
    )
    corner = corner * 8.0 + torch.tensor([0.0, 0.02, -0.02])[torch.randint(3, (2, 12, 2), generator=g)]
    xy = corner * 2 / torch.tensor([93.0, 71.0]) - 1
    pos = torch.cat([xy, torch.rand(2, 12, 1, generator=g) - 0.5, torch.ones(2, 12, 1)], -1)
    tri = torch.arange(12, dtype=torch.int32).reshape(-1, 3)
    rast, _ = rg.rasterize(pos, tri, size)
    both((torch.rand(2, *size, 2, generator=g), rast, pos, tri), intersections=intersections)


def test_more_pairs_than_threads_walk() -> None:
    """5,120 threads walk here; the rest of the list needs a second round."""
    n, rows, columns = 1, 64, 70
    x = (torch.arange(columns + 1) / columns * 2 - 1).repeat(rows, 1)
    # Upright strips without a common vertex, each of its own depth: every pixel differs from its neighbours.
    left, right = x[:, :-1].flatten(), x[:, 1:].flatten()
    low = (torch.arange(rows) / rows * 2 - 1).repeat_interleave(columns)
    high = low + 2 / rows
    depth = torch.rand(rows * columns, generator=torch.Generator().manual_seed(3)) - 0.5
    one = torch.ones_like(low)
    corners = [(left, low), (right, low), (right, high), (left, high)]
    pos = torch.stack([torch.stack([a, b, depth, one], -1) for a, b in corners], 1).reshape(n, -1, 4)
    quad = torch.arange(rows * columns)[:, None] * 4
    tri = torch.cat([quad + torch.tensor([0, 1, 2]), quad + torch.tensor([0, 2, 3])])
    size = rows, columns
    rast, _ = rg.rasterize(pos, tri, size)
    color = torch.rand(n, *size, 1, generator=torch.Generator().manual_seed(4))
    with emulated():
        assert rg.outline_counts(rast, pos, tri).walked > 2 * 16 * 160
    both((color, rast, pos, tri))


def test_a_pixel_gives_no_more_than_it_has() -> None:
    """1.6 of the middle pixel are taken; what each neighbour takes then depends on the others."""
    inputs = holes()
    inputs[0][0, 2, 2] = 1000
    image, _, _ = both(inputs)
    assert bool((image[0, 2, 2] < 1).all()), "nothing is left of its own colour"


@pytest.mark.parametrize("dtype", TYPES)
def test_what_four_neighbours_take_is_added_in_the_order_of_the_cpu(dtype: torch.dtype) -> None:
    """Of forty pixels, one after the other: some sums round differently in another order."""
    centres = tuple((row, column) for row in range(2, 25, 5) for column in range(2, 40, 5))
    color, rast, pos, tri = holes((25, 40), centres)
    bent = pos.clone()
    bent[..., :2] += torch.rand(*pos.shape[:2], 2, generator=torch.Generator().manual_seed(1)) * 1e-3
    both((color.to(dtype), rast.to(dtype), bent.to(dtype), tri))


@pytest.mark.parametrize("boost", [0.0, -2.5, 1e30, float("inf"), float("nan")])
def test_boost(boost: float) -> None:
    both(scene(2, "boxes"), pos_gradient_boost=boost)


# ---- order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
def test_in_any_order(reproducible: None, dtype: torch.dtype) -> None:
    """The list of pairs comes in the order of atomic additions, which changes; nothing else does."""
    inputs = scene(3, "bumps", dtype=dtype)
    found = []
    for order in ORDERS:
        with emulated(order):
            found.append(run(*inputs))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    agree(found[0], run(*inputs))


# ---- what is asked of the machine --------------------------------------------------------------------------


@pytest.mark.parametrize(("color_wanted", "pos_wanted"), [(True, False), (False, True), (False, False)])
def test_what_is_not_wanted_is_not_computed(color_wanted: bool, pos_wanted: bool) -> None:
    color, rast, pos, tri = scene(4, "boxes")
    want = run(color, rast, pos, tri, torch.ones_like(color))
    color.requires_grad_(color_wanted)
    pos.requires_grad_(pos_wanted)
    with emulated() as engine:
        image = rg.antialias(color, rast, pos, tri)
        assert same(image.detach(), want[0])
        leaves = [x for x in (color, pos) if x.requires_grad]
        got = torch.autograd.grad(image.sum(), leaves) if leaves else []
    assert engine.launched.count("outline_blend_backward") == color_wanted
    assert engine.launched.count("outline_vertices") == pos_wanted
    for d, wanted in zip(got, want[1:] if color_wanted else want[2:]):
        assert float((d - wanted).abs().max()) <= 2e-6 * float(wanted.abs().max())


def test_nothing_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = scene(4, "boxes")

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("this would wait")

    topology = rg.edge_topology(inputs[3])
    upstream = torch.ones_like(inputs[0])
    with emulated() as engine, monkeypatch.context() as patched:
        patched.setattr(engine, "launch", lambda *_: None)  # the emulator itself looks at memory
        for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "numpy"):
            patched.setattr(Tensor, name, refuse)
        with pytest.raises(AssertionError, match="would wait"):
            bool(upstream.sum())
        for known in (None, topology):
            color, pos = inputs[0].clone().requires_grad_(), inputs[2].clone().requires_grad_()
            image = rg.antialias(color, inputs[1], pos, inputs[3], topology=known)
            torch.autograd.grad(image, [color, pos], upstream)


def test_views_that_begin_anywhere() -> None:
    """Loads of sixteen bytes would fail on them."""

    def shifted(x: Tensor) -> Tensor:
        return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)

    color, rast, pos, tri = scene(4, "boxes", channels=4)
    upstream = torch.rand(color.shape, generator=torch.Generator().manual_seed(2))
    want = run(color, rast, pos, tri, upstream)
    color, rast, pos, tri = (
        shifted(x).requires_grad_(x.is_floating_point()) for x in (color, rast, pos, tri)
    )
    with emulated():
        image = rg.antialias(color, rast.detach(), pos, tri)
        d_color, d_pos = torch.autograd.grad(image, [color, pos], shifted(upstream))
    agree([image.detach(), d_color, d_pos], want)


# ---- hostile input -----------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_hostile_numbers_give_what_they_give_on_the_cpu(seed: int) -> None:
    """Ids that do not exist, NaN, infinities, w = 0, and twins of another mesh, some of them out of range."""
    p = Poison(seed)
    n, size, vertices, triangles = p.images(), p.size(), 1 + p.vertices(), p.triangles()
    if n * size[0] * size[1] > 4000 or min(size) == 0:
        return
    pos, tri = p.clip_positions(n, vertices), p.triangle_table(triangles, vertices, bad=0)
    tri = tri.long().clamp(0, vertices - 1)
    rast = rg.rasterize(pos, tri, size)[0] if p.chance(0.5) else p.fragments(n, size, triangles)
    color = p.floats(n, *size, p.channels())
    topology = rg.edge_topology(tri)
    if p.chance(0.5):
        foreign = torch.randint(-3, 3 * triangles + 6, (triangles, 3), generator=p.generator)
        topology = type(topology)(foreign.int(), topology.bounds)
    upstream = p.floats(*color.shape)

    def all_of_it() -> list[Tensor]:
        leaves = color.float().clone().requires_grad_(), pos.float().clone().requires_grad_()
        image = rg.antialias(leaves[0], rast.float(), leaves[1], tri, topology=topology)
        return [image.detach(), *torch.autograd.grad(image, leaves, upstream.float())]

    want = all_of_it()
    with emulated():
        got = all_of_it()
    assert same(got[0], want[0])
    assert same(got[1], want[1])
    # Sums of numbers as large as infinity may overflow in one order only.
    tame = want[2].isfinite() & got[2].isfinite()
    largest = float(want[2][tame].abs().max()) if bool(tame.any()) else 0.0
    if largest < 1e30:
        assert torch.equal(want[2].isfinite(), got[2].isfinite())
        assert float((got[2] - want[2])[tame].abs().sum()) <= 1e-4 * largest


@pytest.mark.parametrize("given_topology", [False, True])
@pytest.mark.parametrize("kind", ["closed", "folded", "dense"])
def test_triangles_with_an_index_out_of_range_are_left_out(kind: str, given_topology: bool) -> None:
    """As if they had no area: their neighbours end there, and pixels that show them are background. The given
    topology has seen the bad indices, and pairs such triangles over the edge that they still share.
    """
    color, rast, pos, tri = scene(4, kind, size=(40, 50))
    tri = tri.int()
    bad, flat = tri.clone(), tri.clone()
    for k, triangle in enumerate(range(0, len(tri), 3)):
        bad[triangle, k // 3 % 3] = (-1, pos.shape[1], 2**31 - 1)[k % 3]
        flat[triangle] = 0
    want = run(color, rast, pos, flat)
    with emulated():
        got = run(color, rast, pos, bad, topology=rg.edge_topology(bad) if given_topology else None)
        whole = run(color, rast, pos, tri)
    agree(got, want)
    assert not torch.equal(got[0], whole[0])


def test_debugging_names_an_index_out_of_range() -> None:
    color, rast, pos, tri = scene(4, "closed")
    tri[5, 2] = pos.shape[1]
    rg.debug(True)
    try:
        with emulated():
            with pytest.raises(ValueError, match=r"antialias: `tri` must hold indices.*in triangle 5"):
                rg.antialias(color, rast, pos, tri)
            with pytest.raises(ValueError, match=r"outline_counts: `tri` must hold indices.*in triangle 5"):
                rg.outline_counts(rast, pos, tri)
    finally:
        rg.debug(False)


def test_a_zero_upstream_keeps_infinities_out() -> None:
    color, rast, pos, tri = scene(4, "boxes")
    color[:, 8] = float("inf")
    upstream = torch.ones_like(color)
    upstream[:, 7:10] = 0
    _, d_color, d_pos = both((color, rast, pos, tri), upstream)
    assert bool(d_color.isfinite().all())
    assert bool(d_pos.isfinite().all())


@pytest.mark.parametrize(
    ("n", "triangles", "vertices", "channels"), [(0, 2, 3, 2), (1, 0, 3, 2), (1, 2, 0, 2), (1, 2, 3, 0)]
)
@pytest.mark.parametrize("shared", [False, True])
def test_empty_inputs(n: int, triangles: int, vertices: int, channels: int, shared: bool) -> None:
    color = torch.rand(n, 3, 4, channels).requires_grad_()
    pos = torch.rand(*([] if shared else [n]), vertices, 4).requires_grad_()
    tri = torch.zeros(triangles, 3, dtype=torch.int32)
    rast = torch.ones(n, 3, 4, 4)
    rast[:, 1] = 2
    with emulated():
        image = rg.antialias(color, rast, pos, tri)
        d_color, d_pos = torch.autograd.grad(image, [color, pos], torch.ones_like(image))
        counts = rg.outline_counts(rast, pos, tri)
    assert torch.equal(image, color)
    assert torch.equal(d_color, torch.ones_like(color))
    assert torch.equal(d_pos, torch.zeros_like(pos))
    assert counts.pairs == 8 * n, "two rows of borders between ids that differ, four wide"


# ---- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intersections", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_counts_as_on_the_cpu(kind: str, intersections: bool) -> None:
    _, rast, pos, tri = scene(4, kind)
    want = rg.outline_counts(rast, pos, tri, intersections=intersections)
    for order in ORDERS:
        with emulated(order):
            assert rg.outline_counts(rast, pos, tri, intersections=intersections) == want
    assert want.outlines > 0


@pytest.mark.parametrize("intersections", [True, False])
def test_counts_tell_which_pairs_need_no_walk(intersections: bool) -> None:
    """Inside of surfaces: any without `intersections`; with it those that have a vertex in common."""
    _, rast, pos, tri = scene(4, "boxes", n=1, size=(80, 100))
    want = rg.outline_counts(rast, pos, tri, intersections=intersections)
    with emulated():
        assert rg.outline_counts(rast, pos, tri, intersections=intersections) == want
    assert 0 < want.walked < want.pairs


def test_a_walk_that_is_too_long_is_lost() -> None:
    """A surface over a row of pixels, cut into upright slices: 1,200 triangles from the centre to its end."""
    x = torch.linspace(0.2, 1.4, 801, dtype=torch.float64) / 2 - 1
    low, high = ([x, torch.full_like(x, y), torch.zeros_like(x), torch.ones_like(x)] for y in (-9.0, 9.0))
    pos = torch.cat([torch.stack(low, 1), torch.stack(high, 1)])[None]
    a = torch.arange(800)
    b, c, d = a + 1, a + 801, a + 802
    tri = torch.cat([torch.stack([a, b, c], 1), torch.stack([c, b, d], 1)])
    rast = drawn(pos, tri, (1, 4))
    color = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).reshape(1, 1, 4, 1)
    with emulated():
        counts = rg.outline_counts(rast, pos, tri)
        image = rg.antialias(color, rast, pos, tri)
    assert (counts.pairs, counts.walked, counts.outlines, counts.lost, counts.steps) == (1, 1, 0, 1, 1024)
    assert torch.equal(image, color)
