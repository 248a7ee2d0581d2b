# SPDX-License-Identifier: MIT
"""antialias at 1024^2 with 3 channels: a copy of the image with work along silhouettes.

Per pixel 28 bytes are read and 12 written. The outline method is timed beside the pixel pair in the same run.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import rastergrad as rg

from .rows import Row, once
from .scene import Scene, sphere

# The outline method's oracle walks in Python: it is asked at this size, in float64.
CHECK_SIZE = 128


def groups(size: int) -> Iterator[list[Row]]:
    pair = _Case(sphere(10_000, size), method="pixel_pair")
    check = once(_check_pixel_pair(pair, size))
    moved = size * size * (12 + 16 + 12)
    yield [
        Row("antialias pixel pair, 10,000 triangles, forward", 0.65, pair.forward, check, moved, size * size),
        Row(
            "antialias pixel pair, 10,000 triangles, backward", 0.75, pair.backward, check, moved, size * size
        ),
    ]
    for count in (10_000, 100_000, 1_000_000):
        scene = sphere(count, size)
        yield _beside(
            f"antialias outline, {count:,} triangles",
            _Case(scene),
            "pixel pair",
            _Case(scene, method="pixel_pair"),
            _check_outline(count),
        )
    scene = sphere(10_000, size)
    fine, _ = rg.rasterize(scene.pos, scene.tri, (2 * size, 2 * size))
    yield _beside(
        "antialias outline with 2 x 2 visibility, 10,000 triangles",
        _Case(scene, visibility=fine),
        "one sample",
        _Case(scene),
        _check_outline(10_000, scale=2),
    )


class _Case:
    """antialias of a random image over a scene."""

    def __init__(self, scene: Scene, **options: Any) -> None:
        self.scene = scene
        self.options = {"topology": rg.edge_topology(scene.tri), **options}
        generator = torch.Generator().manual_seed(0)
        self.color = torch.rand(*scene.rast.shape[:3], 3, generator=generator)
        self.upstream = torch.rand(self.color.shape, generator=generator)
        self.leaves = [self.color.clone().requires_grad_(), scene.pos.clone().requires_grad_()]
        self.image = self.run(*self.leaves)

    def run(self, color: Tensor, pos: Tensor, backend: str | None = None) -> Tensor:
        return rg.antialias(color, self.scene.rast, pos, self.scene.tri, backend=backend, **self.options)

    def forward(self) -> Tensor:
        return self.run(self.color, self.scene.pos)

    def backward(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.image, self.leaves, self.upstream, retain_graph=True)


def _beside(name: str, case: _Case, peer: str, other: _Case, check: Callable[[], None]) -> list[Row]:
    pixels = case.color.numel() // 3
    bytes_moved = 0 if "visibility" in case.options else pixels * (12 + 16 + 12)
    check = once(check)
    return [
        Row(
            f"{name}, {way}",
            None,
            run,
            check,
            bytes_moved=bytes_moved,
            pixels=pixels,
            peer=peer,
            run_peer=run_peer,
        )
        for way, run, run_peer in (
            ("forward", case.forward, other.forward),
            ("backward", case.backward, other.backward),
        )
    ]


def _relative(got: Tensor, want: Tensor) -> float:
    return float(torch.linalg.vector_norm((got - want).detach()) / torch.linalg.vector_norm(want.detach()))


def _check_pixel_pair(case: _Case, size: int) -> Callable[[], None]:
    # Crossings lie at coordinates up to half the side, where float32 has steps of side 2^-25 pixels; one
    # takes some four roundings, and moves a colour by as much.
    step = size * 2.0**-25

    def check() -> None:
        want = case.run(*case.leaves, backend="reference")
        worst = float((case.image - want).detach().abs().max())
        assert worst <= 4 * step, f"antialias differs from the oracle by {worst:.1e}"
        wanted = torch.autograd.grad(want, case.leaves, case.upstream)
        for got, exact in zip(case.backward(), wanted, strict=True):
            off = _relative(got, exact)
            assert off <= 4 * step, f"a gradient of antialias differs from the oracle by {off:.1e}"

    return check


def _check_outline(count: int, scale: int | None = None) -> Callable[[], None]:
    """With visibility at `scale` times the resolution, or without."""

    def case_of(scene: Scene) -> _Case:
        if scale is None:
            return _Case(scene)
        size = (scale * CHECK_SIZE, scale * CHECK_SIZE)
        return _Case(scene, visibility=rg.rasterize(scene.pos, scene.tri, size)[0])

    def check() -> None:
        scene = sphere(count, CHECK_SIZE)
        exact = replace(scene, pos=scene.pos.double(), rast=scene.rast.double())
        case = case_of(exact)
        leaves = [case.leaves[0].detach().double().requires_grad_(), case.leaves[1]]
        upstream = case.upstream.double()
        results = []
        for backend in ("cpu", "reference"):
            image = case.run(*leaves, backend=backend)
            results.append((image, *torch.autograd.grad(image, leaves, upstream)))
        for got, want in zip(*results, strict=True):
            off = _relative(got, want)
            assert off <= 1e-9, f"antialias by outlines differs from its oracle by {off:.1e}"
        # In float32 an outline may be found one pixel further where it passes a centre within rounding.
        single = case_of(scene)
        off = _relative(single.image.detach(), results[0][0])
        assert off <= 1e-3, f"antialias by outlines differs in float32 by {off:.1e}"

    return check
