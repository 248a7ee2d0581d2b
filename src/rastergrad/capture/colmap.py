# SPDX-License-Identifier: MIT
"""Reads a COLMAP model, text or binary, as one static frame: every registered image is a camera of its own.

The template must lie in the model's world, whose scale COLMAP leaves open.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rastergrad.capture.problems import DatasetError, Problems
from rastergrad.capture.shots import Footage, Shot, check_intrinsics, check_pose
from rastergrad.scene.distortion import from_model
from rastergrad.scene.extra import require
from rastergrad.scene.pinhole import Pinhole, from_opencv

MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", ".")
# Where COLMAP's models keep focal lengths, principal point and coefficients in their parameters.
PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fl_x", "fl_y", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}


def model_folder(folder: Path) -> Path | None:
    """Where under `folder` a COLMAP model lies, or None."""
    for name in MODEL_FOLDERS:
        if any((folder / name / f"cameras.{ending}").is_file() for ending in ("bin", "txt")):
            return folder / name
    return None


def read_colmap(folder: Path, model: Path) -> Footage:
    """What a COLMAP model says.

    Args:
        folder: holds images/ and, if there are any, masks/ with NAME.png (COLMAP's habit) or STEM.png.
        model: holds cameras, images (and points3D, frames, rigs) as .bin or .txt.
    Returns:
        Camera k is the k-th registered image in the order of names.
    Errors:
        DatasetError, all problems together; MissingExtraError without pycolmap.
    """
    pycolmap = require("pycolmap", "reading a COLMAP model", "colmap")
    try:
        reconstruction = pycolmap.Reconstruction(str(model))
    except Exception as error:  # whatever its parser answers to a damaged file
        raise DatasetError(
            f"{model} cannot be read as a COLMAP model: {error}. Export the model again."
        ) from error
    images = sorted((i for i in reconstruction.images.values() if i.has_pose), key=lambda i: i.name)
    if not images:
        raise DatasetError(
            f"{model}: the model has no registered images. Let COLMAP find the cameras' poses first."
        )
    problems, shots = Problems(str(model)), []
    for number, image in enumerate(images):
        with problems.collected():
            camera = reconstruction.cameras[image.camera_id]
            shots.append(_shot(folder, image, camera, f"{model}, image {image.name!r}", number))
    problems.settle()
    return Footage(model, tuple(shots), notes=(f"{model} is a COLMAP model: one static frame.",))


def _shot(folder: Path, image: Any, camera: Any, where: str, number: int) -> Shot:
    name = camera.model_name
    if name not in PARAMETERS:
        raise DatasetError(
            f"{where}: camera model {name} is not supported (only {', '.join(PARAMETERS)}). Undistort the "
            "pictures with `colmap image_undistorter` and give its output folder."
        )
    values = dict(zip(PARAMETERS[name], np.asarray(camera.params, dtype=np.float64).tolist()))
    fl_x, fl_y = values.get("fl_x", values.get("f", 0.0)), values.get("fl_y", values.get("f", 0.0))
    placed: Any = image.cam_from_world
    placed = placed() if callable(placed) else placed  # a property before pycolmap 3.12
    cam_from_world = torch.eye(4, dtype=torch.float64)
    cam_from_world[:3] = torch.from_numpy(np.array(placed.matrix()))
    pose = from_opencv(torch.linalg.inv(cam_from_world))
    check_pose(pose, f"{where}, pose")
    # COLMAP counts the first pixel's centre as 0.5, as we do.
    pinhole = Pinhole(
        camera.width, camera.height, fl_x, fl_y, values["cx"], values["cy"], world_from_cam=pose
    )
    check_intrinsics(pinhole, where)
    lens = {k: value for k, value in values.items() if k[0] in "kp"}
    masks = (folder / "masks" / f"{image.name}.png", (folder / "masks" / image.name).with_suffix(".png"))
    mask = next((path for path in masks if path.is_file()), None)
    return Shot(where, 0, number, folder / "images" / image.name, mask, pinhole, from_model(name, lens))
