# SPDX-License-Identifier: MIT
"""Reads transforms.json: nerfstudio's layout with `timestep_index` and `camera_index`, or without them."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rastergrad.capture.problems import DatasetError, Problems
from rastergrad.capture.shots import Footage, Shot, check_intrinsics, check_pose
from rastergrad.scene.distortion import MODELS, Distortion, from_model
from rastergrad.scene.image import ImageError, image_header, linear_from_srgb
from rastergrad.scene.pinhole import Pinhole

FILE = "transforms.json"
ENDINGS = (".png", ".jpg", ".jpeg", ".exr", ".PNG", ".JPG", ".JPEG", ".EXR")
MASKS = ("fg_mask_path", "mask_path")
COEFFICIENTS = MODELS["FULL_OPENCV"]


def read_transforms(folder: Path) -> Footage:
    """What folder/transforms.json says.

    Errors:
        DatasetError, with all problems of the file together.
    """
    path = folder / FILE
    about = _parse(path)
    entries = about.get("frames")
    if not isinstance(entries, list) or not entries:
        raise DatasetError(
            f"{path}, `frames`: expected a list with an entry for each picture; got {entries!r}."
        )
    problems, shots = Problems(str(path)), []
    times = _have_index(entries, "timestep_index", path, problems)
    cameras = _have_index(entries, "camera_index", path, problems)
    for number, entry in enumerate(entries):
        where = f"{path}, frames[{number}]"
        if not isinstance(entry, dict):
            problems.add(f"{where}: expected an object; got {entry!r}.")
            continue
        with problems.collected():
            timestep = _index(entry, "timestep_index", where) if times else 0
            camera_id = _index(entry, "camera_index", where) if cameras else number
            shots.append(_shot(folder, about, entry, where, timestep, camera_id))
    background, fps, units = None, None, about.get("units")
    with problems.collected():
        background = _background(about.get("background"), path)
    with problems.collected():
        fps = _number({}, about, "fps", str(path), required=False)
        if fps is not None and not fps > 0:
            raise DatasetError(f"{path}, `fps`: expected a positive number; got {fps:g}.")
    problems.settle()
    notes = () if times else (f"{FILE} has no timestep_index: one static frame.",)
    return Footage(path, tuple(shots), background, None if units is None else str(units), fps, notes)


def _parse(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}. Give the folder that holds it.") from error
    except ValueError as error:  # JSON, or its encoding
        raise DatasetError(
            f"{path} is not valid JSON: {error}. Write it again; it may have been cut off."
        ) from error
    if not isinstance(about, dict):
        raise DatasetError(f"{path}: expected an object with `frames`; got a {type(about).__name__}.")
    return about


def _have_index(entries: list[Any], key: str, path: Path, problems: Problems) -> bool:
    count = sum(isinstance(entry, dict) and key in entry for entry in entries)
    if 0 < count < len(entries):
        problems.add(f"{path}, `{key}`: {count} of {len(entries)} frames have it. Give it to all or to none.")
    return count == len(entries)


def _index(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry[key]
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value != value
        or value < 0
        or value % 1
    ):
        raise DatasetError(f"{where}, `{key}`: expected a whole number from 0; got {value!r}.")
    return int(value)


def _shot(
    folder: Path, about: dict[str, Any], entry: dict[str, Any], where: str, timestep: int, camera_id: int
) -> Shot:
    image = _path(folder, entry.get("file_path"), where, "file_path")
    named = next((key for key in MASKS if entry.get(key)), None)
    mask = None if named is None else _path(folder, entry[named], where, named)
    matrix = entry.get("transform_matrix")
    try:
        pose = torch.tensor(matrix, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        pose = torch.zeros(0)
    if pose.shape == (3, 4):
        pose = torch.cat([pose, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)])
    if pose.shape != (4, 4):
        came = "nothing" if matrix is None else f"{matrix!r}"[:80]
        raise DatasetError(f"{where}, `transform_matrix`: expected 4 rows of 4 numbers; got {came}.")
    check_pose(pose, f"{where}, `transform_matrix`")
    width, height = _size(about, entry, image, where)
    pinhole = Pinhole(width, height, *_lens(about, entry, where, width, height), world_from_cam=pose)
    check_intrinsics(pinhole, where)
    return Shot(where, timestep, camera_id, image, mask, pinhole, _distortion(about, entry, where))


def _path(folder: Path, name: Any, where: str, key: str) -> Path:
    """The file that is meant; also one whose ending was left out, as nerfstudio and Blender do."""
    if not isinstance(name, str) or not name:
        raise DatasetError(
            f"{where}, `{key}`: expected the path of a picture, relative to {FILE}; got {name!r}."
        )
    path = folder / name.replace("\\", "/")
    if path.is_file():
        return path
    return next((p for p in (path.with_name(path.name + end) for end in ENDINGS) if p.is_file()), path)


def _number(
    entry: dict[str, Any], about: dict[str, Any], key: str, where: str, *, required: bool = True
) -> float | None:
    """A field of the frame, or else of the whole file."""
    value = entry.get(key, about.get(key))
    if value is None and not required:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        came = "nothing" if value is None else repr(value)
        raise DatasetError(
            f"{where}, `{key}`: expected a finite number, here or once for all frames; got {came}."
        )
    return float(value)


def _size(about: dict[str, Any], entry: dict[str, Any], image: Path, where: str) -> tuple[int, int]:
    stated = [_number(entry, about, key, where, required=False) for key in ("w", "h")]
    for key, value in zip("wh", stated):
        if value is not None and (value < 1 or value % 1):
            raise DatasetError(f"{where}, `{key}`: expected a whole number of pixels; got {value:g}.")
    if None in stated:
        try:
            header = image_header(image)
        except (OSError, ImageError) as error:
            raise DatasetError(f"{where}: no `w` and `h`, and the picture cannot tell: {error}") from error
        stated = [given or found for given, found in zip(stated, header[:2])]
    return int(stated[0] or 0), int(stated[1] or 0)


def _lens(
    about: dict[str, Any], entry: dict[str, Any], where: str, width: int, height: int
) -> tuple[float, float, float, float]:
    """fl_x, fl_y, cx, cy."""
    angle = _number(entry, about, "camera_angle_x", where, required=False)
    if angle is not None and entry.get("fl_x", about.get("fl_x")) is None:
        if not 0 < angle < math.pi:
            raise DatasetError(
                f"{where}, `camera_angle_x`: expected radians between 0 and pi; got {angle:g}."
            )
        focal = width / 2 / math.tan(angle / 2)
        centre = (_number(entry, about, key, where, required=False) for key in ("cx", "cy"))
        cx, cy = (size / 2 if c is None else c for c, size in zip(centre, (width, height)))
        return focal, _number(entry, about, "fl_y", where, required=False) or focal, cx, cy
    fl_x = _number(entry, about, "fl_x", where)
    fl_y = _number(entry, about, "fl_y", where, required=False)
    cx, cy = (_number(entry, about, key, where) for key in ("cx", "cy"))
    assert fl_x is not None
    assert cx is not None
    assert cy is not None
    return fl_x, fl_x if fl_y is None else fl_y, cx, cy


def _distortion(about: dict[str, Any], entry: dict[str, Any], where: str) -> Distortion | None:
    values = {k: _number(entry, about, k, where, required=False) or 0.0 for k in COEFFICIENTS}
    model = entry.get("camera_model", about.get("camera_model", "OPENCV"))
    try:
        return from_model(str(model), values)
    except ValueError as error:
        raise DatasetError(f"{where}, `camera_model`: {error}") from error


def _background(value: Any, path: Path) -> Tensor | None:
    """Linear light of an sRGB colour in 0 to 1 or, when any number is above 1, in 0 to 255."""
    if value is None:
        return None
    try:
        color = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        color = torch.zeros(0)
    if color.shape != (3,) or not ((color >= 0) & (color <= 255)).all():
        raise DatasetError(
            f"{path}, `background`: expected three numbers, sRGB in 0 to 1 or 0 to 255; got {value!r}."
        )
    return linear_from_srgb(color / 255 if (color > 1).any() else color)
