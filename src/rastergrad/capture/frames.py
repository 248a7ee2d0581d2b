# SPDX-License-Identifier: MIT
"""A performance as plain files: a mesh for each frame, the texture, the cameras."""

import json
import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from rastergrad.capture.performance import Performance
from rastergrad.scene.extra import require
from rastergrad.scene.image import replacing, srgb_from_linear, write_image


def write_frames(performance: Performance, out: Path) -> list[Path]:
    """Write `out`/frames/00000.ply and so on, one mesh for each frame, named by its timestep.

    Vertices have the template's order and the dataset's world units; binary, float32, so nothing is rounded.
    Meshes that an earlier capture with other frames left in the folder are removed.

    Returns:
        The paths, F of them.
    Errors:
        OSError when writing fails; MissingExtraError without trimesh.
    """
    trimesh = require("trimesh", "writing meshes", "capture")
    folder = out / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    faces = performance.template.tri.numpy()
    paths = []
    for timestep, positions in zip(performance.timesteps, performance.positions):
        path = folder / f"{timestep:05d}.ply"
        mesh = trimesh.Trimesh(positions.numpy(), faces, process=False)
        with replacing(path) as name:
            Path(name).write_bytes(mesh.export(file_type="ply", encoding="binary"))
        paths.append(path)
    for stale in set(folder.glob("*.ply")) - set(paths):
        if re.fullmatch(r"\d{5,}", stale.stem):
            stale.unlink()
    return paths


def filled_texture(texture: Tensor, seen: Tensor) -> Tensor:
    """The texture with colours also where no picture saw it, taken from what was seen nearby.

    Push-pull: means of the seen texels are gathered in a pyramid of halved resolutions, and each unseen texel
    takes the finest level that knows something, smoothly.

    Args:
        texture: [h, w, C] linear.  seen: [h, w] in [0, 1]; a texel of 1 keeps its colour exactly.
    Returns:
        [h, w, C]; `texture` itself where nothing was seen at all.
    Cost:
        4/3 of a pass over the texture, twice.
    Source:
        Gortler et al. 1996, The Lumigraph, section 3.4.2.
    """
    if not bool((seen > 0).any()):
        return texture
    weight = seen.clamp(0, 1)[None, None].to(texture)
    color = texture.permute(2, 0, 1)[None]
    levels = [(color, weight)]
    while max(weight.shape[-2:]) > 1:
        odd = (0, color.shape[-1] % 2, 0, color.shape[-2] % 2)
        total = 4 * avg_pool2d(pad(weight, odd), 2)
        color = 4 * avg_pool2d(pad(color * weight, odd), 2) / total.clamp_min(1e-8)
        weight = total.clamp_max(1)
        levels.append((color, weight))
    filled = levels[-1][0]
    for color, weight in reversed(levels[:-1]):
        coarse = interpolate(filled, size=color.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.lerp(coarse, color, weight)
    return filled[0].permute(1, 2, 0).contiguous()


def write_texture(performance: Performance, out: Path) -> Path:
    """Write `out`/texture.png: sRGB albedo whose top row is v = 1, unseen texels filled from seen ones.

    Errors:
        OSError when writing fails; MissingExtraError without Pillow.
    """
    path = out / "texture.png"
    write_image(path, srgb_from_linear(filled_texture(performance.texture, performance.seen)))
    return path


def write_cameras(performance: Performance, out: Path) -> Path:
    """Write `out`/cameras.json: intrinsics in pixels from the top left corner, camera-to-world matrices in
    OpenGL's axes, each camera's colour, and the light.

    A picture of camera c is sRGB(gain_c * albedo * light(normal) + bias_c).

    Errors:
        OSError when writing fails.
    """
    cameras = []
    for k, (index, camera) in enumerate(zip(performance.camera_ids, performance.cameras)):
        cameras.append(
            {
                "camera_index": index,
                "w": camera.width,
                "h": camera.height,
                "fl_x": camera.fl_x,
                "fl_y": camera.fl_y,
                "cx": camera.cx,
                "cy": camera.cy,
                "transform_matrix": camera.world_from_cam.tolist(),
                "gain": performance.gain[k].tolist(),
                "bias": performance.bias[k].tolist(),
            }
        )
    about = {
        "camera_model": "PINHOLE",
        "fps": performance.fps,
        "mm_per_unit": performance.mm_per_unit,
        "timestep_indices": list(performance.timesteps),
        "light": {
            "basis": "rastergrad.scene.harmonics: 9 terms of the world normal, linear RGB",
            "coefficients": performance.light.tolist(),
        },
        "cameras": cameras,
    }
    path = out / "cameras.json"
    with replacing(path) as name:
        Path(name).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return path
