# SPDX-License-Identifier: MIT
"""Small meshes with fragment buffers and colours, what antialias makes of them, where that is unsteady."""

from typing import Any

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.antialias.op import blend
from testing import scenes

KINDS = ["closed", "folded", "unshared", "soup", "crowded", "behind", "boxes", "bumps", "dense"]


def drawn(pos: Tensor, tri: Tensor, size: tuple[int, int]) -> Tensor:
    """A fragment buffer [N, H, W, 4]: triangles sampled at pixel centres, the nearest wins."""
    height, width = size
    x = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
    y = (2 * torch.arange(height, dtype=torch.float64) + 1) / height - 1
    corner = pos.double()[:, tri.long()]  # [N, T, 3, 4]
    qx = corner[..., 0, None, None] - x * corner[..., 3, None, None]  # [N, T, 3, 1, W]
    qy = corner[..., 1, None, None] - y[:, None] * corner[..., 3, None, None]  # [N, T, 3, H, 1]
    area = qx.roll(-1, 2) * qy.roll(-2, 2) - qx.roll(-2, 2) * qy.roll(-1, 2)  # [N, T, 3, H, W]
    share = area / area.sum(2, keepdim=True)
    z, w = (torch.einsum("ntkhw,ntk->nthw", share, corner[..., c]) for c in (2, 3))
    there = (share >= 0).all(2) & (w > 0) & (z.abs() <= w)
    depth, index = torch.where(there, z / w, torch.inf).min(1)  # [N, H, W]
    u, v = (share[:, :, k].gather(1, index[:, None])[:, 0] for k in (0, 1))
    rast = torch.stack([u, v, depth, index + 1.0], -1)
    return torch.where(depth.isfinite()[..., None], rast, 0.0)


