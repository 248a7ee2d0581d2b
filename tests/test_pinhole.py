# SPDX-License-Identifier: MIT
"""Pinhole cameras: where `pixels` says is where rasterize draws."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rastergrad as rg
from rastergrad.scene.camera import look_at, project
from rastergrad.scene.pinhole import Pinhole, from_opencv

EYE = torch.tensor([0.4, -0.3, 2.0])
CAM_FROM_WORLD = look_at(EYE, torch.tensor([0.05, 0.0, 0.1]), torch.tensor([0.1, 1.0, 0.0]))
CAMERA = Pinhole(37, 50, 60.0, 71.0, 20.25, 22.5, torch.linalg.inv(CAM_FROM_WORLD))


def points(count: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, dtype=torch.float64, generator=generator) - 0.5


@settings(max_examples=30, deadline=None)
@given(
    fl_x=st.floats(10, 500),
    fl_y=st.floats(10, 500),
    cx=st.floats(-40, 80),
    cy=st.floats(-40, 80),
    near=st.floats(0.01, 1),
)
def test_pixels_agree_with_the_projection_matrix_and_the_viewport(
    fl_x: float, fl_y: float, cx: float, cy: float, near: float
) -> None:
    camera = replace(CAMERA, fl_x=fl_x, fl_y=fl_y, cx=cx, cy=cy)
    clip = project(camera.clip_from_world(near, 9.0), points())
    ndc = clip[:, :2] / clip[:, 3:]
    from_left = (ndc[:, 0] + 1) / 2 * camera.width
    from_bottom = (ndc[:, 1] + 1) / 2 * camera.height
    wanted = torch.stack([from_left, camera.height - from_bottom, clip[:, 3]], dim=-1)
    torch.testing.assert_close(camera.pixels(points()), wanted, rtol=1e-12, atol=1e-9)


def test_the_planes_bound_clip_space() -> None:
    inside = torch.tensor([[0.0, 0.0, -0.5, 1.0], [0.0, 0.0, -3.0, 1.0]], dtype=torch.float64)
    clip = inside @ CAMERA.clip_from_cam(0.5, 3.0).T
    torch.testing.assert_close(clip[:, 2] / clip[:, 3], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="0 < near < far; got near = 2"):
        CAMERA.clip_from_cam(2.0, 1.0)


def test_rasterize_draws_a_triangle_around_its_pixel_with_row_0_at_the_bottom() -> None:
    """The camera's axes spell where: up and to the right of the axis is above row H - 1 - cy, right of cx."""
    place = torch.tensor([[0.05, 0.12, -1.5]], dtype=torch.float64)  # camera space
    world = place @ CAMERA.world_from_cam[:3, :3].T + CAMERA.eye
    x, y, depth = CAMERA.pixels(world)[0].tolist()
    assert x == pytest.approx(CAMERA.cx + 60 * 0.05 / 1.5)
    assert y == pytest.approx(CAMERA.cy - 71 * 0.12 / 1.5)
    assert depth == pytest.approx(1.5)
    offsets = torch.tensor([[-0.02, -0.02, 0.0], [0.02, -0.02, 0.0], [0.0, 0.03, 0.0]], dtype=torch.float64)
    corners = (place + offsets) @ CAMERA.world_from_cam[:3, :3].T + CAMERA.eye
    pos = project(CAMERA.clip_from_world(0.1, 5.0), corners)[None].float()
    rast, _ = rg.rasterize(pos, torch.tensor([[0, 1, 2]], dtype=torch.int32), (50, 37))
    row, column = torch.nonzero(rast[0, ..., 3]).double().mean(dim=0).tolist()
    assert column + 0.5 == pytest.approx(x, abs=0.5)
    assert 50 - (row + 0.5) == pytest.approx(y, abs=0.6)


def test_behind_the_camera_has_negative_depth() -> None:
    behind = CAMERA.eye + CAMERA.world_from_cam[:3, 2]
    assert CAMERA.pixels(behind[None])[0, 2].item() == pytest.approx(-1)


def test_another_size_scales_the_pixels_and_keeps_the_depth() -> None:
    scale = torch.tensor([18 / 37, 75 / 50, 1.0], dtype=torch.float64)
    there = CAMERA.resized(18, 75).pixels(points())
    torch.testing.assert_close(there, CAMERA.pixels(points()) * scale, rtol=1e-12, atol=1e-9)
    back = CAMERA.resized(18, 75).resized(37, 50)
    assert (back.fl_x, back.fl_y, back.cx, back.cy) == pytest.approx((60, 71, 20.25, 22.5))


def test_gradients_reach_the_points() -> None:
    moved = points(4).requires_grad_()
    assert torch.autograd.gradcheck(CAMERA.pixels, (moved,))


def test_opencv_poses_turn_and_turn_back() -> None:
    opencv = from_opencv(CAMERA.world_from_cam)
    torch.testing.assert_close(from_opencv(opencv), CAMERA.world_from_cam, rtol=0, atol=0)
    # OpenCV's own projection: K (R x + t), y down, along +z.
    cam_from_world = torch.linalg.inv(opencv)
    seen = points() @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    xy = seen[:, :2] / seen[:, 2:] * torch.tensor([60.0, 71.0]) + torch.tensor([20.25, 22.5])
    torch.testing.assert_close(torch.cat([xy, seen[:, 2:]], dim=1), CAMERA.pixels(points()))
