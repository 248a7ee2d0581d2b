# SPDX-License-Identifier: MIT
"""The mesh that a capture deforms: its vertices keep the order that they have in the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rastergrad.scene.mesh import MeshError, load_mesh


@dataclass(frozen=True)
class Template:
    """A triangle mesh with texture coordinates that have an index buffer of their own."""

    positions: Tensor  # [V, 3] float32, world units, in the order of the file
    tri: Tensor  # [T, 3] int32
    uv: Tensor  # [U, 2] float32, v = 0 is the bottom row of the picture
    uv_tri: Tensor  # [T, 3] int32


def load_template(path: str | Path) -> Template:
    """Read a template: OBJ with its vertices in the order of the `v` lines, or PLY, GLB, glTF.

    Args:
        path: the mesh file. Polygons are cut into fans of triangles.
    Errors:
        FileNotFoundError; MeshError for a file that cannot be parsed, has no faces, no texture coordinates
        on some face, or coordinates that are not finite.
    """
    path = Path(path)
    if path.suffix.lower() != ".obj":
        mesh = load_mesh(path)
        if mesh.uv is None:
            raise MeshError(_no_uv(path))
        return Template(mesh.positions, mesh.tri, mesh.uv.values, mesh.uv.tri)
    if not path.is_file():
        raise FileNotFoundError(f"template not found: {path}")
    # trimesh splits vertices along texture seams and forgets their order, which landmarks refer to.
    places: list[list[str]] = []
    coordinates: list[list[str]] = []
    corners: list[tuple[int, int]] = []
    number = 0
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            number += 1
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                places.append(words[1:4])
            elif words[0] == "vt":
                coordinates.append(words[1:3])
            elif words[0] == "f":
                face = [_corner(word, len(places), len(coordinates)) for word in words[1:]]
                for k in range(1, len(face) - 1):
                    corners += [face[0], face[k], face[k + 1]]
        positions, uv = _numbers(places, 3), _numbers(coordinates, 2)
    except (ValueError, IndexError) as error:
        raise MeshError(f"{path}, line {number}: cannot be read as an OBJ file: {error}") from error
    if not corners:
        raise MeshError(f"{path} has no faces: a template is a surface, not points or lines.")
    index = np.array(corners, dtype=np.int64).reshape(-1, 3, 2)
    if (index[..., 1] < 0).any():
        raise MeshError(_no_uv(path))
    for name, values, used in (("v", positions, index[..., 0]), ("vt", uv, index[..., 1])):
        if used.min() < 0 or used.max() >= len(values):
            raise MeshError(f"{path}: a face refers to `{name}` {used.max() + 1} of {len(values)}.")
        if not np.isfinite(values).all():
            raise MeshError(f"{path}: some `{name}` are not finite numbers.")
    tri, uv_tri = (torch.from_numpy(index[..., k].astype(np.int32)) for k in (0, 1))
    return Template(torch.from_numpy(positions), tri.contiguous(), torch.from_numpy(uv), uv_tri.contiguous())


def _corner(word: str, v_count: int, vt_count: int) -> tuple[int, int]:
    """Position and texture index of `v`, `v/vt`, `v//vn` or `v/vt/vn`, from 0; -1 for no texture index."""
    parts = word.split("/")
    v = int(parts[0])
    vt = int(parts[1]) if len(parts) > 1 and parts[1] else 0
    return (v - 1 if v > 0 else v_count + v), (vt - 1 if vt >= 0 else vt_count + vt)


def _numbers(rows: Sequence[Sequence[str]], width: int) -> np.ndarray:
    if not rows:
        return np.zeros((0, width), dtype=np.float32)
    return np.array(rows, dtype=np.float32).reshape(-1, width)


def _no_uv(path: Path) -> str:
    return (
        f"{path}: the template has no texture coordinates (UVs) on some faces, but the capture's texture "
        "needs them. Unwrap it in a modelling program and export it with `vt` lines."
    )
