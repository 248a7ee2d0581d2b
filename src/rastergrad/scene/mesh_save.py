# SPDX-License-Identifier: MIT
"""Meshes into files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.scene.extra import require
from rastergrad.scene.image import srgb_from_linear
from rastergrad.scene.mesh import FORMATS, Mesh, MeshError, Part

SAVED = tuple(f for f in FORMATS if f != ".gltf")


def save_mesh(path: str | Path, mesh: Mesh) -> None:
    """Write an OBJ, PLY or GLB file, which appears whole or not at all.

    A GLB keeps everything that a Mesh has. A PLY keeps colours of vertices but no texture; an OBJ keeps
    texture coordinates, but neither pictures, which would lie in files of their own, nor colours.

    Args:
        path: the ending decides the format. The folder must exist.
        mesh: vertices are repeated where texture coordinates, normals or colours of their corners differ.
    Errors:
        MeshError for another format; MissingExtraError without trimesh; OSError when writing fails.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in SAVED:
        raise MeshError(f"{path}: meshes are written as one of {', '.join(SAVED)}; got {path.suffix!r}.")
    trimesh = require("trimesh", "writing a mesh")
    pieces = [_piece(trimesh, mesh, part, kind) for part in mesh.parts]
    if kind == ".glb":
        content = trimesh.Scene(pieces).export(file_type="glb", include_normals=True)
    else:
        whole = pieces[0] if len(pieces) == 1 else trimesh.util.concatenate(pieces)
        options = {"vertex_normal": True}
        if kind == ".obj":
            options = {"include_normals": True, "include_texture": True, "include_color": False}
        content = whole.export(file_type=kind[1:], **options)
    if kind == ".obj":
        # Materials would refer to a file that is not written.
        lines = (line for line in content.splitlines() if not line.startswith(("mtllib", "usemtl")))
        content = "\n".join(lines) + "\n"
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _piece(trimesh: Any, mesh: Mesh, part: Part, kind: str) -> Any:
    """The triangles of one part as trimesh has them: one index for everything."""
    run = slice(part.first, part.first + part.count)
    place = mesh.positions[mesh.tri[run].long()].reshape(-1, 3)
    normal = mesh.normals.values[mesh.normals.tri[run].long()].reshape(-1, 3)
    columns: list[Tensor] = [place, normal]
    textured = mesh.uv is not None and kind != ".ply"
    if textured:
        assert mesh.uv is not None
        columns.append(mesh.uv.values[mesh.uv.tri[run].long()].reshape(-1, 2))
    colored = mesh.colors is not None and kind != ".obj" and (part.texture is None or kind == ".ply")
    if colored:
        assert mesh.colors is not None
        columns.append(mesh.colors.values[mesh.colors.tri[run].long()].reshape(-1, 4))
    corners = torch.cat([column.double() for column in columns], dim=1).numpy()
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    visual = None
    if textured and kind == ".glb":
        material = trimesh.visual.material.PBRMaterial(
            baseColorFactor=part.base_color.tolist(),
            baseColorTexture=_picture(part.texture),
            metallicFactor=0.0,
            roughnessFactor=1.0,
        )
        visual = trimesh.visual.TextureVisuals(uv=unique[:, 6:8], material=material)
    elif textured:
        visual = trimesh.visual.TextureVisuals(uv=unique[:, 6:8])
    elif colored:
        light = torch.from_numpy(unique[:, -4:])
        # glTF keeps colours of vertices in linear light, PLY as they are shown.
        shown = light if kind == ".glb" else srgb_from_linear(light)
        visual = trimesh.visual.ColorVisuals(vertex_colors=(shown * 255).round().byte().numpy())
    return trimesh.Trimesh(
        unique[:, :3], index.reshape(-1, 3), vertex_normals=unique[:, 3:6], visual=visual, process=False
    )


def _picture(texture: Tensor | None) -> Any:
    if texture is None:
        return None
    pixels = (srgb_from_linear(texture[0]).flip(0) * 255).round().byte()
    return require("PIL.Image", "writing a mesh's texture").fromarray(pixels.numpy())
