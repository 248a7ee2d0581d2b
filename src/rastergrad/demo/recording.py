# SPDX-License-Identifier: MIT
"""Virtual cameras: the dataset that the cameras of a performance record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import avg_pool2d

from rastergrad.capture.performance import Performance
from rastergrad.capture.render import render
from rastergrad.capture.template import Template
from rastergrad.scene.image import srgb_from_linear, write_image


def record(
    folder: Path, performance: Performance, supersampling: int, progress: Callable[[], None] | None = None
) -> None:
    """Write images/, masks/ and transforms.json (the layout of docs: guide, capture-data).

    Args:
        supersampling: k x k samples a pixel, averaged in linear light over black.
        progress: called after each picture.
    Errors:
        OSError when writing fails.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    entries = []
    for frame, timestep in enumerate(performance.timesteps):
        for camera, camera_id in zip(performance.cameras, performance.camera_ids):
            fine = camera.resized(camera.width * supersampling, camera.height * supersampling)
            planes = render(performance, frame, [fine]).permute(0, 3, 1, 2)
            image = avg_pool2d(planes, supersampling)[0].permute(1, 2, 0)
            name = f"{timestep:05d}_{camera_id:02d}.png"
            write_image(folder / "images" / name, srgb_from_linear(image[..., :3]))
            write_image(folder / "masks" / name, image[..., 3])
            entries.append(
                {
                    "file_path": f"images/{name}",
                    "fg_mask_path": f"masks/{name}",
                    "timestep_index": timestep,
                    "camera_index": camera_id,
                    "w": camera.width,
                    "h": camera.height,
                    "fl_x": camera.fl_x,
                    "fl_y": camera.fl_y,
                    "cx": camera.cx,
                    "cy": camera.cy,
                    "transform_matrix": camera.world_from_cam.tolist(),
                }
            )
            if progress is not None:
                progress()
    about = {
        "camera_model": "OPENCV",
        "fps": performance.fps,
        "units": "metres",
        "background": [0, 0, 0],
        "frames": entries,
    }
    (folder / "transforms.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def write_obj(path: Path, template: Template) -> None:
    """Write a template with its vertices in order and separate texture coordinates."""
    lines = [f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in template.positions.tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in template.uv.tolist()]
    for face, uv_face in zip((template.tri + 1).tolist(), (template.uv_tri + 1).tolist()):
        lines.append("f " + " ".join(f"{v}/{vt}" for v, vt in zip(face, uv_face)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def landmarks_of(
    performance: Performance, vertices: list[int], cameras: list[int], noise_px: float, seed: int
) -> dict[str, Any]:
    """A landmarks.json of the first frame: where some vertices appear in some cameras, with normal noise."""
    generator = torch.Generator().manual_seed(seed)
    observations = []
    for camera in cameras:
        pinhole = performance.cameras[camera]
        xy = pinhole.pixels(performance.positions[0, vertices].double())[:, :2]
        xy = xy + noise_px * torch.randn(xy.shape, generator=generator)
        for landmark, (x, y) in enumerate(xy.tolist()):
            if 0 <= x <= pinhole.width and 0 <= y <= pinhole.height:
                observations.append(
                    {
                        "timestep_index": performance.timesteps[0],
                        "camera_index": performance.camera_ids[camera],
                        "landmark": landmark,
                        "x": round(x, 2),
                        "y": round(y, 2),
                    }
                )
    return {"template_vertices": vertices, "observations": observations}
