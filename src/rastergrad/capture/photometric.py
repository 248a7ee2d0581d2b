# SPDX-License-Identifier: MIT
"""The difference between what the model shows and what cameras saw."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.capture.pictures import DARK, encoded
from rastergrad.capture.render import draw
from rastergrad.capture.scene import Scene
from rastergrad.scene.camera import project
from rastergrad.scene.harmonics import shading


class Look(NamedTuple):
    """Everything but shape that decides what a picture looks like; None stands for what changes nothing."""

    texture: Tensor  # [1, h, w, 3]
    light: Tensor | None = None  # [9, 3]
    gain: Tensor | None = None  # [C, 3]
    bias: Tensor | None = None  # [C, 3]


class Errors(NamedTuple):
    """Means over pixels and views, each a scalar."""

    image: Tensor  # absolute difference of encoded colours
    outline: Tensor  # absolute difference of coverage and mask


def compare(scene: Scene, views: Sequence[int], shapes: Sequence[Tensor], look: Look, level: int) -> Errors:
    """Draw views and compare them with their pictures.

    Args:
        views: n indices into the dataset's views.
        shapes: for each view the vertices [V, 3], head units; views of a frame may share one tensor.
        level: of the image pyramid.
    Returns:
        Sums over the views of each view's mean over its pixels, so that shares of a batch add up.
    Gradients:
        to `shapes` and all of `look`.
    """
    image = shapes[0].new_zeros(())
    outline = shapes[0].new_zeros(())
    for places in scene.same_size(views):
        some = [views[k] for k in places]
        target = scene.pictures.batch(some, level)
        size = (target.shape[1], target.shape[2])
        pos = torch.stack([project(scene.clip_from_world[views[k]], shapes[k]) for k in places])
        shade = None if look.light is None else _shades([shapes[k] for k in places], scene, look.light)
        drawn = draw(pos, scene.template, look.texture, shade, size, topology=scene.topology)
        color, coverage = drawn[..., :3], drawn[..., 3:]
        cameras = [scene.camera_of[view] for view in some]
        if look.gain is not None:
            color = color * look.gain[cameras][:, None, None]
        if look.bias is not None:
            color = color + coverage * look.bias[cameras][:, None, None]
        seen, mask, weight = target[..., :3], target[..., 3:4], target[..., 4:]
        if not bool((mask[:, 0, 0] >= 0).all()):
            color = color + (1 - coverage) * _behind(scene, seen, mask)
        image = image + ((encoded(color) - seen).abs() * weight).mean() * len(some)
        outline = outline + ((coverage - mask).abs() * (mask >= 0) * weight).mean() * len(some)
    return Errors(image, outline)


def _shades(shapes: Sequence[Tensor], scene: Scene, light: Tensor) -> Tensor:
    """[n, V, 3]; equal shapes are lit once."""
    lit: dict[int, Tensor] = {}
    for shape in shapes:
        if id(shape) not in lit:
            lit[id(shape)] = shading(scene.normals(shape), light)
    return torch.stack([lit[id(shape)] for shape in shapes])


def _behind(scene: Scene, seen: Tensor, mask: Tensor) -> Tensor:
    """What pictures without a mask show beside the head: the background, or what they show there.

    The second leaves silhouettes the contrast between head and picture, and asks nothing of what is behind.
    """
    known = scene.dataset.background
    behind = seen.square() - DARK if known is None else known.to(seen).expand_as(seen)
    return torch.where(mask < 0, behind, 0.0)


def blend(scene: Scene, views: Sequence[int], shape: Tensor, level: int, side: int) -> tuple[Tensor, Tensor]:
    """The texture that pictures of one shape give when they are averaged on the surface.

    Args:
        views: of one frame.  shape: [V, 3].  side: of the texture.
    Returns:
        Sums [1, side, side, 3] of linear colour times weight, and of weight [1, side, side, 1]: of one
        picture that looks straight at the surface, about the pixels that a texel covers, at most about 1.
    """
    total = torch.zeros(1, side, side, 4, device=shape.device)
    normal = scene.normals(shape)
    for view in views:
        target = scene.pictures.batch([view], level)
        pos = project(scene.clip_from_world[view], shape)[None]
        rast, rast_db = rg.rasterize(pos, scene.template.tri, target.shape[1:3])
        uv, uv_da = rg.interpolate(scene.template.uv, rast, scene.template.uv_tri, rast_db, "all")
        toward = torch.nn.functional.normalize(scene.eye[view] - shape, dim=-1)
        facing, _ = rg.interpolate((normal * toward).sum(-1, keepdim=True), rast, scene.template.tri)
        mask = target[..., 3:4]
        inside = torch.where(mask < 0, 1.0, (mask > 0.98).float()) * target[..., 4:]
        weight = facing.clamp_min(0).square() * inside
        light = (target[..., :3].square() - DARK).clamp_min(0)
        # The lookup's adjoint spreads pixels over the texels that they show.
        blank = torch.zeros_like(total, requires_grad=True)
        looked_up = rg.texture(blank, uv, uv_da, rast=rast)
        total += torch.autograd.grad(looked_up, blank, torch.cat([light * weight, weight], dim=-1))[0]
    return total[..., :3], total[..., 3:]


def landmark_error(scene: Scene, frame: int, shape: Tensor) -> Tensor:
    """How far a frame's landmarks are from where they were marked, in head units at the head's distance.

    Huber's function of each distance, linear beyond 1 % of the head; the mean over landmarks; 0 without any.
    Gradients: to `shape`, [V, 3] in head units.
    """
    marks = scene.dataset.landmarks
    if marks is None:
        return shape.new_zeros(())
    frames = torch.tensor([view.frame for view in scene.dataset.views])[marks.view]
    mine = torch.nonzero(frames == frame)[:, 0]
    if not len(mine):
        return shape.new_zeros(())
    views, wanted = marks.view[mine], marks.xy[mine].to(shape)
    points = shape[marks.vertices[marks.landmark[mine]].to(shape.device)]
    hom = (
        scene.clip_from_world[views.to(shape.device)]
        @ torch.nn.functional.pad(points, (0, 1), value=1.0)[..., None]
    )[..., 0]
    cameras = [scene.dataset.views[int(view)].pinhole for view in views]
    size = torch.tensor([[camera.width, camera.height] for camera in cameras]).to(shape)
    focal = torch.tensor([[camera.fl_x, camera.fl_y] for camera in cameras]).to(shape)
    ndc = hom[:, :2] / hom[:, 3:]
    xy = torch.stack([(ndc[:, 0] + 1) / 2, (1 - ndc[:, 1]) / 2], dim=-1) * size
    away = ((xy - wanted) / focal * hom[:, 3:].detach()).square().sum(-1).clamp_min(1e-16).sqrt()
    knee = 0.005
    return torch.where(away < knee, away.square() / (2 * knee), away - knee / 2).mean()
