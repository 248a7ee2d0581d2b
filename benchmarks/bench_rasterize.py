# SPDX-License-Identifier: MIT
"""rasterize at 1024^2: writes 32 B per pixel (two outputs of four floats), reads 28 B per triangle and
vertex.
"""

import torch

import rastergrad as rg
from testing.closeness import assert_gradients_close

from .rows import Row
from .scene import Scene, soup, sphere

TARGETS = {1_000: 1.2, 10_000: 1.6, 100_000: 3.0, 1_000_000: 11.0}
# The oracle looks at every pixel of every triangle: it is asked at this size, for scenes up to 10,000
# triangles.
CHECK_SIZE = 128


def rows(size: int) -> list[Row]:
    table = [
        Row(
            f"rasterize {count:,} triangles, forward",
            target,
            _forward(sphere(count, size), size),
            _check(sphere(min(count, 10_000), CHECK_SIZE)),
            bytes_moved=size * size * 32,
        )
        for count, target in TARGETS.items()
    ]
    scene = soup(size=size)
    table.append(
        Row(
            "rasterize soup of 10,000 large triangles, forward",
            7.0,
            _forward(scene, size),
            _check(soup(size=CHECK_SIZE)),
        )
    )
    table.append(
        Row(
            "rasterize 1,000 triangles at 256^2, forward",
            0.10,
            _forward(sphere(1_000, 256), 256),
            lambda: None,
        )
    )
    scene = sphere(10_000, size)
    pos = scene.pos.clone().requires_grad_()
    outs = rg.rasterize(pos, scene.tri, (size, size))
    upstream = [torch.rand_like(o) for o in outs]
    table.append(
        Row(
            "rasterize 10,000 triangles, backward",
            2.5,
            lambda: torch.autograd.grad(outs, pos, upstream, retain_graph=True),
            _check_backward(sphere(1_000, CHECK_SIZE)),
            bytes_moved=size * size * 48,
        )
    )
    return table


def _forward(scene: Scene, size: int):
    return lambda: rg.rasterize(scene.pos, scene.tri, (size, size))


def _check(scene: Scene):
    def check() -> None:
        size = scene.rast.shape[1]
        want, _ = rg.rasterize(scene.pos, scene.tri, (size, size), backend="reference")
        differing = (want[..., 3] != scene.rast[..., 3]).float().mean()
        # Ties of depth within float rounding may fall either way, nothing else may.
        assert differing < 1e-3, f"{float(differing):.1e} of the pixels show another triangle than the oracle"

    return check


def _check_backward(scene: Scene):
    def check() -> None:
        size = scene.rast.shape[1]
        results = []
        generator = torch.Generator().manual_seed(0)
        upstream = torch.rand(scene.rast.shape, generator=generator)
        same = None
        for backend in ("cpu", "reference"):
            pos = scene.pos.clone().requires_grad_()
            rast, _ = rg.rasterize(pos, scene.tri, (size, size), backend=backend)
            same = rast.detach()[..., 3:] if same is None else same == rast.detach()[..., 3:]
            results.append((pos, rast))
        results = [torch.autograd.grad(rast, pos, upstream * same)[0] for pos, rast in results]
        assert_gradients_close(*results, dtype=torch.float32, what="gradient of rasterize")

    return check
