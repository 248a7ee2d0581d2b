# SPDX-License-Identifier: MIT
"""interpolate at 1024^2: bandwidth is the limit (read 16 B of fragment, write 4 A B per pixel; attributes
stay in cache).
"""

from collections.abc import Iterator

import torch

import rastergrad as rg
from testing.closeness import assert_gradients_close, assert_values_close

from .rows import Row
from .scene import Scene, sphere

TARGETS = {3: (0.8, 1.5), 16: (2.0, 3.0)}
GATHER_THEN = {3: (14.0, 37.0), 16: (177.0, 170.0)}  # the peer where the targets were set


def groups(size: int) -> Iterator[list[Row]]:
    scene = sphere(10_000, size)
    for channels in TARGETS:
        yield _rows(scene, channels)
    yield _with_derivatives(scene)


def _rows(scene: Scene, channels: int) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    attr = torch.rand(1, scene.pos.shape[1], channels, generator=generator)
    rast, tri = scene.rast, scene.tri
    leaves = (attr.clone().requires_grad_(), rast.clone().requires_grad_())
    out, _ = rg.interpolate(leaves[0], leaves[1], tri)
    upstream = torch.rand(out.shape, generator=generator)
    pixels = rast.numel() // 4

    def forward() -> object:
        return rg.interpolate(attr, rast, tri)

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, leaves, upstream, retain_graph=True)

    def check_forward() -> None:
        want, _ = rg.interpolate(attr, rast, tri, backend="reference")
        assert_values_close(out.detach(), want, dtype=torch.float32, what="interpolate")

    def check_backward() -> None:
        want, _ = rg.interpolate(*leaves, tri, backend="reference")
        for got, wanted in zip(backward(), torch.autograd.grad(want, leaves, upstream), strict=True):
            assert_gradients_close(got, wanted, dtype=torch.float32, what="gradient of interpolate")

    # The same with torch alone: gather the corners, weigh, add.
    corners = tri.long()[(rast[..., 3].long() - 1).clamp(min=0).flatten()]
    mask = (rast[..., 3:] > 0).float().reshape(-1, 1)

    def gather(a: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        weights = torch.stack([r[..., 0], r[..., 1], 1 - r[..., 0] - r[..., 1]], -1).reshape(-1, 3, 1)
        return (a[0][corners] * weights).sum(1) * mask

    plain = gather(*leaves)
    flat = upstream.reshape(plain.shape)
    # What a program sees that has just shaded an image in torch, whose threads still spin. The other rows
    # come after a pause (testing/timing.py).
    image, shaded = torch.rand(pixels, generator=generator), torch.empty(pixels)

    def torch_work() -> object:
        return torch.mul(image, 2, out=shaded)

    after = Row(
        f"interpolate {channels} channels, forward, straight after work in torch",
        None,
        forward,
        check_forward,
        bytes_moved=pixels * 4 * (4 + channels),
        pixels=pixels,
        before=torch_work,
    )
    target_forward, target_backward = TARGETS[channels]
    return [
        Row(
            f"interpolate {channels} channels, forward",
            target_forward,
            forward,
            check_forward,
            bytes_moved=pixels * 4 * (4 + channels),
            pixels=pixels,
            peer="torch gather",
            run_peer=lambda: gather(attr, rast),
            peer_target_ms=GATHER_THEN[channels][0],
        ),
        Row(
            f"interpolate {channels} channels, backward",
            target_backward,
            backward,
            check_backward,
            bytes_moved=pixels * 4 * (4 + channels + 4),
            pixels=pixels,
            peer="torch gather",
            run_peer=lambda: torch.autograd.grad(plain, leaves, flat, retain_graph=True),
            peer_target_ms=GATHER_THEN[channels][1],
        ),
        *([after] if channels == 3 else []),
    ]


def _with_derivatives(scene: Scene) -> list[Row]:
    """Texture coordinates and what a trilinear lookup needs of them."""
    leaves = (scene.uv.clone().requires_grad_(), scene.rast.clone().requires_grad_())
    leaves += (scene.rast_db.clone().requires_grad_(),)

    def run(backend: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        attr, rast, rast_db = leaves
        return rg.interpolate(attr, rast, scene.tri, rast_db, "all", backend=backend)

    outs = run()
    generator = torch.Generator().manual_seed(0)
    upstream = [torch.rand(out.shape, generator=generator) for out in outs]

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(outs, leaves, upstream, retain_graph=True)

    def check_forward() -> None:
        for got, want in zip(outs, run("reference"), strict=True):
            assert_values_close(
                got.detach(), want.detach(), dtype=torch.float32, what="interpolate with derivatives"
            )

    def check_backward() -> None:
        wanted = torch.autograd.grad(run("reference"), leaves, upstream)
        for got, want in zip(backward(), wanted, strict=True):
            assert_gradients_close(got, want, dtype=torch.float32, what="gradient of interpolate")

    def forward() -> object:
        with torch.no_grad():
            return run()

    pixels = scene.rast.numel() // 4
    return [
        Row(
            "interpolate 2 channels with derivatives, forward",
            None,
            forward,
            check_forward,
            bytes_moved=pixels * 4 * (4 + 4 + 2 + 4),
            pixels=pixels,
        ),
        Row(
            "interpolate 2 channels with derivatives, backward",
            None,
            backward,
            check_backward,
            bytes_moved=pixels * 4 * (4 + 4 + 2 + 4 + 4 + 4),
            pixels=pixels,
        ),
    ]
