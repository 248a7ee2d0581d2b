# SPDX-License-Identifier: MIT
"""Triangle meshes with separate index buffers for positions, normals, texture coordinates and colours.

Positions are welded: corners at the same place share one index, whatever their texture coordinates, because
`antialias` finds silhouettes by shared positions. All colours are linear light, RGBA. Texture row 0 is v = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.scene.extra import require
from rastergrad.scene.image import linear_from_srgb, read_texture
from rastergrad.scene.normals import corner_normals

FORMATS = (".obj", ".ply", ".glb", ".gltf")
CLAY = torch.tensor([0.6, 0.6, 0.6, 1.0])  # of a mesh without material or colours


class MeshError(ValueError):
    """A mesh file that cannot be read, or that lacks what was asked of it."""


@dataclass(frozen=True)
class Indexed:
    """Values at triangle corners by an index buffer of their own."""

    values: Tensor  # [*, C] float32
    tri: Tensor  # [T, 3] int32, row t belonging to triangle t

    def at_corners(self) -> Tensor:
        """[T, 3, C]."""
        return self.values[self.tri.long()]


@dataclass(frozen=True)
class Part:
    """A run of triangles with one material."""

    first: int
    count: int
    base_color: Tensor  # [4]
    texture: Tensor | None = None  # [1, h, w, 4]


@dataclass(frozen=True)
class Mesh:
    """What `scene.render` draws."""

    positions: Tensor  # [V, 3] float32
    tri: Tensor  # [T, 3] int32
    normals: Indexed  # [*, 3] unit length
    parts: tuple[Part, ...]
    uv: Indexed | None = None  # [*, 2]
    colors: Indexed | None = None  # [*, 4]

    def with_texture(self, path: str | Path) -> "Mesh":
        """The same mesh with the picture at `path` on all of it, in place of its own materials and colours.

        Errors:
            MeshError when the mesh has no texture coordinates; those of `read_texture`.
        """
        if self.uv is None:
            raise MeshError(
                f"a texture was asked for ({path}), but the mesh has no texture coordinates (UVs). "
                "Unwrap it in a modelling program, or render it without the texture."
            )
        part = Part(0, len(self.tri), torch.ones(4), read_texture(path))
        return replace(self, parts=(part,), colors=None)


def load_mesh(path: str | Path) -> Mesh:
    """Read an OBJ, PLY, GLB or glTF file with its normals, texture or vertex colours.

    Args:
        path: the file; a glTF or OBJ file may refer to others beside it.
    Returns:
        One Mesh of all objects of the file, in world coordinates. Without stored normals, smooth ones are
        computed with edges above 40 degrees kept sharp.
    Errors:
        FileNotFoundError; MissingExtraError without trimesh; MeshError for a format not in FORMATS, a file
        that cannot be parsed, no faces, indices out of range, coordinates that are not finite.
    Cost:
        Memory and time proportional to the file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"mesh file not found: {path}")
    if not path.is_file():
        raise MeshError(f"{path} is not a file.")
    if path.suffix.lower() not in FORMATS:
        raise MeshError(f"{path}: unknown mesh format {path.suffix!r}; expected one of {', '.join(FORMATS)}.")
    trimesh = require("trimesh", "reading a mesh")
    require("PIL.Image", "reading a mesh's textures")
    try:
        scene = trimesh.load(str(path), force="scene", process=False)
        pieces = [
            (scene.geometry[geometry], transform)
            for transform, geometry in (scene.graph[node] for node in scene.graph.nodes_geometry)
        ]
    except Exception as error:  # a parser of other people's files may raise anything
        raise MeshError(f"{path} cannot be read as a mesh: {type(error).__name__}: {error}") from error
    pieces = [(m, transform) for m, transform in pieces if len(getattr(m, "faces", ()))]
    if not pieces:
        raise MeshError(f"{path} has no faces: only surfaces can be rendered, not points or lines.")
    linear_colors = path.suffix.lower() in (".glb", ".gltf")
    return _join([_convert(m, transform, linear_colors, path) for m, transform in pieces])


