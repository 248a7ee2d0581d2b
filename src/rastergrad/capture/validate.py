# SPDX-License-Identifier: MIT
"""Checks of shots against each other, their files and the template, before any work is done."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from rastergrad.capture.problems import DatasetError, Problems
from rastergrad.capture.shots import Shot
from rastergrad.capture.template import Template
from rastergrad.scene.distortion import sources
from rastergrad.scene.image import ImageError, image_header, read_coverage

CALIBRATION = 1e-6  # relative difference within which two frames tell the same camera
MASK_PIXELS = 1_000_000_000  # decoded in about ten seconds; larger datasets are sampled
SHOWN_SHARE = 0.5  # of a picture that must be left after undistortion


def check_consistency(shots: Sequence[Shot], problems: Problems) -> None:
    """Each picture once; each camera fixed, with one calibration."""
    seen: dict[tuple[int, int], Shot] = {}
    first: dict[int, Shot] = {}
    for shot in shots:
        key = (shot.timestep, shot.camera_id)
        if key in seen:
            problems.add(
                f"{shot.where}: timestep_index {key[0]} with camera_index {key[1]} is already "
                f"{seen[key].where}. Number the frames so that each picture has a pair of its own."
            )
        seen[key] = shot
        other = first.setdefault(shot.camera_id, shot)
        difference = _difference(other, shot)
        if difference:
            problems.add(
                f"{shot.where}, `{difference}`: differs from {other.where}, which is camera "
                f"{shot.camera_id}, too. Cameras must stand still and keep their lens; give a moved camera "
                "another camera_index."
            )


def _difference(one: Shot, two: Shot) -> str:
    """The first field in which two shots of one camera differ, or nothing."""
    for field, name in (("w", "width"), ("h", "height"), *((k, k) for k in ("fl_x", "fl_y", "cx", "cy"))):
        a, b = getattr(one.pinhole, name), getattr(two.pinhole, name)
        if abs(a - b) > CALIBRATION * max(abs(a), one.pinhole.width):
            return field
    if one.distortion != two.distortion:
        return "k1 ... p2"
    a, b = one.pinhole.world_from_cam, two.pinhole.world_from_cam
    return "" if torch.allclose(a, b, rtol=CALIBRATION, atol=CALIBRATION) else "transform_matrix"


def check_files(shots: Sequence[Shot], problems: Problems) -> list[Shot]:
    """Images and masks exist, are pictures, and have the stated size; returns those for which it is so."""
    good = []
    for shot in shots:
        before = len(problems.found)
        wanted = (shot.pinhole.width, shot.pinhole.height)
        for path, what in ((shot.image, "file_path"), (shot.mask, "mask")):
            if path is None:
                continue
            with problems.collected():
                try:
                    width, height, _ = image_header(path)
                except FileNotFoundError:
                    raise DatasetError(
                        f"{shot.where}, `{what}`: {path} is missing. Put it there, or leave the frame out."
                    ) from None
                except (OSError, ImageError) as error:
                    raise DatasetError(f"{shot.where}, `{what}`: {error}") from error
                if (width, height) != wanted:
                    raise DatasetError(
                        f"{shot.where}, `{what}`: {path} has {width} x {height} pixels, but its camera "
                        f"{wanted[0]} x {wanted[1]}. Scale w, h, fl_x, fl_y, cx and cy together with the "
                        "pictures."
                    )
        if len(problems.found) == before:
            good.append(shot)
    return good


def check_masks(shots: Sequence[Shot], problems: Problems) -> list[str]:
    """Masks, of their own files or of alpha channels, cover something; returns notes."""
    masked = [(s, s.mask) for s in shots if s.mask is not None]
    masked += [(s, s.image) for s in shots if s.mask is None and image_header(s.image)[2] == 4]
    pixels = sum(s.pinhole.width * s.pinhole.height for s, _ in masked)
    step = -(-pixels // MASK_PIXELS) or 1
    with ThreadPoolExecutor(2) as pool:
        for problem in pool.map(_mask_problem, masked[::step]):
            if problem:
                problems.add(problem)
    return [f"one of {step} masks was checked; the others are when they are read."] if step > 1 else []


def _mask_problem(masked: tuple[Shot, Path]) -> str | None:
    shot, path = masked
    try:
        covered = read_coverage(path)
    except (OSError, ImageError) as error:
        return f"{shot.where}: {error}"
    return empty_mask(path, covered)


def empty_mask(path: Path, covered: torch.Tensor) -> str | None:
    """What is wrong with a mask [H, W, 1] that covers nothing, or None."""
    most = float(covered.max())
    if most >= 0.5:
        return None
    return (
        f"{path}: the mask covers nothing; its brightest pixel is {255 * most:.0f} of 255. White must be "
        "the head (255, not 1); leave the mask or the picture out if it is not there."
    )


def check_cameras(shots: Sequence[Shot], template: Template, template_path: Path, problems: Problems) -> None:
    """Each camera has the template in front of it and in its picture, and a distortion that can be undone."""
    cameras = {shot.camera_id: shot for shot in reversed(shots)}
    for camera_id, shot in sorted(cameras.items()):
        pinhole, where = shot.pinhole, f"{shot.where} (camera {camera_id})"
        pixels = pinhole.pixels(template.positions.double())
        front = pixels[pixels[:, 2] > 0]
        size = torch.tensor([pinhole.width, pinhole.height])
        if not len(front):
            problems.add(
                f"{where}, `transform_matrix`: all of {template_path} lies behind the camera. Poses must be "
                "camera-to-world in OpenGL's axes (looking along -z); for OpenCV's axes turn the signs of "
                "the second and third column; and the template must be near the head, in the cameras' world."
            )
        elif not ((front[:, :2] >= 0) & (front[:, :2] <= size)).all(dim=1).any():
            low, high = (f"{v[0]:.0f}, {v[1]:.0f}" for v in (front[:, :2].amin(0), front[:, :2].amax(0)))
            problems.add(
                f"{where}, `transform_matrix`: all of {template_path} lies outside the picture, from "
                f"({low}) to ({high}) where the picture has {pinhole.width} x {pinhole.height} pixels. "
                "Check the pose, the units of both, and that the template is near the head."
            )
        if shot.distortion is not None:
            share = float(sources(pinhole, shot.distortion)[1].float().mean())
            if share < SHOWN_SHARE:
                problems.add(
                    f"{where}, `k1` ... `p2`: only {share:.0%} of the undistorted picture would show "
                    "anything. Check the coefficients' order (k1, k2, p1, p2, k3 in OpenCV) and signs."
                )
