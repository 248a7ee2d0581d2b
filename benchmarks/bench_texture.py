# SPDX-License-Identifier: MIT
"""texture on a 1024^2 texture, looked up by a 1024^2 image of a rotated, scaled plane; torch's grid_sample
beside it, alone and as what torch's operations make of a trilinear lookup. And a cube map, looked up by
directions that turn over the image.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as nn

import rastergrad as rg
from testing import scenes
from testing.closeness import assert_gradients_close, assert_values_close

from .rows import Row, once

# Rows of more channels and cube maps are checked on images of this side.
CHECK_SIZE = 128


def groups(size: int) -> Iterator[list[Row]]:
    yield _three_channels(size)
    for channels in (4, 16):
        yield _many(f"trilinear, {channels} channels", size, channels)
    yield _many("trilinear, cube map of 6 x 512 x 512, 3 channels", size, 3, cube=True)


def _three_channels(size: int) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    tex = torch.rand(1, 1024, 1024, 3, generator=generator)
    uv, uv_da = plane(size)
    upstream = torch.rand(1, size, size, 3, generator=generator)
    leaves = [t.clone().requires_grad_() for t in (tex, uv, uv_da)]
    bilinear = rg.texture(leaves[0], leaves[1])
    trilinear = rg.texture(*leaves)
    # grid_sample wants channels first and coordinates in [-1, 1]; it gets them ready-made.
    planes, points = tex.permute(0, 3, 1, 2).contiguous(), ((uv - uv.floor()) * 2 - 1).contiguous()
    peer_leaves = [planes.clone().requires_grad_(), points.clone().requires_grad_()]
    sampled = nn.grid_sample(*peer_leaves, padding_mode="border", align_corners=False)
    peer_upstream = upstream.permute(0, 3, 1, 2).contiguous()
    mixed_leaves = [*peer_leaves, uv_da.clone().requires_grad_()]
    mixed = composed(*mixed_leaves)
    pixels = size * size

    def check_trilinear() -> None:
        want = rg.texture(tex, uv, uv_da, backend="reference")
        assert_values_close(trilinear.detach(), want, dtype=torch.float32, what="trilinear")
        # Elsewhere than at the seam of the texture, torch's operations must find the same.
        off = (mixed.detach().permute(0, 2, 3, 1) - want).abs().amax(-1)
        assert float((off > 1e-3).float().mean()) < 0.01, "torch's operations compute something else"

    return [
        Row(
            "texture bilinear, forward",
            1.5,
            lambda: rg.texture(tex, uv),
            lambda: assert_values_close(
                bilinear.detach(),
                rg.texture(tex, uv, backend="reference"),
                dtype=torch.float32,
                what="bilinear",
            ),
            pixels=pixels,
            bytes_moved=pixels * 4 * (2 + 3) + tex.numel() * 4,
            peer="torch grid_sample",
            run_peer=lambda: nn.grid_sample(planes, points, padding_mode="border", align_corners=False),
            peer_target_ms=9.0,
        ),
        Row(
            "texture bilinear, backward to texture and uv",
            7.0,
            lambda: torch.autograd.grad(bilinear, leaves[:2], upstream, retain_graph=True),
            lambda: _check_gradients(leaves[:2], bilinear, upstream),
            pixels=pixels,
            bytes_moved=pixels * 4 * (2 + 3 + 2) + tex.numel() * 8,
            peer="torch grid_sample",
            run_peer=lambda: torch.autograd.grad(sampled, peer_leaves, peer_upstream, retain_graph=True),
            peer_target_ms=26.0,
        ),
        Row(
            "texture trilinear with mip stack, forward",
            4.0,
            lambda: rg.texture(tex, uv, uv_da),
            check_trilinear,
            pixels=pixels,
            bytes_moved=pixels * 4 * (2 + 4 + 3) + tex.numel() * 4 * 5 // 3,
            peer="torch operations, composed",
            run_peer=lambda: composed(planes, points, uv_da),
        ),
        Row(
            "texture trilinear with mip stack, backward to texture, uv, uv_da",
            10.0,
            lambda: torch.autograd.grad(trilinear, leaves, upstream, retain_graph=True),
            lambda: _check_gradients(leaves, trilinear, upstream),
            pixels=pixels,
            bytes_moved=pixels * 4 * (2 + 4 + 3 + 2 + 4) + tex.numel() * 4 * 10 // 3,
            peer="torch operations, composed",
            run_peer=lambda: torch.autograd.grad(mixed, mixed_leaves, peer_upstream, retain_graph=True),
        ),
    ]


def composed(planes: torch.Tensor, points: torch.Tensor, uv_da: torch.Tensor) -> torch.Tensor:
    """The quickest trilinear lookup of torch's own operations: channels first, coordinates in [-1, 1], not
    wrapped. Each level that any pixel wants is sampled for all pixels, as grid_sample cannot choose.
    Gathering eight texels of a flat stack instead takes twice as long, and 1.2 times as long backward.
    """
    height, width = planes.shape[2:]
    s_x, s_y, t_x, t_y = (uv_da * torch.tensor([width, width, height, height])).unbind(-1)
    a, b, c = s_x * s_x + t_x * t_x, s_y * s_y + t_y * t_y, s_x * s_y + t_x * t_y
    major = 0.5 * (a + b) + (0.25 * (a - b).square() + c * c).sqrt()
    level = (0.5 * major.log2()).clamp(min=0)[:, None]
    result = torch.zeros(())
    for k in range(int(level.max().ceil()) + 1):
        if k:
            planes = nn.avg_pool2d(planes, 2)
        sample = nn.grid_sample(planes, points, padding_mode="border", align_corners=False)
        result = result + (1 - (level - k).abs()).clamp(min=0) * sample
    return result


def _many(what: str, size: int, channels: int, *, cube: bool = False) -> list[Row]:
    leaves = _query(size, channels, cube, side=512 if cube else 1024)
    small = _query(CHECK_SIZE, channels, cube, side=64)
    out = _lookup(leaves, cube)
    upstream = torch.rand(out.shape, generator=torch.Generator().manual_seed(1))
    pixels, texels = size * size, leaves[0].numel()
    wide = leaves[1].shape[-1] + leaves[2].shape[-1]
    check = once(_check_small(small, cube))

    def forward() -> object:
        with torch.no_grad():
            return _lookup(leaves, cube)

    return [
        Row(
            f"texture {what}, forward",
            None,
            forward,
            check,
            # The mip stack is a third of the texture; it is written and read.
            bytes_moved=pixels * 4 * (wide + channels) + texels * 4 * 5 // 3,
            pixels=pixels,
        ),
        Row(
            f"texture {what}, backward to texture, uv, uv_da",
            None,
            lambda: torch.autograd.grad(out, leaves, upstream, retain_graph=True),
            check,
            bytes_moved=pixels * 4 * (2 * wide + channels) + texels * 4 * 10 // 3,
            pixels=pixels,
        ),
    ]


def _query(size: int, channels: int, cube: bool, side: int) -> list[torch.Tensor]:
    """[tex, uv, uv_da], each wanting a gradient."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 6, side, side, channels) if cube else (1, side, side, channels)
    tex = torch.rand(*shape, generator=generator)
    query = scenes.texture_query(0, 1, size, size, cube=True, side=side) if cube else plane(size)
    return [t.clone().requires_grad_() for t in (tex, *query)]


