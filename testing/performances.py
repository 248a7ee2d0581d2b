# SPDX-License-Identifier: MIT
"""A tiny performance with truth, the dataset that its cameras would record, and fits that are stopped."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rastergrad.capture.config import Align, Config, Polish, Pose, Surface, Warp
from rastergrad.capture.fit import Fit
from rastergrad.capture.performance import Performance
from rastergrad.capture.template import Template
from rastergrad.demo.recording import record, write_obj
from rastergrad.scene.camera import look_at, rotation
from rastergrad.scene.harmonics import white_light
from rastergrad.scene.pinhole import Pinhole


def ball(rows: int = 16, columns: int = 24) -> Template:
    """An upright egg of radius about 0.1 with a seam in its texture coordinates at the back (-z)."""
    v_share = torch.linspace(0, 1, rows + 1)[1:-1]
    places, coordinates = [], []
    for v in v_share.tolist():
        height, ring = -math.cos(math.pi * v), math.sin(math.pi * v)
        for k in range(columns + 1):
            turn = 2 * math.pi * k / columns
            if k < columns:
                places.append([-ring * math.sin(turn), 1.3 * height, -ring * math.cos(turn)])
            coordinates.append([k / columns, v])
    south, north = len(places), len(places) + 1
    places += [[0.0, -1.3, 0.0], [0.0, 1.3, 0.0]]
    coordinates += [[(k + 0.5) / columns, pole] for pole in (0.0, 1.0) for k in range(columns)]
    tri, uv_tri = [], []
    rings = rows - 1
    for k in range(columns):
        following, wide = (k + 1) % columns, columns + 1
        for r in range(rings - 1):
            a, b = r * columns + k, r * columns + following
            c, d = a + columns, b + columns
            ua, ub = r * wide + k, r * wide + k + 1
            tri += [[a, b, d], [a, d, c]]
            uv_tri += [[ua, ub, ub + wide], [ua, ub + wide, ua + wide]]
        tip = rings * wide + k
        tri.append([south, following, k])
        uv_tri.append([tip, k + 1, k])
        top = (rings - 1) * columns
        tri.append([top + k, top + following, north])
        uv_tri.append([(rings - 1) * wide + k, (rings - 1) * wide + k + 1, tip + columns])
    return Template(
        0.1 * torch.tensor(places, dtype=torch.float32),
        torch.tensor(tri, dtype=torch.int32),
        torch.tensor(coordinates, dtype=torch.float32),
        torch.tensor(uv_tri, dtype=torch.int32),
    )


def speckle(side: int = 128, seed: int = 0) -> Tensor:
    """A colourful texture with detail at several scales, [side, side, 3] linear."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, side, side)
    for grid in (4, 8, 16, 32):
        noise = torch.rand(1, 3, grid, grid, generator=generator)
        total += torch.nn.functional.interpolate(
            noise, size=(side, side), mode="bilinear", align_corners=False
        )
    return (total[0] / 4).permute(1, 2, 0).clamp(0.05, 0.95).contiguous()


def small_performance(frames: int = 3, cameras: int = 3, width: int = 96, height: int = 112) -> Performance:
    """The egg nods, and a bump on its front grows; seen from the front, in world units of metres."""
    template = ball()
    front = template.positions[:, 2].clamp_min(0) * (template.positions[:, 1] < 0.03)
    positions, poses = [], []
    for frame in range(frames):
        pose = (rotation(0, 0.06 * frame) @ rotation(1, 0.05 * frame)).float()
        pose[0, 3] = 0.002 * frame
        shape = template.positions + torch.tensor([0.0, 0.0, 0.06]) * frame * front[:, None]
        positions.append(shape @ pose[:3, :3].T + pose[:3, 3])
        poses.append(pose)
    views = []
    for k in range(cameras):
        azimuth = 0.9 * (k - (cameras - 1) / 2) / max(1, (cameras - 1) / 2)
        eye = torch.tensor([math.sin(azimuth), 0.1 * (-1) ** k, math.cos(azimuth)])
        pose = torch.linalg.inv(look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])))
        focal = 3.2 * height
        views.append(Pinhole(width, height, focal, 1.02 * focal, width / 2 + 1, height / 2 - 2, pose))
    light = white_light(torch.zeros(1))
    light[2] = 0.4  # brighter from the front
    return Performance(
        template=template,
        timesteps=tuple(range(frames)),
        camera_ids=tuple(range(cameras)),
        cameras=tuple(views),
        positions=torch.stack(positions),
        head_pose=torch.stack(poses),
        texture=speckle(),
        seen=torch.ones(128, 128),
        light=light * 0.8,
        gain=torch.ones(cameras, 3),
        bias=torch.zeros(cameras, 3),
        mm_per_unit=1000.0,
        fps=30.0,
    )


def quick_config() -> Config:
    """Settings that fit the tiny performance in some seconds."""
    return Config(
        texture_side=128,
        align=Align(steps=10, head_px=40),
        warp=(
            Warp(cell=0.4, head_px=45, steps=30, step_size=4e-3),
            Warp(cell=0.2, head_px=90, steps=30, step_size=2e-3),
        ),
        identity=(Surface(90, 30, smoothness=10, step_size=1e-3, texture_step=3e-2, bending=10),),
        pose=Pose(steps=25, head_px=45, step_size=0.01),
        track=(
            Surface(45, 25, smoothness=50, step_size=3e-3, texture_step=1e-2, bending=1, change=1),
            Surface(90, 25, smoothness=10, step_size=1e-3, texture_step=1e-2, bending=1, change=0.3),
        ),
        polish=(
            Polish(
                90,
                60,
                10,
                step_size=5e-4,
                texture_step=1e-2,
                bending=0.3,
                steadiness=0.1,
                frames=2,
                cameras=2,
            ),
        ),
    )


def write_dataset(folder: Path, performance: Performance, supersampling: int = 2) -> Path:
    """Write what the cameras of `performance` record, its template (of frame 0, as OBJ) and the truth.

    Returns:
        `folder`, with transforms.json, images/, masks/, template.obj and truth.npz.
    """
    record(folder, performance, supersampling)
    write_obj(folder / "template.obj", performance.template)
    np.savez(
        folder / "truth.npz",
        vertices=performance.positions.numpy(),
        faces=performance.template.tri.numpy(),
        uvs=performance.template.uv.numpy(),
        uv_faces=performance.template.uv_tri.numpy(),
        head_pose=performance.head_pose.numpy(),
        narrow_face=(performance.template.positions[:, 2] > 0.02).numpy(),
    )
    return folder


def disturbed(after: int, action: Callable[[], None]) -> type[Fit]:
    """A Fit that does something before its step number `after`."""

    class Disturbed(Fit):
        steps = 0

        def _stage(self, loop, bar, begun):  # type: ignore[no-untyped-def]
            step = loop.step

            def counted(number: int) -> tuple[float, float]:
                Disturbed.steps += 1
                if Disturbed.steps == after:
                    action()
                return step(number)

            loop.step = counted
            super()._stage(loop, bar, begun)

    return Disturbed


def interrupt() -> None:
    raise KeyboardInterrupt
