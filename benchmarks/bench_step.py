# SPDX-License-Identifier: MIT
"""A whole optimisation step: rasterize, interpolate with derivatives, trilinear texture, antialias, the
gradient of the mean squared error, backward to pos and texture.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

import rastergrad as rg
from testing.closeness import assert_gradients_close

from .rows import Row, Task
from .scene import Scene, scan, sphere

TARGETS = {10_000: 22.0, 100_000: 26.0, 1_000_000: 45.0}
CHECK_SIZE = 64
CHECK_TRIANGLES = 1_000


def groups(size: int) -> Iterator[list[Row]]:
    for count, target in TARGETS.items():
        yield [_row(f"{count:,} triangles", target, sphere(count, size))]
    yield [_row("a scan of 100,000 triangles", None, scan(size=size))]


class Step:
    """One step on a scene; `run` returns (d_pos, d_texture)."""

    def __init__(self, scene: Scene, texture_side: int = 1024, batch: int = 1) -> None:
        generator = torch.Generator().manual_seed(0)
        self.scene = scene
        self.size = tuple(scene.rast.shape[1:3])
        self.pos = scene.pos.expand(batch, -1, -1).clone().requires_grad_()
        self.texture = torch.rand(1, texture_side, texture_side, 3, generator=generator).requires_grad_()
        self.goal = torch.rand(batch, *self.size, 3, generator=generator)
        self.scale = 2 / self.goal.numel()
        self.scaled_goal = self.goal * -self.scale
        self.topology = rg.edge_topology(scene.tri)

    def run(self, method: str = "outline", backend: str | None = None) -> tuple[Tensor, ...]:
        tri = self.scene.tri
        rast, rast_db = rg.rasterize(self.pos, tri, self.size, backend=backend)
        uv, uv_da = rg.interpolate(self.scene.uv, rast, tri, rast_db, "all", backend=backend)
        color = rg.texture(self.texture, uv, uv_da, rast=rast, backend=backend)
        image = rg.antialias(
            color, rast, self.pos, tri, topology=self.topology, method=method, backend=backend
        )
        # 2 / n (image - goal), as the other programs get it: in one pass, in place of the image, which a fit
        # needs no more. A loss that is summed up as well would cost two more passes.
        error = image.detach()
        torch.add(self.scaled_goal, error, alpha=self.scale, out=error)
        return torch.autograd.grad(image, [self.pos, self.texture], error)


def _row(what: str, target_ms: float | None, scene: Scene) -> Row:
    step = Step(scene)

    def check() -> None:
        first, second = step.run(), step.run()
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a, b), "two runs differ"
            assert bool(a.isfinite().all()), "a gradient is not finite"
            assert float(a.abs().max()) > 0, "a gradient is zero"
        check_step(Step(sphere(CHECK_TRIANGLES, CHECK_SIZE), texture_side=32))

    return Row(
        f"full step, {what}",
        target_ms,
        step.run,
        check,
        pixels=scene.rast.numel() // 4,
        triangles=scene.tri.shape[0],
        peer="one by pixel pairs",
        run_peer=lambda: step.run("pixel_pair"),
        task=Task("step", scene, {"texture": step.texture.detach(), "goal": step.goal}),
    )


def check_step(step: Step) -> None:
    """Against the same step of oracles. By pixel pairs: where the outline passes within rounding of a centre,
    float32 may find another outline than float64; that method is checked on its own.
    """
    for got, want in zip(step.run("pixel_pair"), step.run("pixel_pair", "reference"), strict=True):
        assert_gradients_close(got, want, dtype=torch.float32, what="gradient of a step")
