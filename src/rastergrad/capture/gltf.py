# SPDX-License-Identifier: MIT
"""A performance as one animated glTF 2.0 file (GLB): morph targets, their weights over time, the texture.

Every frame is the first one plus morph targets, and players blend linearly between frames. Positions contain
the motion of the head. Up to EXACT frames, and whenever a performance is not of low rank, each frame is a
target of its own, named after its timestep, and exact. Players limit the targets of a mesh (three.js loops
over all of them and WebGL holds few uniforms), so longer performances get at most MOST_TARGETS: the principal
components that keep each vertex within TOLERANCE_MM. If so few cannot do that, the frames are spread over
several meshes, of which only one is larger than nothing at a time.
"""

import io
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.capture.frames import filled_texture
from rastergrad.capture.performance import Performance
from rastergrad.capture.template import Template
from rastergrad.scene.extra import require
from rastergrad.scene.image import replacing, srgb_from_linear
from rastergrad.scene.normals import vertex_normals

EXACT = 32  # frames; each is 0.4 MB for a head of 16,000 vertices
MOST_TARGETS = 128  # a weight takes a uniform vector of WebGL, which promises 256 of them
TOLERANCE_MM = 0.01

FLOAT, UINT32 = 5126, 5125
ARRAY, ELEMENTS = 34962, 34963


@dataclass(frozen=True)
class Morph:
    """Some frames as morph targets of the first of them.

    Args:
        frames: indices of the frames, ascending and adjacent.
        names: K target names.
        positions, normals: [K, V, 3] float32, added to those of the first frame.
        weights: [len(frames), K] float32; row 0 is zero.
    """

    frames: range
    names: list[str]
    positions: Tensor
    normals: Tensor
    weights: Tensor


def write_glb(performance: Performance, out: Path) -> Path:
    """Write `out`/performance.glb, which opens in Blender, three.js and other glTF players.

    Units become metres, as glTF wants, by the scale of the root node. Vertices come in the template's order;
    those on texture seams are repeated at the end. The material is rough and lit by the player, because the
    texture is albedo.

    Errors:
        OSError when writing fails; ValueError where the file would exceed the 4 GiB of a GLB;
        MissingExtraError without Pillow.
    Cost:
        About 24 bytes for each vertex and morph target, in memory and in the file.
    """
    path = out / "performance.glb"
    split = split_seams(performance.template)
    vertex = split.vertex
    gltf = _Builder()
    indices = gltf.accessor(split.tri.reshape(-1).numpy().astype(np.uint32), "SCALAR", ELEMENTS)
    uv = gltf.accessor(split.uv.numpy(), "VEC2", ARRAY)
    scale = performance.mm_per_unit / 1000
    root: dict[str, Any] = {"name": "performance", "children": []}
    if scale != 1:
        root["scale"] = [scale] * 3
    nodes, meshes, channels, samplers = [root], [], [], []
    times_s = [(t - performance.timesteps[0]) / performance.fps for t in performance.timesteps]

    def animate(node: int, path: str, interpolation: str, at: list[float], values: np.ndarray) -> None:
        kind = "VEC3" if path == "scale" else "SCALAR"
        sampler = {"input": times(tuple(at)), "output": gltf.accessor(values, kind)}
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
        samplers.append({**sampler, "interpolation": interpolation})

    known: dict[tuple[float, ...], int] = {}

    def times(at: tuple[float, ...]) -> int:
        if at not in known:
            known[at] = gltf.accessor(np.array(at, dtype=np.float32), "SCALAR", bounds=True)
        return known[at]

    # By frame: all triangles of all frames at once would take gigabytes.
    normals = torch.stack([vertex_normals(x, performance.template.tri) for x in performance.positions])
    morphs = morph_targets(performance, normals)
    for morph in morphs:
        first = morph.frames[0]
        primitive: dict[str, Any] = {
            "attributes": {
                "POSITION": gltf.accessor(performance.positions[first][vertex].numpy(), "VEC3", ARRAY, True),
                "NORMAL": gltf.accessor(_upright(normals[first])[vertex].numpy(), "VEC3", ARRAY),
                "TEXCOORD_0": uv,
            },
            "indices": indices,
            "material": 0,
        }
        mesh: dict[str, Any] = {"name": f"head_{first}", "primitives": [primitive]}
        node: dict[str, Any] = {"name": f"head_{first}", "mesh": len(meshes)}
        root["children"].append(len(nodes))
        if morph.names:
            primitive["targets"] = [
                {
                    "POSITION": gltf.accessor(position[vertex].numpy(), "VEC3", ARRAY, True),
                    "NORMAL": gltf.accessor(normal[vertex].numpy(), "VEC3", ARRAY),
                }
                for position, normal in zip(morph.positions, morph.normals)
            ]
            mesh["weights"] = [0.0] * len(morph.names)
            mesh["extras"] = {"targetNames": morph.names}
            at = [times_s[f] for f in morph.frames]
            animate(len(nodes), "weights", "LINEAR", at, morph.weights.reshape(-1).numpy())
        if len(morphs) > 1:
            node["scale"] = [1.0 if first == 0 else 0.0] * 3
            at, shown = _shown(morph.frames, len(times_s))
            animate(len(nodes), "scale", "STEP", [times_s[f] for f in at], np.array([[s] * 3 for s in shown]))
        nodes.append(node)
        meshes.append(mesh)

    gltf.json |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": [
            {
                "name": "skin",
                "doubleSided": True,
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.8,
                },
            }
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}],
        "images": [
            {
                "name": "texture",
                "mimeType": "image/png",
                "bufferView": gltf.view(_png(filled_texture(performance.texture, performance.seen))),
            }
        ],
    }
    if channels:
        gltf.json["animations"] = [{"name": "performance", "channels": channels, "samplers": samplers}]
    gltf.write(path)
    return path


