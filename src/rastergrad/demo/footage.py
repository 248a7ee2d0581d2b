# SPDX-License-Identifier: MIT
"""A nine-view performance of a made-up person, with truth, and another person's head to start from."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rastergrad.capture.performance import Performance
from rastergrad.demo.head import Head, heads
from rastergrad.demo.recording import landmarks_of, record, write_obj
from rastergrad.demo.skin import paint
from rastergrad.scene.camera import look_at, rotation
from rastergrad.scene.harmonics import white_light
from rastergrad.scene.image import srgb_from_linear, write_image
from rastergrad.scene.pinhole import Pinhole

# Azimuth and elevation of the cameras in degrees.
RIG = ((0, 2), (-48, 6), (46, 4), (-24, -14), (25, -12), (-22, 20), (23, 22), (-70, -4), (68, -2))
DISTANCE_M = 1.4
PERSON = {"gender": 0.75, "age": 0.62, "weight": 0.58, "muscle": 0.55, "height": 0.55, "proportions": 0.6}
OTHER = {"gender": 0.35, "age": 0.68, "weight": 0.45, "muscle": 0.5, "height": 0.48, "proportions": 0.4}
# Actions, their greatest amount, and the seconds of a full swing.
SWINGS = (
    ("jawOpen", 0.32, 1.1),
    ("mouthSmileLeft", 0.5, 1.6),
    ("mouthSmileRight", 0.45, 1.7),
    ("browInnerUp", 0.6, 1.3),
    ("browOuterUpLeft", 0.4, 1.5),
    ("browOuterUpRight", 0.4, 1.4),
    ("mouthPucker", 0.25, 1.9),
    ("cheekPuff", 0.2, 2.3),
    ("noseSneerLeft", 0.3, 1.8),
    ("noseSneerRight", 0.3, 1.8),
    ("eyeLookOutLeft", 0.4, 1.2),
    ("eyeLookInRight", 0.4, 1.2),
    ("eyeBlinkLeft", 0.25, 1.0),
    ("eyeBlinkRight", 0.25, 1.0),
)


@dataclass(frozen=True)
class FootageOptions:
    """What to record: the small setting; `full` for a longer and finer one."""

    frames: int = 5
    width: int = 240
    height: int = 320
    supersampling: int = 3
    texture_side: int = 1024
    fps: float = 15.0
    seed: int = 0

    def full(self) -> "FootageOptions":
        """20 frames of 480 x 640 pixels."""
        return replace(self, frames=20, width=480, height=640)


def make_footage(folder: Path, options: FootageOptions, progress: Callable[[], None] | None = None) -> Path:
    """Write a dataset with truth.npz, albedo.png, landmarks.json and the template.obj of another person.

    Args:
        progress: called after each of frames x 9 pictures.
    Returns:
        `folder`.
    Errors:
        MissingExtraError without Anny; OSError when writing fails.
    """
    person, other = heads([PERSON, OTHER], tuple(name for name, _, _ in SWINGS))
    performance = perform(person, options)
    folder.mkdir(parents=True, exist_ok=True)
    record(folder, performance, options.supersampling, progress)
    write_obj(folder / "template.obj", replace(other.template, positions=misplaced(other)))
    write_image(folder / "albedo.png", srgb_from_linear(performance.texture))
    marks = landmarks_of(performance, landmark_vertices(person), [0, 3, 4], 1.0, options.seed)
    (folder / "landmarks.json").write_text(json.dumps(marks, indent=1), encoding="utf-8")
    template = person.template
    np.savez(
        folder / "truth.npz",
        vertices=performance.positions.numpy(),
        faces=template.tri.numpy(),
        uvs=template.uv.numpy(),
        uv_faces=template.uv_tri.numpy(),
        head_pose=performance.head_pose.numpy(),
        narrow_face=narrow_face(person).numpy(),
        vertex_part=person.part.numpy(),
        part_names=np.array(["skin", "eye_l", "eye_r", "mouth"]),
    )
    return folder


def perform(head: Head, options: FootageOptions) -> Performance:
    """The performance: expressions that swing up from a neutral face while the head moves."""
    generator = torch.Generator().manual_seed(options.seed)
    phases = torch.rand(len(SWINGS), generator=generator).tolist()
    positions, poses = [], []
    for frame in range(options.frames):
        time_s = frame / options.fps
        amount = min(1.0, time_s / 0.4)
        shape = head.template.positions
        for (name, most, period_s), phase in zip(SWINGS, phases):
            swing = 0.5 - 0.5 * math.cos(2 * math.pi * (time_s / period_s + 0.25 * phase))
            shape = shape + amount * most * swing * head.actions[head.names.index(name)]
        turn = rotation(1, 0.12 * math.sin(2.2 * time_s)) @ rotation(0, 0.08 * math.sin(3.1 * time_s))
        pose = (turn @ rotation(2, 0.05 * math.sin(1.7 * time_s))).float()
        pose[:3, 3] = 0.012 * torch.tensor([math.sin(2 * time_s), math.sin(2.6 * time_s), time_s])
        positions.append(shape @ pose[:3, :3].T + pose[:3, 3])
        poses.append(pose)
    count = len(RIG)
    light = white_light(torch.zeros(1))
    # From above, from the front, a little from the left; warmer there than in the shadow.
    light[1:4] = torch.tensor([[0.75, 0.72, 0.70], [0.55, 0.52, 0.50], [-0.35, -0.30, -0.25]])
    return Performance(
        template=head.template,
        timesteps=tuple(range(options.frames)),
        camera_ids=tuple(range(count)),
        cameras=tuple(rig(options)),
        positions=torch.stack(positions),
        head_pose=torch.stack(poses),
        texture=paint(head, options.texture_side, options.seed),
        seen=torch.ones(options.texture_side, options.texture_side),
        light=light,
        gain=torch.ones(count, 3),
        bias=torch.zeros(count, 3),
        mm_per_unit=1000.0,
        fps=options.fps,
    )


def rig(options: FootageOptions) -> list[Pinhole]:
    """Nine cameras around the front of the head."""
    cameras = []
    for k, (azimuth_deg, elevation_deg) in enumerate(RIG):
        azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
        direction = [
            math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
            math.cos(azimuth) * math.cos(elevation),
        ]
        eye = DISTANCE_M * torch.tensor(direction, dtype=torch.float64)
        cam_from_world = look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        focal = options.height * DISTANCE_M / 0.36
        cameras.append(
            Pinhole(
                options.width,
                options.height,
                focal,
                focal * (1 + 0.002 * (k % 3)),
                options.width / 2 + 0.7 * (k % 4),
                options.height / 2 - 0.5 * (k % 5),
                torch.linalg.inv(cam_from_world),
            )
        )
    return cameras


def misplaced(head: Head) -> Tensor:
    """Vertices of a template that someone placed by eye: a little turned and moved, [V, 3]."""
    turn = (rotation(0, 0.04) @ rotation(1, -0.05)).float()[:3, :3]
    return head.template.positions @ turn.T + torch.tensor([0.003, -0.003, 0.003])


def narrow_face(head: Head) -> Tensor:
    """The front of the face, [V] bool: skin between chin and forehead without the ears."""
    place = head.template.positions
    eyes = place[(head.part == 1) | (head.part == 2)].mean(0)
    away = place - eyes
    inside = (away[:, 1] < 0.05) & (away[:, 1] > -0.10) & (away[:, 0].abs() < 0.06) & (away[:, 2] > -0.035)
    return inside & (head.part == 0) & ~deep(head)


def deep(head: Head) -> Tensor:
    """Skin that lies well inside the head, in mouth and nose, [V] bool."""
    place = head.template.positions
    behind = torch.zeros(len(place), dtype=torch.bool)
    front: dict[tuple[int, int], float] = {}
    cells = (place[:, :2] / 0.004).floor().long().tolist()
    for (x, y), z in zip(cells, place[:, 2].tolist()):
        front[x, y] = max(front.get((x, y), -1.0), z)
    for k, ((x, y), z) in enumerate(zip(cells, place[:, 2].tolist())):
        behind[k] = z < front[x, y] - 0.012
    return behind


def landmark_vertices(head: Head) -> list[int]:
    """Vertices that a person would mark: corners of mouth and eyes, tip of the nose, chin, brows."""
    place = head.template.positions
    skin = (head.part == 0) & ~deep(head)
    eyes = place[(head.part == 1) | (head.part == 2)].mean(0)
    half = (place[head.part == 1].mean(0) - place[head.part == 2].mean(0)).abs()[0] / 2
    wanted = [
        (0.0, -0.040, 0.03),  # nose
        (0.0, -0.095, 0.02),  # chin
        (0.0, 0.010, 0.02),  # bridge
        (float(half) * 1.5, 0.0, -0.005),
        (-float(half) * 1.5, 0.0, -0.005),
        (float(half) * 0.5, 0.0, 0.0),
        (-float(half) * 0.5, 0.0, 0.0),
        (0.025, -0.062, 0.01),
        (-0.025, -0.062, 0.01),
        (0.0, -0.054, 0.025),
        (0.0, -0.074, 0.022),
        (float(half), 0.024, 0.01),
        (-float(half), 0.024, 0.01),
    ]
    found = []
    for goal in wanted:
        distance = (place - eyes - torch.tensor(goal)).norm(dim=-1)
        found.append(int(torch.where(skin, distance, torch.inf).argmin()))
    return list(dict.fromkeys(found))
