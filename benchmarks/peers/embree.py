# SPDX-License-Identifier: MIT
"""Embree: a BVH from scratch, then the nearest triangle along the ray of every pixel."""

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as installed
from typing import Any

import numpy as np

from .rays import primary_rays


def version() -> str:
    from embreex import rtcore_scene  # noqa: F401  # fails here if it cannot be loaded

    return f"embreex {installed('embreex')}"


def prepare(kind: str, scene: dict[str, Any], threads: int) -> "Trace":
    return Trace(scene, threads)


class Trace:
    """embreex traces ray after ray and lets go of Python meanwhile: a strip of rows for each thread."""

    def __init__(self, scene: dict[str, Any], threads: int) -> None:
        self.world, self.tri = scene["world"], scene["tri"]
        self.size = tuple(int(n) for n in scene["size"])
        origins, directions = primary_rays(scene)
        self.strips = list(
            zip(np.array_split(origins, threads), np.array_split(directions, threads), strict=True)
        )
        self.pool = ThreadPoolExecutor(threads)

    def run(self, variant: str) -> Any:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        scene = EmbreeScene()
        TriangleMesh(scene, self.world, self.tri)
        # The first ray makes embreex build the tree, which must not happen in two threads at once.
        scene.run(*(part[:1] for part in self.strips[0]))
        return list(self.pool.map(lambda strip: scene.run(*strip), self.strips))

    def result(self) -> dict[str, Any]:
        return {"id": np.concatenate(self.run("")).reshape(self.size).astype(np.int64) + 1}
