# SPDX-License-Identifier: MIT
"""How existing programs call the four primitives; each docstring quotes the line of the contract it holds."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rastergrad as rg
import rastergrad.compat.nvdiffrast as dr
from rastergrad.ops.interpolate import reference as interpolate_reference
from rastergrad.ops.texture import reference as texture_reference
from testing.closeness import assert_gradients_close

CTX = dr.RasterizeCudaContext("cpu")


def grid(n: int, images: int = 1) -> tuple[Tensor, Tensor]:
    """A wavy sheet of 2 n^2 triangles over the image: positions [images, (n + 1)^2, 4], indices int32."""
    at = torch.linspace(-0.9, 0.9, n + 1)
    y, x = torch.meshgrid(at, at, indexing="ij")
    z = 0.3 * torch.sin(3 * x) * torch.cos(2 * y)
    pos = torch.stack([x, y, z, 1 + 0.2 * z], -1).reshape(1, -1, 4)
    corner = (torch.arange(n)[:, None] * (n + 1) + torch.arange(n)).reshape(-1, 1)
    quad = corner + torch.tensor([0, 1, n + 2, n + 1])
    tri = quad[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3).int()
    shrink = torch.linspace(1, 0.6, images)[:, None, None]
    return pos * torch.cat([shrink, shrink, shrink, torch.ones_like(shrink)], -1), tri


# ---- rasterize ---------------------------------------------------------------------------------------------


def test_rasterize_is_ours_without_depth_gradient_or_gate() -> None:
    """Values of `rastergrad.rasterize`; gradients to x, y, w from u and v, none from z/w."""
    pos, tri = grid(6)
    pos = pos.requires_grad_()
    rast, rast_db = dr.rasterize(CTX, pos, tri, (24, 32))
    ours = rg.rasterize(pos, tri, (24, 32))
    assert torch.equal(rast, ours[0])
    assert torch.equal(rast_db, ours[1])
    (d_pos,) = torch.autograd.grad(rast[..., 2].sum(), pos, retain_graph=True)
    assert not bool(d_pos.any())
    (d_pos,) = torch.autograd.grad(rast[..., 0].square().sum() + rast_db.square().sum(), pos)
    assert bool(d_pos[..., [0, 1, 3]].any())
    assert not bool(d_pos[..., 2].any())


def test_pixels_won_by_rounding_count_in_gradients() -> None:
    """As in the reference; `rastergrad.rasterize` leaves them out. The lower edge lies 1/1000 pixel above the
    centres of row 4, and vertices snap to 1/256.
    """
    corners = torch.tensor([[2, 4.501], [14, 4.501], [8, 12]]) / 8 - 1
    pos = torch.cat([corners, torch.zeros(3, 1), torch.ones(3, 1)], -1)[None].requires_grad_()
    tri = torch.tensor([[0, 1, 2]])
    ours, _ = rg.rasterize(pos, tri, (16, 16))
    rast, _ = dr.rasterize(CTX, pos, tri, (16, 16))
    with dr.DepthPeeler(CTX, pos, tri, (16, 16)) as peeler:
        layer, _ = peeler.rasterize_next_layer()
    layers = [rast, layer, ours]
    assert all(int((rast[0, 4, :, 3] > 0).sum()) > 8 for rast in layers)
    grads = [torch.autograd.grad(rast[0, 4, :, 0].sum(), pos)[0] for rast in layers]
    assert [bool(g.any()) for g in grads] == [True, True, False]


def test_rasterize_by_position_and_by_keyword() -> None:
    """rasterize: "Positional and keyword (`pos=`, `tri=`, `resolution=`, `ranges=`, `grad_db=`)"."""
    pos, tri = grid(3)
    wanted = dr.rasterize(CTX, pos, tri, [8, 8])[0]
    whole = torch.tensor([[0, len(tri)]], dtype=torch.int32)
    assert torch.equal(wanted, dr.rasterize(CTX, pos=pos, tri=tri, resolution=(8, 8), grad_db=True)[0])
    assert torch.equal(
        wanted, dr.rasterize(glctx=CTX, pos=pos[0], tri=tri, resolution=(8, 8), ranges=whole)[0]
    )
    assert torch.equal(wanted, dr.rasterize(CTX, pos[0], tri, [8, 8], whole, False)[0])
    # In instanced mode ranges say nothing.
    assert torch.equal(wanted, dr.rasterize(CTX, pos, tri, [8, 8], torch.zeros(1, 2, dtype=torch.int32))[0])


@pytest.mark.parametrize(
    "resolution",
    [
        [6, 4],
        (6, 4),
        np.asarray([6, 4]),
        np.asarray([6, 4], dtype=np.int64)[:],
        (np.int32(6), np.int64(4)),
        (1.5 * 4, 0.5 * 8),
        np.asarray([6.0, 4.0]),
        torch.Size([6, 4]),
        torch.tensor([6, 4]),
    ],
)
def test_resolution(resolution: object) -> None:
    """rasterize: "`resolution` as `[h, w]`, `(h, w)`, `np.asarray([h, w])`, NumPy integers, floats that are
    whole numbers from a multiplication".
    """
    pos, tri = grid(2)
    assert dr.rasterize(CTX, pos, tri, resolution)[0].shape == (1, 6, 4, 4)  # type: ignore[arg-type]
    with dr.DepthPeeler(CTX, pos, tri, resolution) as peeler:  # type: ignore[arg-type]
        assert peeler.rasterize_next_layer()[0].shape == (1, 6, 4, 4)


@pytest.mark.parametrize(
    ("resolution", "error"), [((6.5, 4), ValueError), (6, TypeError), ((0, 4), ValueError)]
)
def test_resolution_that_is_none(resolution: object, error: type[Exception]) -> None:
    pos, tri = grid(2)
    with pytest.raises(error, match="rasterize: `resolution` must be"):
        dr.rasterize(CTX, pos, tri, resolution)  # type: ignore[arg-type]


def test_ranges_built_on_the_fly() -> None:
    """rasterize: "`ranges` as an int32 CPU tensor built on the fly"; "range mode with faces of many
    meshes".
    """
    meshes = [grid(n) for n in (1, 2, 3)]
    offsets = np.cumsum([0] + [m[0].shape[1] for m in meshes[:-1]])
    pos = torch.cat([m[0][0] for m in meshes])
    tri = torch.cat([m[1] + int(o) for m, o in zip(meshes, offsets, strict=True)])
    counts = [len(m[1]) for m in meshes]
    starts = np.cumsum([0, *counts[:-1]])
    ranges = torch.tensor(np.stack([starts, counts], 1).astype(np.int32))
    rast, _ = dr.rasterize(CTX, pos, tri, (16, 16), ranges=ranges)
    for k, (one, faces) in enumerate(meshes):
        alone, _ = dr.rasterize(CTX, one, faces, (16, 16))
        assert torch.equal(rast[k, ..., :3], alone[0, ..., :3])
        shift = (alone[0, ..., 3] > 0) * float(starts[k])
        assert torch.equal(rast[k, ..., 3], alone[0, ..., 3] + shift)


def test_grad_db_false_cuts_the_derivatives_only() -> None:
    """rasterize: "`grad_db=False`"."""
    pos, tri = grid(3)
    pos = pos.requires_grad_()
    rast, rast_db = dr.rasterize(CTX, pos, tri, (16, 16), grad_db=False)
    (d_pos,) = torch.autograd.grad(rast_db.sum(), pos, retain_graph=True)
    assert not bool(d_pos.any())
    assert bool(torch.autograd.grad(rast[..., 0].sum(), pos)[0].any())


def test_under_no_grad() -> None:
    """rasterize: "Under `torch.no_grad`"."""
    pos, tri = grid(3)
    with torch.no_grad():
        rast, rast_db = dr.rasterize(CTX, pos.requires_grad_(), tri, (8, 8))
    assert not rast.requires_grad
    assert not rast_db.requires_grad
    with torch.inference_mode():
        assert torch.equal(dr.rasterize(CTX, pos, tri, (8, 8))[0], rast)


def test_uv_space() -> None:
    """rasterize: "UV-space rasterisation: z = 0, w = 1, pos = 2 uv - 1"."""
    uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    pos = torch.cat([2 * uv - 1, torch.zeros(4, 1), torch.ones(4, 1)], -1)[None]
    rast, _ = dr.rasterize(CTX, pos, tri, (8, 8))
    assert bool((rast[..., 3] > 0).all())  # the whole atlas, its border and diagonal included
    texel, _ = dr.interpolate(uv[None], rast, tri)
    centres = (torch.arange(8) + 0.5) / 8
    assert torch.allclose(texel[0, ..., 0], centres.expand(8, 8), atol=1e-6)
    assert torch.allclose(texel[0, ..., 1], centres[:, None].expand(8, 8), atol=1e-6)


def test_one_pose_and_many() -> None:
    """rasterize: "Shape `(1, V, 4)` with many views as minibatch"; "hundreds of poses per batch"."""
    pos, tri = grid(2, images=300)
    rast, _ = dr.rasterize(CTX, pos, tri, (8, 8))
    assert rast.shape == (300, 8, 8, 4)
    for k in (0, 150, 299):
        assert torch.equal(rast[k], dr.rasterize(CTX, pos[k : k + 1], tri, (8, 8))[0][0])


def test_chunks_of_faces_with_shared_vertices() -> None:
    """rasterize: "chunks of 100k faces with shared vertices"; the nearest of all chunks is what one call
    draws.
    """
    pos, tri = grid(400)  # 320,000 faces
    whole, _ = dr.rasterize(CTX, pos, tri, (64, 64))
    nearest = torch.zeros_like(whole)
    nearest[..., 2] = 2
    for start in range(0, len(tri), 100_000):
        rast, _ = dr.rasterize(CTX, pos, tri[start : start + 100_000], (64, 64))
        rast[..., 3:] += start * (rast[..., 3:] > 0)
        closer = (rast[..., 3] > 0) & (rast[..., 2] < nearest[..., 2])
        nearest[closer] = rast[closer]
    assert torch.equal(nearest[..., 3], whole[..., 3])


def test_ten_million_faces() -> None:
    """rasterize: "10 million faces": ids are `index + 1` as ordinary floats."""
    tri = torch.zeros(10_000_000, 3, dtype=torch.int32)
    tri[-1] = torch.arange(3, dtype=torch.int32)
    pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])
    rast, _ = dr.rasterize(CTX, pos, tri, (2, 2))
    assert bool((rast[..., 3].long() - 1 == 9_999_999).all())


def test_triangles_with_indices_out_of_range_are_left_out() -> None:
    """As the reference does; `rastergrad.rasterize` raises."""
    pos, tri = grid(3)
    bad = torch.cat([tri, torch.tensor([[0, 1, 999], [-1, 2, 3]], dtype=torch.int32)])
    wanted, _ = dr.rasterize(CTX, pos, tri, (16, 16))
    rast, _ = dr.rasterize(CTX, pos, bad, (16, 16))
    assert torch.equal(rast, wanted)
    color = torch.rand(1, 16, 16, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dr.antialias(color, rast, pos, bad), dr.antialias(color, wanted, pos, tri))


# ---- interpolate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 30])
def test_attributes(channels: int) -> None:
    """interpolate: "Attributes `[V, A]` with instanced rast, `[1, V, A]` broadcast over the batch,
    `[n, V, A]`; A from 1 to about 30".
    """
    pos, tri = grid(3, images=2)
    rast, _ = dr.rasterize(CTX, pos, tri, (8, 8))
    attr = torch.rand(pos.shape[1], channels, generator=torch.Generator().manual_seed(channels))
    wanted = interpolate_reference.interpolate(attr, rast, tri.long())[0].float()
    for given in (attr, attr[None], attr.expand(2, -1, -1)):
        out, out_da = dr.interpolate(given, rast, tri)
        assert torch.allclose(out, wanted, atol=1e-6)
        assert out_da.shape == (2, 8, 8, 0)


def test_diff_attrs() -> None:
    """interpolate: "`diff_attrs=None`, `'all'`, a list, a NumPy array; `rast_db` given but unused. Without it
    the second output has shape `[n, H, W, 0]`".
    """
    pos, tri = grid(3, images=2)
    rast, rast_db = dr.rasterize(CTX, pos, tri, (8, 8))
    attr = torch.rand(pos.shape[1], 3, generator=torch.Generator().manual_seed(0))
    everything = dr.interpolate(attr, rast, tri, rast_db=rast_db, diff_attrs="all")[1]
    assert everything.shape == (2, 8, 8, 6)
    chosen = torch.cat([everything[..., 4:6], everything[..., :2]], -1)
    for diff_attrs in ([2, 0], (2, 0), np.asarray([2, 0]), [-1, 0]):
        assert torch.equal(dr.interpolate(attr, rast, tri, rast_db, diff_attrs)[1], chosen)
    for given in ((None, None), (rast_db, None), (None, []), (rast_db, [])):
        assert dr.interpolate(attr, rast, tri, *given)[1].shape == (2, 8, 8, 0)


def test_six_calls_on_one_rast() -> None:
    """interpolate: "Six calls on one `rast`. Results are `.contiguous()`-ed, `.squeeze(0)`-ed,
    `.flip(1)`-ed"; gradients of all add up.
    """
    pos, tri = grid(3)
    pos = pos.requires_grad_()
    rast, rast_db = dr.rasterize(CTX, pos, tri, (8, 8))
    g = torch.Generator().manual_seed(0)
    attrs = [torch.rand(1, pos.shape[1], 2, generator=g) for _ in range(6)]
    outs = [dr.interpolate(a, rast, tri, rast_db, "all")[0].contiguous().squeeze(0).flip(1) for a in attrs]
    together = dr.interpolate(torch.cat(attrs, -1), rast, tri)[0][0].flip(1)
    assert torch.equal(torch.cat(outs, -1), together)
    (d_pos,) = torch.autograd.grad(sum(o.square().sum() for o in outs), pos, retain_graph=True)
    (wanted,) = torch.autograd.grad(together.square().sum(), pos)
    assert_gradients_close(d_pos, wanted, dtype=torch.float32, what="d_pos")


# ---- texture -----------------------------------------------------------------------------------------------


def pixels(images: int, height: int, width: int, count: int) -> Tensor:
    g = torch.Generator().manual_seed(images + height + width + count)
    return torch.rand(images, height, width, count, generator=g)


def test_level_from_derivatives_from_a_bias_and_from_both() -> None:
    """texture: "`uv_da` only; `mip_level_bias` only; both"."""
    tex, uv, uv_da = pixels(1, 16, 16, 3), pixels(1, 5, 5, 2), 0.4 * pixels(1, 5, 5, 4)
    bias = 2 * pixels(1, 5, 5, 1)[..., 0]
    for given in ({"uv_da": uv_da}, {"mip_level_bias": bias}, {"uv_da": uv_da, "mip_level_bias": bias}):
        leaves = [x.clone().requires_grad_() for x in (tex, uv, *given.values())]
        out = dr.texture(leaves[0], leaves[1], **dict(zip(given, leaves[2:], strict=True)))
        twins = [x.detach().double().requires_grad_() for x in leaves]
        options = {"uv_da": None, "mip_level_bias": None, **dict(zip(given, twins[2:], strict=True))}
        wanted = texture_reference.texture(
            twins[0],
            twins[1],
            options["uv_da"],
            options["mip_level_bias"],
            None,
            filter_mode="linear-mipmap-linear",
            boundary_mode="wrap",
            max_mip_level=None,
            circular_gradient=False,
        )
        assert torch.allclose(out, wanted.float(), atol=1e-5)
        ours = torch.autograd.grad(out.square().sum(), leaves)
        for got, want in zip(ours, torch.autograd.grad(wanted.square().sum(), twins), strict=True):
            assert_gradients_close(got, want, dtype=torch.float32, what=str(list(given)))


def test_a_general_query_with_millions_of_rows() -> None:
    """texture: "a general N x 1 query with millions of rows, no image at all: uv `[3, N, 1, 2]`"."""
    count = 1_000_000
    planes = pixels(3, 32, 32, 4)
    uv = torch.rand(3, count, 1, 2, generator=torch.Generator().manual_seed(0))
    bias = torch.full((3, count, 1), 1.5)
    out = dr.texture(planes, uv, mip_level_bias=bias, boundary_mode="clamp")
    assert out.shape == (3, count, 1, 4)
    few = slice(count - 3, count)
    assert torch.equal(out[:, few], dr.texture(planes, uv[:, few], None, bias[:, few], boundary_mode="clamp"))


def test_levels_of_a_list_are_parameters() -> None:
    """texture: "`mip=` a list of tensors with gradients of their own (parameters of an optimiser)"."""
    levels = [nn.Parameter(pixels(1, n, n, 2)) for n in (8, 4, 2, 1)]
    out = dr.texture(levels[0], pixels(1, 6, 6, 2), 0.5 * pixels(1, 6, 6, 4), mip=levels[1:])
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in levels)


def test_the_opaque_object() -> None:
    """texture: "`mip=` ... or the opaque object; `max_mip_level=None` or an int"."""
    tex = pixels(1, 8, 16, 3).requires_grad_()
    uv, uv_da = pixels(2, 6, 6, 2), 0.5 * pixels(2, 6, 6, 4)
    for most in (None, 2, np.int64(2), 1):
        stack = dr.texture_construct_mip(tex, most)
        ready, anew = (dr.texture(tex, uv, uv_da, **o) for o in ({"mip": stack}, {"max_mip_level": most}))
        assert torch.equal(ready, anew)
        grads = [torch.autograd.grad(x.square().sum(), tex)[0] for x in (ready, anew)]
        assert torch.equal(*grads)
    assert torch.equal(dr.texture(tex, uv, uv_da, max_mip_level=0), dr.texture(tex, uv))
    assert torch.equal(dr.texture(tex, uv, uv_da, mip=stack, max_mip_level=0), dr.texture(tex, uv))
    assert not torch.equal(dr.texture(tex, uv, uv_da, max_mip_level=1), dr.texture(tex, uv, uv_da))


def test_cube_map_with_own_levels_and_bias() -> None:
    """texture: "`boundary_mode='cube'` with a user's mip list and `mip_level_bias`": roughness chooses."""
    levels = [torch.full((1, 6, n, n, 3), float(k), requires_grad=True) for k, n in enumerate((8, 4, 2))]
    directions = pixels(1, 5, 5, 3) - 0.5
    for level in (0.0, 0.25, 1.5, 2.0, 9.0):
        out = dr.texture(
            levels[0],
            directions,
            mip=levels[1:],
            mip_level_bias=torch.full((1, 5, 5), level),
            filter_mode="linear-mipmap-linear",
            boundary_mode="cube",
        )
        assert torch.allclose(out, torch.full_like(out, min(level, 2.0)), atol=1e-6)
    stack = dr.texture_construct_mip(levels[0], cube_mode=True)
    bias = torch.ones(1, 5, 5)
    assert not bool(dr.texture(levels[0], directions, None, bias, stack, boundary_mode="cube").any())


class Resample(torch.autograd.Function):
    """An image drawn at other places; its backward resamples, too."""

    @staticmethod
    def forward(ctx: object, image: Tensor, uv: Tensor) -> Tensor:
        ctx.save_for_backward(uv)  # type: ignore[attr-defined]
        return dr.texture(image, uv, filter_mode="linear", boundary_mode="clamp")

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        (uv,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return dr.texture(grad.contiguous(), uv, filter_mode="linear", boundary_mode="clamp"), None


def test_resampling_inside_a_custom_backward() -> None:
    """texture: "`'clamp'` with `'linear'` as an image resampler inside a custom backward"."""
    image = pixels(1, 6, 6, 3).requires_grad_()
    at = (torch.arange(6) + 0.5) / 6
    uv = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)[None]
    out = Resample.apply(image, uv)
    assert torch.allclose(out, image, atol=1e-6)  # texel centres
    out.square().sum().backward()
    assert image.grad is not None
    assert torch.allclose(image.grad, 2 * image, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 30])
def test_channels_and_views(channels: int) -> None:
    """texture: "single-channel and 30-channel textures; a `[1, h, w, C]` texture for many views; background
    uv = 0".
    """
    pos, tri = grid(2, images=3)
    rast, rast_db = dr.rasterize(CTX, pos, tri, (8, 8))
    uv, uv_da = dr.interpolate(pos[0, :, :2].contiguous() + 1, rast, tri, rast_db, "all")
    tex = pixels(1, 8, 8, channels)
    out = dr.texture(tex, uv, uv_da)
    assert out.shape == (3, 8, 8, channels)
    assert torch.equal(out, dr.texture(tex.expand(3, -1, -1, -1), uv, uv_da))
    background = rast[..., 3] == 0
    assert bool(background.any())
    corner = tex[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(1)  # uv = 0 lies between four texels
    assert torch.allclose(out[background], corner.expand(int(background.sum()), -1), atol=1e-6)


# ---- antialias ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4, 9])
def test_channels_of_antialias(channels: int) -> None:
    """antialias: "1, 3, 4 and more channels"; the method is that of pixel pairs."""
    pos, tri = grid(4)
    pos = (0.7 * pos + torch.tensor([0.013, 0.021, 0, 0.3])).requires_grad_()
    rast, _ = dr.rasterize(CTX, pos, tri, (16, 16))
    color = pixels(1, 16, 16, channels)
    image = dr.antialias(color, rast, pos, tri)
    paired = rg.antialias(color, rast, pos, tri, method="pixel_pair")
    assert torch.equal(image, paired)
    assert not torch.equal(image, color)
    (d_pos,) = torch.autograd.grad(image.square().sum(), pos, retain_graph=True)
    assert torch.equal(d_pos, torch.autograd.grad(paired.square().sum(), pos)[0])
    assert not bool(d_pos[..., 2].any())


def test_mask_topology_and_boost() -> None:
    """antialias: "a bool mask cast to float; `topology_hash=`; `pos_gradient_boost=`"."""
    pos, tri = grid(4)
    pos = (0.7 * pos + torch.tensor([0.013, 0.021, 0, 0.3])).requires_grad_()
    rast, _ = dr.rasterize(CTX, pos, tri, (16, 16))
    mask = (rast[..., 3:] > 0).float()
    topology = dr.antialias_construct_topology_hash(tri)
    image = dr.antialias(mask, rast, pos, tri)
    assert torch.equal(image, dr.antialias(mask, rast, pos, tri, topology_hash=topology))
    assert bool(((image > 0) & (image < 1)).any())
    boosted = dr.antialias(mask, rast, pos, tri, pos_gradient_boost=3.0)
    (plain,) = torch.autograd.grad(image.sum(), pos, retain_graph=True)
    assert bool(plain.any())
    (d_pos,) = torch.autograd.grad(boosted.sum(), pos)
    assert_gradients_close(d_pos, 3 * plain, dtype=torch.float32, what="d_pos")


def test_the_difference_is_an_edge_mask() -> None:
    """antialias: "the difference to its input used as an edge mask"."""
    pos, tri = grid(4)
    rast, _ = dr.rasterize(CTX, 0.7 * pos + torch.tensor([0.013, 0.021, 0, 0.3]), tri, (32, 32))
    pos = 0.7 * pos + torch.tensor([0.013, 0.021, 0, 0.3])
    mask = (rast[..., 3:] > 0).float()
    edges = (dr.antialias(mask, rast, pos, tri) - mask).abs().sum(-1)[0] > 0
    inside = mask[0, ..., 0] > 0
    rim = torch.zeros_like(inside)
    for axis in (0, 1):
        for step in (1, -1):
            rim |= inside != inside.roll(step, axis)
    assert bool(edges.any())
    assert bool((edges & ~rim).sum() == 0)


def test_layer_by_layer_while_peeling() -> None:
    """antialias: "applied layer by layer inside a depth-peeling loop"."""
    one, faces = grid(2)
    shift = torch.tensor([[0.1, 0.05, 0.4, 0], [-0.1, 0.0, -0.4, 0], [0, 0, 0, 0]])
    pos = (0.6 * one + torch.tensor([0, 0, 0, 0.4]) + shift[:, None]).reshape(1, -1, 4).requires_grad_()
    tri = torch.cat([faces + k * one.shape[1] for k in range(3)])
    image = torch.zeros(1, 32, 32, 3)
    through = torch.ones(1, 32, 32, 1)
    with dr.DepthPeeler(CTX, pos, tri, (32, 32)) as peeler:
        for _ in range(3):
            rast, _ = peeler.rasterize_next_layer()
            color, _ = dr.interpolate(pos[0, :, :3].contiguous(), rast, tri)
            alpha = 0.5 * (rast[..., 3:] > 0)
            layer = dr.antialias(torch.cat([color, alpha], -1), rast, pos, tri)
            image = image + through * layer[..., 3:] * layer[..., :3]
            through = through * (1 - layer[..., 3:])
    assert math.isclose(float(through.detach().min()), 0.125, rel_tol=1e-5)  # all three sheets
    image.sum().backward()
    assert pos.grad is not None
    assert bool(pos.grad.isfinite().all())
    assert all(bool(part.any()) for part in pos.grad[0].split(one.shape[1]))
