# SPDX-License-Identifier: MIT
"""Small work: images of 64^2 to 256^2, many poses of a small mesh, texture space. The loops of pose
estimation and reinforcement learning, where what surrounds the kernels counts.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import rastergrad as rg
from testing import scenes
from testing.closeness import assert_gradients_close

from .bench_rasterize import CHECK_SIZE, check_forward
from .rows import Row, once
from .scene import Scene, seen, sphere

TARGETS = {256: 0.10}


def groups(size: int) -> Iterator[list[Row]]:
    check = once(check_forward(sphere(1_000, CHECK_SIZE)))
    check_pose = once(_check(_Poses(3, 500, 32)))
    yield [_rasterize(sphere(1_000, side), check) for side in (64, 128, 256)]
    yield [
        row
        for side in (64, 128, 256)
        for row in _pose_rows(_Poses(1, 1_000, side), "1,000 triangles", check_pose)
    ]
    for poses in (100, 1_000):
        yield _pose_rows(_Poses(poses, 500, 64), f"{poses:,} poses of 500 triangles", check_pose)
    yield [_texture_space(size)]


def _rasterize(scene: Scene, check: Callable[[], None]) -> Row:
    side = scene.rast.shape[1]
    return Row(
        f"rasterize 1,000 triangles at {side}^2, forward",
        TARGETS.get(side),
        lambda: rg.rasterize(scene.pos, scene.tri, (side, side)),
        check,
        bytes_moved=side * side * 32,
        pixels=side * side,
        triangles=scene.tri.shape[0],
    )


class _Poses:
    """A coloured mesh in poses around it; a step ends with the squared error and goes back to pos."""

    def __init__(self, poses: int, triangles: int, side: int) -> None:
        mesh = scenes.sphere(triangles, bumps=0.2)
        generator = torch.Generator().manual_seed(0)
        self.side, self.tri = side, mesh.tri
        self.pos = mesh.clip(scenes.orbit(poses)).contiguous().requires_grad_()
        self.color = torch.rand(len(mesh.pos), 3, generator=generator)
        self.goal = torch.rand(poses, side, side, 3, generator=generator)
        self.topology = rg.edge_topology(mesh.tri)

    def rasterize(self) -> object:
        return rg.rasterize(self.pos.detach(), self.tri, (self.side, self.side))

    def step(self, backend: str | None = None, method: str = "outline") -> Tensor:
        rast, _ = rg.rasterize(self.pos, self.tri, (self.side, self.side), backend=backend)
        color, _ = rg.interpolate(self.color, rast, self.tri, backend=backend)
        image = rg.antialias(
            color, rast, self.pos, self.tri, topology=self.topology, method=method, backend=backend
        )
        return torch.autograd.grad((image - self.goal).square().mean(), self.pos)[0]


def _pose_rows(poses: _Poses, what: str, check: Callable[[], None]) -> list[Row]:
    count, side = poses.pos.shape[0], poses.side
    pixels, triangles = count * side * side, count * poses.tri.shape[0]
    step = Row(f"pose step, {what} at {side}^2", None, poses.step, check, pixels=pixels, triangles=triangles)
    if count == 1:
        return [step]
    draw = Row(
        f"rasterize {what} at {side}^2, forward",
        None,
        poses.rasterize,
        check,
        bytes_moved=pixels * 32,
        pixels=pixels,
        triangles=triangles,
    )
    return [draw, step]


def _check(poses: _Poses) -> Callable[[], None]:
    def check() -> None:
        # By pixel pairs, for the reason in bench_step.
        got, want = (poses.step(backend, "pixel_pair") for backend in ("cpu", "reference"))
        assert_gradients_close(got, want, dtype=torch.float32, what="gradient of a pose step")

    return check


def _texture_space(size: int) -> Row:
    """Every triangle where its texture coordinates are: what is baked into textures is drawn so."""

    def unwrapped(side: int, cells: int) -> tuple[Scene, Tensor]:
        mesh = scenes.grid(cells, cells, jitter=0.2)
        # x, y in -1..1 as grid() has them: clip coordinates of the texture's image.
        return seen(mesh, torch.eye(4), side), torch.rand(1, len(mesh.pos), 3)

    scene, attr = unwrapped(size, 224)

    def run() -> object:
        rast, _ = rg.rasterize(scene.pos, scene.tri, (size, size))
        return rg.interpolate(attr, rast, scene.tri)

    return Row(
        f"texture space, {scene.tri.shape[0]:,} triangles: rasterize and interpolate 3 channels",
        None,
        run,
        check_forward(unwrapped(CHECK_SIZE, 50)[0]),
        bytes_moved=size * size * 4 * (8 + 4 + 3),
        pixels=size * size,
        triangles=scene.tri.shape[0],
    )
