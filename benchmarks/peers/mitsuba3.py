# SPDX-License-Identifier: MIT
"""Mitsuba 3: new vertex positions, hence a new BVH, then the nearest triangle on the ray of every pixel."""

from typing import Any

import numpy as np

from .rays import primary_rays

VARIANT = "llvm_ad_rgb"


def version() -> str:
    import mitsuba

    mitsuba.set_variant(VARIANT)
    import drjit

    drjit.eval(mitsuba.Float(0) + 1)  # fails here if there is no LLVM
    return f"mitsuba {mitsuba.__version__} {VARIANT}"


def prepare(kind: str, scene: dict[str, Any], threads: int) -> "Trace":
    version()
    import drjit

    drjit.set_thread_count(threads)
    return Trace(scene)


class Trace:
    """Primary visibility of one mesh."""

    def __init__(self, scene: dict[str, Any]) -> None:
        import drjit
        import mitsuba

        self.size = tuple(int(n) for n in scene["size"])
        mesh = mitsuba.Mesh("mesh", len(scene["world"]), len(scene["tri"]))
        start = mitsuba.traverse(mesh)
        start["faces"] = mitsuba.UInt32(scene["tri"].ravel().astype(np.uint32))
        # Taken in turn: positions that are equal to the last ones would leave the BVH as it is.
        self.positions = [mitsuba.Float((scene["world"] * scale).ravel()) for scale in (1, 1 + 1e-6)]
        start["vertex_positions"] = self.positions[0]
        start.update()
        self.scene = mitsuba.load_dict({"type": "scene", "mesh": mesh})
        self.parameters = mitsuba.traverse(self.scene)
        origins, directions = primary_rays(scene)
        self.rays = mitsuba.Ray3f(mitsuba.Point3f(origins.T), mitsuba.Vector3f(directions.T))
        drjit.eval(self.rays, self.positions)

    def run(self, variant: str) -> Any:
        import drjit

        self.positions.reverse()
        self.parameters["mesh.vertex_positions"] = self.positions[0]
        self.parameters.update()
        hit = self.scene.ray_intersect_preliminary(self.rays, coherent=True)
        drjit.eval(hit)
        drjit.sync_thread()
        return hit

    def result(self) -> dict[str, Any]:
        hit = self.run("")
        ids = np.where(np.array(hit.is_valid()), np.array(hit.prim_index).astype(np.int64) + 1, 0)
        return {"id": ids.reshape(self.size)}
