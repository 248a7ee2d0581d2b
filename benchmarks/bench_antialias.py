# SPDX-License-Identifier: MIT
"""antialias at 1024^2 with 3 channels: a copy of the image with work along silhouettes; read 28 B, write 12
B per pixel.
"""

import torch

import rastergrad as rg
from testing.closeness import assert_gradients_close, assert_values_close

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

    def check_backward() -> None:
        want = run(*leaves, backend="reference")
        pairs = zip(
            torch.autograd.grad(image, leaves, upstream, retain_graph=True),
            torch.autograd.grad(want, leaves, upstream),
            strict=True,
        )
        for got, wanted in pairs:
            assert_gradients_close(got, wanted, dtype=torch.float32, what="gradient of antialias")

    return [
        Row(
            "antialias 10,000 triangles, forward",
            1.2,
            lambda: run(color, scene.pos),
            lambda: assert_values_close(
                image.detach(), run(color, scene.pos, "reference"), dtype=torch.float32, what="antialias"
            ),
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
