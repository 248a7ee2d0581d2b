# SPDX-License-Identifier: MIT
"""Is it the same work? Compare what a peer made with ours."""

from typing import Any

import numpy as np
import torch

import rastergrad as rg

from ..rows import Task
from ..scene import Scene

# Snapping to 1/256 pixel (ours, OpenGL's) and rays in float32 move an edge by a few thousandths of a pixel.
EDGE_PX = 0.02
SAME_IDS = 0.999
# Affine texture coordinates are off by the bend of perspective over a triangle. With texels of white noise in
# 0..1 the median difference is 0.07 at 1,000 triangles, 0.010 at 10,000 and 0.001 at 100,000; another mapping
# makes it 0.3.
SAME_COLOUR = 0.02


def disagreement(task: Task, found: dict[str, Any]) -> str | None:
    """What is wrong with a peer's result, or None."""
    if task.kind == "rasterize":
        return ids_differ(task.scene, found["id"])
    texture = task.arrays["texture"]
    assert isinstance(texture, torch.Tensor)
    return colours_differ(task.scene, texture, found["image"])


def ids_differ(scene: Scene, ids: Any) -> str | None:
    """ids [H, W], 0 for background."""
    ours = scene.rast[0, ..., 3].numpy().astype(np.int64)
    away = edge_distance_px(scene) > EDGE_PX
    if ids.shape != ours.shape:
        return f"its image has the shape {ids.shape}, ours {ours.shape}"
    same = float((ids == ours)[away].mean())
    covered = float(((ids > 0) == (ours > 0)).mean())
    if min(same, covered) < SAME_IDS:
        return f"only {same:.3%} of ids away from edges agree, {covered:.3%} of what is covered"
    return None


def edge_distance_px(scene: Scene) -> Any:
    """How far a pixel's centre is from the next edge of its own triangle; 0 for background."""
    u, v = scene.rast[0, ..., 0], scene.rast[0, ..., 1]
    du, dv = scene.rast_db[0, ..., :2], scene.rast_db[0, ..., 2:]
    pairs = ((u, du), (v, dv), (1 - u - v, du + dv))
    distance = torch.stack([value / slope.norm(dim=-1).clamp(min=1e-30) for value, slope in pairs]).amin(0)
    return torch.where(scene.rast[0, ..., 3] > 0, distance, 0.0).numpy()


def colours_differ(scene: Scene, texture: torch.Tensor, image: Any) -> str | None:
    """image [H, W, 3] of the scene with a bilinear texture on black."""
    uv, _ = rg.interpolate(scene.uv, scene.rast, scene.tri)
    ours = rg.texture(texture, uv)[0].numpy()
    covered = scene.rast[0, ..., 3].numpy() > 0
    if image.shape != ours.shape:
        return f"its image has the shape {image.shape}, ours {ours.shape}"
    off = float(np.median(np.abs(image - ours)[covered]))
    return f"its colours differ by {off:.3f} in the median" if off > SAME_COLOUR else None
