# SPDX-License-Identifier: MIT
"""What existing programs do with the tensors between the calls; each docstring quotes the line it holds."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rastergrad.compat.nvdiffrast as dr
from testing.closeness import assert_gradients_close

CTX = dr.RasterizeCudaContext("cpu")


def scene(images: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Triangles at random, some behind others: positions [images, 30, 4], indices [10, 3]."""
    g = torch.Generator().manual_seed(7)
    xyz = torch.rand(images, 30, 3, generator=g, dtype=torch.float64) * 2.4 - 1.2
    w = 1 + 0.2 * torch.rand(images, 30, 1, generator=g, dtype=torch.float64)
    return torch.cat([xyz, w], -1).to(dtype), torch.arange(30, dtype=torch.int32).reshape(10, 3)


def fragments(images: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions, indices and what `rasterize` makes of them, 16 x 12 pixels."""
    pos, tri = scene(images)
    return pos, tri, *dr.rasterize(CTX, pos, tri, (16, 12))


def attributes(count: int, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, generator=torch.Generator().manual_seed(count))


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


# ---- rast is plain data ------------------------------------------------------------------------------------


def test_rast_flipped_and_sliced() -> None:
    """`rast` is plain data: "Programs flip it (`torch.flip(rast, dims=(1,))`), slice it"."""
    pos, tri, rast, rast_db = fragments(2)
    attr = attributes(30)
    out, out_da = dr.interpolate(attr, rast, tri, rast_db, "all")
    flipped, _ = dr.interpolate(attr, torch.flip(rast, dims=(1,)), tri)
    assert torch.equal(flipped, out.flip(1))
    window = (slice(1, 2), slice(3, 11, 2), slice(None, None, 3))
    part, part_da = dr.interpolate(attr, rast[window], tri, rast_db[window], "all")
    assert torch.equal(part, out[window])
    assert torch.equal(part_da, out_da[window])
    color = random_image(2, 16, 12, 3)
    image = dr.antialias(color, rast, pos, tri)
    assert torch.equal(dr.antialias(color[1:], rast[1:], pos[1:], tri), image[1:])


def test_rast_restacked_with_other_barycentrics() -> None:
    """`rast` is plain data: "unbind it, restack it after editing the barycentrics
    (`u, v, z, id = rast.unbind(-1)`)", with gradients to what was edited.
    """
    pos, tri = scene()
    pos = pos.requires_grad_()
    rast, _ = dr.rasterize(CTX, pos, tri, (16, 12))
    u, v, z, index = rast.unbind(-1)
    turned = torch.stack([v, 1 - u - v, z, index], -1)
    attr = attributes(30)
    out, _ = dr.interpolate(attr, turned, tri)
    wanted, _ = dr.interpolate(attr, rast, tri.roll(1, 1))
    covered = (index > 0)[..., None]
    assert torch.allclose(out, wanted, atol=1e-6)
    (got,) = torch.autograd.grad((out * covered).square().sum(), pos, retain_graph=True)
    (want,) = torch.autograd.grad((wanted * covered).square().sum(), pos)
    assert_gradients_close(got, want, dtype=torch.float32, what="d_pos")


def test_rast_edited_in_place() -> None:
    """`rast` is plain data: "edit it in place (`rast[..., :2] = ...`, `rast[..., 3:] += offset`)"."""
    pos, tri = scene()
    attr = attributes(36)
    for leaf in (pos, pos.clone().requires_grad_()):
        rast, _ = dr.rasterize(CTX, leaf, tri, (16, 12))
        covered = rast[..., 3:].detach() > 0
        rast[..., :2] = 0.25
        rast[..., 3:] += 2 * covered
        shifted = torch.cat([torch.zeros(2, 3, dtype=torch.int32), tri])
        out, _ = dr.interpolate(attr, rast, shifted)
        index = rast[..., 3].detach().long() - 1
        corners = attr[shifted.long()[index.clamp(min=0)]]
        wanted = 0.25 * corners[..., 0, :] + 0.25 * corners[..., 1, :] + 0.5 * corners[..., 2, :]
        assert torch.allclose(out, wanted * covered, atol=1e-6)


def test_rast_built_from_zeros_and_cached() -> None:
    """`rast` is plain data: "build it from zeros, cache it across calls"."""
    pos, tri, rast, _ = fragments()
    own = torch.zeros(1, 16, 12, 4)
    seen = rast[..., 3] > 0
    own[seen] = rast[seen]
    cache = {"rast": own}
    for count in (30, 40):
        assert torch.equal(*(dr.interpolate(attributes(count), r, tri)[0] for r in (cache["rast"], rast)))
    assert not bool(dr.interpolate(attributes(30), torch.zeros(2, 3, 5, 4), tri)[0].any())
    assert torch.equal(dr.antialias(rast, cache["rast"], pos, tri), dr.antialias(rast, rast, pos, tri))


def test_ids_are_floats() -> None:
    """`rast` is plain data: "read `rast[..., 3:] > 0` as a mask and `rast[..., 3].long() - 1` as a face
    index, draw wireframes from the barycentrics".
    """
    _, tri, rast, _ = fragments()
    mask = rast[..., 3:] > 0
    face = rast[..., 3].long() - 1
    assert bool((face[mask[..., 0]] >= 0).all())
    assert bool((face < len(tri)).all())
    flat, _ = dr.interpolate(torch.arange(10.0)[:, None], rast, torch.arange(10)[:, None].repeat(1, 3).int())
    assert torch.allclose(flat[mask], face[mask[..., 0]].float())
    weights = torch.cat([rast[..., :2], 1 - rast[..., :2].sum(-1, keepdim=True)], -1)
    wire = (weights.amin(-1) < 0.1) & mask[..., 0]
    assert 0 < int(wire.sum()) < int(mask.sum())


def test_rast_gathered_along_the_batch() -> None:
    """`rast` is plain data: "gather or concatenate along the batch"."""
    pos, tri, rast, _ = fragments(3)
    order = torch.tensor([2, 0, 2])
    attr = attributes(90).reshape(3, 30, 3)
    out, _ = dr.interpolate(attr, rast, tri)
    assert torch.equal(dr.interpolate(attr[order], rast[order], tri)[0], out[order])
    joined = torch.cat([rast[:1], rast[2:]])
    color = random_image(3, 16, 12, 2)
    whole = dr.antialias(color, rast, pos, tri)
    assert torch.equal(dr.antialias(color[[0, 2]], joined, pos[[0, 2]], tri), whole[[0, 2]])


# ---- topology differs between calls ------------------------------------------------------------------------


def test_a_chunk_with_the_full_index_buffer() -> None:
    """Topology: "Rasterise one chunk of faces, interpolate with the full index buffer"."""
    pos, tri = scene()
    rast, _ = dr.rasterize(CTX, pos, tri[:4], (16, 12))
    attr = attributes(30)
    assert torch.equal(dr.interpolate(attr, rast, tri)[0], dr.interpolate(attr, rast, tri[:4])[0])
    # And the other way round: what the buffer does not hold is background.
    rast, _ = dr.rasterize(CTX, pos, tri, (16, 12))
    out, _ = dr.interpolate(attr, rast, tri[:4])
    assert not bool(out[rast[..., 3] > 4].any())
    assert torch.equal(out[rast[..., 3] <= 4], dr.interpolate(attr, rast, tri)[0][rast[..., 3] <= 4])


def test_separate_index_buffers() -> None:
    """Topology: "separate index buffers for uv, normals and colours"; "attribute counts taken from a
    face-shaped tensor".
    """
    _, tri, rast, _ = fragments()
    g = torch.Generator().manual_seed(3)
    for count in (5, 24, tri.shape[0]):
        attr = attributes(count, channels=tri.shape[-1])
        indices = torch.randint(0, count, tri.shape, generator=g, dtype=torch.int32)
        unshared = attr[indices.long()].reshape(30, 3)
        assert torch.equal(dr.interpolate(attr, rast, indices)[0], dr.interpolate(unshared, rast, tri)[0])


def test_face_attributes() -> None:
    """Topology: "`arange(F)[:, None].repeat(1, 3)` as face-attribute indices", with gradients per face."""
    rast = fragments()[2]
    faces = torch.rand(1, 10, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out, _ = dr.interpolate(faces, rast, torch.arange(10)[:, None].repeat(1, 3))
    out.sum().backward()
    assert faces.grad is not None
    pixels = torch.bincount(rast[..., 3].long().flatten(), minlength=11)[1:].float()
    assert torch.allclose(faces.grad[0], pixels[:, None].expand(-1, 3), rtol=1e-5)


def test_antialias_with_detached_vertices_or_fewer_faces() -> None:
    """Topology: "antialias with detached vertices or a subset of faces"."""
    pos, tri = scene()
    pos = pos.requires_grad_()
    rast, _ = dr.rasterize(CTX, pos, tri, (16, 12))
    color = random_image(1, 16, 12, 3).requires_grad_()
    image = dr.antialias(color, rast, pos, tri)
    detached = dr.antialias(color, rast, pos.detach(), tri)
    assert torch.equal(detached, image)
    assert torch.autograd.grad(detached.sum(), pos, allow_unused=True) == (None,)
    # Ids beyond the subset are background: only silhouettes of its own triangles are blended.
    subset = dr.antialias(color, rast, pos, tri[:4])
    assert torch.equal(subset, dr.antialias(color, rast * (rast[..., 3:] <= 4), pos, tri[:4]))
    assert not torch.equal(subset, color)


# ---- tensors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.uint8, torch.uint16, torch.uint32])
def test_types_of_faces(dtype: torch.dtype) -> None:
    """Tensors: "int64 faces, uint32 or int16 from files"."""
    pos, _ = scene()
    tri = torch.arange(28, dtype=torch.int32)[:, None] + torch.arange(3, dtype=torch.int32)  # a folded strip
    rast, rast_db = dr.rasterize(CTX, pos, tri, (16, 12))
    given = torch.from_numpy(tri.numpy().astype(str(dtype).removeprefix("torch.")))
    assert given.dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(dr.rasterize(CTX, pos, given, (16, 12)), (rast, rast_db)))
    attr, color = attributes(30), random_image(1, 16, 12, 3)
    assert torch.equal(dr.interpolate(attr, rast, given)[0], dr.interpolate(attr, rast, tri)[0])
    topology = dr.antialias_construct_topology_hash(given)
    for options in ({}, {"topology_hash": topology}):
        image = dr.antialias(color, rast, pos, given, **options)
        assert torch.equal(image, dr.antialias(color, rast, pos, tri))
    with dr.DepthPeeler(CTX, pos, given, (16, 12)) as peeler:
        assert torch.equal(peeler.rasterize_next_layer()[0], rast)


def test_slices_that_are_not_contiguous() -> None:
    """Tensors: "non-contiguous slices"."""
    pos, tri, rast, rast_db = fragments(2)

    def spread(x: Tensor) -> Tensor:
        """Equal values in every second place of a larger tensor, from an odd address."""
        room = torch.zeros(*x.shape[:-1], 2 * x.shape[-1] + 1, dtype=x.dtype)
        room[..., 1::2] = x
        view = room[..., 1::2]
        assert not view.is_contiguous()
        return view

    again = dr.rasterize(CTX, spread(pos), spread(tri), (16, 12))
    assert all(torch.equal(a, b) for a, b in zip(again, (rast, rast_db)))
    attr = attributes(30)
    out = dr.interpolate(attr, rast, tri, rast_db, "all")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            dr.interpolate(spread(attr), spread(rast), spread(tri), spread(rast_db), "all"), out, strict=True
        )
    )
    tex, uv, uv_da = random_image(1, 8, 8, 3), out[0][..., :2], out[1][..., :4]
    assert not uv.is_contiguous()
    image = dr.texture(tex, uv.contiguous(), uv_da.contiguous())
    assert torch.equal(dr.texture(spread(tex), uv, uv_da), image)
    aa = dr.antialias(image, rast, pos, tri)
    assert torch.equal(dr.antialias(spread(image), spread(rast), spread(pos), spread(tri)), aa)


def test_float64_from_numpy() -> None:
    """Tensors: "float64 from NumPy": computed and returned in float64, also mixed with float32."""
    pos, tri = scene(dtype=torch.float64)
    numbers = torch.from_numpy(np.asarray(pos.numpy())).requires_grad_()
    rast, rast_db = dr.rasterize(CTX, numbers, tri, (16, 12))
    single, _ = dr.rasterize(CTX, pos.float(), tri, (16, 12))
    assert rast.dtype == rast_db.dtype == torch.float64
    same = rast[..., 3] == single[..., 3]
    assert float(same.float().mean()) > 0.97
    assert torch.allclose(rast[same].float(), single[same], atol=1e-4)
    uv, uv_da = dr.interpolate(attributes(30, 2), rast, tri, rast_db, "all")
    image = dr.antialias(dr.texture(random_image(1, 8, 8, 3), uv, uv_da), rast, numbers, tri)
    assert image.dtype == torch.float64
    image.square().sum().backward()
    assert numbers.grad is not None
    assert numbers.grad.dtype == torch.float64
    assert bool(numbers.grad.any())


def test_half_under_autocast() -> None:
    """Tensors: "half under autocast": computed in float32, gradients in the caller's type."""
    pos, tri, rast, rast_db = fragments()
    network = nn.Linear(30, 30)
    for half in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", half):
            attr = network(attributes(30, 30))
            assert attr.dtype == half
            attr.retain_grad()
            out, out_da = dr.interpolate(attr, rast, tri, rast_db, "all")
            tex = random_image(1, 8, 8, 3).to(half).requires_grad_()
            color = dr.texture(tex, out[..., :2], out_da[..., :4])
            image = dr.antialias(color.to(half), rast, pos, tri)
        assert {x.dtype for x in (out, out_da, color, image)} == {torch.float32}
        wanted, _ = dr.interpolate(attr.detach().float(), rast, tri)
        assert torch.equal(out.detach(), wanted)
        image.sum().backward()
        for leaf in (attr, tex):
            assert leaf.grad is not None
            assert leaf.grad.dtype == half
            assert bool(leaf.grad.any())


def test_gradients_of_any_subset() -> None:
    """Tensors: "`requires_grad` on any subset of inputs, `torch.nn.Parameter`": each gets the gradient that
    it gets when all are wanted.
    """
    pos, tri = scene()
    inputs = {"pos": pos, "attr": attributes(30, 2), "tex": random_image(1, 8, 8, 3)}

    def run(wanted: tuple[str, ...]) -> dict[str, Tensor]:
        leaves = {k: nn.Parameter(v.clone(), requires_grad=k in wanted) for k, v in inputs.items()}
        rast, rast_db = dr.rasterize(CTX, leaves["pos"], tri, (16, 12))
        uv, uv_da = dr.interpolate(leaves["attr"], rast, tri, rast_db, "all")
        image = dr.antialias(dr.texture(leaves["tex"], uv, uv_da), rast, leaves["pos"], tri)
        assert image.requires_grad == bool(wanted)
        if wanted:
            image.square().sum().backward()
        assert [k for k, v in leaves.items() if v.grad is not None] == [k for k in inputs if k in wanted]
        return {k: v.grad for k, v in leaves.items() if v.grad is not None}

    everything = run(tuple(inputs))
    for count in range(3):
        for wanted in itertools.combinations(inputs, count):
            for name, grad in run(wanted).items():
                assert torch.equal(grad, everything[name]), (wanted, name)


def test_inputs_changed_before_backward_are_noticed() -> None:
    """Tensors: "inputs changed in place after the call and before backward (autograd's version check must
    catch it)".
    """
    leaf, tri = scene()
    leaf.requires_grad_()
    attr, tex = attributes(30, 2), random_image(1, 8, 8, 3)

    def changed(which: str) -> None:
        pos = leaf * 1
        tri_now, attr_now, tex_now = tri.clone(), attr.clone(), tex.clone()
        rast, rast_db = dr.rasterize(CTX, pos, tri_now, (16, 12))
        uv, uv_da = dr.interpolate(attr_now, rast, tri_now, rast_db, "all")
        color = dr.texture(tex_now, uv, uv_da)
        image = dr.antialias(color, rast, pos, tri_now)
        values = {"pos": pos, "tri": tri_now, "rast": rast, "attr": attr_now, "tex": tex_now, "color": color}
        with torch.no_grad():
            values[which] += 1
        image.sum().backward()

    for which in ("pos", "tri", "rast", "attr", "tex", "color"):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            changed(which)


def test_row_zero_is_the_bottom() -> None:
    """Devices: "Row 0 of an image is the bottom row; nearly every caller flips"."""
    pos = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0, 1], [0, 0, 0, 1]]])
    rast, _ = dr.rasterize(CTX, pos, torch.tensor([[0, 1, 2]]), (8, 8))
    rows = (rast[0, ..., 3] > 0).sum(1)
    assert int(rows[0]) > int(rows[3]) > 0
    assert not bool(rows[4:].any())
