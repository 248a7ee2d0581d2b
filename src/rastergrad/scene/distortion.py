# SPDX-License-Identifier: MIT
"""Lens distortion as OpenCV and COLMAP write it, and pictures freed of it once, before any fit.

Normalised coordinates are x / z and y / z of a camera that looks along +z with x right and y down (OpenCV's
axes). Pixels are counted from the top left corner of the picture, so the centre of the first pixel is
(0.5, 0.5), as in COLMAP; OpenCV counts it as 0, so `cx` and `cy` of an OpenCV calibration need half a pixel
more.

Source: Brown 1966, Decentering Distortion of Lenses; the rational form is OpenCV's documented one.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from rastergrad.scene.extra import require
from rastergrad.scene.pinhole import Pinhole

# Which coefficients the models of COLMAP, nerfstudio and OpenCV have.
MODELS: Mapping[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "PERSPECTIVE": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}
SCAN = 4096  # radii at which the radial part is looked at
ITERATIONS = (
    40  # of Newton's method; 2 or 3 are usual from the radial inverse, the rest is for strange lenses
)


@dataclass(frozen=True)
class Distortion:
    """Radial and tangential coefficients, in OpenCV's order.

    With r^2 = x^2 + y^2, `distort` maps (x, y) to

        x (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)

    and y likewise with p1 and p2 exchanged.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0

    def __bool__(self) -> bool:
        """Whether it moves any point."""
        return any(coefficient != 0 for coefficient in astuple(self))

    def _radial(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        """Radial factor and its derivative by r2."""
        above = 1 + r2 * (self.k1 + r2 * (self.k2 + r2 * self.k3))
        below = 1 + r2 * (self.k4 + r2 * (self.k5 + r2 * self.k6))
        d_above = self.k1 + r2 * (2 * self.k2 + r2 * 3 * self.k3)
        d_below = self.k4 + r2 * (2 * self.k5 + r2 * 3 * self.k6)
        return above / below, (d_above * below - above * d_below) / below**2

    def distort(self, points: Tensor) -> Tensor:
        """Where the lens puts points.

        Args:
            points: [..., 2] normalised coordinates of the ideal picture.
        Returns:
            [..., 2] normalised coordinates of the real one. Outside `reach` the polynomial folds back and
            means nothing.
        Gradients:
            to `points`.
        """
        x, y = points.unbind(-1)
        r2 = x * x + y * y
        factor, _ = self._radial(r2)
        return torch.stack(
            [
                x * factor + 2 * self.p1 * x * y + self.p2 * (r2 + 2 * x * x),
                y * factor + 2 * self.p2 * x * y + self.p1 * (r2 + 2 * y * y),
            ],
            dim=-1,
        )

    def undistort(self, points: Tensor) -> Tensor:
        """The inverse of `distort` within `reach`, by Newton's method.

        Args:
            points: [..., 2] normalised coordinates of the real picture.
        Returns:
            [..., 2] float64 normalised coordinates of the ideal one; NaN where no point within reach maps
            there.
        Gradients:
            none.
        """
        wanted = points.detach().double()
        # No lens bends a ray by more than this factor, and the scan needs an end.
        radii, images = self._growing(4 * float(wanted.abs().amax()) + 1 if wanted.numel() else 1.0)
        # Newton's method alone wanders where a lens magnifies and then flattens: it begins with the inverse
        # of the radial part, read from the scan.
        far = wanted.norm(dim=-1, keepdim=True)
        above = torch.searchsorted(images, far).clamp(1, len(radii) - 1)
        share = (far - images[above - 1]) / (images[above] - images[above - 1])
        radius = radii[above - 1] + share.clamp(0, 1) * (radii[above] - radii[above - 1])
        found = wanted * torch.where(far > 0, radius / far, 1)
        missed, scale = (self.distort(found) - wanted).norm(dim=-1, keepdim=True), torch.ones_like(far)
        for _ in range(ITERATIONS):
            closer = found - scale * self._newton_step(found, wanted)
            still = (self.distort(closer) - wanted).norm(dim=-1, keepdim=True)
            better = still < missed
            found, missed = torch.where(better, closer, found), torch.where(better, still, missed)
            # Where a lens flattens a full step lands far away.
            scale = torch.where(better, (2 * scale).clamp(max=1), scale / 2)
        # On the other side of the fold there are solutions, too.
        solved = (missed <= 1e-9 * (1 + far)) & (found.norm(dim=-1, keepdim=True) <= 1.001 * radii[-1])
        return torch.where(solved, found, torch.nan)

    def _newton_step(self, found: Tensor, wanted: Tensor) -> Tensor:
        x, y = found.unbind(-1)
        factor, slope = self._radial(x * x + y * y)
        d_xx = factor + 2 * slope * x * x + 2 * self.p1 * y + 6 * self.p2 * x
        d_yy = factor + 2 * slope * y * y + 2 * self.p2 * x + 6 * self.p1 * y
        d_xy = 2 * slope * x * y + 2 * self.p1 * x + 2 * self.p2 * y  # the Jacobian is symmetric
        miss_x, miss_y = (self.distort(found) - wanted).unbind(-1)
        step = torch.stack([d_yy * miss_x - d_xy * miss_y, d_xx * miss_y - d_xy * miss_x], dim=-1)
        return step / (d_xx * d_yy - d_xy**2)[..., None]

    def reach(self, limit: float) -> float:
        """The radius up to which the radial part grows, at most `limit`: beyond it the picture folds back."""
        return float(self._growing(limit)[0][-1])

    def _growing(self, limit: float) -> tuple[Tensor, Tensor]:
        """Radii from 0 as long as the radial part grows, at most up to `limit`, and where it puts them."""
        radius = torch.linspace(0, limit, SCAN + 1, dtype=torch.float64)
        r2 = radius**2
        factor, slope = self._radial(r2)
        below = 1 + r2 * (self.k4 + r2 * (self.k5 + r2 * self.k6))
        folds = torch.nonzero((factor + 2 * r2 * slope <= 0) | (below <= 0))
        count = int(folds[0]) if len(folds) else len(radius)
        return radius[:count], (radius * factor)[:count]


def from_model(model: str, coefficients: Mapping[str, float]) -> Distortion | None:
    """The distortion of a named camera model.

    Args:
        model: one of MODELS.
        coefficients: by name; what is missing is 0.
    Returns:
        None when nothing is distorted.
    Errors:
        ValueError for fisheye lenses, unknown models, and coefficients that the model does not have.
    """
    name = model.upper()
    if name not in MODELS:
        raise ValueError(
            f"camera model {model!r} is not supported (only {', '.join(MODELS)}). Undistort the pictures "
            "first, for instance with `colmap image_undistorter` or cv2.fisheye, and give the model PINHOLE."
        )
    strange = sorted(k for k, value in coefficients.items() if value != 0 and k not in MODELS[name])
    if strange:
        raise ValueError(
            f"camera model {model!r} has no {', '.join(strange)}; got "
            f"{', '.join(f'{k} = {coefficients[k]}' for k in strange)}. Name the model OPENCV if these are "
            "meant."
        )
    distortion = Distortion(**{k: float(value) for k, value in coefficients.items() if k in MODELS[name]})
    return distortion or None


def distort_pixels(xy: Tensor, pinhole: Pinhole, distortion: Distortion) -> Tensor:
    """Pixels [..., 2] of the ideal picture, where they are in the real one; of `xy`'s dtype."""
    focal, centre = _intrinsics(pinhole, xy)
    return distortion.distort((xy - centre) / focal) * focal + centre


def undistort_pixels(xy: Tensor, pinhole: Pinhole, distortion: Distortion) -> Tensor:
    """Pixels [..., 2] of the real picture, where they are in the ideal one; float64, NaN for nowhere."""
    focal, centre = _intrinsics(pinhole, xy.double())
    return distortion.undistort((xy.double() - centre) / focal) * focal + centre


def sources(pinhole: Pinhole, distortion: Distortion) -> tuple[Tensor, Tensor]:
    """Where each pixel of the ideal picture comes from.

    Returns:
        [H, W, 2] float32: x from the left, y from the top of the real picture, in pixels; row 0 is the
        bottom.
        [H, W, 1] bool: whether that is inside the real picture and before the fold.
    Errors:
        MissingExtraError without OpenCV, which makes the map twenty times faster than `distort` would.
    """
    opencv = require("cv2", "undistorting pictures", "capture")
    size = (pinhole.width, pinhole.height)
    # OpenCV counts the first pixel's centre as 0.
    focal, centre = (pinhole.fl_x, pinhole.fl_y), (pinhole.cx - 0.5, pinhole.cy - 0.5)
    matrix = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
    maps = opencv.initUndistortRectifyMap(
        matrix, np.array(astuple(distortion)), None, matrix, size, opencv.CV_32FC1
    )
    xy = torch.from_numpy(np.stack([m[::-1] for m in maps], axis=-1)).add_(0.5)
    valid = ((xy >= 0.5) & (xy <= torch.tensor(size) - 0.5)).all(dim=-1, keepdim=True)
    far_x, far_y = (max(c, side - 1 - c) / f for c, side, f in zip(centre, size, focal))
    reach = distortion.reach(math.hypot(far_x, far_y))
    if reach < math.hypot(far_x, far_y):
        x = (torch.arange(size[0]) - centre[0]) / focal[0]
        y = (torch.arange(size[1]).flip(0) - centre[1]) / focal[1]
        valid &= (x**2 + (y**2)[:, None] < reach**2)[..., None]
    return xy, valid


def undistort_image(image: Tensor, pinhole: Pinhole, distortion: Distortion) -> tuple[Tensor, Tensor]:
    """The picture that `pinhole` would have seen without its lens's distortion; size and intrinsics are kept.

    Args:
        image: [H, W, C] float32 linear light or coverage, row 0 = bottom, of the size of `pinhole`.
    Returns:
        [H, W, C] float32; [H, W, 1] float32: 1 where the real picture shows the pixel, else 0 (the image's
        border is repeated there).
    Errors:
        ValueError for another size; MissingExtraError without OpenCV.
    Cost:
        About a second for 7 million pixels on a core. The map of `sources` is not kept: it is as large as the
        picture.
    """
    size = (pinhole.height, pinhole.width)
    if image.shape[:2] != size:
        raise ValueError(
            f"undistort_image: `image` must be [{size[0]}, {size[1]}, C] like its camera; got "
            f"{list(image.shape)}."
        )
    xy, valid = sources(pinhole, distortion)
    # Row 0 is the bottom in `image`, so y from the top is -y of grid_sample, whose -1 and 1 are the outer
    # edges.
    grid = torch.stack([2 * xy[..., 0] / size[1] - 1, 1 - 2 * xy[..., 1] / size[0]], dim=-1)
    # Bilinear: the bicubic kernels of torch and OpenCV (a = -0.75) shift edges to and fro by 0.05 pixel.
    seen = torch.nn.functional.grid_sample(
        image.permute(2, 0, 1)[None], grid[None], padding_mode="border", align_corners=False
    )
    return seen[0].permute(1, 2, 0).contiguous(), valid.to(image.dtype)


def _intrinsics(pinhole: Pinhole, like: Tensor) -> tuple[Tensor, Tensor]:
    focal = torch.tensor([pinhole.fl_x, pinhole.fl_y], dtype=like.dtype, device=like.device)
    return focal, torch.tensor([pinhole.cx, pinhole.cy], dtype=like.dtype, device=like.device)
