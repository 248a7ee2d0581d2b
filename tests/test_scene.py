# SPDX-License-Identifier: MIT
"""Cameras and normals, and pictures whose pixels are known beforehand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rastergrad.scene.aim import VIEWS, CameraError, aim
from rastergrad.scene.camera import Camera, frame, look_at, perspective, project, rotation, translation
from rastergrad.scene.image import linear_from_srgb
from rastergrad.scene.mesh import Indexed, Mesh, Part, load_mesh
from rastergrad.scene.normals import corner_normals, face_normals
from rastergrad.scene.render import display, render_color, render_depth, render_ids, render_normals
from rastergrad.scene.shade import facing_normals, mip_levels
from testing.mesh_files import FOUR_QUARTERS, SQUARE, square_obj

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


def test_corner_normals_are_means_within_the_crease_angle() -> None:
    import trimesh

    cylinder = trimesh.creation.cylinder(radius=1, height=1, sections=20)
    # Stretched, so that areas differ around a vertex.
    positions = torch.tensor(cylinder.vertices) * torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    tri = torch.tensor(cylinder.faces)
    normals, normal_tri = corner_normals(positions, tri, crease_rad=math.radians(40))
    flat = face_normals(positions, tri)
    unit = torch.nn.functional.normalize(flat, dim=-1)
    for t in range(len(tri)):
        for k in range(3):
            around = (tri == tri[t, k]).any(1) & ((unit * unit[t]).sum(-1) >= math.cos(math.radians(40)))
            mean = torch.nn.functional.normalize(flat[around].sum(0), dim=0)
            torch.testing.assert_close(normals[normal_tri[t, k]], mean, rtol=0, atol=1e-12)


def test_corner_normals_of_many_triangles_at_one_vertex_are_finite() -> None:
    count = 500
    angle = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    rim = torch.stack([angle.cos(), angle.sin(), torch.zeros(count)], dim=1)
    positions = torch.cat([torch.tensor([[0.0, 0.0, 0.1]]), rim])
    tri = torch.tensor([[0, 1 + k, 1 + (k + 1) % count] for k in range(count)])
    normals, _ = corner_normals(positions, tri)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(3 * count))
    assert (normals[:, 2] > 0.99).all()


# --- pictures ------------------------------------------------------------------------------------------


def front(mesh: Mesh, half: float = 0.5) -> Camera:
    """A camera five units in front of the unit square whose window is 2 half wide there."""
    cam_from_world = look_at(torch.tensor([0.5, 0.5, 5.0]), torch.tensor([0.5, 0.5, 0.0]), UP)
    return Camera(cam_from_world, perspective(half * 4 / 5, half * 4 / 5, near=4.0, far=6.0))


def test_textured_square_fills_the_picture_upright(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path, FOUR_QUARTERS))
    image = render_color(mesh, front(mesh), (8, 8))
    assert image.shape == (8, 8, 4)
    assert (image[..., 3] == 1).all()
    # Row 0 is the bottom: blue and white below, red and green above; light only scales.
    hues = {(2, 2): [0, 0, 1], (2, 5): [1, 1, 1], (5, 2): [1, 0, 0], (5, 5): [0, 1, 0]}
    for (row, column), hue in hues.items():
        pixel = image[row, column, :3]
        torch.testing.assert_close(pixel / pixel.max(), torch.tensor(hue).float(), rtol=0, atol=1e-5)
    assert image[..., :3].max() <= 1


def test_coverage_measures_area(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    # The square spans 2/3.3 of 33 pixels: 20 x 20, its borders in the middle of pixels.
    image = render_color(mesh, front(mesh, half=0.825), (33, 33))
    assert float(image[..., 3].sum()) == pytest.approx(400, rel=5e-3)
    partial = image[(image[..., 3] > 0) & (image[..., 3] < 1)]
    assert len(partial) > 0
    # Premultiplied: no channel exceeds its coverage.
    assert (partial[:, :3] <= partial[:, 3:] + 1e-6).all()


def test_depth_normals_and_ids_of_the_square(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    camera = front(mesh, half=1.0)
    depth = render_depth(mesh, camera, (16, 16))
    covered = depth > 0
    assert int(covered.sum()) == 64
    torch.testing.assert_close(depth[covered], torch.full((64,), 5.0))
    normals = render_normals(mesh, camera, (16, 16))
    assert torch.equal(normals.abs().sum(-1) > 0, covered)
    torch.testing.assert_close(normals[covered], torch.tensor([0.0, 0.0, 1.0]).expand(64, 3))
    ids = render_ids(mesh, camera, (16, 16))
    assert ids.dtype == torch.int32
    assert torch.equal(ids > 0, covered)
    # Triangle 1 of the file is the lower right half, triangle 2 the upper left.
    assert ids[5, 10] == 1
    assert ids[10, 5] == 2


def test_depth_of_a_slanted_square_is_metric(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    slanted = replace(mesh, positions=mesh.positions + mesh.positions[:, :1] * torch.tensor([0.0, 0.0, 0.8]))
    depth = render_depth(slanted, front(mesh, half=1.0), (64, 64))
    rows, columns = torch.nonzero(depth > 0, as_tuple=True)
    seen = depth[rows, columns]
    # Unproject: world x = 0.5 + depth * slope; on the surface z = 0.8 x and z = 5 - depth.
    slope = ((2 * columns + 1) / 64 - 1) * 0.2
    torch.testing.assert_close(5 - seen, 0.8 * (0.5 + seen * slope), rtol=0, atol=1e-5)


def test_each_part_has_its_own_material(tmp_path: Path) -> None:
    (tmp_path / "two.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl paint\nmap_Kd colors.png\n")
    square_obj(tmp_path, FOUR_QUARTERS)
    path = tmp_path / "two.obj"
    path.write_text(
        "mtllib two.mtl\n" + SQUARE + "o a\nusemtl red\nf 1/1 2/2 3/3\no b\nusemtl paint\nf 1/1 3/3 4/4\n"
    )
    mesh = load_mesh(path)
    image = render_color(mesh, front(mesh), (8, 8))[..., :3]
    lower_right, upper_left = image[2, 5], image[5, 2]
    assert (lower_right / lower_right.max()).tolist() == [1, 0, 0]
    assert (upper_left / upper_left.max()).tolist() == [1, 0, 0]
    top_right = image[5, 4] / image[5, 4].max()
    assert top_right[1] == 1


def test_vertex_colors_are_interpolated(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    red_to_green = torch.stack(
        [1 - mesh.positions[:, 0], mesh.positions[:, 0], torch.zeros(4), torch.ones(4)], dim=1
    )
    bare = replace(mesh.parts[0], texture=None)
    mesh = replace(mesh, colors=Indexed(red_to_green, mesh.tri), parts=(bare,))
    row = render_color(mesh, front(mesh), (10, 10))[5]
    share = row[:, 1] / (row[:, 0] + row[:, 1])
    torch.testing.assert_close(share, (torch.arange(10) + 0.5) / 10, rtol=0, atol=1e-5)


def test_textures_of_odd_sizes_are_averaged_at_a_distance(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 2, (45, 75, 1), dtype=np.uint8).repeat(3, axis=2) * 255
    mesh = load_mesh(square_obj(tmp_path, noise))
    levels = mip_levels(mesh.parts[0].texture)
    assert [tuple(level.shape[1:3]) for level in levels] == [
        (22, 37),
        (11, 18),
        (5, 9),
        (2, 4),
        (1, 2),
        (1, 1),
    ]
    for level in levels:
        assert float(level[..., 0].mean()) == pytest.approx(noise.mean() / 255, abs=0.03)
    image = render_color(mesh, front(mesh), (4, 4))[..., 0]
    # Black and white texels, 19 x 11 of them per pixel, are grey: half of the same square in white.
    white = replace(mesh, parts=(replace(mesh.parts[0], texture=None),))
    ratio = image / render_color(white, front(mesh), (4, 4))[..., 0]
    torch.testing.assert_close(ratio, torch.full((4, 4), 0.5), rtol=0, atol=0.12)


def test_light_reaches_either_side(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    away = Indexed(-mesh.normals.values, mesh.normals.tri.flip(1))
    flipped = replace(mesh, tri=mesh.tri.flip(1), normals=away)
    bare = [replace(m, parts=(Part(0, 2, torch.ones(4)),)) for m in (mesh, flipped)]
    images = [render_color(m, front(mesh), (4, 4)) for m in bare]
    torch.testing.assert_close(images[0], images[1])


def test_normals_are_turned_to_the_eye_by_triangle() -> None:
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=2)
    positions, tri = torch.tensor(sphere.vertices).float(), torch.tensor(sphere.faces).int()
    mesh = Mesh(positions, tri, Indexed(positions, tri), (Part(0, len(tri), torch.ones(4)),))
    eye = torch.tensor([0.0, 0.0, 3.0])
    toward = (face_normals(positions, tri) * (eye - positions[tri[:, 0].long()])).sum(-1) > 0
    outward = positions[tri.long()]
    # Also where a corner's own normal leans away: 11 degrees beyond the outline.
    assert (outward[toward][..., 2] < 1 / 3).any()
    inside_out = Mesh(positions, tri.flip(1), Indexed(-positions, tri.flip(1)), mesh.parts)
    for one, expected in ((mesh, outward), (inside_out, outward.flip(1))):
        turned = facing_normals(one, eye).at_corners()
        torch.testing.assert_close(turned[toward], expected[toward])
        torch.testing.assert_close(turned[~toward], -expected[~toward])


def test_pictures_for_the_eye() -> None:
    depth = torch.tensor([[0.0, 2.0, 3.0, 4.0]])
    torch.testing.assert_close(display("depth", depth, None), torch.tensor([[0.0, 1.0, 0.6, 0.2]]))
    assert display("depth", torch.zeros(2, 2), None).tolist() == [[0, 0], [0, 0]]
    normals = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]])
    assert display("normals", normals, None).tolist() == [[[0, 0, 0], [0.5, 0.5, 1], [0, 0.5, 0.5]]]
    colors = display("ids", torch.arange(1000, dtype=torch.int32).reshape(1, -1), None)[0]
    assert colors[0].tolist() == [0, 0, 0]
    assert colors[1:].min() >= 0.25
    assert (colors[1:-1] - colors[2:]).abs().amax(1).min() > 0.2
    half = torch.tensor([[[0.25, 0.0, 0.0, 0.5]]])
    over_white = display("color", half, (1.0, 1.0, 1.0))
    torch.testing.assert_close(linear_from_srgb(over_white)[0, 0], torch.tensor([0.75, 0.5, 0.5]))
    clear = display("color", half, None)
    torch.testing.assert_close(linear_from_srgb(clear)[0, 0], torch.tensor([0.5, 0.0, 0.0, 0.5]))


def test_the_scene_is_differentiable(tmp_path: Path) -> None:
    mesh = load_mesh(square_obj(tmp_path))
    positions = mesh.positions.clone().requires_grad_()
    moving = replace(mesh, positions=positions)
    # No side lies on a border between pixels, where the antialiasing weight is zero.
    render_color(moving, front(mesh, half=0.97), (64, 64))[..., 3].sum().backward()
    assert positions.grad is not None
    # Coverage grows by the length of a side times the pixels per unit, shared by the side's two ends.
    side_px = 64 / (2 * 0.97)
    # The upper left corner: at the others the diagonal ends, which hides the side from the last pixel.
    corner = (mesh.positions[:, 0] == 0) & (mesh.positions[:, 1] == 1)
    expected = torch.tensor([-1.0, 1.0]) * side_px**2 / 2
    torch.testing.assert_close(positions.grad[corner][0, :2], expected, rtol=0.05, atol=0)