def mesh(kind: str, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """pos [N, V, 4], tri [T, 3].

    closed, folding, or without shared vertices; "soup", with vertices behind the camera, or crowded: many
    triangles on an edge; pairs of boxes or of bumpy spheres that pass through each other; "dense": a bumpy
    sphere of triangles smaller than a pixel.
    """
    if kind in ("soup", "behind", "crowded"):
        w_range = (-0.4, 1.5) if kind == "behind" else (0.4, 1.5)
        pos, tri = scenes.random_clip_mesh(seed, n, 9, 16, w_range=w_range)
        if kind == "crowded":  # non-manifold, duplicated, back to back, and degenerate ones between them
            g = torch.Generator().manual_seed(seed)
            again = torch.cat([tri[:4], tri[4:8, [1, 0, 2]], tri[8:10, [2, 0, 1]], tri[10:12, [0, 0, 2]]])
            tri = torch.cat([tri, again])[torch.randperm(len(tri) + len(again), generator=g)]
        return pos, tri
    shape = {
        "folded": lambda: scenes.sphere(60, bumps=0.5),
        "bumps": lambda: scenes.sphere(60, bumps=0.5),
        "dense": lambda: scenes.sphere(600, bumps=0.3),
    }.get(kind, lambda: scenes.cube(shared=kind != "unshared"))()
    g = torch.Generator().manual_seed(seed)
    views = scenes.perspective(0.9) @ scenes.look((0.0, 0.3, 3.6))

    def turned() -> Tensor:
        turns = [torch.linalg.qr(torch.randn(3, 3, generator=g))[0] for _ in range(n)]
        return torch.stack([shape.pos @ turn for turn in turns])

    pos, tri = turned(), shape.tri
    if kind in ("boxes", "bumps"):
        pos = torch.cat([pos * 0.8, turned() * 0.8 + torch.randn(n, 1, 3, generator=g) * 0.3], 1)
        tri = torch.cat([tri, tri + len(shape.pos)])
    return scenes.transform(pos, views), tri


def scene(
    seed: int,
    kind: str = "closed",
    *,
    n: int = 2,
    size: tuple[int, int] = (17, 23),
    channels: int = 3,
    ranged: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """color, rast, pos, tri."""
    pos, tri = mesh(kind, seed, 1 if ranged else n)
    rast = drawn(pos, tri, size)
    if ranged:  # the same vertices for all images, each of which sees some of the triangles
        rast = rast.expand(n, -1, -1, -1) * (
            rast[..., 3:] <= torch.arange(n, 0, -1)[:, None, None, None] * len(tri) / n
        )
        pos = pos[0]
    color = torch.rand(n, *size, channels, generator=torch.Generator().manual_seed(seed + 1))
    return color.to(dtype), rast.to(dtype), pos.to(dtype), tri


def holes(
    size: tuple[int, int] = (5, 5), centres: tuple[tuple[int, int], ...] = ((2, 2),)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """color, rast, pos, tri in float64: around the centre of some pixels (row, column), which lie five pixels
    apart, four triangles leave 0.2 x 0.2 pixels free.

    Each takes about 0.4 of that pixel, 1.6 together; no corner lies within its row or column.
    """
    height, width = size
    side = torch.tensor([[-0.09, -2.1], [-0.11, 2.2], [-2.3, 0.7]], dtype=torch.float64)  # in pixels
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    hole = torch.cat([side @ torch.linalg.matrix_power(turn, k) for k in range(4)])
    xy = torch.cat([hole + torch.tensor([column + 0.5, row + 0.5]) for row, column in centres])
    depth = torch.arange(4).repeat_interleave(3).repeat(len(centres)) * 0.1
    x, y = xy[:, 0] * 2 / width - 1, xy[:, 1] * 2 / height - 1
    pos = torch.stack([x, y, depth, torch.ones_like(x)], 1)[None]
    tri = torch.arange(len(xy)).reshape(-1, 3)
    color = torch.rand(1, *size, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return color, rg.rasterize(pos, tri, size)[0], pos, tri


def run(
    color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, upstream: Tensor | None = None, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The image and the gradients of color and pos, for a seeded random upstream unless one is given."""
    color, pos = color.detach().clone().requires_grad_(), pos.detach().clone().requires_grad_()
    image = (blend if "strict" in options else rg.antialias)(color, rast, pos, tri, **options)
    if upstream is None:
        upstream = torch.randn(image.shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    d_color, d_pos = torch.autograd.grad(image, [color, pos], upstream.to(image.dtype))
    return image.detach(), d_color, d_pos


def unsteady(color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, method: str = "outline") -> Tensor:
    """[N, H, W, 1] bool: pixels that two right answers may treat differently.

    That is, pixels whose result jumps when positions move by what rounding moves them: an edge comes to lie
    on the other side of a centre, or a diagonal becomes steep. Moved there and back, what merely slopes
    cancels, however steeply, as where two surfaces meet at a small angle. For the outline method also pixels
    for which the definition leaves a choice: two surfaces meet three times between two centres, or two faces
    end at the same line without sharing vertices. There the oracle takes another choice when the scene is
    turned by half a turn.
    """
    weak = {torch.float32: 2e-6, torch.float64: 1e-14}[pos.dtype]
    g = torch.Generator().manual_seed(5)
    basis = torch.tensor([1.0, 0.37, -0.61], dtype=torch.float64)
    # The result is linear in what is taken: three colours tell whether a pair, or its weight, has changed.
    ramp = torch.arange(color[0, ..., 0].numel(), dtype=torch.float64).reshape(1, *color.shape[1:3], 1)
    colors = (ramp * basis).sin().expand(*color.shape[:3], 3)

    def probe(p: Tensor) -> Tensor:
        return rg.antialias(colors, rast.double(), p, tri, method=method, backend="reference")

    want = probe(pos.double())
    move = pos.double() * weak * torch.randn(pos.shape, generator=g, dtype=torch.float64)
    mask = (probe(pos.double() + move) + probe(pos.double() - move) - 2 * want).abs() > 200 * weak
    if method == "outline":
        colors, rast = colors.flip(1, 2), rast.flip(1, 2)
        turned = probe(pos.double() * torch.tensor([-1.0, -1, 1, 1])).flip(1, 2)
        mask |= (turned - want).abs() > 1e-9
    return mask.any(-1, keepdim=True)
