# SPDX-License-Identifier: MIT
"""What the results of a capture are compared with: the pictures, and the same pictures from the capture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rastergrad.capture.performance import Performance
from rastergrad.capture.render import render
from rastergrad.scene.image import srgb_from_linear

DIFFERENCE_SCALE = 4  # differences of a good capture are a few percent, too dark to be seen as they are


class View(Protocol):
    """One picture of the footage."""

    @property
    def frame(self) -> int: ...  # index into the performance's frames

    @property
    def camera(self) -> int: ...  # index into the performance's cameras


class Picture(Protocol):
    """A loaded picture; row 0 is the bottom."""

    @property
    def color(self) -> Tensor: ...  # [H, W, 3] float32, linear light

    @property
    def mask(self) -> Tensor | None: ...  # [H, W, 1] coverage by the head in [0, 1]

    @property
    def valid(self) -> Tensor | None: ...  # [H, W, 1], 0 where undistorting left nothing; None: all valid


class Footage(Protocol):
    """What this module needs of a dataset."""

    @property
    def views(self) -> Sequence[View]: ...

    def load(self, view: Any, /) -> Picture: ...  # one of its `views`


@dataclass(frozen=True)
class Compared:
    """A picture beside the capture's; each [H, W, 3] uint8 as displayed (sRGB), row 0 is the top."""

    real: Tensor
    captured: Tensor
    difference: Tensor  # absolute, times DIFFERENCE_SCALE


def compare(performance: Performance, footage: Footage, view: View, most_rows: int | None = None) -> Compared:
    """One picture of the footage, what the capture shows in its place, and how they differ.

    The capture has the camera's gain and bias, and black behind it. Where the footage has a mask, only what
    either of the two shows as the head counts as a difference.

    Args:
        most_rows: larger pictures are reduced to this height first.
    Errors:
        Those of `footage.load`.
    """
    picture = footage.load(view)
    height, width = picture.color.shape[:2]
    if most_rows is not None and height > most_rows:
        height, width = most_rows, max(1, round(width * most_rows / height))
    camera = performance.cameras[view.camera].resized(width, height)
    drawn = render(performance, view.frame, [camera])[0]
    coverage = drawn[..., 3:]
    captured = drawn[..., :3] * performance.gain[view.camera] + performance.bias[view.camera] * coverage
    real, captured = srgb_from_linear(_reduced(picture.color, height, width)), srgb_from_linear(captured)
    counts = torch.ones_like(coverage)
    if picture.mask is not None:
        counts = torch.maximum(_reduced(picture.mask, height, width), coverage)
    if picture.valid is not None:
        counts = counts * _reduced(picture.valid.to(counts), height, width)
    difference = (real - captured).abs() * counts * DIFFERENCE_SCALE
    return Compared(*(displayed(x) for x in (real, captured, difference)))


def _reduced(image: Tensor, height: int, width: int) -> Tensor:
    """Means over areas, in linear light: [H, W, C] to [height, width, C]."""
    if image.shape[:2] == (height, width):
        return image
    reduced = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None], (height, width), mode="area")
    return reduced[0].permute(1, 2, 0)


def displayed(image: Tensor) -> Tensor:
    """Values in [0, 1] as shown, row 0 the bottom, as bytes with row 0 at the top."""
    return (image.flip(0) * 255).round().clamp(0, 255).to(torch.uint8)


def views_of(footage: Footage, camera: int) -> list[View]:
    """The views of one camera (an index), by frame."""
    return sorted((view for view in footage.views if view.camera == camera), key=lambda view: view.frame)
