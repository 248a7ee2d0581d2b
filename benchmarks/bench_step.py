# SPDX-License-Identifier: MIT
"""A whole optimisation step: rasterize, interpolate with derivatives, trilinear texture, antialias, L2,
backward to pos and texture.
"""

import torch

import rastergrad as rg

from .rows import Row
from .scene import sphere

TARGETS = {10_000: 22.0, 100_000: 26.0, 1_000_000: 45.0}


def rows(size: int) -> list[Row]:
    return [_row(count, target, size) for count, target in TARGETS.items()]


def _row(count: int, target_ms: float, size: int) -> Row:
    scene = sphere(count, size)
    generator = torch.Generator().manual_seed(0)
    pos = scene.pos.clone().requires_grad_()
    tex = torch.rand(1, 1024, 1024, 3, generator=generator).requires_grad_()
    goal = torch.rand(1, size, size, 3, generator=generator)
    topology = rg.edge_topology(scene.tri)

    def step(method: str = "outline") -> tuple[torch.Tensor, torch.Tensor]:
        rast, rast_db = rg.rasterize(pos, scene.tri, (size, size))
        uv, uv_da = rg.interpolate(scene.uv, rast, scene.tri, rast_db, "all")
        color = rg.texture(tex, uv, uv_da) * (rast[..., 3:] > 0)
        image = rg.antialias(color, rast, pos, scene.tri, topology=topology, method=method)
        loss = (image - goal).square().mean()
        d_pos, d_tex = torch.autograd.grad(loss, [pos, tex])
        return d_pos, d_tex

    def check() -> None:
        first, second = (
            step(),
            step(),
        )  # each primitive is checked on its own; here: finite, not zero, reproducible
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a, b), "two runs differ"
            assert bool(a.isfinite().all()), "a gradient is not finite"
            assert float(a.abs().max()) > 0, "a gradient is zero"

    return Row(
        f"full step, {count:,} triangles",
        target_ms,
        step,
        check,
        peer="one by pixel pairs",
        run_peer=lambda: step("pixel_pair"),
    )
