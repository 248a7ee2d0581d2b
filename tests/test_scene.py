# SPDX-License-Identifier: MIT
"""Cameras and normals, and pictures whose pixels are known beforehand."""

import math
from pathlib import Path

import pytest
import torch

from rastergrad.scene.aim import VIEWS, CameraError, aim
from rastergrad.scene.camera import frame, look_at, perspective, project, rotation, translation
from rastergrad.scene.mesh import load_mesh
from rastergrad.scene.normals import corner_normals, face_normals
from testing.mesh_files import square_obj

pytest.importorskip("trimesh", reason="needs pip install 'rastergrad[demo]'")
pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[demo]'")

UP = torch.tensor([0.0, 1.0, 0.0])


def test_perspective_maps_its_window_to_the_clip_cube() -> None:
    corners = torch.tensor([[0.4, -0.3, -2.0], [-0.4, 0.3, -2.0], [0.0, 0.0, -9.0]], dtype=torch.float64)
    clip = project(perspective(0.4, 0.3, near=2.0, far=9.0), corners)
    ndc = clip[:, :3] / clip[:, 3:]
    expected = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(ndc, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(clip[:, 3], -corners[:, 2], rtol=0, atol=0)


def test_look_at_is_rigid_and_upright() -> None:
    eye, target = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, 0.5, 0.0])
    cam_from_world = look_at(eye, target, UP)
    turn = cam_from_world[:3, :3]
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-14)
    assert torch.linalg.det(turn) > 0
    seen = project(cam_from_world, torch.stack([eye, target, target + UP]).double())[:, :3]
    torch.testing.assert_close(seen[0], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-14)
    straight = torch.tensor([0, 0, -(eye - target).double().norm().item()], dtype=torch.float64)
    torch.testing.assert_close(seen[1], straight, rtol=0, atol=1e-6)
    assert abs(seen[2, 0]) < 1e-7
    assert seen[2, 1] > 0


