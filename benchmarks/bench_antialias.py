# SPDX-License-Identifier: MIT
"""antialias at 1024^2 with 3 channels: a copy of the image with work along silhouettes.

Per pixel 28 bytes are read and 12 written.
"""

import torch

import rastergrad as rg

from .rows import Row
from .scene import sphere


def rows(size: int) -> list[Row]:
    scene = sphere(10_000, size)
    generator = torch.Generator().manual_seed(0)
    color = torch.rand(1, size, size, 3, generator=generator)
    upstream = torch.rand(color.shape, generator=generator)
    leaves = [color.clone().requires_grad_(), scene.pos.clone().requires_grad_()]
    topology = rg.edge_topology(scene.tri)

    def run(c: torch.Tensor, p: torch.Tensor, backend: str | None = None) -> torch.Tensor:
        return rg.antialias(c, scene.rast, p, scene.tri, topology=topology, backend=backend)

    image = run(*leaves)

    # Crossings lie at coordinates up to half the side, where float32 has steps of side 2^-25 pixels; one
    # takes some four roundings, and moves a colour by as much.
    step = size * 2.0**-25

    def check_forward() -> None:
        want = run(color, scene.pos, "reference")
        worst = float((image.detach() - want).abs().max())
        assert worst <= 4 * step, f"antialias differs from the oracle by {worst:.1e}"

    def check_backward() -> None:
        want = run(*leaves, backend="reference")
        pairs = zip(
            torch.autograd.grad(image, leaves, upstream, retain_graph=True),
            torch.autograd.grad(want, leaves, upstream),
            strict=True,
        )
        for got, wanted in pairs:
            off = float(torch.linalg.vector_norm(got - wanted) / torch.linalg.vector_norm(wanted))
            assert off <= 4 * step, f"a gradient of antialias differs from the oracle by {off:.1e}"

    return [
        Row(
            "antialias 10,000 triangles, forward",
            1.2,
            lambda: run(color, scene.pos),
            check_forward,
            bytes_moved=size * size * (12 + 16 + 12),
        ),
        Row(
            "antialias 10,000 triangles, backward",
            1.5,
            lambda: torch.autograd.grad(image, leaves, upstream, retain_graph=True),
            check_backward,
            bytes_moved=size * size * (12 + 16 + 12),
        ),
    ]
