# SPDX-License-Identifier: MIT
"""What a description of footage says about its pictures, before the pictures themselves are looked at."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rastergrad.capture.problems import DatasetError
from rastergrad.scene.distortion import Distortion
from rastergrad.scene.pinhole import Pinhole

RIGID = 1e-3  # a rotation written with four digits is still one


@dataclass(frozen=True)
class Shot:
    """One picture by one camera at one time."""

    where: str  # for messages: file and entry
    timestep: int
    camera_id: int
    image: Path
    mask: Path | None
    pinhole: Pinhole  # without the distortion
    distortion: Distortion | None


@dataclass(frozen=True)
class Footage:
    """All shots of a description, and what it says about them together."""

    source: Path
    shots: tuple[Shot, ...]
    background: Tensor | None = None  # [3] linear light
    units: str | None = None
    fps: float | None = None
    notes: tuple[str, ...] = ()


def check_pose(pose: Tensor, field: str) -> None:
    """Raise DatasetError unless `pose` [4, 4] is a rotation and a translation, in finite numbers."""
    if not torch.isfinite(pose).all():
        bad = int((~torch.isfinite(pose)).sum())
        raise DatasetError(
            f"{field}: {bad} of 16 numbers are NaN or infinite. Calibrate this camera again or leave it out."
        )
    if not torch.equal(pose[3], torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=pose.dtype)):
        raise DatasetError(
            f"{field}: the last row must be 0 0 0 1; got {_row(pose[3])}. Write camera-to-world row by row."
        )
    turn = pose[:3, :3]
    off = float((turn.T @ turn - torch.eye(3, dtype=pose.dtype)).abs().max())
    if off > RIGID:
        lengths = _row(turn.norm(dim=0))
        raise DatasetError(
            f"{field}: not rigid; its axes have the lengths {lengths} or are not square to each other (off "
            f"by {off:.2g}). Leave scale out of the matrix: scale the camera's place and the template alike."
        )
    if torch.linalg.det(turn) < 0:
        raise DatasetError(
            f"{field}: mirrored (determinant -1). Turn axes in pairs: from OpenCV's axes to OpenGL's, both "
            "the second and the third column change their signs."
        )


def check_intrinsics(pinhole: Pinhole, where: str) -> None:
    """Raise DatasetError for sizes, focal lengths and principal points that no camera has."""
    for name in ("width", "height", "fl_x", "fl_y"):
        value = getattr(pinhole, name)
        if not 0 < value < 1e9:
            field = {"width": "w", "height": "h"}.get(name, name)
            raise DatasetError(f"{where}, `{field}`: expected a positive number of pixels; got {value}.")
    for name, centre, size in (("cx", pinhole.cx, pinhole.width), ("cy", pinhole.cy, pinhole.height)):
        if not -size <= centre <= 2 * size:
            raise DatasetError(
                f"{where}, `{name}`: {centre:g} is far outside a picture of {size} pixels. Give pixels from "
                "the top left corner, of the picture in its present size."
            )
    for name, focal in (("fl_x", pinhole.fl_x), ("fl_y", pinhole.fl_y)):
        if focal < 0.05 * max(pinhole.width, pinhole.height):
            raise DatasetError(
                f"{where}, `{name}`: {focal:g} for a picture of {pinhole.width} x {pinhole.height} pixels "
                "is no lens. Give focal lengths in pixels, not in millimetres or parts of the width."
            )


def _row(values: Tensor) -> str:
    return " ".join(f"{value:.6g}" for value in values.tolist())
