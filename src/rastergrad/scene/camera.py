# SPDX-License-Identifier: MIT
"""Cameras: 4x4 matrices for column vectors, named destination first.

`clip_from_cam @ cam_from_world @ world_point`, so a wrong chain looks wrong. Camera space is right-handed,
x right, y up, looking along -z. Clip space is OpenGL's: visible where |x|, |y|, |z| <= w; row 0 of an image
is the bottom.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def perspective(half_width: float, half_height: float, near: float = 1.0, far: float = 50.0) -> Tensor:
    """Perspective projection whose view window at distance `near` is 2 half_width by 2 half_height.

    Args:
        half_width, half_height: half the size of the window on the near plane, in world units.
        near, far: distances of the clipping planes in world units, 0 < near < far.
    Returns:
        clip_from_cam, [4, 4] float64.
    Errors:
        ValueError when a size is not positive or the planes are out of order.
    """
    if not (half_width > 0 and half_height > 0):
        raise ValueError(f"perspective: the window must be larger than 0; got {half_width} x {half_height}.")
    if not 0 < near < far:
        raise ValueError(f"perspective: expected 0 < near < far; got near = {near}, far = {far}.")
    clip_from_cam = torch.zeros(4, 4, dtype=torch.float64)
    clip_from_cam[0, 0] = near / half_width
    clip_from_cam[1, 1] = near / half_height
    clip_from_cam[2, 2] = -(far + near) / (far - near)
    clip_from_cam[2, 3] = -2 * far * near / (far - near)
    clip_from_cam[3, 2] = -1
    return clip_from_cam


def translation(x: float, y: float, z: float) -> Tensor:
    """The matrix that moves a point by (x, y, z), [4, 4] float64."""
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, 3] = torch.tensor([x, y, z], dtype=torch.float64)
    return moved


def rotation(axis: int, angle_rad: float) -> Tensor:
    """The right-handed rotation by `angle_rad` about coordinate axis 0, 1 or 2, [4, 4] float64."""
    if axis not in (0, 1, 2):
        raise ValueError(f"rotation: `axis` must be 0, 1 or 2; got {axis}.")
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turned = torch.eye(4, dtype=torch.float64)
    turned[first, first] = turned[second, second] = math.cos(angle_rad)
    turned[second, first] = math.sin(angle_rad)
    turned[first, second] = -math.sin(angle_rad)
    return turned


def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """The rigid transform of a camera at `eye` that sees `target` in its centre and `up` upright.

    Args:
        eye, target, up: [3] world coordinates; `up` may have any length and slant toward the view.
    Returns:
        cam_from_world, [4, 4] float64.
    Errors:
        ValueError when eye and target coincide or `up` is parallel to the line of sight.
    """
    eye, target, up = (torch.as_tensor(v, dtype=torch.float64) for v in (eye, target, up))
    back = eye - target
    right = torch.linalg.cross(up, back)
    if not back.norm() > 0:
        raise ValueError(f"look_at: `eye` and `target` are the same point {eye.tolist()}.")
    if not right.norm() > 1e-9 * up.norm() * back.norm():
        sight = back.tolist()
        raise ValueError(f"look_at: `up` {up.tolist()} is zero or parallel to the line of sight {sight}.")
    back, right = back / back.norm(), right / right.norm()
    cam_from_world = torch.eye(4, dtype=torch.float64)
    cam_from_world[:3, :3] = torch.stack([right, torch.linalg.cross(back, right), back])
    cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ eye
    return cam_from_world


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: where it stands and what it projects; both matrices [4, 4] float64."""

    cam_from_world: Tensor
    clip_from_cam: Tensor

    @property
    def clip_from_world(self) -> Tensor:
        return self.clip_from_cam @ self.cam_from_world


def project(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply 4x4 matrices to points.

    Args:
        matrix: [..., 4, 4].
        points: [..., V, 3] (w = 1 is appended); leading dimensions broadcast against those of `matrix`.
    Returns:
        [..., V, 4] homogeneous coordinates in the dtype of `points`.
    Gradients:
        to both.
    """
    matrix = matrix.to(points)
    linear, offset = matrix[..., :, :3], matrix[..., :, 3]
    return points @ linear.transpose(-1, -2) + offset[..., None, :]


def frame(
    positions: Tensor,
    direction: Tensor,
    up: Tensor,
    *,
    fov_y_rad: float = math.radians(35),
    aspect: float = 1.0,
    margin: float = 0.05,
) -> Camera:
    """The closest camera looking against `direction` whose picture holds all `positions`, centred.

    In the camera's axes, origin anywhere, a point (x, z) fits horizontally when |x - c| <= (d - z) t, with
    t = tan(fov / 2) and the eye at (c, d). All points fit when d >= (max(x + z t) - min(x - z t)) / 2t;
    equality in one of the two image axes gives the camera in closed form.

    Args:
        positions: [V, 3] world coordinates, V >= 1, finite.
        direction: [3] from the object toward the camera; any length.
        up: [3] upright direction of the image.
        fov_y_rad: vertical opening angle, 0 < fov < pi.
        aspect: width / height of the image.
        margin: share of the image kept free at each side, 0 <= margin < 0.5.
    Errors:
        ValueError for an opening angle or margin out of range, or a `direction` along `up`.
    """
    if not 0 < fov_y_rad < math.pi:
        raise ValueError(f"frame: `fov_y_rad` must lie between 0 and pi; got {fov_y_rad}.")
    if not 0 <= margin < 0.5:
        raise ValueError(f"frame: `margin` must lie in [0, 0.5); got {margin}.")
    origin = torch.zeros(3, dtype=torch.float64)
    axes_from_world = look_at(torch.as_tensor(direction, dtype=torch.float64), origin, up)[:3, :3]
    points = positions.detach().double().cpu() @ axes_from_world.T
    window = math.tan(fov_y_rad / 2) * torch.tensor([aspect, 1.0], dtype=torch.float64)
    usable = window * (1 - 2 * margin)
    xy, z = points[:, :2], points[:, 2:]
    high, low = (xy + z * usable).amax(0), (xy - z * usable).amin(0)
    size = float((points.amax(0) - points.amin(0)).norm()) or 1.0
    eye = torch.cat([(high + low) / 2, ((high - low) / (2 * usable)).amax()[None]])
    # Keeps clear of the nearest point even where the object is flat or a single point.
    eye[2] = torch.maximum(eye[2], z.amax() + 0.01 * size)
    cam_from_axes = translation(*(-eye).tolist())
    axes = torch.eye(4, dtype=torch.float64)
    axes[:3, :3] = axes_from_world
    near = max(float(eye[2] - z.amax()) - 0.01 * size, 1e-3 * size)
    far = float(eye[2] - z.amin()) + 0.01 * size
    half_width, half_height = (window * near).tolist()
    return Camera(cam_from_axes @ axes, perspective(half_width, half_height, near, far))