@dataclass(frozen=True)
class Split:
    """One index buffer for positions and texture coordinates: vertices on seams are repeated."""

    vertex: Tensor  # [S] int64, the template's vertex of each; the first V are the template's own order
    uv: Tensor  # [S, 2] float32, glTF's: v = 0 is the top
    tri: Tensor  # [T, 3] int64


def split_seams(template: Template) -> Split:
    """Give each pair of position and texture coordinates one index, keeping the template's order in front."""
    count = len(template.positions)
    pairs = torch.stack([template.tri.reshape(-1), template.uv_tri.reshape(-1)], dim=1).long()
    lonely = torch.ones(count, dtype=torch.bool)
    lonely[pairs[:, 0]] = False
    rest = torch.nonzero(lonely)[:, 0]
    pairs = torch.cat([pairs, torch.stack([rest, torch.zeros_like(rest)], dim=1)])
    unique, inverse = torch.unique(pairs, dim=0, return_inverse=True)
    again = torch.zeros(len(unique), dtype=torch.bool)
    again[1:] = unique[1:, 0] == unique[:-1, 0]
    order = torch.argsort(again.int(), stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    vertex, coordinate = unique[order].unbind(1)
    uv = template.uv[coordinate] * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])
    return Split(vertex, uv, rank[inverse[: template.tri.numel()]].reshape(-1, 3))


