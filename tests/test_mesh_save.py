# SPDX-License-Identifier: MIT
"""Meshes that are written and read again are the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rastergrad.scene.mesh import Indexed, Mesh, MeshError, Part, load_mesh
from rastergrad.scene.mesh_save import save_mesh
from rastergrad.scene.normals import vertex_normals
from testing.performances import ball, speckle


def made(texture: bool = True) -> Mesh:
    template = ball(6, 8)
    normals = Indexed(vertex_normals(template.positions, template.tri), template.tri)
    picture = torch.cat([speckle(16), torch.ones(16, 16, 1)], dim=-1)[None] if texture else None
    part = Part(0, len(template.tri), torch.ones(4), picture)
    uv = Indexed(template.uv, template.uv_tri)
    return Mesh(template.positions, template.tri, normals, (part,), uv)


def corners(mesh: Mesh, values: Tensor, tri: Tensor) -> Tensor:
    """Values at corners, triangles in an order that does not depend on how vertices are numbered."""
    place = mesh.positions[mesh.tri.long()].reshape(len(mesh.tri), -1)
    key = (
        place.double() * torch.tensor([1.0, 3.1, 9.7, 0.3, 5.3, 2.9, 7.7, 0.7, 1.9], dtype=torch.float64)
    ).sum(1)
    return values[tri.long()][torch.argsort(key)]


def same(left: Mesh, right: Mesh, atol: float = 1e-6) -> None:
    assert len(left.positions) == len(right.positions)
    for a, b in (
        (corners(left, left.positions, left.tri), corners(right, right.positions, right.tri)),
        (corners(left, *vars(left.normals).values()), corners(right, *vars(right.normals).values())),
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_glb_keeps_texture_and_seams(tmp_path: Path) -> None:
    mesh = made()
    save_mesh(tmp_path / "x.glb", mesh)
    read = load_mesh(tmp_path / "x.glb")
    same(mesh, read)
    assert mesh.uv is not None
    assert read.uv is not None
    torch.testing.assert_close(
        corners(mesh, mesh.uv.values, mesh.uv.tri),
        corners(read, read.uv.values, read.uv.tri),
        rtol=0,
        atol=1e-6,
    )
    assert mesh.parts[0].texture is not None
    assert read.parts[0].texture is not None
    torch.testing.assert_close(read.parts[0].texture, mesh.parts[0].texture, rtol=0, atol=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["x.glb"]


def test_obj_keeps_texture_coordinates(tmp_path: Path) -> None:
    mesh = made(texture=False)
    save_mesh(tmp_path / "x.obj", mesh)
    read = load_mesh(tmp_path / "x.obj")
    same(mesh, read, 1e-5)
    assert mesh.uv is not None
    assert read.uv is not None
    torch.testing.assert_close(
        corners(mesh, mesh.uv.values, mesh.uv.tri),
        corners(read, read.uv.values, read.uv.tri),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["x.ply", "x.glb"])
def test_colours_of_vertices(name: str, tmp_path: Path) -> None:
    mesh = made(texture=False)
    shade = (mesh.positions - mesh.positions.amin(0)) / (mesh.positions.amax(0) - mesh.positions.amin(0))
    colors = Indexed(torch.cat([shade, torch.ones(len(shade), 1)], dim=1), mesh.tri)
    mesh = replace(mesh, colors=colors, uv=None)
    save_mesh(tmp_path / name, mesh)
    read = load_mesh(tmp_path / name)
    same(mesh, read)
    assert read.colors is not None
    torch.testing.assert_close(
        corners(mesh, colors.values, colors.tri),
        corners(read, read.colors.values, read.colors.tri),
        rtol=0,
        atol=0.01,
    )


def test_parts_stay_parts_in_a_glb(tmp_path: Path) -> None:
    mesh = made(texture=False)
    few = len(mesh.tri) // 3
    red, blue = torch.tensor([0.8, 0.1, 0.1, 1.0]), torch.tensor([0.1, 0.1, 0.8, 1.0])
    parts = (Part(0, few, red), Part(few, len(mesh.tri) - few, blue))
    save_mesh(tmp_path / "x.glb", replace(mesh, parts=parts))
    read = load_mesh(tmp_path / "x.glb")
    small, large = sorted(read.parts, key=lambda part: part.count)
    assert (small.count, large.count) == (few, len(mesh.tri) - few)
    torch.testing.assert_close(small.base_color, red, rtol=0, atol=0.01)
    torch.testing.assert_close(large.base_color, blue, rtol=0, atol=0.01)


def test_other_formats_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"\.obj, \.ply, \.glb; got '\.stl'"):
        save_mesh(tmp_path / "x.stl", made())
    with pytest.raises(OSError, match="nowhere"):
        save_mesh(tmp_path / "nowhere" / "x.ply", made())
