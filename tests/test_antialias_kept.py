# SPDX-License-Identifier: MIT
"""What the outline method keeps from the forward to the backward pass: which pairs of pixels were blended."""

import pytest
import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import native
from rastergrad.ops.antialias import op
from testing import scenes
from testing.antialias_scenes import KINDS, scene

# Rows of less than a word and of several; the last is cut into three strips.
SIZES = [(1, 1), (1, 19), (23, 1), (17, 23), (5, 64), (9, 65), (40, 900)]


def kept(color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, intersections: bool = True) -> Tensor:
    """The record that forward makes."""
    return op._outline.forward(color, pos, rast, tri, None, None, 1.0, intersections)[1]


def bits_of(record: Tensor, size: torch.Size) -> Tensor:
    """bool [N, H, 2, W]: whether a pixel was blended with the one to its right, and with the one above."""
    images, height, width = size[:3]
    words = -(-width // 64)
    place = len(record) - images * height * 2 * words * 8
    octets = record[place:].reshape(images, height, 2, words * 8, 1)
    bits = (octets >> torch.arange(8, dtype=torch.uint8) & 1).bool().reshape(images, height, 2, words * 64)
    assert not bits[..., width:].any()
    return bits[..., :width]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("intersections", [True, False])
def test_what_is_kept_are_the_pairs_that_are_blended(
    kind: str, size: tuple[int, int], intersections: bool
) -> None:
    """A pixel's colour tells its row and column modulo 3, which tells from which neighbours one took."""
    height, width = size
    _, rast, pos, tri = scene(5, kind, size=size)
    row, column = torch.arange(height)[:, None] % 3, torch.arange(width) % 3
    color = torch.eye(9)[3 * row + column].expand(2, -1, -1, -1).contiguous()
    image = rg.antialias(color, rast, pos, tri, intersections=intersections)

    def took(row_step: int, column_step: int) -> Tensor:
        source = 3 * ((row + row_step) % 3) + (column + column_step) % 3
        return image.gather(3, source.expand(2, -1, -1)[..., None])[..., 0] > 0

    want = torch.zeros(2, height, 2, width, dtype=torch.bool)
    want[:, :, 0, : width - 1] = took(0, 1)[:, :, :-1] | took(0, -1)[:, :, 1:]
    want[:, : height - 1, 1] = took(1, 0)[:, :-1] | took(-1, 0)[:, 1:]
    got = bits_of(kept(color, rast, pos, tri, intersections), rast.shape)
    assert torch.equal(got, want)
    assert got.any() or 1 in size


def test_nothing_far_from_outlines_is_overlooked() -> None:
    """Counting asks all pairs; forward first leaves out neighbours in the mesh, which inside of two spheres
    of small triangles that pass through each other are almost all.
    """
    mesh = scenes.sphere(20_000)
    clip = mesh.clip(scenes.orbit(2, distance=3.0))
    shift = torch.tensor([0.4, 0.1, 0.0, 0.0])
    pos, tri = torch.cat([clip, clip + shift], 1), torch.cat([mesh.tri, mesh.tri + len(mesh.pos)])
    rast, _ = rg.rasterize(pos, tri, (150, 190))
    color = torch.rand(2, 150, 190, 3, generator=torch.Generator().manual_seed(0))
    counts = rg.outline_counts(rast, pos, tri)
    assert counts.meetings > 50
    assert counts.pairs > 20_000
    assert int(bits_of(kept(color, rast, pos, tri), rast.shape).sum()) == counts.outlines + counts.meetings


def gradients(inputs: tuple[Tensor, Tensor, Tensor, Tensor], record: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of color and pos, by the kernel itself."""
    color, rast, pos, tri = inputs
    upstream = torch.randn(color.shape, generator=torch.Generator().manual_seed(7)).to(color.dtype)
    twins = op.usable_twins("antialias", pos, tri, None, None, True)
    fields = op.scene_fields(rast.shape[:3], rast, pos, tri, twins)
    d_color, d_pos = torch.empty_like(color), torch.empty_like(pos)
    options = color.shape[-1], 1.0, 1, record
    assert native.call(op._OUTLINE[1][color.dtype], *fields, color, upstream, d_color, d_pos, *options) < 0
    return d_color, d_pos


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(17, 23), (40, 900)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backward_finds_what_forward_has_kept(kind: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    inputs = scene(3, kind, size=size, dtype=dtype)
    for got, want in zip(gradients(inputs, kept(*inputs)), gradients(inputs, None), strict=True):
        assert torch.equal(got, want)


def test_backward_visits_the_pairs_that_are_kept_and_no_others() -> None:
    inputs = scene(3, "closed")
    record = kept(*inputs)
    bits = bits_of(record, inputs[1].shape)
    words = bits.shape[0] * bits.shape[1] * 2 * 8
    record[-words:] = 0
    d_color, d_pos = gradients(inputs, record)
    assert torch.equal(d_color, torch.randn(d_color.shape, generator=torch.Generator().manual_seed(7)))
    assert not d_pos.any()