def _convert(piece: Any, transform: np.ndarray, linear_colors: bool, path: Path) -> Mesh:
    """One trimesh object as a Mesh of one part."""
    corners = torch.from_numpy(np.asarray(piece.faces, dtype=np.int64))
    if corners.min() < 0 or corners.max() >= len(piece.vertices):
        raise MeshError(
            f"{path}: a face refers to vertex {int(corners.max())} of {len(piece.vertices)}; "
            "the file is damaged or was cut off."
        )
    placed = np.asarray(piece.vertices, dtype=np.float64) @ transform[:3, :3].T + transform[:3, 3]
    if not np.isfinite(placed).all():
        bad = int((~np.isfinite(placed).all(axis=1)).sum())
        raise MeshError(f"{path}: {bad} of {len(placed)} vertex positions are not finite numbers.")
    welded, index = np.unique(placed.astype(np.float32), axis=0, return_inverse=True)
    positions, tri = torch.from_numpy(welded), torch.from_numpy(index.reshape(-1))[corners].int()

    # Asking for `piece.vertex_normals` would compute them; only the cache tells whether the file had any.
    if "vertex_normals" in piece._cache.cache:
        normal_from_world = np.linalg.pinv(transform[:3, :3])
        stored_normals = torch.from_numpy(np.asarray(piece.vertex_normals) @ normal_from_world).float()
        normals = Indexed(torch.nn.functional.normalize(stored_normals, dim=-1), corners.int())
    else:
        normals = Indexed(*corner_normals(positions, tri))

    visual = piece.visual
    base_color, texture, uv, colors, stored = CLAY.clone(), None, None, None, None
    if visual.kind == "texture":
        base_color, texture = _material(visual.material)
        stored = visual.vertex_attributes.get("color")
        if visual.uv is not None and len(visual.uv) == len(piece.vertices):
            uv = Indexed(torch.from_numpy(np.asarray(visual.uv, dtype=np.float32)), corners.int())
        else:
            texture = None
    elif visual.kind == "vertex":
        stored = visual.vertex_colors
    elif visual.kind == "face":
        each_face = torch.arange(len(corners), dtype=torch.int32)[:, None].repeat(1, 3)
        colors = Indexed(_color(visual.face_colors, linear_colors), each_face)
    if stored is not None and len(stored) == len(piece.vertices):
        colors = Indexed(_color(stored, linear_colors), corners.int())
    if visual.kind != "texture" and colors is not None:
        base_color = torch.ones(4)
    return Mesh(positions, tri, normals, (Part(0, len(tri), base_color, texture),), uv, colors)


def _color(values: Any, linear: bool) -> Tensor:
    """Colours [*, 3 or 4], bytes or floats, as linear RGBA [*, 4]."""
    values = np.asarray(values)
    scale = 255.0 if values.dtype == np.uint8 else 65535.0 if values.dtype == np.uint16 else 1.0
    rgba = torch.from_numpy(values.astype(np.float32)).reshape(-1, values.shape[-1]) / scale
    if rgba.shape[-1] == 3:
        rgba = torch.cat([rgba, torch.ones_like(rgba[:, :1])], dim=-1)
    return rgba if linear else linear_from_srgb(rgba)


def _material(material: Any) -> tuple[Tensor, Tensor | None]:
    """Base colour [4] and texture [1, h, w, 4] of a trimesh material."""
    if hasattr(material, "baseColorTexture"):  # glTF: factor times texture
        factor, picture = material.baseColorFactor, material.baseColorTexture
        base_color = torch.ones(4) if factor is None else _color([np.asarray(factor)], linear=True)[0]
        return base_color, None if picture is None else read_texture(picture)
    picture = material.image
    if picture is None:
        return _color([material.diffuse], linear=False)[0], None
    # Where an OBJ names no material, trimesh stands in a tiny picture of its own.
    stand_in = require("trimesh.visual.material", "reading a mesh").empty_material().image
    if picture.size == stand_in.size and picture.tobytes() == stand_in.tobytes():
        return CLAY.clone(), None
    # A diffuse colour beside a picture is a leftover of exporters more often than a tint.
    return torch.ones(4), read_texture(picture)


def _join(meshes: list[Mesh]) -> Mesh:
    """All meshes as one, in order; what only some of them have gets neutral values in the others."""
    if len(meshes) == 1:
        return meshes[0]

    def stack(runs: Sequence[Indexed | None], neutral: Tensor) -> Indexed:
        whole = [run or Indexed(neutral, torch.zeros_like(m.tri)) for run, m in zip(runs, meshes)]
        offsets = np.cumsum([0, *(len(run.values) for run in whole)]).tolist()
        tri = torch.cat([run.tri + offset for run, offset in zip(whole, offsets)])
        return Indexed(torch.cat([run.values for run in whole]), tri)

    places = stack([Indexed(m.positions, m.tri) for m in meshes], torch.zeros(1, 3))
    normals = stack([m.normals for m in meshes], torch.zeros(1, 3))
    firsts = np.cumsum([0, *(len(m.tri) for m in meshes)]).tolist()
    parts = tuple(replace(m.parts[0], first=first) for m, first in zip(meshes, firsts))
    some_uv, some_colors = any(m.uv for m in meshes), any(m.colors for m in meshes)
    uv = stack([m.uv for m in meshes], torch.zeros(1, 2)) if some_uv else None
    colors = stack([m.colors for m in meshes], torch.ones(1, 4)) if some_colors else None
    return Mesh(places.values, places.tri, normals, parts, uv, colors)
