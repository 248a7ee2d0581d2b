# SPDX-License-Identifier: MIT
"""Cameras from a few words on the command line."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from rastergrad.scene.camera import Camera, frame, look_at, perspective
from rastergrad.scene.mesh import Mesh

# Azimuth and elevation in degrees; from the front is from +z (with z up: from -y).
VIEWS = {
    "front": (0.0, 0.0),
    "right": (90.0, 0.0),
    "back": (180.0, 0.0),
    "left": (270.0, 0.0),
    "top": (0.0, 90.0),
    "bottom": (0.0, -90.0),
    "corner": (30.0, 20.0),
}
UP = {"y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


class CameraError(ValueError):
    """A camera description that says too little or makes no sense."""


def aim(words: str, mesh: Mesh, aspect: float, *, up: str = "y", fov_deg: float = 35.0) -> Camera:
    """The camera that `words` describe.

    Args:
        words: a name in VIEWS; "AZIMUTH,ELEVATION" in degrees; or the path of a JSON file with "eye" and
            "target" (three numbers each), optionally "up" and "fov_y_deg". All but the file frame the mesh.
        aspect: width / height.  up: the world's upright axis, "y" or "z".  fov_deg: vertical opening angle.
    Errors:
        CameraError naming what is wrong; FileNotFoundError for a JSON file that is not there.
    """
    if words.lower().endswith(".json"):
        return _from_file(Path(words), mesh, aspect, up, fov_deg)
    if words in VIEWS:
        azimuth_deg, elevation_deg = VIEWS[words]
    else:
        try:
            azimuth_deg, elevation_deg = (float(number) for number in words.split(","))
        except ValueError:
            raise CameraError(
                f"camera {words!r}: expected one of {', '.join(VIEWS)}, "
                "AZIMUTH,ELEVATION in degrees, or a .json file."
            ) from None
    if not (math.isfinite(azimuth_deg) and abs(elevation_deg) <= 90):
        raise CameraError(f"camera {words!r}: the elevation must lie between -90 and 90 degrees.")
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    level = (math.sin(azimuth), math.cos(azimuth))
    # In a y-up world: right, up, toward the viewer at azimuth 0.
    direction = (math.cos(elevation) * level[0], math.sin(elevation), math.cos(elevation) * level[1])
    upright = (-math.sin(elevation) * level[0], math.cos(elevation), -math.sin(elevation) * level[1])
    if up == "z":
        direction, upright = ((x, -z, y) for x, y, z in (direction, upright))
    return frame(
        mesh.positions[mesh.tri.long().unique()],
        torch.tensor(direction),
        torch.tensor(upright),
        fov_y_rad=math.radians(fov_deg),
        aspect=aspect,
    )


def _from_file(path: Path, mesh: Mesh, aspect: float, up: str, fov_deg: float) -> Camera:
    if not path.is_file():
        raise FileNotFoundError(f"camera file not found: {path}")
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
        places = (entries["eye"], entries["target"], entries.get("up", UP[up]))
        eye, target, upright = (torch.tensor(place, dtype=torch.float64).reshape(3) for place in places)
        fov_rad = math.radians(float(entries.get("fov_y_deg", fov_deg)))
        cam_from_world = look_at(eye, target, upright)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CameraError(
            f'{path}: expected {{"eye": [x, y, z], "target": [x, y, z]}}, with "up" and "fov_y_deg" '
            f"if wanted; got {error!r}."
        ) from error
    if not 0 < fov_rad < math.pi:
        raise CameraError(f"{path}: `fov_y_deg` must lie between 0 and 180; got {math.degrees(fov_rad):g}.")
    depth = -(mesh.positions.double() @ cam_from_world[2, :3] + cam_from_world[2, 3])
    far = max(float(depth.max()) * 1.01, 1e-6)
    near = max(float(depth.min()) * 0.99, far * 1e-4)
    half_height = math.tan(fov_rad / 2) * near
    return Camera(cam_from_world, perspective(half_height * aspect, half_height, near, far))
