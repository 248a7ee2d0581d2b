# SPDX-License-Identifier: MIT
"""Ways to render a scene with the library whose gradients are compared with the truth."""

import inspect
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import rastergrad as rg

from .scenes import FAR, FOCAL, NEAR, SIZE, Scene


@dataclass(frozen=True)
class Method:
    """How visibility is dealt with."""

    name: str
    title: str
    antialias: str | None  # `method` of `rastergrad.antialias`; None: point sampling
    supersampling: int = 1  # the whole image is rendered at so many times the resolution, and averaged
    visibility: int = 1  # only visibility is sampled at so many times the resolution

    def available(self) -> bool:
        """Whether the installed library has what this needs."""
        return self.antialias in (None, "pixel_pair") or "method" in _antialias_parameters()

    def render(self, scene: Scene, position: Tensor, size: int = SIZE) -> Tensor:
        """[size, size, 3] float32, differentiable by `position` [P, 3], which replaces that of the scene."""
        fine = size * self.supersampling
        pos = clip_from_camera(position)[torch.from_numpy(scene.place)].float()[None].contiguous()
        tri = torch.from_numpy(scene.tri.astype(np.int32))
        rast, _ = rg.rasterize(pos, tri, (fine, fine))
        color, _ = rg.interpolate(torch.from_numpy(scene.color).float()[None], rast, tri)
        image = torch.where(rast[..., 3:] > 0, color, torch.from_numpy(scene.background).float())
        if self.antialias is not None:
            image = self._antialias(image, rast, pos, tri)
        return torch.nn.functional.avg_pool2d(image[0].permute(2, 0, 1), self.supersampling).permute(1, 2, 0)

    def _antialias(self, image: Tensor, rast: Tensor, pos: Tensor, tri: Tensor) -> Tensor:
        if "method" not in _antialias_parameters():  # pixel pairs are the only method of such a version
            return rg.antialias(image, rast, pos, tri)
        options: dict[str, object] = {"method": self.antialias}
        if self.visibility > 1:
            height, width = (n * self.visibility for n in rast.shape[1:3])
            options["visibility"] = rg.rasterize(pos, tri, (height, width))[0]
        return rg.antialias(image, rast, pos, tri, **options)


def clip_from_camera(position: Tensor) -> Tensor:
    """[..., 3] in camera space to [..., 4] in clip space."""
    x, y, z = position.unbind(-1)
    spread = FAR - NEAR
    return torch.stack([FOCAL * x, FOCAL * y, (-(FAR + NEAR) * z - 2 * FAR * NEAR) / spread, -z], -1)


def _antialias_parameters() -> set[str]:
    return set(inspect.signature(rg.antialias).parameters)


METHODS = {
    method.name: method
    for method in (
        Method("point", "point sampling", None),
        Method("pixel_pair", "pixel_pair", "pixel_pair"),
        Method("pixel_pair_ss2", "pixel_pair, 2 x 2 images", "pixel_pair", supersampling=2),
        Method("pixel_pair_ss4", "pixel_pair, 4 x 4 images", "pixel_pair", supersampling=4),
        Method("outline", "outline", "outline"),
        Method("outline_v2", "outline, 2 x 2 visibility", "outline", visibility=2),
        Method("outline_v4", "outline, 4 x 4 visibility", "outline", visibility=4),
    )
}


def chosen(names: list[str] | None) -> list[Method]:
    """The methods of those names, or with None all that the installed library has.

    Errors:
        SystemExit with the name of a method that the library lacks.
    """
    if names is None:
        return [method for method in METHODS.values() if method.available()]
    for name in names:
        if not METHODS[name].available():
            raise SystemExit(f"the installed rastergrad has no `{name}`: its antialias() takes no `method`.")
    return [METHODS[name] for name in names]
