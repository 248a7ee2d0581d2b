# SPDX-License-Identifier: MIT
"""Lens distortion against OpenCV, its own inverse, and pictures rendered through a lens."""

import math
from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rastergrad.capture.render import render
from rastergrad.scene import distortion
from rastergrad.scene.distortion import (
    Distortion,
    distort_pixels,
    from_model,
    sources,
    undistort_image,
    undistort_pixels,
)
from rastergrad.scene.pinhole import Pinhole
from testing.performances import small_performance

cv2 = pytest.importorskip("cv2", reason="needs pip install 'rastergrad[capture]'")

LENS = Distortion(k1=-0.3, k2=0.12, p1=0.004, p2=-0.003, k3=0.01, k4=0.02, k5=-0.01, k6=0.005)
CAMERA = Pinhole(60, 44, 52.0, 55.0, 28.75, 23.5, torch.eye(4, dtype=torch.float64))


def opencv_matrix(camera: Pinhole) -> np.ndarray:
    """OpenCV counts the first pixel's centre as 0."""
    return np.array([[camera.fl_x, 0, camera.cx - 0.5], [0, camera.fl_y, camera.cy - 0.5], [0, 0, 1]])


def grid(reach: float = 0.6, count: int = 9) -> torch.Tensor:
    line = torch.linspace(-reach, reach, count, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(-1, 2)


def pixel_centres(camera: Pinhole) -> torch.Tensor:
    """[H, W, 2], row 0 the bottom."""
    row = torch.arange(camera.height, dtype=torch.float64).flip(0) + 0.5
    column = torch.arange(camera.width, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(row, column, indexing="ij")
    return torch.stack([x, y], dim=-1)


def test_points_go_where_opencv_projects_them() -> None:
    bearings = torch.nn.functional.pad(grid(), (0, 1), value=1.0).numpy()
    seen, _ = cv2.projectPoints(
        bearings, np.zeros(3), np.zeros(3), opencv_matrix(CAMERA), np.array(astuple(LENS))
    )
    focal, centre = torch.tensor([52.0, 55.0]), torch.tensor([28.75, 23.5])
    ours = LENS.distort(grid()) * focal + centre
    torch.testing.assert_close(ours - 0.5, torch.from_numpy(seen.reshape(-1, 2)), rtol=0, atol=1e-9)
    torch.testing.assert_close(distort_pixels(grid() * focal + centre, CAMERA, LENS), ours)


COEFFICIENT = st.floats(-0.6, 0.6)


@settings(max_examples=60, deadline=None)
@given(k1=COEFFICIENT, k2=COEFFICIENT, k3=COEFFICIENT, k4=st.floats(-0.1, 0.1), p1=st.floats(-0.01, 0.01))
def test_undistort_is_the_inverse_up_to_the_fold(
    k1: float, k2: float, k3: float, k4: float, p1: float
) -> None:
    lens = Distortion(k1=k1, k2=k2, k3=k3, k4=k4, p1=p1, p2=-p1 / 2)
    # Where a circle grows by less than p1 may move it, the map as a whole may fold.
    radius = torch.linspace(0, min(0.95 * lens.reach(5.0), 1.2), 200, dtype=torch.float64)
    circles = Distortion(k1=k1, k2=k2, k3=k3, k4=k4).distort(torch.stack([radius, 0 * radius], dim=-1))[:, 0]
    growth = circles.diff() / radius.diff()
    flat = torch.nonzero(growth < 0.15)
    points = grid(radius[int(flat[0]) if len(flat) else -1].item() / math.sqrt(2))
    torch.testing.assert_close(lens.undistort(lens.distort(points)), points, rtol=0, atol=1e-7)


def test_the_inverse_converges_quadratically(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps suffice for a common lens: the Jacobian is right."""
    monkeypatch.setattr(distortion, "ITERATIONS", 3)
    torch.testing.assert_close(LENS.undistort(LENS.distort(grid())), grid(), rtol=0, atol=1e-12)


def test_beyond_the_fold_there_is_nothing() -> None:
    """x - x^3 grows to 0.385 at 0.577 and returns to 0 at 1: Newton's method alone may land there."""
    lens = Distortion(k1=-1.0)
    assert lens.reach(3.0) == pytest.approx(1 / math.sqrt(3), abs=2e-3)
    there = torch.linspace(0.01, 0.38, 50, dtype=torch.float64)
    found = lens.undistort(torch.stack([there, 0 * there], dim=-1))[:, 0]
    torch.testing.assert_close(found - found**3, there, rtol=0, atol=1e-9)
    assert found.max() < 1 / math.sqrt(3)
    nowhere = torch.linspace(0.386, 3, 300, dtype=torch.float64)
    assert lens.undistort(torch.stack([nowhere, 0 * nowhere], dim=-1)).isnan().all()
    assert undistort_pixels(torch.tensor([28.75 + 26.0, 23.5]), CAMERA, lens).isnan().all()


def test_pixels_of_another_reach_are_invalid_even_where_the_fold_returns_into_the_picture() -> None:
    camera = Pinhole(60, 60, 30.0, 30.0, 30.0, 30.0, CAMERA.world_from_cam)
    xy, valid = sources(camera, Distortion(k1=-1.0))
    radius = (pixel_centres(camera) - 30).norm(dim=-1) / 30
    back = (xy >= 1).all(dim=-1) & (xy <= 59).all(dim=-1) & (radius > 0.7)
    assert back.sum() > 200  # the trap is there
    assert not valid[..., 0][back].any()
    assert valid[..., 0][radius < 0.5].all()


def test_the_map_agrees_with_the_formula_and_row_0_is_the_bottom() -> None:
    xy, valid = sources(CAMERA, LENS)
    wanted = distort_pixels(pixel_centres(CAMERA), CAMERA, LENS)
    torch.testing.assert_close(xy.double(), wanted, rtol=0, atol=2e-5)
    size = torch.tensor([60, 44])
    inside = ((wanted >= 0.5) & (wanted <= size - 0.5)).all(dim=-1, keepdim=True)
    assert torch.equal(valid, inside)


def test_pincushion_leaves_an_invalid_margin() -> None:
    """The lens puts what the ideal picture's margin shows outside of the real picture."""
    image, valid = undistort_image(torch.ones(44, 60, 2), CAMERA, Distortion(k1=0.5))
    assert valid.shape == (44, 60, 1)
    assert not valid[0].any()
    assert not valid[-1].any()
    assert valid[10:34, 10:50].all()
    torch.testing.assert_close(image, torch.ones(44, 60, 2))


def test_a_picture_is_sampled_exactly_where_it_is_linear() -> None:
    """An image of its own coordinates comes back as the map, to rounding; half a pixel off would show."""
    centres = pixel_centres(CAMERA).float()
    seen, valid = undistort_image(centres, CAMERA, LENS)
    xy, _ = sources(CAMERA, LENS)
    shown = valid[..., 0] > 0
    assert shown.sum() > 2000
    torch.testing.assert_close(seen[shown], xy[shown], rtol=0, atol=1e-4)


def through(camera: Pinhole, lens: Distortion, ideal: torch.Tensor, times: int) -> torch.Tensor:
    """The picture that a lens makes of the ideal picture of `camera.resized` by `times`, area-averaged."""
    big = camera.resized(camera.width * times, camera.height * times)
    where = undistort_pixels(pixel_centres(big), big, lens).float()
    at = torch.stack([2 * where[..., 0] / big.width - 1, 1 - 2 * where[..., 1] / big.height], dim=-1)
    fine = torch.nn.functional.grid_sample(
        ideal.permute(2, 0, 1)[None], at[None], align_corners=False, padding_mode="border"
    )
    return torch.nn.functional.avg_pool2d(fine, times)[0].permute(1, 2, 0)


def test_straight_lines_become_straight() -> None:
    """A soft line in an ideal picture, bent by the lens by more than a pixel, is straight again to 0.05."""
    lens = Distortion(k1=-0.6, k2=0.3, p1=0.01)
    times, slope, start = 8, 0.15, 6.0
    big = pixel_centres(CAMERA.resized(60 * times, 44 * times)) / times
    distance = (big[..., 1] - start - slope * big[..., 0]) / math.hypot(1, slope)
    ideal = (1 - distance.abs() / 2.5).clamp_min(0)[..., None].float()
    real = through(CAMERA, lens, ideal, times)
    straight, valid = undistort_image(real, CAMERA, lens)

    def heights(image: torch.Tensor) -> torch.Tensor:
        y = pixel_centres(CAMERA)[..., 1].float()
        return (image[..., 0] * y).sum(0) / image[..., 0].sum(0).clamp_min(1e-9)

    column = torch.arange(60) + 0.5
    fine = valid[..., 0].all(dim=0) & (column > 4) & (column < 56)
    line = start + slope * column
    assert (heights(straight) - line)[fine].abs().max() < 0.05
    assert (heights(real) - line)[4:-4].abs().max() > 1


def test_an_image_rendered_through_a_lens_comes_back() -> None:
    performance = small_performance(1, 1)
    camera = performance.cameras[0]
    lens = Distortion(k1=-2.0, k2=3.0, p1=0.01, p2=-0.02)
    ideal = render(performance, 0, [camera.resized(4 * camera.width, 4 * camera.height)])[0]
    wanted = torch.nn.functional.avg_pool2d(ideal.permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0)
    real = through(camera, lens, ideal, 4)
    back, valid = undistort_image(real, camera, lens)
    assert valid.mean() > 0.95
    face = (wanted[..., 3:] > 0.99) & (valid > 0)

    def psnr(image: torch.Tensor) -> float:
        return -10 * math.log10(((image - wanted)[..., :3] ** 2)[face[..., 0]].mean().item())

    assert psnr(real) < 25
    assert psnr(back) > 37


def test_models_name_their_coefficients() -> None:
    assert from_model("PINHOLE", {}) is None
    assert from_model("OPENCV", {"k1": 0.0, "p2": 0.0}) is None
    assert from_model("simple_radial", {"k1": 0.1}) == Distortion(k1=0.1)
    assert from_model("FULL_OPENCV", {"k6": 0.1, "p1": 0.2}) == Distortion(k6=0.1, p1=0.2)
    with pytest.raises(ValueError, match=r"'RADIAL' has no p1; got p1 = 0.2.*Name the model OPENCV"):
        from_model("RADIAL", {"k1": 0.1, "p1": 0.2})
    with pytest.raises(ValueError, match=r"OPENCV_FISHEYE.*not supported.*image_undistorter"):
        from_model("OPENCV_FISHEYE", {"k1": 0.1})


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \[44, 60, C\].*got \[60, 44, 3\]"):
        undistort_image(torch.zeros(60, 44, 3), CAMERA, LENS)
