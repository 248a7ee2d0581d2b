# SPDX-License-Identifier: MIT
"""The pixel pair, topologies and sub-samples on a GPU, in the emulator, beside the CPU's.

Images, colour gradients, twins and components bit for bit; gradients of positions but for the order of sums.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.antialias import topology
from testing import golden, scenes
from testing.antialias_scenes import KINDS, run, scene
from testing.closeness import assert_gradients_close
from testing.emulator import ORDERS, emulated
from testing.poison import Poison, equal

TYPES = [torch.float32, torch.float64]


@pytest.fixture
def reproducible() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def agree(got: Sequence[Tensor], want: Sequence[Tensor]) -> None:
    """image, d_color, d_pos."""
    assert equal(got[:2], want[:2])
    assert_gradients_close(got[2], want[2], dtype=got[2].dtype, what="d_pos")


def both(inputs: Sequence[Tensor], **options: Any) -> Sequence[Tensor]:
    want = run(*inputs, method="pixel_pair", **options)
    with emulated() as engine:
        got = run(*inputs, method="pixel_pair", **options)
    agree(got, want)
    assert {"antialias_pairs", "antialias_blend", "antialias_blend_backward"} <= set(engine.launched)
    return got


# ---- the pixel pair ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_as_on_the_cpu(kind: str, dtype: torch.dtype) -> None:
    inputs = scene(4, kind, dtype=dtype)
    image, _, d_pos = both(inputs)
    assert int((image != inputs[0]).any(-1).sum()) > 10
    assert int((d_pos != 0).any(-1).sum()) > 3


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    channels=st.sampled_from([1, 2, 3, 4, 5, 8]),
    ranged=st.booleans(),
    given_topology=st.booleans(),
)
def test_as_on_the_cpu_for_any_scene(
    seed: int, kind: str, size: tuple[int, int], channels: int, ranged: bool, given_topology: bool
) -> None:
    inputs = scene(seed, kind, size=size, channels=channels, ranged=ranged, dtype=torch.float64)
    both(inputs, topology=rg.edge_topology(inputs[3]) if given_topology else None)


@pytest.mark.parametrize("size", [(4, 5), (60, 70)])
def test_silhouettes_are_found_before_or_by_the_pixel(size: tuple[int, int]) -> None:
    """Few pixels ask by themselves; many look at what was found for each triangle."""
    inputs = scene(3, "dense", size=size, dtype=torch.float64)
    both(inputs)
    with emulated() as engine:
        run(*inputs, method="pixel_pair")
    assert ("antialias_silhouettes" in engine.launched) == (size == (60, 70))


@pytest.mark.parametrize("channels", [3, 257, 300])
def test_many_blocks_and_more_channels_than_threads(channels: int) -> None:
    """Blocks of 256 pixels begin anywhere in a row of 301; above 256 channels a pixel takes several."""
    both(scene(1, "bumps", n=1, size=(33, 301) if channels == 3 else (9, 11), channels=channels))


@pytest.mark.parametrize("boost", [0.0, -2.5, 1e30, float("inf"), float("nan")])
def test_boost(boost: float) -> None:
    both(scene(2, "boxes"), pos_gradient_boost=boost)


@pytest.mark.parametrize("dtype", TYPES)
def test_in_any_order(reproducible: None, dtype: torch.dtype) -> None:
    inputs = scene(3, "bumps", dtype=dtype)
    found = []
    for order in ORDERS:
        with emulated(order):
            found.append(run(*inputs, method="pixel_pair"))
    for other in found[1:]:
        assert equal(found[0], other)
    agree(found[0], run(*inputs, method="pixel_pair"))


@pytest.mark.parametrize(("color_wanted", "pos_wanted"), [(True, False), (False, True)])
def test_what_is_not_wanted_is_not_computed(color_wanted: bool, pos_wanted: bool) -> None:
    color, rast, pos, tri = scene(4, "boxes", dtype=torch.float64)
    want = run(color, rast, pos, tri, torch.ones_like(color), method="pixel_pair")
    color.requires_grad_(color_wanted)
    pos.requires_grad_(pos_wanted)
    with emulated() as engine:
        image = rg.antialias(color, rast, pos, tri, method="pixel_pair")
        (got,) = torch.autograd.grad(image.sum(), [color if color_wanted else pos])
    assert_gradients_close(got, want[1 if color_wanted else 2], dtype=got.dtype, what="gradient")
    assert engine.launched.count("antialias_blend_backward") == color_wanted


def test_nothing_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    color, rast, pos, tri = scene(4, "boxes")
    fine = scene(4, "boxes", size=(34, 46))[1]
    upstream = torch.ones_like(color)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("this would wait")

    with emulated() as engine, monkeypatch.context() as patched:
        patched.setattr(engine, "launch", lambda *_: None)  # the emulator itself looks at memory
        for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "numpy"):
            patched.setattr(Tensor, name, refuse)
        for options in ({}, {"visibility": fine}):
            c, p = color.clone().requires_grad_(), pos.clone().requires_grad_()
            image = rg.antialias(c, rast, p, tri, method="pixel_pair", **options)
            torch.autograd.grad(image, [c, p], upstream)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_hostile_numbers_give_what_they_give_on_the_cpu(seed: int) -> None:
    """Ids that do not exist, NaN, infinities, w = 0, and twins of another mesh, some of them out of range."""
    p = Poison(seed)
    n, size, vertices, triangles = p.images(), p.size(), 1 + p.vertices(), p.triangles()
    if n * size[0] * size[1] > 4000 or min(size) == 0:
        return
    pos, tri = p.clip_positions(n, vertices).float(), p.triangle_table(triangles, vertices, bad=0)
    tri = tri.long().clamp(0, vertices - 1)
    rast = rg.rasterize(pos, tri, size)[0] if p.chance(0.5) else p.fragments(n, size, triangles)
    color = p.floats(n, *size, p.channels())
    known = rg.edge_topology(tri)
    if p.chance(0.5):
        foreign = torch.randint(-3, 3 * triangles + 6, (triangles, 3), generator=p.generator)
        known = type(known)(foreign.int(), known.bounds)
    upstream = p.floats(*color.shape)

    def all_of_it() -> Sequence[Tensor]:
        return run(color, rast.float(), pos, tri, upstream, method="pixel_pair", topology=known)

    want = all_of_it()
    with emulated():
        got = all_of_it()
    assert equal(got[:2], want[:2])
    assert got[2].shape == want[2].shape


# ---- topologies --------------------------------------------------------------------------------------------


def meshes() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    crowded = torch.randint(0, 7, (300, 3), generator=g)
    return {
        "closed": scenes.sphere(500).tri,
        "open": scenes.grid(17, 23).tri,
        "crowded": crowded,
        "one vertex in all": torch.stack([torch.zeros(99), torch.arange(1, 100), torch.arange(2, 101)], 1),
        "out of range": torch.cat([crowded, torch.tensor([[-1, 2, 3], [3, 7, 2], [2**31 - 1, 3, 2]])]),
        "one triangle": torch.tensor([[0, 1, 2]]),
        "none": torch.zeros(0, 3),
    }


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", meshes())
def test_twins_and_components_bit_for_bit(name: str, order: str) -> None:
    tri = meshes()[name].int()
    vertices = 7 if name == "out of range" else 2000
    want = topology.EdgeTopology(*topology.built(tri, vertices))
    parts = want.components
    with emulated(order):
        got = topology.EdgeTopology(*topology.built(tri, vertices))
        assert torch.equal(got.twins, want.twins)
        assert torch.equal(got.bounds, want.bounds)
        assert torch.equal(got.components, parts)


def test_a_topology_is_built_once_for_a_tensor_and_again_when_it_changes() -> None:
    color, rast, pos, tri = scene(4, "boxes")
    tri = tri.int()
    with emulated() as engine:
        for _ in range(3):
            rg.antialias(color, rast, pos, tri)
        assert engine.launched.count("topology_enter") == 1
        tri[0] = tri[0].roll(1)
        rg.antialias(color, rast, pos, tri)
        assert engine.launched.count("topology_enter") == 2


# ---- sub-samples -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [1, 2, 3, 5])
def test_visibility_as_on_the_cpu(scale: int, dtype: torch.dtype) -> None:
    color, rast, pos, tri = scene(5, "bumps", size=(15, 34), dtype=dtype)
    fine = scene(5, "bumps", size=(15 * scale, 34 * scale), dtype=dtype)[1]
    for method in ("outline", "pixel_pair"):
        want = run(color, rast, pos, tri, method=method, visibility=fine)
        with emulated() as engine:
            got = run(color, rast, pos, tri, method=method, visibility=fine)
        assert equal(got[:1], want[:1])
        for k, name in ((1, "d_color"), (2, "d_pos")):
            assert_gradients_close(got[k], want[k], dtype=dtype, what=name)
        assert {"gather_forward", "gather_backward"} <= set(engine.launched)
        assert ("average_forward" in engine.launched) == (scale > 1)


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize("name", golden.names("a") + golden.names("p"))
def test_golden(name: str) -> None:
    with emulated():
        assert golden.failures(golden.native_functions("cuda"), name) == []
