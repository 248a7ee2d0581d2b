# SPDX-License-Identifier: MIT
"""What meshes are made of files, and what is said of files that are none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rastergrad.scene.image import ImageError
from rastergrad.scene.mesh import CLAY, Indexed, Mesh, MeshError, load_mesh
from testing.mesh_files import SQUARE, SQUARE_FACES, square_gltf, square_obj, square_ply

pytest.importorskip("trimesh", reason="needs pip install 'rastergrad[demo]'")
pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[demo]'")


def at_corners(indexed: Indexed | None) -> torch.Tensor:
    assert indexed is not None
    return indexed.at_corners()


@pytest.mark.parametrize("make", [square_obj, square_gltf])
def test_textured_square_has_its_uv_upright(make: Callable[[Path], Path], tmp_path: Path) -> None:
    mesh = load_mesh(make(tmp_path))
    assert mesh.tri.dtype == torch.int32
    places = mesh.positions[mesh.tri.long()]
    torch.testing.assert_close(at_corners(mesh.uv), places[..., :2], rtol=0, atol=1e-6)
    (part,) = mesh.parts
    assert (part.first, part.count) == (0, 2)
    assert part.texture is not None
    # Row 0 of the texture is the bottom of the picture, v = 0: blue and white.
    expected = [[[0, 0, 1, 1], [1, 1, 1, 1]], [[1, 0, 0, 1], [0, 1, 0, 1]]]
    assert part.texture[0].tolist() == expected
    normals = at_corners(mesh.normals)
    torch.testing.assert_close(normals, torch.tensor([0.0, 0.0, 1.0]).expand(2, 3, 3))


def test_seams_in_uv_do_not_split_positions(tmp_path: Path) -> None:
    path = tmp_path / "seam.obj"
    path.write_text(SQUARE + "vt 0.25 0.75\nf 1/1 2/2 3/3\nf 1/5 3/3 4/4\n")
    mesh = load_mesh(path)
    assert len(mesh.positions) == 4
    assert len(set(mesh.tri.reshape(-1).tolist())) == 4
    uv = at_corners(mesh.uv)
    assert uv[0, 0].tolist() == [0, 0]
    assert uv[1, 0].tolist() == [0.25, 0.75]


def test_gltf_nodes_place_their_meshes(tmp_path: Path) -> None:
    mesh = load_mesh(square_gltf(tmp_path, offset=(10, 20, 30)))
    assert mesh.positions.amin(0).tolist() == [10, 20, 30]
    assert mesh.positions.amax(0).tolist() == [11, 21, 30]


def test_ply_vertex_and_face_colors_become_linear_light(tmp_path: Path) -> None:
    colors = "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    rows = "0 0 0 255 0 128\n1 0 0 255 0 128\n1 1 0 0 0 0\n0 1 0 255 255 255\n"
    mesh = load_mesh(square_ply(tmp_path, rows + "3 0 1 2\n3 0 2 3\n", colors))
    at_corner = at_corners(mesh.colors)[0, 0]
    # 128/255 in sRGB is 0.2159 of the light.
    torch.testing.assert_close(at_corner, torch.tensor([1.0, 0.0, 0.21586, 1.0]), rtol=0, atol=1e-5)
    assert mesh.parts[0].base_color.tolist() == [1, 1, 1, 1]

    rows = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
    mesh = load_mesh(
        square_ply(tmp_path, rows + "3 0 1 2 255 0 0\n3 0 2 3 0 255 0\n", face_properties=colors)
    )
    by_face = at_corners(mesh.colors)
    assert by_face[:, :, :3].tolist() == [[[1, 0, 0]] * 3, [[0, 1, 0]] * 3]


@pytest.mark.parametrize("faces", [SQUARE_FACES, "f 1 2 3\nf 1 3 4\n"])
def test_a_mesh_without_material_is_clay(faces: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.obj"
    path.write_text(SQUARE + faces)
    mesh = load_mesh(path)
    assert mesh.parts[0].texture is None
    torch.testing.assert_close(mesh.parts[0].base_color, CLAY)


def test_stored_normals_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "normals.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0.6 0 0.8\nf 1//1 2//1 3//1\n")
    mesh = load_mesh(path)
    normals = at_corners(mesh.normals)
    torch.testing.assert_close(normals[0, 0], torch.tensor([0.6, 0.0, 0.8]))


def two_materials(folder: Path) -> Mesh:
    """The square's two triangles in red and green, without and with texture coordinates."""
    (folder / "two.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl green\nKd 0 1 0\n")
    path = folder / "two.obj"
    path.write_text(
        "mtllib two.mtl\n" + SQUARE + "o first\nusemtl red\nf 1 2 3\no second\nusemtl green\nf 1/1 3/3 4/4\n"
    )
    return load_mesh(path)