@pytest.mark.parametrize(("axis", "origin", "image"), [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_rotation_is_right_handed(axis: int, origin: int, image: int) -> None:
    unit = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(rotation(axis, math.pi / 2) @ unit[origin], unit[image], rtol=0, atol=1e-15)


def test_project_agrees_with_homogeneous_matrices_and_broadcasts() -> None:
    chain = perspective(0.4, 0.4) @ translation(0.1, 0.2, -3.5) @ rotation(1, 0.3)
    points = torch.rand(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = project(torch.stack([chain, chain @ translation(0, 1, 0)]), points)
    padded = torch.nn.functional.pad(points, (0, 1), value=1.0)
    torch.testing.assert_close(both[0], padded[0] @ chain.T, rtol=0, atol=1e-14)
    torch.testing.assert_close(both[1], padded[1] @ translation(0, 1, 0).T @ chain.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(6))
def test_frame_fills_the_picture_up_to_the_margin(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (8 * torch.rand(1, generator=generator) - 4)
    points = scale * (torch.randn(40, 3, generator=generator) * torch.rand(3, generator=generator) + 5)
    direction = torch.randn(3, generator=generator)
    camera = frame(points, direction, UP, aspect=1.7, margin=0.1)
    clip = project(camera.clip_from_world, points.double())
    ndc = clip[:, :3] / clip[:, 3:]
    reach = ndc[:, :2].abs().amax(0)
    assert reach.max() == pytest.approx(0.8, rel=1e-6)
    assert reach.min() <= 0.8 + 1e-9
    assert ndc[:, 2].abs().max() <= 1
    # In the axis that binds, the picture is centred: both sides touch.
    axis = int(reach.argmax())
    assert -ndc[:, axis].min() == pytest.approx(float(ndc[:, axis].max()), rel=1e-6)


@pytest.mark.parametrize("points", [[[2.0, 3.0, 4.0]], [[0.0, 0, 0], [0, 0, 1]], [[0.0, 0, 0], [1, 0, 0]]])
def test_frame_copes_with_flat_objects(points: list[list[float]]) -> None:
    camera = frame(torch.tensor(points), torch.tensor([0.0, 0.0, 1.0]), UP)
    clip = project(camera.clip_from_world, torch.tensor(points, dtype=torch.float64))
    assert (clip[:, :3].abs() <= clip[:, 3:]).all()


def test_camera_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="parallel"):
        look_at(torch.tensor([0.0, 2.0, 0.0]), torch.zeros(3), UP)
    with pytest.raises(ValueError, match="same point"):
        look_at(UP, UP, torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="0 < near < far"):
        perspective(1, 1, near=2, far=1)
    with pytest.raises(ValueError, match="window"):
        perspective(0, 1)
    with pytest.raises(ValueError, match="axis"):
        rotation(3, 0.1)


def test_named_views_look_from_where_they_say(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    centre = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    sides = {
        "front": (0, 0, 1),
        "right": (1, 0, 0),
        "back": (0, 0, -1),
        "left": (-1, 0, 0),
        "top": (0, 1, 0),
        "bottom": (0, -1, 0),
    }
    for name, side in sides.items():
        camera = aim(name, mesh, 1.0)
        eye = torch.linalg.inv(camera.cam_from_world)[:3, 3] - centre
        torch.testing.assert_close(eye / eye.norm(), torch.tensor(side).double(), rtol=0, atol=1e-6)
        turned = aim(name, mesh, 1.0, up="z")
        eye = torch.linalg.inv(turned.cam_from_world)[:3, 3] - centre
        expected = torch.tensor([side[0], -side[2], side[1]]).double()
        torch.testing.assert_close(eye / eye.norm(), expected, rtol=0, atol=1e-6)
    assert set(sides) | {"corner"} == set(VIEWS)


def test_camera_file(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    path = tmp_path / "camera.json"
    path.write_text('{"eye": [0.5, 0.5, 2], "target": [0.5, 0.5, 0], "fov_y_deg": 90}')
    camera = aim(str(path), mesh, 2.0)
    clip = project(camera.clip_from_world, torch.tensor([[4.5, 2.5, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(clip[:, :2] / clip[:, 3:], torch.ones(1, 2, dtype=torch.float64))
    for wrong in (
        "{",
        "[]",
        '{"eye": [0, 0, 1]}',
        '{"eye": [0, 0], "target": [0, 0, 0]}',
        '{"eye": 1, "target": 2}',
    ):
        path.write_text(wrong)
        with pytest.raises(CameraError, match=r'expected \{"eye"'):
            aim(str(path), mesh, 1.0)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        aim("nowhere.json", mesh, 1.0)


@pytest.mark.parametrize("words", ["frnt", "1", "1,2,3", "0,91", "nan,0", ""])
def test_camera_words_that_mean_nothing(words: str, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="camera"):
        aim(words, load_mesh(square_obj(tmp_path)), 1.0)


def test_corner_normals_keep_a_box_sharp_and_a_sphere_smooth() -> None:
    import trimesh

    box = trimesh.creation.box()
    positions, tri = torch.tensor(box.vertices).float(), torch.tensor(box.faces)
    normals, normal_tri = corner_normals(positions, tri)
    flat = torch.nn.functional.normalize(face_normals(positions, tri), dim=-1)
    torch.testing.assert_close(normals[normal_tri.long()], flat[:, None].expand(-1, 3, -1), rtol=0, atol=1e-6)

    sphere = trimesh.creation.icosphere(subdivisions=3)
    positions, tri = torch.tensor(sphere.vertices).float(), torch.tensor(sphere.faces)
    normals, normal_tri = corner_normals(positions, tri)
    radial = positions[tri]
    # Facets are 8 degrees apart; the mean of their normals is within 1 degree of the sphere's.
    assert (normals[normal_tri.long()] * radial).sum(-1).min() > math.cos(math.radians(1))


def test_corner_normals_of_many_triangles_at_one_vertex_are_finite() -> None:
    count = 500
    angle = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    rim = torch.stack([angle.cos(), angle.sin(), torch.zeros(count)], dim=1)
    positions = torch.cat([torch.tensor([[0.0, 0.0, 0.1]]), rim])
    tri = torch.tensor([[0, 1 + k, 1 + (k + 1) % count] for k in range(count)])
    normals, _ = corner_normals(positions, tri)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(3 * count))
    assert (normals[:, 2] > 0.99).all()
