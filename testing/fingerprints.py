# SPDX-License-Identifier: MIT
"""Hashes of all results and gradients of fixed scenes, one per line: `python -m testing.fingerprints`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import native
from testing import scenes


def fingerprint(x: Tensor) -> str:
    """Of the bits, but that all NaNs are alike."""
    canonical = torch.where(x.isnan(), torch.full_like(x, float("nan")), x).detach().contiguous()
    return hashlib.sha256(canonical.numpy().tobytes()).hexdigest()[:16]


def results(dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the four primitives in a row, then of each with its rarer options."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)

    mesh = scenes.sphere(700, bumps=0.3)
    clip_from_world = scenes.orbit(2, distance=2.2)  # near enough for clipping at the sides
    pos = mesh.clip(clip_from_world).to(dtype).requires_grad_()
    size = (131, 97)
    coords = (mesh.uv.to(dtype) * 3).requires_grad_()
    tex = random(1, 64, 32, 5).requires_grad_()

    def gradients(name: str, output: Tensor, **inputs: Tensor) -> Iterator[tuple[str, Tensor]]:
        grads = torch.autograd.grad(
            output, list(inputs.values()), random(*output.shape), retain_graph=True, allow_unused=True
        )
        for key, g in zip(inputs, grads):
            if g is not None:
                yield f"{name} d_{key}", g

    rast, rast_db = rg.rasterize(pos, mesh.tri, size)
    yield from (("rast", rast), ("rast_db", rast_db))
    yield from gradients("rast", rast, pos=pos)
    yield from gradients("rast_db", rast_db, pos=pos)
    for k, (layer, _) in enumerate(rg.depth_layers(pos, mesh.tri, size, 3)):
        yield f"layer {k}", layer
    crossing = random(3, 40, 4, scale=0.7).requires_grad_()  # in front of, behind and around the eye
    soup = torch.randint(0, 40, (60, 3), generator=generator)
    yield from zip(("soup", "soup_db"), rg.rasterize(crossing, soup, (65, 64)))
    yield from gradients("soup", rg.rasterize(crossing, soup, (65, 64))[1], pos=crossing)

    uv, uv_da = rg.interpolate(coords, rast, mesh.tri, rast_db, "all")
    yield from (("uv", uv), ("uv_da", uv_da))
    yield from gradients("uv", uv, attr=coords, pos=pos)
    yield from gradients("uv_da", uv_da, attr=coords, pos=pos)
    for channels in (1, 3, 17):
        attr = random(mesh.pos.shape[0], channels).requires_grad_()
        out, out_da = rg.interpolate(attr, rast, mesh.tri, rast_db, [0, -1])
        yield from ((f"interpolate {channels}", out), (f"interpolate_da {channels}", out_da))
        yield from gradients(f"interpolate {channels}", out, attr=attr)

    color = rg.texture(tex, uv, uv_da)
    yield "color", color
    yield from gradients("color", color, tex=tex, uv=uv, uv_da=uv_da)
    bias = random(*uv.shape[:3], scale=2).requires_grad_()
    for filter_mode in ("nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear"):
        mipmapped = "mipmap" in filter_mode
        for boundary_mode in ("wrap", "clamp", "zero"):
            name = f"texture {filter_mode} {boundary_mode}"
            options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
            found = rg.texture(tex, uv, uv_da, mip_level_bias=bias if mipmapped else None, **options)
            yield name, found
            yield from gradients(name, found, tex=tex, uv=uv, uv_da=uv_da, bias=bias)
        cube = random(1, 6, 16, 16, 3).requires_grad_()
        rays = random(2, 40, 33, 3).requires_grad_()
        rays_da = random(2, 40, 33, 6, scale=0.2).requires_grad_()
        found = rg.texture(cube, rays, rays_da, filter_mode=filter_mode, boundary_mode="cube")
        yield f"cube {filter_mode}", found
        yield from gradients(f"cube {filter_mode}", found, tex=cube, uv=rays, uv_da=rays_da)

    for channels in (1, 3, 4, 5):
        narrow = random(1, 64, 32, channels).requires_grad_()
        for filter_mode in ("nearest", "linear", "linear-mipmap-linear"):
            name = f"texture background {filter_mode} {channels}"
            found = rg.texture(narrow, uv, uv_da, rast=rast, filter_mode=filter_mode)
            yield name, found
            yield from gradients(name, found, tex=narrow, uv=uv, uv_da=uv_da)

    image = rg.antialias(color, rast, pos, mesh.tri)
    yield "image", image
    yield from gradients("image", image, color=color, pos=pos, tex=tex, coords=coords)
    for k in (2, 3):
        visibility = rg.rasterize(pos, mesh.tri, (k * size[0], k * size[1]))[0]
        image = rg.antialias(color, rast, pos, mesh.tri, visibility=visibility)
        yield f"image of {k} x {k}", image
        yield from gradients(f"image of {k} x {k}", image, color=color, pos=pos)


def main() -> None:
    print(f"level: {native.simd_level()}")
    for dtype in (torch.float32, torch.float64):
        for name, tensor in results(dtype):
            print(f"{str(dtype).removeprefix('torch.')} {name}: {fingerprint(tensor)}")


if __name__ == "__main__":
    main()
