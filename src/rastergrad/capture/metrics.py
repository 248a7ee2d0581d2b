# SPDX-License-Identifier: MIT
"""Millimetres between a captured and a true performance, and decibels between pictures."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.capture.template import Template
from rastergrad.scene.camera import project
from rastergrad.scene.extra import require
from rastergrad.scene.pinhole import Pinhole

# So many triangles with the nearest centres hold the closest one, unless their sizes differ wildly.
CANDIDATES = 24
# A vertex is seen where nothing is this much nearer to the camera, in millimetres.
IN_FRONT_MM = 0.8


@dataclass(frozen=True)
class Truth:
    """What is known: positions [F, V, 3] in world units, faces [T, 3], and named sets of vertices."""

    positions: Tensor
    tri: Tensor
    regions: dict[str, Tensor]  # bool [V]


def read_truth(path: Path, timesteps: Sequence[int]) -> Truth:
    """Read truth.npz: `vertices`, `faces`; optionally `narrow_face` [V] and `vertex_part` with `part_names`.

    Args:
        timesteps: of the captured frames. `vertices` has one entry for each of them, or for each timestep
            from 0.
    Errors:
        FileNotFoundError; ValueError naming the array that is missing or has another shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"truth not found: {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an .npz file: {error}") from error
    for name in ("vertices", "faces"):
        if name not in arrays:
            raise ValueError(f"{path}: the array `{name}` is missing; there are {', '.join(arrays)}.")
    vertices = arrays["vertices"]
    frames = len(timesteps)
    if vertices.ndim == 3 and len(vertices) != frames and max(timesteps) < len(vertices):
        vertices = vertices[list(timesteps)]
    if vertices.ndim != 3 or vertices.shape[2] != 3 or len(vertices) != frames:
        raise ValueError(f"{path}: `vertices` must be [{frames} frames, V, 3]; got {list(vertices.shape)}.")
    count = vertices.shape[1]
    regions = {}
    if "narrow_face" in arrays:
        regions["narrow_face"] = torch.from_numpy(arrays["narrow_face"].astype(bool))
    for k, name in enumerate(arrays.get("part_names", ())):
        regions[str(name)] = torch.from_numpy(arrays["vertex_part"] == k)
    regions["all"] = torch.ones(count, dtype=torch.bool)
    tri = torch.from_numpy(arrays["faces"].astype(np.int32))
    return Truth(torch.from_numpy(vertices.astype(np.float32)), tri, regions)


def distances(points: Tensor, positions: Tensor, tri: Tensor) -> Tensor:
    """Distance of each point to a surface.

    Args:
        points: [P, 3].  positions: [V, 3].  tri: [T, 3].
    Returns:
        [P] float64, in the unit of the input.
    Cost:
        A k-d tree over the triangles, and CANDIDATES exact distances for each point.
    """
    spatial = require("scipy.spatial", "measuring distances", "capture")
    points, positions = points.double(), positions.double()
    corners = positions[tri.long()]  # [T, 3, 3]
    count = min(CANDIDATES, len(corners))
    _, nearest = spatial.cKDTree(corners.mean(1).numpy()).query(points.numpy(), k=count)
    nearest = torch.from_numpy(np.asarray(nearest).reshape(len(points), count))
    best = torch.full((len(points),), torch.inf, dtype=torch.float64)
    for k in range(count):
        best = torch.minimum(best, _to_triangle(points, corners[nearest[:, k]]))
    return best


def _to_triangle(p: Tensor, corners: Tensor) -> Tensor:
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    inside = torch.ones(len(p), dtype=torch.bool)
    rim = torch.full((len(p),), torch.inf, dtype=torch.float64)
    for start, end in ((a, b), (b, c), (c, a)):
        along = end - start
        inside &= (torch.linalg.cross(along, p - start) * normal).sum(-1) >= 0
        t = ((p - start) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-30)
        rim = torch.minimum(rim, (p - start - along * t.clamp(0, 1)[:, None]).norm(dim=-1))
    plane = ((p - a) * normal).sum(-1).abs() / normal.norm(dim=-1).clamp_min(1e-30)
    return torch.where(inside, plane, rim)


