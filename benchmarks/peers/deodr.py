# SPDX-License-Identifier: MIT
"""DEODR: render with a bilinear texture and antialiased silhouettes, squared error, backward."""

from importlib.metadata import version as installed
from typing import Any

import numpy as np


def version() -> str:
    import deodr  # noqa: F401  # fails here if it cannot be loaded

    return f"deodr {installed('deodr')}"


def prepare(kind: str, scene: dict[str, Any], threads: int) -> "Step":
    return Step(scene)


class Step:
    """One step of a fit on image positions and texture."""

    def __init__(self, scene: dict[str, Any]) -> None:
        from deodr.differentiable_renderer import Scene2D

        height, width = (int(n) for n in scene["size"])
        pos, tri = scene["pos_clip"].astype(np.float64), scene["tri"].astype(np.uint32)
        ndc = pos[:, :3] / pos[:, 3:]
        # Pixel centres are whole numbers there.
        place = np.ascontiguousarray((ndc[:, :2] + 1) * [width / 2, height / 2] - 0.5)
        texture = scene["texture"][0].astype(np.float64)
        texels = scene["uv"].astype(np.float64) * texture.shape[1::-1] - 0.5
        self.goal = scene["goal"][0].astype(np.float64)
        self.scene = Scene2D(
            faces=tri,
            faces_uv=tri,
            ij=place,
            # Only their order counts, but they must be positive.
            depths=np.ascontiguousarray(ndc[:, 2] + 2),
            textured=np.ones(len(tri), bool),
            uv=np.clip(texels, 0, np.array(texture.shape[1::-1]) - 1),
            # A factor of one: without it textured faces are not drawn.
            shaded=np.ones(len(tri), bool),
            shade=np.ones(len(pos)),
            colors=np.zeros((len(pos), 3)),
            edgeflags=silhouettes(place, tri),
            height=height,
            width=width,
            nb_colors=3,
            texture=texture,
            background_color=np.zeros(3),
            clockwise=True,
            # Gradients by antialiasing are refused without.
            backface_culling=True,
        )

    def run(self, variant: str) -> Any:
        self.scene.clear_gradients()
        image, _ = self.scene.render(sigma=1.0)
        self.scene.render_backward(2 / image.size * (image - self.goal))
        return image

    def result(self) -> dict[str, Any]:
        return {"image": self.run("")}


def silhouettes(place: Any, tri: Any) -> Any:
    """bool [T, 3]: edges of front faces whose neighbour is missing or a back face."""
    a, b, c = (place[tri[:, k]] for k in range(3))
    front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) > 0
    edges = np.sort(tri[:, [[0, 1], [1, 2], [2, 0]]].astype(np.int64), axis=2)
    key = (edges[..., 0] * len(place) + edges[..., 1]).ravel()
    _, which = np.unique(key, return_inverse=True)
    fronts = np.bincount(which.ravel(), weights=np.repeat(front, 3))
    return (front[:, None] & (fronts[which].reshape(-1, 3) == 1)).copy()
