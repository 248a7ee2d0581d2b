# SPDX-License-Identifier: MIT
"""Landmarks: points of the template that somebody clicked, or a detector found, in some of the pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rastergrad.capture.problems import DatasetError, Problems
from rastergrad.capture.shots import Shot
from rastergrad.scene.distortion import undistort_pixels


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Observations of template vertices.

    Args:
        vertices: [L] int64, template vertex of each landmark.
        view: [M] int64, index into the dataset's views.  landmark: [M] int64, index into `vertices`.
        xy: [M, 2] float32, pixels from the top left corner, of the undistorted picture.
    """

    vertices: Tensor
    view: Tensor
    landmark: Tensor
    xy: Tensor


def read_landmarks(
    path: Path, vertex_count: int, views: Mapping[tuple[int, int], int], all_shots: Sequence[Shot]
) -> Landmarks:
    """Read {"template_vertices": [...], "observations": [{timestep_index, camera_index, landmark,
    x, y}, ...]}.

    Args:
        path: the file; x and y are pixels from the top left corner of the picture as it is (with distortion).
        vertex_count: of the template.
        views: index of each view that is used, by (timestep, camera).
        all_shots: every shot of the dataset; observations of those that are not used are left out.
    Errors:
        DatasetError, all problems together.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"cannot read the landmarks {path}: {error.strerror}.") from error
    except ValueError as error:
        raise DatasetError(f"{path} is not valid JSON: {error}.") from error
    problems = Problems(str(path))
    vertices = _field(about, "template_vertices", path)
    for number, vertex in enumerate(vertices):
        if not _whole(vertex) or not 0 <= vertex < vertex_count:
            problems.add(
                f"{path}, template_vertices[{number}]: expected 0 to {vertex_count - 1}, the template's "
                f"vertices; got {vertex!r}. Count the `v` lines of the OBJ file from 0."
            )
    shots = {(s.timestep, s.camera_id): s for s in all_shots}
    rows = []
    for number, entry in enumerate(_field(about, "observations", path)):
        with problems.collected():
            where = f"{path}, observations[{number}]"
            key, landmark, x, y = _observation(entry, where, len(vertices), shots)
            if key not in views:
                continue
            shot = shots[key]
            xy = torch.tensor([x, y], dtype=torch.float64)
            if shot.distortion is not None:
                xy = undistort_pixels(xy, shot.pinhole, shot.distortion)
                if not torch.isfinite(xy).all():
                    raise DatasetError(
                        f"{where}: the camera's distortion has no point at x = {x:g}, y = {y:g}. Check its "
                        "coefficients."
                    )
            rows.append((views[key], landmark, *xy.tolist()))
    problems.settle()
    rows.sort()
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    return Landmarks(
        torch.tensor(vertices, dtype=torch.int64),
        table[:, 0].long(),
        table[:, 1].long(),
        table[:, 2:].float(),
    )


def _field(about: Any, key: str, path: Path) -> list[Any]:
    values = about.get(key) if isinstance(about, dict) else None
    if not isinstance(values, list) or not values:
        raise DatasetError(f"{path}, `{key}`: expected a list that is not empty; got {values!r}.")
    return values


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _observation(
    entry: Any, where: str, landmark_count: int, shots: Mapping[tuple[int, int], Shot]
) -> tuple[tuple[int, int], int, float, float]:
    """((timestep, camera), landmark, x, y)."""
    fields = ("timestep_index", "camera_index", "landmark", "x", "y")
    if not isinstance(entry, dict) or any(name not in entry for name in fields):
        raise DatasetError(f"{where}: expected the fields {', '.join(fields)}; got {entry!r}.")
    timestep, camera_id, landmark, x, y = (entry[name] for name in fields)
    if (timestep, camera_id) not in shots:
        raise DatasetError(
            f"{where}: the dataset has no picture of timestep {timestep!r}, camera {camera_id!r}."
        )
    if not _whole(landmark) or not 0 <= landmark < landmark_count:
        raise DatasetError(
            f"{where}, `landmark`: expected an index into template_vertices, 0 to {landmark_count - 1}; got "
            f"{landmark!r}."
        )
    for name, value in (("x", x), ("y", y)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise DatasetError(f"{where}, `{name}`: expected a finite number of pixels; got {value!r}.")
    pinhole = shots[timestep, camera_id].pinhole
    if not (0 <= x <= pinhole.width and 0 <= y <= pinhole.height):
        raise DatasetError(
            f"{where}: x = {x:g}, y = {y:g} lies outside the picture of {pinhole.width} x {pinhole.height} "
            "pixels. Give pixels from its top left corner, in its full size."
        )
    return (timestep, camera_id), landmark, float(x), float(y)