def _lookup(leaves: list[torch.Tensor], cube: bool, backend: str | None = None) -> torch.Tensor:
    return rg.texture(*leaves, boundary_mode="cube" if cube else "wrap", backend=backend)


def _check_small(leaves: list[torch.Tensor], cube: bool) -> Callable[[], None]:
    def check() -> None:
        out, want = _lookup(leaves, cube), _lookup(leaves, cube, "reference")
        assert_values_close(out.detach(), want.detach(), dtype=torch.float32, what="texture")
        upstream = torch.rand(out.shape, generator=torch.Generator().manual_seed(1))
        results = [torch.autograd.grad(image, leaves, upstream.to(image.dtype)) for image in (out, want)]
        for k, (got, wanted) in enumerate(zip(*results, strict=True)):
            assert_gradients_close(got, wanted, dtype=torch.float32, what=f"gradient {k} of texture")

    return check


def plane(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(uv, uv_da) of a plane turned by 30 degrees, at 0.6 to 2.4 texels per pixel of a 1024^2 image."""
    steps = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    x, y = x.double().requires_grad_(), y.double().requires_grad_()
    scale = 0.6 + 1.2 * y
    u = scale * (math.cos(0.52) * x - math.sin(0.52) * y)
    v = scale * (math.sin(0.52) * x + math.cos(0.52) * y)
    rates = [g / size for t in (u, v) for g in torch.autograd.grad(t.sum(), [x, y], retain_graph=True)]
    # On a grid of 1/128 texel float32 is exact: any difference to the oracle is then one of arithmetic.
    uv = (torch.stack([u, v], -1).detach() * 2**17).round() / 2**17
    return uv.float()[None], torch.stack(rates, -1).float()[None].contiguous()


def _check_gradients(leaves: list[torch.Tensor], out: torch.Tensor, upstream: torch.Tensor) -> None:
    want = rg.texture(*leaves, backend="reference")
    pairs = zip(
        torch.autograd.grad(out, leaves, upstream, retain_graph=True),
        torch.autograd.grad(want, leaves, upstream),
        strict=True,
    )
    for k, (got, wanted) in enumerate(pairs):
        assert_gradients_close(got, wanted, dtype=torch.float32, what=f"gradient {k} of texture")
