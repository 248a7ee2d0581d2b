# SPDX-License-Identifier: MIT
"""What a capture found: moving vertices, a texture, light and colours of cameras; kept in one file."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rastergrad.capture.template import Template
from rastergrad.scene.pinhole import Pinhole

FILE = "checkpoint/performance.npz"  # in the result folder


@dataclass(frozen=True)
class Performance:
    """A captured performance.

    Args:
        template: the topology and its texture coordinates.
        timesteps: the dataset's `timestep_index` of each frame, ascending, F of them.
        camera_ids: the dataset's `camera_index` of each camera, C of them.
        cameras: C calibrated cameras.
        positions: [F, V, 3] float32, world units.
        head_pose: [F, 4, 4] float32, rigid motion of the template in each frame.
        texture: [h, w, 3] float32, linear albedo, row 0 is v = 0.
        seen: [h, w] float32 in [0, 1]: whether any picture saw the texel.
        light: [9, 3] float32: shading is the sum of these times the spherical harmonics of the normal.
        gain, bias: [C, 3] float32: colour of each camera, gain * x + bias in linear light.
        mm_per_unit: millimetres in a world unit.
        fps: frames per second.
    """

    template: Template
    timesteps: tuple[int, ...]
    camera_ids: tuple[int, ...]
    cameras: tuple[Pinhole, ...]
    positions: Tensor
    head_pose: Tensor
    texture: Tensor
    seen: Tensor
    light: Tensor
    gain: Tensor
    bias: Tensor
    mm_per_unit: float
    fps: float

    def save(self, folder: Path) -> Path:
        """Write FILE in the result folder, whole or not at all; returns its path."""
        path = folder / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        intrinsics = [[c.width, c.height, c.fl_x, c.fl_y, c.cx, c.cy] for c in self.cameras]
        arrays = {
            **{f"template_{name}": getattr(self.template, name).numpy() for name in TEMPLATE},
            **{name: getattr(self, name).numpy() for name in TENSORS},
            "timesteps": np.array(self.timesteps),
            "camera_ids": np.array(self.camera_ids),
            "intrinsics": np.array(intrinsics, dtype=np.float64),
            "world_from_cam": torch.stack([c.world_from_cam for c in self.cameras]).numpy(),
            "scale": np.array([self.mm_per_unit, self.fps]),
        }
        aside = path.with_suffix(".tmp.npz")
        np.savez(aside, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(aside, path)
        return path

    @staticmethod
    def load(folder: Path) -> "Performance":
        """Read what `save` wrote.

        Errors:
            FileNotFoundError when `folder` holds no finished capture; ValueError for a damaged file.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no finished capture: {FILE} is missing. Give the --out folder of "
                "`rastergrad capture`, or let it finish with --resume."
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                read = {name: torch.from_numpy(file[name]) for name in file.files}
            template = Template(*(read[f"template_{name}"] for name in TEMPLATE))
            cameras = []
            for row, pose in zip(read["intrinsics"].tolist(), read["world_from_cam"]):
                cameras.append(Pinhole(int(row[0]), int(row[1]), *row[2:], world_from_cam=pose))
            mm_per_unit, fps = read["scale"].tolist()
            return Performance(
                template,
                tuple(read["timesteps"].tolist()),
                tuple(read["camera_ids"].tolist()),
                tuple(cameras),
                **{name: read[name] for name in TENSORS},
                mm_per_unit=mm_per_unit,
                fps=fps,
            )
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}); run the capture again with --resume."
            ) from error


TEMPLATE = ("positions", "tri", "uv", "uv_tri")
TENSORS = ("positions", "head_pose", "texture", "seen", "light", "gain", "bias")
