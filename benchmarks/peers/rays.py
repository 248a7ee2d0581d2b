# SPDX-License-Identifier: MIT
"""Rays through the pixel centres, for peers that trace."""

from typing import Any

import numpy as np


def primary_rays(scene: dict[str, Any]) -> tuple[Any, Any]:
    """(origins on the near plane, unit directions), float32 [H W, 3], row after row; of any camera."""
    height, width = (int(n) for n in scene["size"])
    world_from_clip = np.linalg.inv(scene["clip_from_world"].astype(np.float64))
    x = (np.arange(width) + 0.5) * 2 / width - 1
    y = (np.arange(height) + 0.5) * 2 / height - 1
    near, far = (
        np.stack([*np.meshgrid(x, y), np.full((height, width), z), np.ones((height, width))], -1).reshape(
            -1, 4
        )
        @ world_from_clip.T
        for z in (-1.0, 1.0)
    )
    origin = near[:, :3] / near[:, 3:]
    direction = far[:, :3] / far[:, 3:] - origin
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return origin.astype(np.float32), direction.astype(np.float32)
