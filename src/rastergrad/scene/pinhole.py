# SPDX-License-Identifier: MIT
"""Calibrated pinhole cameras: intrinsics in pixels, a pose, and the matrices that rasterize wants.

Pixels are counted as calibrations count them: from the top left corner of the picture, so the centre of the
first pixel is (0.5, 0.5). Camera space is OpenGL's (x right, y up, looking along -z); `from_opencv` turns the
axes of OpenCV (x right, y down, looking along +z).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# OpenGL's camera axes in OpenCV's, and the other way round.
FLIP_YZ = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion.

    Args:
        width, height: of the picture, pixels.
        fl_x, fl_y: focal lengths, pixels.  cx, cy: principal point, pixels from the top left corner.
        world_from_cam: [4, 4] float64, rigid, OpenGL axes.
    """

    width: int
    height: int
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    world_from_cam: Tensor

    @property
    def cam_from_world(self) -> Tensor:
        return torch.linalg.inv(self.world_from_cam)

    @property
    def eye(self) -> Tensor:
        """Where the camera stands, [3] float64, world units."""
        return self.world_from_cam[:3, 3]

    def clip_from_cam(self, near: float, far: float) -> Tensor:
        """The projection, [4, 4] float64; `near`, `far` in world units, 0 < near < far.

        With w = -z: a pixel x from the left has x_ndc = 2 x / width - 1, a pixel y from the top has
        y_ndc = 1 - 2 y / height.
        """
        if not 0 < near < far:
            raise ValueError(f"clip_from_cam: expected 0 < near < far; got near = {near}, far = {far}.")
        clip_from_cam = torch.zeros(4, 4, dtype=torch.float64)
        clip_from_cam[0, 0] = 2 * self.fl_x / self.width
        clip_from_cam[0, 2] = 1 - 2 * self.cx / self.width
        clip_from_cam[1, 1] = 2 * self.fl_y / self.height
        clip_from_cam[1, 2] = 2 * self.cy / self.height - 1
        clip_from_cam[2, 2] = -(far + near) / (far - near)
        clip_from_cam[2, 3] = -2 * far * near / (far - near)
        clip_from_cam[3, 2] = -1
        return clip_from_cam

    def clip_from_world(self, near: float, far: float) -> Tensor:
        """Projection after pose, [4, 4] float64."""
        return self.clip_from_cam(near, far) @ self.cam_from_world

    def pixels(self, points: Tensor) -> Tensor:
        """Where points appear.

        Args:
            points: [..., 3] world coordinates.
        Returns:
            [..., 3]: x from the left, y from the top, in pixels; distance along the axis in world units
            (not positive: behind the camera, where x and y mean nothing).
        Gradients:
            to `points`.
        """
        pose = self.cam_from_world.to(points)
        x, y, z = (points @ pose[:3, :3].T + pose[:3, 3]).unbind(-1)
        depth = -z
        return torch.stack([self.cx + self.fl_x * x / depth, self.cy - self.fl_y * y / depth, depth], dim=-1)

    def resized(self, width: int, height: int) -> "Pinhole":
        """The same camera with a picture of another size."""
        across, down = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fl_x=self.fl_x * across,
            cx=self.cx * across,
            fl_y=self.fl_y * down,
            cy=self.cy * down,
        )


def from_opencv(world_from_cam: Tensor) -> Tensor:
    """A pose [..., 4, 4] in OpenCV's camera axes as one in OpenGL's; its own inverse."""
    return world_from_cam @ FLIP_YZ.to(world_from_cam)
