# SPDX-License-Identifier: MIT
"""What rasterize takes and refuses: shapes, dtypes, views, ranges, empty and hostile input, layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from rastergrad.ops.rasterize import reference
from rastergrad.ops.rasterize.op import depth_layers, draw, rasterize
from testing import scenes

SIZE = (24, 31)
COVER = torch.tensor([[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]])


def soup(count: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """[V, 4] and [T, 3]: triangles on shared vertices, at depths of their own."""
    g = torch.Generator().manual_seed(seed)
    xyz = torch.rand(24, 3, generator=g) * 1.8 - 0.9
    pos = torch.cat([xyz, torch.ones(24, 1)], 1) * (torch.rand(24, 1, generator=g) + 0.5)
    return pos, torch.randint(0, 24, (count, 3), generator=g, dtype=torch.int32)


POS, TRI = soup()


def same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


# What is taken ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint32, torch.int16, torch.uint8])
def test_integer_types(dtype):
    assert same(rasterize(POS[None], TRI.to(dtype), SIZE), rasterize(POS[None], TRI, SIZE))


def test_views():
    wide = torch.zeros(2, 24, 9)
    wide[..., 3:7] = POS
    pos = wide[..., 3:7]
    tri = TRI.T.contiguous().T
    want = rasterize(POS.repeat(2, 1, 1), TRI, SIZE)
    assert not pos.is_contiguous()
    assert not tri.is_contiguous()
    leaf = wide.requires_grad_()
    got = rasterize(leaf[..., 3:7], tri, SIZE)
    assert same(got, want)
    odd = torch.cat([torch.zeros(1), POS.flatten()])[1:].reshape(1, 24, 4)
    assert same(rasterize(odd, TRI, SIZE), rasterize(POS[None], TRI, SIZE))
    got[0].sum().backward()
    assert leaf.grad[..., 3:7].any()
    assert not leaf.grad[..., :3].any()


@pytest.mark.parametrize(
    "size",
    [
        [24, 31],
        np.asarray([24, 31]),
        torch.Size([24, 31]),
        (np.int64(24), np.float64(31.0)),
        torch.tensor([24, 31]),
    ],
)
def test_ways_to_say_the_resolution(size):
    assert rasterize(POS[None], TRI, size)[0].shape == (1, 24, 31, 4)


def test_ids_above_two_to_the_24():
    """17 million triangles, of which only the last four lie on the screen."""
    first = (1 << 24) - 2
    tri = torch.zeros(first + 4, 3, dtype=torch.int32)
    tri[first:] = torch.tensor([0, 1, 2], dtype=torch.int32)
    for count in (1, 2, 3, 4):
        rast, _ = rasterize(COVER, tri, (2, 2), ranges=torch.tensor([[first, count]]))
        index_plus_one = torch.tensor(first + count)
        assert torch.equal(rast[..., 3].unique(), reference.encode_ids(index_plus_one)[None])


# Ranges -----------------------------------------------------------------------------------------------------


def test_ranges_overlap_end_early_and_may_be_empty():
    ranges = torch.tensor([[0, 12], [5, 20], [7, 0], [28, 100], [99, 5], [0, 30]], dtype=torch.int32)
    rast, rast_db = rasterize(POS, TRI, SIZE, ranges=ranges)
    for image, (first, count) in enumerate(ranges.tolist()):
        part = TRI[first : first + count]
        want, want_db = rasterize(POS[None], part, SIZE)
        want[..., 3] += first * (want[..., 3] > 0)
        assert torch.equal(rast[image], want[0])
        assert torch.equal(rast_db[image], want_db[0])
    assert not rast[2].any()
    assert not rast[4].any()


def test_gradients_of_ranges_add_up_over_images():
    ranges = torch.tensor([[0, 12], [5, 20], [0, 30]])
    leaf, several = POS.clone().requires_grad_(), POS.repeat(3, 1, 1).requires_grad_()
    rasterize(leaf, TRI, SIZE, ranges=ranges)[0].square().sum().backward()
    for image, (first, count) in enumerate(ranges.tolist()):
        rasterize(several[image : image + 1], TRI[first : first + count], SIZE)[0][
            ..., :3
        ].square().sum().backward()
    torch.testing.assert_close(leaf.grad, several.grad.sum(0), rtol=1e-5, atol=1e-4)


def test_ranges_are_ignored_with_instanced_positions():
    assert same(
        rasterize(POS[None], TRI, SIZE, ranges=torch.tensor([[0, 1]])), rasterize(POS[None], TRI, SIZE)
    )


def test_many_small_images_are_those_drawn_one_by_one():
    """Images per worker instead of tiles per worker."""
    g = torch.Generator().manual_seed(3)
    pos = POS + torch.randn(40, 24, 4, generator=g) * torch.tensor([0.2, 0.2, 0.1, 0.0])
    rast, rast_db = rasterize(pos, TRI, (20, 30))
    ranges = torch.tensor([[k % 7, 20] for k in range(40)])
    ranged, _ = rasterize(POS, TRI, (20, 30), ranges=ranges)
    for k in range(40):
        assert same((rast[k : k + 1], rast_db[k : k + 1]), rasterize(pos[k : k + 1], TRI, (20, 30)))
        assert torch.equal(ranged[k : k + 1], rasterize(POS, TRI, (20, 30), ranges=ranges[k : k + 1])[0])


# Empty and hostile ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "vertices", "triangles"), [(0, 24, 30), (2, 24, 0), (2, 0, 0), (0, 0, 0)])
def test_empty_is_background_without_gradient(images, vertices, triangles):
    pos = torch.rand(images, vertices, 4).requires_grad_()
    rast, rast_db = rasterize(pos, TRI[:triangles], SIZE)
    assert rast.shape == rast_db.shape == (images, *SIZE, 4)
    assert not rast.any()
    (rast.sum() + rast_db.sum()).backward()
    assert pos.grad.shape == pos.shape
    assert not pos.grad.any()


def test_empty_ranges():
    rast, _ = rasterize(POS, TRI, SIZE, ranges=torch.zeros(0, 2, dtype=torch.int64))
    assert rast.shape == (0, *SIZE, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-40, -1e-40, 0.0, -0.0]
)
def test_hostile_numbers_do_no_harm(value, dtype):
    """In every coordinate of every third vertex, forward and backward; others are drawn as before."""
    for seed in range(3):
        pos, tri = soup(60, seed)
        pos = pos.to(dtype)
        for coordinates in ([0], [1], [2], [3], [0, 3], [0, 1, 2, 3]):
            bad = pos.clone()
            bad[::3, coordinates] = value
            leaf = bad[None].clone().requires_grad_()
            rast, rast_db = rasterize(leaf, tri, (70, 33))
            assert (rast[..., 3] >= 0).all()
            assert rast.isfinite().all()
            (rast.sum() + rast_db.sum()).backward()
            if value != value:
                whole = (tri % 3 != 0).all(1)
                want, _ = rasterize(pos[None], torch.where(whole[:, None], tri, 0), (70, 33))
                assert torch.equal(rast.detach(), want)


def test_everything_at_the_camera():
    rast, rast_db = rasterize(torch.zeros(1, 24, 4), TRI, SIZE)
    assert not rast.any()
    assert not rast_db.any()


# What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"pos": POS[None].int()},
            TypeError,
            ["`pos`", "float tensor of shape [N, V, 4]", "int32 [1, 24, 4]", "pos.float()"],
        ),
        ({"pos": POS[None].numpy()}, TypeError, ["`pos`", "ndarray", "torch.as_tensor(pos)"]),
        ({"pos": POS[None, :, :3]}, ValueError, ["`pos`", "float32 [1, 24, 3]"]),
        ({"pos": POS[0]}, ValueError, ["`pos`", "float32 [4]"]),
        ({"pos": POS}, ValueError, ["`pos`", "needs `ranges`", "got None", "pos[None]"]),
        (
            {"tri": TRI.float()},
            TypeError,
            ["`tri` must be an integer tensor of shape [T, 3]; got float32 [30, 3]", "tri.int()"],
        ),
        ({"tri": TRI[None]}, ValueError, ["`tri`", "int32 [1, 30, 3]"]),
        ({"tri": TRI.T}, ValueError, ["`tri`", "int32 [3, 30]"]),
        ({"tri": [[0, 1, 2]]}, TypeError, ["`tri`", "list"]),
        ({"resolution": (0, 4)}, ValueError, ["`resolution`", "above 0", "got 0"]),
        ({"resolution": (4, -1)}, ValueError, ["`resolution`", "got -1"]),
        ({"resolution": (4, 4, 4)}, ValueError, ["`resolution`", "3 values"]),
        ({"resolution": (4.5, 4)}, ValueError, ["`resolution`", "4.5"]),
        ({"resolution": 4}, TypeError, ["`resolution`", "got 4"]),
        ({"resolution": ("a", 4)}, TypeError, ["`resolution`", "'a'"]),
        ({"resolution": (4, 40000)}, ValueError, ["`resolution`", "32768", "40000"]),
        (
            {"pos": POS, "ranges": torch.tensor([[0, 3], [2, -1]])},
            ValueError,
            ["`ranges`", "negative", "(2, -1)", "image 1"],
        ),
        ({"pos": POS, "ranges": torch.tensor([0, 3])}, ValueError, ["`ranges`", "int64 [2]"]),
        (
            {"pos": POS, "ranges": torch.tensor([[0.0, 3.0]])},
            TypeError,
            ["`ranges`", "float32 [1, 2]", "ranges.int()"],
        ),
        ({"pos": POS, "ranges": [[0, 3]]}, TypeError, ["`ranges`", "list"]),
        ({"db_grad": 1}, TypeError, ["`db_grad`", "True or False", "got 1"]),
        ({"depth_grad": None}, TypeError, ["`depth_grad`", "got None"]),
        ({"backend": "metal"}, ValueError, ["`backend`", "'cpu'", "'metal'"]),
    ],
)
@pytest.mark.parametrize("function", [rasterize, depth_layers])
def test_refusals_say_who_what_and_how(function, change, error, words):
    arguments = {"pos": POS[None], "tri": TRI, "resolution": SIZE, **change}
    with pytest.raises(error) as caught:
        next(iter(function(**arguments)))
    for word in [f"{function.__name__}:", *words]:
        assert word in str(caught.value)


@pytest.mark.cpu_kernels("about tensors that are on no GPU")
def test_the_cuda_backend_wants_tensors_on_a_gpu():
    with pytest.raises(
        ValueError, match=r'backend="cuda" takes tensors on an NVIDIA GPU; got cpu. .*`\.cuda\(\)`'
    ):
        rasterize(POS[None], TRI, SIZE, backend="cuda")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("index", [24, -1, 2**31, 2**40])
def test_a_vertex_index_out_of_range_is_named(index, backend):
    tri = TRI.long().repeat(400, 1)
    tri[9000, 1] = index
    tri[11000, 0] = index
    for pos, options in (
        (POS[None], {}),
        (POS.repeat(9, 1, 1), {}),
        (POS, {"ranges": torch.tensor([[0, 30], [0, 12000]])}),
    ):
        with pytest.raises(
            ValueError, match=r"`tri` must hold vertex indices from 0 to 23.*in triangle 9000\."
        ):
            rasterize(pos, tri, (4, 4), backend=backend, **options)
    with pytest.raises(ValueError, match="0 vertices"):
        rasterize(POS[None, :0], TRI, (4, 4), backend=backend)


def test_not_strict_leaves_bad_triangles_out():
    tri = TRI.long().clone()
    tri[[3, 8], [1, 2]] = torch.tensor([24, -5])
    rast, rast_db, key = draw("rasterize", POS[None], tri, SIZE, strict=False)
    tri[[3, 8]] = 0
    assert same((rast, rast_db), rasterize(POS[None], tri, SIZE))
    assert key.numel() == 0


# Layers -----------------------------------------------------------------------------------------------------


def test_layers_end_by_themselves_and_start_as_rasterize():
    mesh = scenes.sphere(300)
    pos = mesh.clip(scenes.orbit(2))
    layers = list(depth_layers(pos, mesh.tri, (40, 45)))
    assert same(layers[0], rasterize(pos, mesh.tri, (40, 45)))
    seen = [(rast[..., 3] > 0) for rast, _ in layers]
    assert [bool(s.any()) for s in seen] == [True] * len(layers)
    for nearer, farther in itertools.pairwise(seen):
        assert not (farther & ~nearer).any()
    depths = torch.stack([torch.where(rast[..., 3] > 0, rast[..., 2], torch.inf) for rast, _ in layers[:2]])
    assert (depths[1] >= depths[0] - 1e-6).all()
    assert len(list(depth_layers(pos, mesh.tri, (40, 45), 1))) == 1
    assert list(depth_layers(pos, mesh.tri, (40, 45), 0)) == []
    assert list(depth_layers(pos, mesh.tri[:0], (40, 45))) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_and_their_gradients_are_the_oracles(dtype):
    g = torch.Generator().manual_seed(0)
    pos = POS[None].to(dtype)
    leaf, exact = pos.clone().requires_grad_(), pos.double().requires_grad_()
    got, want = (depth_layers(p, TRI, SIZE, backend=b) for p, b in ((leaf, "cpu"), (exact, "reference")))
    count = 0
    for (rast, rast_db), (rast_ref, rast_db_ref) in zip(got, want, strict=True):
        count += 1
        assert torch.equal(rast[..., 3].double(), rast_ref[..., 3])
        up = torch.randn(rast.shape, generator=g).to(dtype)
        (d_pos,) = torch.autograd.grad((rast, rast_db), leaf, (up, up))
        (d_want,) = torch.autograd.grad((rast_ref, rast_db_ref), exact, (up.double(), up.double()))
        torch.testing.assert_close(
            d_pos.double(),
            d_want,
            rtol=0,
            atol=(1e-3 if dtype == torch.float32 else 1e-10) * d_want.abs().max().item(),
        )
    assert count > 4


def test_layer_count_is_checked():
    with pytest.raises(
        TypeError, match=r"depth_layers: `max_layers` must be None or a whole number; got 1\.5"
    ):
        depth_layers(POS[None], TRI, SIZE, 1.5)
    with pytest.raises(ValueError, match="at least 0; got -1"):
        depth_layers(POS[None], TRI, SIZE, -1)
    with pytest.raises(ValueError, match="depth_layers: `tri` must hold vertex indices"):
        list(depth_layers(POS[None], TRI + 10, SIZE))


# Inputs changed between forward and backward ----------------------------------------------------------------


def test_inputs_changed_in_place_are_noticed():
    leaf = POS[None].clone().requires_grad_()
    moved = leaf * 1.0
    rast, _ = rasterize(moved, TRI, SIZE)
    with torch.no_grad():
        moved += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rast.sum().backward()