def morph_targets(performance: Performance, normals: Tensor) -> list[Morph]:
    """The frames as morph targets; see the top of this file for the choice.

    Args:
        normals: [F, V, 3], those of `performance.positions`.
    """
    positions = performance.positions
    count = len(positions)
    tolerance = TOLERANCE_MM / performance.mm_per_unit
    if count > EXACT:
        small = _low_rank(positions, normals, min(MOST_TARGETS, count // 2), tolerance)
        if small is not None:
            return [small]
    pieces = []
    for first in range(0, max(1, count - 1), MOST_TARGETS):
        # The first frame of the next piece is the last of this one, so that motion between them is smooth.
        frames = range(first, min(count, first + MOST_TARGETS + 1))
        names = [f"frame_{performance.timesteps[f]:05d}" for f in frames[1:]]
        weights = torch.eye(len(frames))[:, 1:].contiguous()
        chosen = slice(frames.start, frames.stop)
        offsets = [(x[chosen] - x[first])[1:] for x in (positions, normals)]
        pieces.append(Morph(frames, names, offsets[0], offsets[1], weights))
    return pieces


def _low_rank(positions: Tensor, normals: Tensor, most: int, tolerance: float) -> Morph | None:
    """Principal components of the offsets from frame 0, the fewest that stay within `tolerance` (world units)
    at each vertex of each frame, scaled so that no weight exceeds 1; None if more than `most` were needed.
    """
    count = len(positions)
    offset = (positions - positions[0]).reshape(count, -1).double()
    values, vectors = torch.linalg.eigh(offset @ offset.T)
    vectors = vectors.flip(-1)  # [F, F], strongest first

    def fitting(rank: int) -> bool:
        weights = vectors[:, :rank]
        components = weights.T @ offset
        for some, of in zip(offset.split(64), weights.split(64)):
            missing = (some - of @ components).reshape(len(some), -1, 3).norm(dim=-1)
            if not bool(missing.max() <= 0.9 * tolerance):
                return False
        return True

    most = min(most, int((values > 0).sum()))
    if not fitting(most):
        return None
    fewest = 1
    while fewest < most:  # the error falls with the rank
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if fitting(middle) else (middle + 1, most)
    weights = vectors[:, :fewest] / vectors[:, :fewest].abs().amax(0)
    weights[0] = 0  # but for rounding it is: frame 0 is the mesh itself
    solve = torch.linalg.pinv(weights)
    parts = [
        (solve @ (x - x[0]).reshape(count, -1).double()).float().reshape(-1, *x.shape[1:])
        for x in (positions, normals)
    ]
    names = [f"component_{k:03d}" for k in range(fewest)]
    return Morph(range(count), names, parts[0], parts[1], weights.float())


def _shown(frames: range, count: int) -> tuple[list[int], list[float]]:
    """Key frames and sizes of a mesh that is seen from its first frame to the first frame of the next."""
    keys = {0: 0.0, frames[0]: 1.0}
    if frames[-1] < count - 1:
        keys[frames[-1]] = 0.0
    return list(keys), list(keys.values())


def _upright(normals: Tensor) -> Tensor:
    """Normals of unit length, as glTF wants, also for vertices without a triangle."""
    up = torch.tensor([0.0, 0.0, 1.0])
    return torch.where((normals.norm(dim=-1, keepdim=True) > 0.5), normals, up)


def _png(texture: Tensor) -> bytes:
    pillow = require("PIL.Image", "writing a texture", "capture")
    pixels = (srgb_from_linear(texture).flip(0) * 255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


@dataclass
class _Builder:
    """Accessors and buffer views of one binary chunk, and the file around them."""

    json: dict[str, Any] = field(
        default_factory=lambda: {
            "asset": {"version": "2.0", "generator": "rastergrad"},
            "accessors": [],
            "bufferViews": [],
        }
    )
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def view(self, data: bytes, target: int | None = None) -> int:
        """Add bytes, padded to a multiple of 4 because accessors must be aligned."""
        entry = {"buffer": 0, "byteOffset": self.size, "byteLength": len(data)}
        self.json["bufferViews"].append(entry if target is None else {**entry, "target": target})
        self.chunks.append(data + bytes(-len(data) % 4))
        self.size += len(self.chunks[-1])
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, kind: str, target: int | None = None, bounds: bool = False) -> int:
        """Add an array of float32, or uint32 for indices; its rows are the elements."""
        component = UINT32 if values.dtype == np.uint32 else FLOAT
        values = np.ascontiguousarray(values, dtype="<u4" if component == UINT32 else "<f4")
        entry: dict[str, Any] = {
            "bufferView": self.view(values.tobytes(), target),
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            entry["min"] = values.min(0).reshape(-1).tolist()
            entry["max"] = values.max(0).reshape(-1).tolist()
        self.json["accessors"].append(entry)
        return len(self.json["accessors"]) - 1

    def write(self, path: Path) -> None:
        self.json["buffers"] = [{"byteLength": self.size}]
        text = json.dumps(self.json, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + self.size
        if length >= 2**32:
            raise ValueError(
                f"{path} would have {length / 2**30:.1f} GiB, but a GLB holds at most 4: export fewer frames "
                "or use the meshes in frames/."
            )
        with replacing(path) as name, open(name, "wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, length))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", self.size, b"BIN\0"))
            file.writelines(self.chunks)
