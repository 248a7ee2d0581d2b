# SPDX-License-Identifier: MIT
"""The rows of the GPU table: what is run, on which inputs, and the fewest bytes it could move."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import rastergrad as rg
from testing import scenes

from .scene import camera

TEXTURE_SIDE = 1024


@dataclass
class Pass:
    """An operation on tensors of one device; `run` returns outputs, whose gradients go to `inputs`.

    Bytes are each input read once and each output written once: what no implementation can avoid.
    """

    name: str
    run: Callable[[], tuple[Tensor, ...]]
    inputs: list[Tensor]
    forward_bytes: int
    backward_bytes: int = 0
    wanted_ms: float | None = None  # of forward, or of all where there is no separate backward
    whole: bool = False  # `run` contains its own backward pass


#: Radii of the triangles of a soup, the image being 2 wide; the names are those of scenes.
SOUPS = {
    "soup of large triangles": (0.06, 0.15),
    "soup below a pixel": (0.0002, 0.001),
    "soup of all sizes": (0.0005, 1.0),
}


class Inputs:
    """A sphere over 60 % of the frame, or a soup, as `benchmarks.scene` has them, on any device."""

    def __init__(self, triangles: int, size: int, batch: int, device: str, kind: str = "sphere") -> None:
        self.size, self.batch, self.device = size, batch, device
        soup = SOUPS.get(kind)
        mesh = scenes.sphere(triangles) if soup is None else scenes.soup(triangles, soup, seed=1)
        view = camera() if soup is None else torch.eye(4)
        generator = torch.Generator().manual_seed(triangles)
        self.world = mesh.pos.to(device)
        # Batches see the sphere a little turned each time.
        angles = torch.arange(batch) * 0.1
        turns = torch.eye(4).repeat(batch, 1, 1)
        turns[:, 0, 0] = turns[:, 2, 2] = angles.cos()
        turns[:, 0, 2], turns[:, 2, 0] = angles.sin(), -angles.sin()
        self.clip_from_world = (view @ turns).to(device)
        self.pos = scenes.transform(mesh.pos, view @ turns).contiguous().to(device)
        self.tri = mesh.tri.to(device)
        self.uv = mesh.uv[None].contiguous().to(device)
        self.tex = torch.rand(1, TEXTURE_SIDE, TEXTURE_SIDE, 3, generator=generator).to(device)
        self.topology = rg.edge_topology(self.tri)
        self.rast, self.rast_db = rg.rasterize(self.pos, self.tri, (size, size))
        self.pixels = batch * size * size
        self.mesh_bytes = self.pos.nbytes + self.tri.nbytes

    def double(self) -> "Inputs":
        """The same scene in float64; what pixels show stays as float32 found it."""
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(twin, name, value.double())
        return twin

    def attributes(self, channels: int) -> Tensor:
        generator = torch.Generator().manual_seed(channels)
        attr = torch.rand(1, self.pos.shape[1], channels, generator=generator)
        return attr.to(self.device, self.pos.dtype)


def leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def rasterize(x: Inputs, wanted_ms: float | None = None) -> Pass:
    pos = leaf(x.pos)
    size = (x.size, x.size)
    return Pass(
        "rasterize",
        lambda: rg.rasterize(pos, x.tri, size),
        [pos],
        32 * x.pixels + x.mesh_bytes,
        (16 + 32) * x.pixels + x.mesh_bytes + x.pos.nbytes,
        wanted_ms,
    )


def interpolate(x: Inputs, channels: int, derivatives: bool) -> Pass:
    attr, rast, db = leaf(x.attributes(channels)), leaf(x.rast), leaf(x.rast_db)
    extra = 16 + 8 * channels if derivatives else 0
    return Pass(
        f"interpolate {channels} channels{' with derivatives' if derivatives else ''}",
        lambda: rg.interpolate(attr, rast, x.tri, db, "all" if derivatives else None),
        [attr, rast, db] if derivatives else [attr, rast],
        (16 + 4 * channels + extra) * x.pixels + attr.nbytes + x.tri.nbytes,
        (32 + 4 * channels + extra + (16 if derivatives else 0)) * x.pixels + 2 * attr.nbytes + x.tri.nbytes,
    )


def texture(x: Inputs, mipmapped: bool) -> Pass:
    uv, uv_da = rg.interpolate(x.uv, x.rast, x.tri, x.rast_db, "all")
    tex, uv, uv_da = leaf(x.tex), leaf(uv), leaf(uv_da)
    per_pixel = 8 + 12 + (16 if mipmapped else 0)
    levels = 4 / 3 if mipmapped else 1.0
    return Pass(
        f"texture {'trilinear' if mipmapped else 'bilinear'}",
        lambda: (rg.texture(tex, uv, uv_da if mipmapped else None),),
        [tex, uv, uv_da] if mipmapped else [tex, uv],
        per_pixel * x.pixels + int(levels * tex.nbytes),
        (per_pixel + 8 + (16 if mipmapped else 0)) * x.pixels + int(2 * levels * tex.nbytes),
    )


def antialias(x: Inputs, method: str) -> Pass:
    color, _ = rg.interpolate(x.attributes(3), x.rast, x.tri)
    color, pos = leaf(color), leaf(x.pos)
    return Pass(
        f"antialias {method}",
        lambda: (rg.antialias(color, x.rast, pos, x.tri, topology=x.topology, method=method),),
        [color, pos],
        (16 + 24) * x.pixels + x.mesh_bytes,
        (16 + 36) * x.pixels + x.mesh_bytes + x.pos.nbytes,
    )


def topology(x: Inputs) -> Pass:
    return Pass("edge_topology", lambda: (rg.edge_topology(x.tri).twins,), [], 2 * x.tri.nbytes)


def step(x: Inputs, wanted_ms: float | None = None) -> Pass:
    """Rasterize, interpolate with derivatives, trilinear texture, antialias, L2, backward to positions in the
    world and to the texture: what a capture does per image.
    """
    world, tex = leaf(x.world), leaf(x.tex)
    size = (x.size, x.size)
    target = torch.zeros(x.batch, *size, 3, device=x.device, dtype=tex.dtype)

    def run() -> tuple[Tensor, ...]:
        pos = scenes.transform(world, x.clip_from_world)
        rast, db = rg.rasterize(pos, x.tri, size)
        uv, uv_da = rg.interpolate(x.uv, rast, x.tri, db, "all")
        shade = rg.texture(tex, uv, uv_da, rast=rast)
        image = rg.antialias(shade, rast, pos, x.tri, topology=x.topology)
        loss = (image - target).square().mean()
        return loss.detach(), *torch.autograd.grad(loss, [world, tex])

    per_pixel = 32 + 40 + 36 + 40 + 12 + 2 * (32 + 40 + 36 + 40)
    return Pass(
        "full step", run, [], per_pixel * x.pixels + 3 * x.mesh_bytes, wanted_ms=wanted_ms, whole=True
    )


def all_passes(x: Inputs, wanted_ms: dict[str, float]) -> Iterator[Pass]:
    yield rasterize(x, wanted_ms.get("rasterize"))
    yield interpolate(x, 3, False)
    yield interpolate(x, 2, True)
    yield interpolate(x, 16, False)
    yield texture(x, False)
    yield texture(x, True)
    yield antialias(x, "outline")
    yield antialias(x, "pixel_pair")
    yield topology(x)
    yield step(x, wanted_ms.get("full step"))