def seen_by(positions: Tensor, tri: Tensor, cameras: Sequence[Pinhole], mm_per_unit: float) -> Tensor:
    """By how many cameras each vertex of a surface is seen, [V] int64."""
    count = torch.zeros(len(positions), dtype=torch.int64)
    for camera in cameras:
        finer = max(1, math.ceil(1280 / camera.width))
        camera = camera.resized(camera.width * finer, camera.height * finer)
        xyd = camera.pixels(positions.double())
        nearest = float(xyd[:, 2].min())
        if nearest <= 0:
            continue
        matrix = camera.clip_from_world(0.9 * nearest, 1.1 * float(xyd[:, 2].max()))
        pos = project(matrix, positions.double())[None].float()
        rast, _ = rg.rasterize(pos, tri, (camera.height, camera.width))
        depth = rg.interpolate(pos[0, :, 3:].contiguous(), rast, tri)[0][0, ..., 0]
        x, y = xyd[:, 0].floor().long(), camera.height - 1 - xyd[:, 1].floor().long()
        inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        there = depth[y[inside], x[inside]]
        visible = (there > 0) & (xyd[inside, 2] - there < IN_FRONT_MM / mm_per_unit)
        count[inside] += visible
    return count


def statistics(mm: Tensor) -> dict[str, float]:
    """Mean, median, 95th percentile and number of values."""
    if not len(mm):
        return {"mean": math.nan, "median": math.nan, "p95": math.nan, "count": 0}
    values = mm.double().numpy()
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "count": len(values),
    }


def measure(
    positions: Tensor,
    template: Template,
    truth: Truth,
    cameras: Sequence[Sequence[Pinhole]],
    timesteps: Sequence[int],
    mm_per_unit: float,
) -> tuple[dict[str, Any], Tensor]:
    """Errors of a performance.

    Args:
        positions: [F, V, 3] captured, world units.  template: its topology.
        cameras: of each frame.  timesteps: of each frame.
    Returns:
        "all_frames" and "frames": of each region of the truth, and of those vertices of `narrow_face` (or
        all) that two cameras see, the distance of true vertices to the captured surface; "reverse": of
        captured vertices to the true surface; "same_index": between vertices of one number, where the
        topologies agree. All in millimetres. And the distance [F, V] of each captured vertex to the truth.
    """
    main = "narrow_face" if "narrow_face" in truth.regions else "all"
    same = truth.tri.shape == template.tri.shape and bool((truth.tri == template.tri).all())
    names = [*truth.regions, "seen"]
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    reverse: dict[str, list[Tensor]] = {name: [] for name in (names if same else ["all"])}
    index: dict[str, list[Tensor]] = {name: [] for name in names} if same else {}
    frames, vertex_error = [], []
    for frame in range(len(positions)):
        true, own = truth.positions[frame], positions[frame]
        seen = truth.regions[main] & (seen_by(true, truth.tri, cameras[frame], mm_per_unit) >= 2)
        regions = {**truth.regions, "seen": seen}
        there = distances(true, own, template.tri) * mm_per_unit
        back = distances(own, true, truth.tri) * mm_per_unit
        vertex_error.append(back.float())
        entry: dict[str, Any] = {"timestep": timesteps[frame]}
        for name, region in regions.items():
            found[name].append(there[region])
            entry[name] = statistics(there[region])
            if same:
                reverse[name].append(back[region])
                index[name].append((true - own).norm(dim=-1)[region].double() * mm_per_unit)
        if not same:
            reverse["all"].append(back)
        frames.append(entry)
    result: dict[str, Any] = {"main_region": main}
    for name, parts in (("all_frames", found), ("reverse", reverse), ("same_index", index)):
        result[name] = {region: statistics(torch.cat(values)) for region, values in parts.items()}
    result["frames"] = frames
    return result, torch.stack(vertex_error)


def psnr_db(drawn: Tensor, seen: Tensor, inside: Tensor) -> float:
    """Peak signal to noise of two sRGB images in 0..1 over the pixels where `inside` [H, W] holds."""
    error = (drawn - seen)[inside].double().square().mean()
    return float(-10 * torch.log10(error.clamp_min(1e-12)))


def write_json(path: Path, content: Any) -> None:
    """JSON that appears whole or not at all; numbers that are none become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(plain(content), indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