def test_objects_of_one_file_are_joined_with_their_materials(tmp_path: Path) -> None:
    mesh = two_materials(tmp_path)
    assert mesh.tri.shape == (2, 3)
    assert [(part.first, part.count) for part in mesh.parts] == [(0, 1), (1, 1)]
    by_place = {}
    for part in mesh.parts:
        corners = mesh.positions[mesh.tri[part.first].long()]
        by_place[tuple(corners.mean(0).mul(3).round().tolist())] = part.base_color.tolist()
    assert by_place == {(2.0, 1.0, 0.0): [1, 0, 0, 1], (1.0, 2.0, 0.0): [0, 1, 0, 1]}


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mesh file not found: .*absent\.obj"):
        load_mesh(tmp_path / "absent.obj")
    with pytest.raises(MeshError, match="is not a file"):
        load_mesh(tmp_path)
    (tmp_path / "mesh.xyzzy").write_text("")
    with pytest.raises(MeshError, match=r"unknown mesh format '\.xyzzy'; expected one of \.obj"):
        load_mesh(tmp_path / "mesh.xyzzy")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("noise.glb", bytes(range(256)) * 4),
        ("empty.ply", b""),
        (
            "cut.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\nend_header\n\0\0",
        ),
        ("broken.gltf", b'{"asset": {"version": "2.0"}, "meshes": ['),
        ("lost.gltf", b'{"asset":{"version":"2.0"},"buffers":[{"uri":"gone.bin","byteLength":4}]}'),
        ("letters.obj", b"v a b c\nf 1 2 3\n"),
    ],
)
def test_unreadable_meshes(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshError, match=f"{name} cannot be read as a mesh"):
        load_mesh(tmp_path / name)


@pytest.mark.parametrize("content", ["", SQUARE, SQUARE + "l 1 2\n"])
def test_meshes_without_faces(content: str, tmp_path: Path) -> None:
    path = tmp_path / "points.obj"
    path.write_text(content)
    with pytest.raises(MeshError, match="no faces"):
        load_mesh(path)


def test_point_cloud_has_no_faces(tmp_path: Path) -> None:
    path = tmp_path / "points.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
        "end_header\n0 0 0\n1 1 1\n"
    )
    with pytest.raises(MeshError, match="no faces"):
        load_mesh(path)


def test_indices_out_of_range_and_positions_that_are_not_numbers(tmp_path: Path) -> None:
    path = square_ply(tmp_path, "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 7\n")
    with pytest.raises(MeshError, match=r"vertex 7 of 4|cannot be read"):
        load_mesh(path)
    path = square_ply(tmp_path, "0 0 0\n1 nan 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n")
    with pytest.raises(MeshError, match="1 of 4 vertex positions are not finite"):
        load_mesh(path)


def test_with_texture(tmp_path: Path) -> None:
    textured = load_mesh(square_obj(tmp_path)).with_texture(tmp_path / "colors.png")
    assert textured.parts[0].texture is not None
    bare = load_mesh(square_ply(tmp_path, "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"))
    with pytest.raises(MeshError, match=r"no texture coordinates \(UVs\)"):
        bare.with_texture(tmp_path / "colors.png")
    with pytest.raises(FileNotFoundError, match="picture not found"):
        textured.with_texture(tmp_path / "gone.png")
    (tmp_path / "noise.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="cannot read a picture"):
        textured.with_texture(tmp_path / "noise.png")
