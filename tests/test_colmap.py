# SPDX-License-Identifier: MIT
"""COLMAP models, as pycolmap writes them, give the cameras that were put in."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rastergrad.capture.dataset import DatasetError, open_dataset
from rastergrad.scene.distortion import Distortion, distort_pixels
from rastergrad.scene.pinhole import from_opencv
from testing.performances import small_performance, write_dataset

pycolmap = pytest.importorskip("pycolmap", reason="needs pip install 'rastergrad[colmap]'")
pytest.importorskip("cv2", reason="needs pip install 'rastergrad[capture]'")
pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[capture]'")

PERFORMANCE = small_performance(frames=1)
NAMES = ("side/b.png", "side/a.png", "front.png")  # of cameras 0, 1, 2: not in the order of names
ORDER = (2, 1, 0)  # cameras by name


def parameters(model: str, camera: Any) -> list[float]:
    fl_x, fl_y, cx, cy = camera.fl_x, camera.fl_y, camera.cx, camera.cy
    return {
        "SIMPLE_PINHOLE": [fl_x, cx, cy],
        "PINHOLE": [fl_x, fl_y, cx, cy],
        "SIMPLE_RADIAL": [fl_x, cx, cy, 0.7],
        "RADIAL": [fl_x, cx, cy, 0.7, -0.2],
        "OPENCV": [fl_x, fl_y, cx, cy, 0.7, -0.2, 0.01, 0.02],
        "FULL_OPENCV": [fl_x, fl_y, cx, cy, 0.7, -0.2, 0.01, 0.02, 0.3, 0.1, 0.05, -0.04],
        "OPENCV_FISHEYE": [fl_x, fl_y, cx, cy, 0.1, 0.0, 0.0, 0.0],
    }[model]


def write_model(folder: Path, model: str, text: bool = True) -> Path:
    """A dataset in COLMAP's layout; returns the template's path."""
    write_dataset(folder / "as_transforms", PERFORMANCE)
    reconstruction = pycolmap.Reconstruction()
    for k, (camera, name) in enumerate(zip(PERFORMANCE.cameras, NAMES)):
        lens = pycolmap.Camera(
            model=model,
            width=camera.width,
            height=camera.height,
            params=parameters(model, camera),
            camera_id=k + 1,
        )
        reconstruction.add_camera_with_trivial_rig(lens)
        cam_from_world = torch.linalg.inv(from_opencv(camera.world_from_cam))[:3].numpy()
        reconstruction.add_image_with_trivial_frame(
            pycolmap.Image(name=name, camera_id=k + 1, image_id=7 - k), pycolmap.Rigid3d(cam_from_world)
        )
        for kind, suffix in (("images", ""), ("masks", ".png")):
            target = folder / kind / f"{name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "as_transforms" / kind / f"00000_{k:02d}.png", target)
    (folder / "sparse" / "0").mkdir(parents=True)
    write = reconstruction.write_text if text else reconstruction.write_binary
    write(str(folder / "sparse" / "0"))
    return folder / "as_transforms" / "template.obj"


@pytest.mark.parametrize("text", [True, False])
def test_a_model_gives_cameras_masks_and_one_frame(tmp_path: Path, text: bool) -> None:
    dataset = open_dataset(tmp_path, write_model(tmp_path, "PINHOLE", text))
    assert dataset.timesteps == (0,)
    assert dataset.camera_ids == (0, 1, 2)
    for view, k in zip(dataset.views, ORDER):
        truth, camera = PERFORMANCE.cameras[k], view.pinhole
        assert view.image == tmp_path / "images" / NAMES[k]
        assert view.mask == tmp_path / "masks" / f"{NAMES[k]}.png"
        assert view.distortion is None
        wanted = (truth.width, truth.height, truth.fl_x, truth.fl_y, truth.cx, truth.cy)
        assert (camera.width, camera.height, camera.fl_x, camera.fl_y, camera.cx, camera.cy) == wanted
        torch.testing.assert_close(camera.world_from_cam, truth.world_from_cam, rtol=0, atol=1e-9)
        picture = dataset.load(view)
        assert picture.mask is not None
        x, y, _ = camera.pixels(PERFORMANCE.positions[0].double()).mean(dim=0).tolist()
        assert picture.mask[camera.height - 1 - int(y), int(x)] == 1
    assert "is a COLMAP model" in dataset.notes[0]
    assert "metres are assumed" in dataset.notes[1]
    (tmp_path / "masks" / "front.png.png").rename(tmp_path / "masks" / "front.png")
    again = open_dataset(tmp_path, tmp_path / "as_transforms" / "template.obj", cameras=[0], units="1000")
    assert again.views[0].mask == tmp_path / "masks" / "front.png"


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"])
def test_lenses_project_as_colmap_s_own(tmp_path: Path, model: str) -> None:
    dataset = open_dataset(tmp_path, write_model(tmp_path, model))
    reconstruction = pycolmap.Reconstruction(str(tmp_path / "sparse" / "0"))
    points = PERFORMANCE.template.positions[:50].double()
    for view, k in zip(dataset.views, ORDER):
        image = reconstruction.images[7 - k]
        wanted = np.array([image.project_point(p) for p in points.numpy()])
        xy = view.pinhole.pixels(points)[:, :2]
        if view.distortion is not None:
            xy = distort_pixels(xy, view.pinhole, view.distortion)
        np.testing.assert_allclose(xy.numpy(), wanted, rtol=0, atol=1e-7)
    assert (dataset.views[0].distortion is None) == ("PINHOLE" in model)
    if model == "FULL_OPENCV":
        assert dataset.views[0].distortion == Distortion(0.7, -0.2, 0.01, 0.02, 0.3, 0.1, 0.05, -0.04)


def test_fisheye_lenses_are_refused(tmp_path: Path) -> None:
    template = write_model(tmp_path, "OPENCV_FISHEYE")
    with pytest.raises(DatasetError, match=r"front.png.*OPENCV_FISHEYE is not supported.*image_undistorter"):
        open_dataset(tmp_path, template)


def test_a_damaged_model_is_refused_with_its_folder(tmp_path: Path) -> None:
    template = write_model(tmp_path, "PINHOLE", text=False)
    images = tmp_path / "sparse" / "0" / "images.bin"
    images.write_bytes(images.read_bytes()[:20])
    with pytest.raises(DatasetError, match=r"sparse/0 cannot be read as a COLMAP model.*Export the model"):
        open_dataset(tmp_path, template)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    template = write_model(tmp_path, "PINHOLE")
    (tmp_path / "images" / "side" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"image 'side/b.png'.*images/side/b.png is missing"):
        open_dataset(tmp_path, template)


def test_a_model_without_registered_images_is_refused(tmp_path: Path) -> None:
    template = write_model(tmp_path, "PINHOLE")
    pycolmap.Reconstruction().write_text(str(tmp_path / "sparse" / "0"))
    with pytest.raises(DatasetError, match="no registered images"):
        open_dataset(tmp_path, template)
