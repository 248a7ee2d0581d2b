# SPDX-License-Identifier: MIT
"""The pictures of a dataset folder, read in the plainest way: for tests of what a capture writes."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rastergrad.scene.image import read_texture


@dataclass(frozen=True)
class RecordedView:
    frame: int
    camera: int
    image: Path
    mask: Path


@dataclass(frozen=True)
class RecordedPicture:
    color: Tensor
    mask: Tensor | None
    valid: Tensor | None


class Recorded:
    """What `testing.performances.write_dataset` wrote."""

    def __init__(self, folder: Path, masks: bool = True) -> None:
        entries = json.loads((folder / "transforms.json").read_text())["frames"]
        timesteps = sorted({entry["timestep_index"] for entry in entries})
        cameras = sorted({entry["camera_index"] for entry in entries})
        self.masks = masks
        self.views = [
            RecordedView(
                timesteps.index(entry["timestep_index"]),
                cameras.index(entry["camera_index"]),
                folder / entry["file_path"],
                folder / entry["fg_mask_path"],
            )
            for entry in entries
        ]

    def load(self, view: RecordedView) -> RecordedPicture:
        color = read_texture(view.image)[0, ..., :3]
        mask = None
        if self.masks:
            # read_texture takes pictures for sRGB; coverage is linear.
            light = read_texture(view.mask)[0, ..., :1]
            mask = torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
        return RecordedPicture(color, mask, None)
