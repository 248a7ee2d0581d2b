# SPDX-License-Identifier: MIT
"""rasterize at 1024^2: writes 32 B per pixel (two outputs of four floats), reads 28 B per triangle and
vertex.
"""

from collections.abc import Callable, Iterator

import torch

import rastergrad as rg
from testing.closeness import assert_gradients_close

from .rows import Row, Task
from .scene import Scene, dust, scan, soup, sphere

TARGETS = {1_000: 1.2, 10_000: 1.6, 100_000: 3.0, 1_000_000: 11.0}
# The oracle looks at every pixel of every triangle: it is asked at this size, for scenes up to 10,000
# triangles.
CHECK_SIZE = 128
CHECK_TRIANGLES = 10_000


def groups(size: int) -> Iterator[list[Row]]:
    for count, target in TARGETS.items():
        check = check_forward(sphere(min(count, CHECK_TRIANGLES), CHECK_SIZE))
        yield [_forward(f"{count:,} triangles", target, sphere(count, size), check)]
    yield [
        _forward(
            "a scan of 100,000 triangles", None, scan(size=size), check_forward(scan(5_000, CHECK_SIZE))
        ),
        _forward(
            "soup of 10,000 large triangles", 5.0, soup(size=size), check_forward(soup(size=CHECK_SIZE))
        ),
        _forward(
            "soup of 1,000,000 triangles below a pixel",
            None,
            dust(size=size),
            check_forward(dust(CHECK_TRIANGLES, CHECK_SIZE)),
        ),
    ]
    yield [
        _backward("10,000 triangles", 2.5, sphere(10_000, size), sphere(1_000, CHECK_SIZE)),
        _backward("1,000,000 triangles", None, sphere(1_000_000, size), sphere(1_000, CHECK_SIZE)),
        _backward("a scan of 100,000 triangles", None, scan(size=size), scan(1_000, CHECK_SIZE)),
    ]


def _forward(what: str, target: float | None, scene: Scene, check: Callable[[], None]) -> Row:
    height, width = scene.rast.shape[1:3]
    return Row(
        f"rasterize {what}, forward",
        target,
        lambda: rg.rasterize(scene.pos, scene.tri, (height, width)),
        check,
        # Each byte once: 12 of indices per triangle, 16 per vertex.
        bytes_moved=height * width * 32 + scene.tri.numel() * 4 + scene.pos.numel() * 4,
        pixels=height * width,
        triangles=scene.tri.shape[0],
        task=Task("rasterize", scene),
    )


def check_forward(scene: Scene) -> Callable[[], None]:
    """That the scene's ids are the oracle's."""

    def check() -> None:
        size = scene.rast.shape[1]
        want, _ = rg.rasterize(scene.pos, scene.tri, (size, size), backend="reference")
        differing = (want[..., 3] != scene.rast[..., 3]).float().mean()
        # Ties of depth within float rounding may fall either way, nothing else may.
        assert differing < 1e-3, f"{float(differing):.1e} of the pixels show another triangle than the oracle"

    return check


def _backward(what: str, target: float | None, scene: Scene, small: Scene) -> Row:
    height, width = scene.rast.shape[1:3]
    pos = scene.pos.clone().requires_grad_()
    outs = rg.rasterize(pos, scene.tri, (height, width))
    upstream = [torch.rand_like(o) for o in outs]
    return Row(
        f"rasterize {what}, backward",
        target,
        lambda: torch.autograd.grad(outs, pos, upstream, retain_graph=True),
        _check_backward(small),
        # Read: fragments and both upstream gradients (16 B per pixel each), positions, indices.
        bytes_moved=height * width * 48 + scene.tri.numel() * 4 + scene.pos.numel() * 8,
        pixels=height * width,
        triangles=scene.tri.shape[0],
    )


def _check_backward(scene: Scene) -> Callable[[], None]:
    def check() -> None:
        size = scene.rast.shape[1]
        generator = torch.Generator().manual_seed(0)
        upstream = torch.rand(scene.rast.shape, generator=generator)
        drawn = []
        for backend in ("cpu", "reference"):
            pos = scene.pos.clone().requires_grad_()
            drawn.append((pos, rg.rasterize(pos, scene.tri, (size, size), backend=backend)[0]))
        ids = [rast.detach()[..., 3:] for _, rast in drawn]
        upstream = upstream * (ids[0] == ids[1])
        gradients = [torch.autograd.grad(rast, pos, upstream)[0] for pos, rast in drawn]
        assert_gradients_close(*gradients, dtype=torch.float32, what="gradient of rasterize")

    return check
