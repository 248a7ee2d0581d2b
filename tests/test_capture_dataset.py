# SPDX-License-Identifier: MIT
"""Datasets: what is read, what is lenient, and that each broken one gives one clear error before any work."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rastergrad.capture import validate
from rastergrad.capture.dataset import Dataset, DatasetError, describe, open_dataset
from rastergrad.capture.render import render
from rastergrad.scene.distortion import Distortion, distort_pixels
from rastergrad.scene.image import linear_from_srgb, read_coverage, read_image, srgb_from_linear, write_image
from rastergrad.scene.pinhole import FLIP_YZ
from rastergrad.scene.pyramid import reduce
from testing.performances import small_performance, write_dataset, write_obj

Image = pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[capture]'")
ROOT = Path(__file__).parent.parent
SAMPLE = ROOT.parent / "shared" / "capture-sample"
PERFORMANCE = small_performance()

About = dict[str, Any]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("footage"), PERFORMANCE)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A dataset of its own to break."""
    return Path(shutil.copytree(original, tmp_path / "footage"))


def opened(folder: Path, **options: Any) -> Dataset:
    return open_dataset(folder, folder / "template.obj", **options)


def edit(folder: Path, change: Callable[[About], None]) -> None:
    path = folder / "transforms.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


def refused(folder: Path, *words: str, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        opened(folder, **options)
    message = str(caught.value)
    for word in words:
        assert word in message, (word, message)
    return message


# ---- what is read ------------------------------------------------------------------------------------------


def test_a_dataset_is_read_as_it_was_recorded(original: Path) -> None:
    dataset = opened(original)
    assert (dataset.timesteps, dataset.camera_ids) == ((0, 1, 2), (0, 1, 2))
    assert [(v.frame, v.camera) for v in dataset.views] == [(f, c) for f in range(3) for c in range(3)]
    assert (dataset.mm_per_unit, dataset.fps, dataset.notes) == (1000.0, 30.0, ())
    assert dataset.background is not None
    assert dataset.background.tolist() == [0, 0, 0]
    for camera, truth in zip(dataset.cameras, PERFORMANCE.cameras):
        assert (camera.width, camera.height, camera.cx) == (truth.width, truth.height, truth.cx)
        torch.testing.assert_close(camera.world_from_cam, truth.world_from_cam, rtol=0, atol=1e-12)
    torch.testing.assert_close(dataset.template.positions, PERFORMANCE.template.positions, rtol=0, atol=1e-7)
    view = dataset.views_of(1)[2]
    assert view.label == "camera 2, timestep 1"
    assert view is dataset.views[5]


def test_a_view_loads_as_the_linear_picture_that_was_rendered(original: Path) -> None:
    """Bottom row first, linear light, to the rounding of 8 bits."""
    dataset = opened(original)
    view = dataset.views[4]
    picture = dataset.load(view)
    pinhole = PERFORMANCE.cameras[1]
    fine = render(PERFORMANCE, 1, [pinhole.resized(2 * pinhole.width, 2 * pinhole.height)])
    wanted = torch.nn.functional.avg_pool2d(fine.permute(0, 3, 1, 2), 2)[0].permute(1, 2, 0)
    assert picture.valid is None
    assert picture.mask is not None
    assert picture.color.dtype == picture.mask.dtype == torch.float32
    torch.testing.assert_close(
        srgb_from_linear(picture.color), srgb_from_linear(wanted[..., :3]), rtol=0, atol=0.502 / 255
    )
    torch.testing.assert_close(picture.mask, wanted[..., 3:], rtol=0, atol=0.502 / 255)
    assert picture.nbytes == 4 * 4 * 96 * 112


def test_levels_are_averages(original: Path) -> None:
    dataset = opened(original)
    view = dataset.views[0]
    coarse, full = dataset.load(view, level=2), dataset.load(view)
    assert coarse.color.shape == (28, 24, 3)
    torch.testing.assert_close(coarse.color, reduce(full.color[None], 2)[0][0], rtol=0, atol=1e-6)
    assert full.mask is not None
    torch.testing.assert_close(coarse.mask, reduce(full.mask[None], 2)[0][0], rtol=0, atol=1e-6)


def test_cameras_and_timesteps_can_be_chosen(folder: Path) -> None:
    (folder / "images" / "00001_01.png").unlink()  # of a camera that is left out
    dataset = opened(folder, cameras=[2, 0], timesteps=[1, 2])
    assert (dataset.timesteps, dataset.camera_ids) == ((1, 2), (0, 2))
    assert [(v.frame, v.camera, v.timestep, v.camera_id) for v in dataset.views] == [
        (0, 0, 1, 0),
        (0, 1, 1, 2),
        (1, 0, 2, 0),
        (1, 1, 2, 2),
    ]
    refused(folder, "cameras: ", "has 0 to 2; got 5", cameras=[0, 5])
    refused(folder, "timesteps: ", "got none", timesteps=[])

    def drop(about: About) -> None:
        about["frames"] = [f for f in about["frames"] if f["timestep_index"] != f["camera_index"]]

    edit(folder, drop)
    refused(folder, "no picture is left with cameras 1 and timesteps 1", cameras=[1], timesteps=[1])


def test_a_distorting_camera_is_straightened(folder: Path) -> None:
    pytest.importorskip("cv2", reason="needs pip install 'rastergrad[capture]'")
    lens = Distortion(k1=-2.0, p1=0.01)

    def bend(about: About) -> None:
        about.update(k1=lens.k1, p1=lens.p1)
        about["frames"][0].update(k1=0.0, p1=0.0)

    edit(folder, bend)
    refused(folder, "frames[3], `k1 ... p2`: differs from", "frames[0], which is camera 0, too")
    edit(folder, lambda about: about["frames"][0].update(k1=lens.k1, p1=lens.p1))
    dataset = opened(folder)
    view = dataset.views[0]
    assert view.distortion == lens
    picture = dataset.load(view)
    assert picture.valid is None  # barrel: every pixel is shown
    stored = read_image(view.image)
    row, column = 60, 30  # from the bottom
    x, y = distort_pixels(torch.tensor([[column + 0.5, 112 - row - 0.5]]), view.pinhole, lens)[0].tolist()
    left, below = math.floor(x - 0.5), math.floor(112 - y - 0.5)
    corner = stored[below : below + 2, left : left + 2]
    assert (picture.color[row, column] >= corner.amin(dim=(0, 1)) - 1e-6).all()
    assert (picture.color[row, column] <= corner.amax(dim=(0, 1)) + 1e-6).all()
    assert "3 with lens distortion" in "\n".join(describe(dataset))
    edit(folder, lambda about: [f.update(k1=1.0, p1=0.0) for f in about["frames"]])
    edge = opened(folder)
    shown = edge.load(edge.views[0], level=1).valid
    assert shown is not None
    assert shown[0, 0] == 0
    assert shown[28, 24] == 1


# ---- what is lenient ---------------------------------------------------------------------------------------


def test_nerfstudio_layout_without_indices_is_one_static_frame(folder: Path) -> None:
    """Intrinsics once, paths without ending, `mask_path`: every picture is a camera of its own."""

    def reshape(about: About) -> None:
        about["frames"] = about["frames"][:3]
        about.update({k: about["frames"][0][k] for k in ("w", "h", "fl_x", "fl_y", "cx", "cy")})
        for entry in about["frames"]:
            for key in ("w", "h", "fl_x", "fl_y", "cx", "cy", "timestep_index", "camera_index"):
                del entry[key]
            entry["file_path"] = "./" + entry["file_path"].removesuffix(".png")
            entry["mask_path"] = entry.pop("fg_mask_path")

    edit(folder, reshape)
    dataset = opened(folder)
    assert (dataset.timesteps, dataset.camera_ids) == ((0,), (0, 1, 2))
    assert dataset.views[1].mask == folder / "masks" / "00000_01.png"
    assert dataset.load(dataset.views[1]).color.shape == (112, 96, 3)
    assert dataset.notes == ("transforms.json has no timestep_index: one static frame.",)


def test_a_field_of_view_stands_for_focal_lengths_and_the_picture_for_its_size(folder: Path) -> None:
    def reshape(about: About) -> None:
        about["camera_angle_x"] = 2 * math.atan(48 / 350)
        for entry in about["frames"]:
            for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
                del entry[key]
            entry["transform_matrix"] = entry["transform_matrix"][:3]

    edit(folder, reshape)
    camera = opened(folder).cameras[0]
    assert (camera.width, camera.height) == (96, 112)
    assert (camera.fl_x, camera.fl_y, camera.cx, camera.cy) == pytest.approx((350, 350, 48, 56))


def test_alpha_is_the_mask_where_there_is_no_mask_file(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        color, mask = read_image(path), read_coverage(folder / "masks" / path.name)
        straight = torch.where(mask > 0, color / mask.clamp_min(1e-9), 0.9)
        write_image(path, torch.cat([srgb_from_linear(straight), mask], dim=-1))
    edit(folder, lambda about: [f.pop("fg_mask_path") for f in about["frames"]])
    dataset = opened(folder)
    assert dataset.background is not None
    assert dataset.background.tolist() == [0, 0, 0]
    picture = dataset.load(dataset.views[0])
    assert picture.mask is not None
    torch.testing.assert_close(picture.mask, read_coverage(folder / "masks/00000_00.png"), rtol=0, atol=1e-6)
    assert picture.color[picture.mask[..., 0] == 0].abs().max() == 0  # and not 0.9
    edit(folder, lambda about: about.update(background=[0, 128, 255]))
    blue = opened(folder)
    behind = blue.load(blue.views[0]).color[0, 0]
    torch.testing.assert_close(behind, linear_from_srgb(torch.tensor([0, 128 / 255, 1.0])))


@pytest.mark.parametrize(
    ("stated", "srgb"), [([0, 0, 0], 0.0), ([1, 1, 1], 1.0), ([0.5, 0.5, 0.5], 0.5), ([51, 51, 51], 0.2)]
)
def test_backgrounds_are_srgb_of_either_range(folder: Path, stated: list[float], srgb: float) -> None:
    edit(folder, lambda about: about.update(background=stated))
    dataset = opened(folder)
    assert dataset.background is not None
    torch.testing.assert_close(dataset.background, linear_from_srgb(torch.full((3,), srgb)))


@pytest.mark.parametrize(
    ("scale", "mm", "name"), [(1, 1000, "metres"), (100, 10, "centi"), (1000, 1, "milli")]
)
def test_missing_units_follow_from_the_template_s_size(
    folder: Path, scale: float, mm: float, name: str
) -> None:
    def rescale(about: About) -> None:
        del about["units"], about["fps"]
        for entry in about["frames"]:
            for row in entry["transform_matrix"][:3]:
                row[3] *= scale

    edit(folder, rescale)
    enlarge(folder / "template.obj", scale)
    dataset = opened(folder)
    assert dataset.mm_per_unit == mm
    assert f"{name}" in dataset.notes[0]
    assert "30 is assumed" in dataset.notes[1]
    assert opened(folder, units="2.5").mm_per_unit == 2.5


def enlarge(template: Path, scale: float) -> None:
    lines = template.read_text().splitlines()
    for k, line in enumerate(lines):
        if line.startswith("v "):
            lines[k] = "v " + " ".join(f"{scale * float(x):.7g}" for x in line.split()[1:])
    template.write_text("\n".join(lines))


# ---- what is refused ---------------------------------------------------------------------------------------


def first(about: About) -> dict[str, Any]:
    return about["frames"][0]


def set_pose(pose: Callable[[np.ndarray], Any]) -> Callable[[About], None]:
    def change(about: About) -> None:
        for entry in about["frames"]:
            if entry["camera_index"] == 0:
                entry["transform_matrix"] = pose(np.array(entry["transform_matrix"])).tolist()

    return change


# Of one frame of camera 0 or of the file: what changes, and what the message says.
EDITS: dict[str, tuple[Callable[[About], Any], tuple[str, ...]]] = {
    "no frames": (lambda a: a.update(frames=[]), ("`frames`: expected a list", "got []")),
    "no path": (lambda a: first(a).pop("file_path"), ("frames[0], `file_path`", "got None")),
    "no focal length": (lambda a: first(a).pop("fl_x"), ("frames[0], `fl_x`", "got nothing")),
    "focal length as text": (lambda a: first(a).update(fl_x="9"), ("`fl_x`: expected a finite", "got '9'")),
    "negative focal length": (lambda a: first(a).update(fl_x=-3), ("`fl_x`: expected a positive", "got -3")),
    "focal length in mm": (lambda a: first(a).update(fl_x=1.9), ("`fl_x`: 1.9", "no lens", "in pixels")),
    "centre far away": (lambda a: first(a).update(cx=4000), ("`cx`: 4000", "far outside", "96 pixels")),
    "half a pixel": (lambda a: first(a).update(w=95.5), ("`w`: expected a whole number", "got 95.5")),
    "no pose": (lambda a: first(a).pop("transform_matrix"), ("`transform_matrix`", "got nothing")),
    "pose of 9": (lambda a: first(a).update(transform_matrix=[1] * 9), ("4 rows of 4 numbers", "got [1, 1")),
    "NaN pose": (set_pose(lambda m: m * math.nan), ("`transform_matrix`: 16 of 16 numbers are NaN",)),
    "scaled pose": (set_pose(lambda m: m @ np.diag([2, 2, 2, 1])), ("not rigid", "lengths 2 2 2")),
    "mirrored pose": (set_pose(lambda m: m @ np.diag([1, 1, -1, 1])), ("mirrored",)),
    "transposed pose": (set_pose(lambda m: m.T), ("the last row must be 0 0 0 1",)),
    "OpenCV's axes": (set_pose(lambda m: m @ FLIP_YZ.numpy()), ("(camera 0)", "behind the camera", "OpenCV")),
    "looks past": (
        set_pose(lambda m: m + np.array([[0, 0, 0, 0.5]] + 3 * [[0] * 4])),
        ("(camera 0)", "outside the picture"),
    ),
    "moved camera": (
        lambda a: first(a)["transform_matrix"][0].__setitem__(3, 0.1),
        ("frames[3], `transform_matrix`: differs from", "frames[0]", "another camera_index"),
    ),
    "zoomed camera": (lambda a: first(a).update(fl_y=350.0), ("frames[3], `fl_y`: differs from",)),
    "fisheye": (lambda a: a.update(camera_model="OPENCV_FISHEYE"), ("not supported", "image_undistorter")),
    "pinhole with k1": (
        lambda a: a.update(camera_model="PINHOLE", k1=0.1),
        ("'PINHOLE' has no k1; got k1 = 0.1",),
    ),
    "wild distortion": (
        lambda a: a.update(k1=500.0),
        ("picture would show anything", "the coefficients' order"),
    ),
    "twice": (
        lambda a: a["frames"].append(first(a)),
        ("frames[9]: timestep_index 0 with camera_index 0 is already", "frames[0]"),
    ),
    "some indices": (lambda a: first(a).pop("camera_index"), ("`camera_index`: 8 of 9 frames have it",)),
    "odd index": (lambda a: first(a).update(timestep_index=-1), ("`timestep_index`", "got -1")),
    "background": (lambda a: a.update(background=[0, 0]), ("`background`: expected three numbers",)),
    "fps": (lambda a: a.update(fps=0), ("`fps`: expected a positive number; got 0",)),
    "unknown units": (lambda a: a.update(units="feet"), ("`units`: unknown unit 'feet'", "--units")),
    "wrong units": (
        lambda a: a.update(units="centimetres"),
        ("in centimetres", "0.0026 m", "no head", "--units"),
    ),
    "missing image": (
        lambda a: first(a).update(file_path="images/9.png"),
        ("frames[0], `file_path`", "images/9.png is missing"),
    ),
    "missing mask": (
        lambda a: first(a).update(fg_mask_path="masks/9.png"),
        ("frames[0], `mask`", "masks/9.png is missing"),
    ),
    "no size, no image": (
        lambda a: [first(a).pop("w"), first(a).update(file_path="images/9.png")],
        ("no `w` and `h`", "images/9.png"),
    ),
}


@pytest.mark.parametrize("fault", EDITS)
def test_a_faulty_description_is_refused_with_file_field_and_value(folder: Path, fault: str) -> None:
    change, words = EDITS[fault]
    edit(folder, change)
    refused(folder, "transforms.json", *words)


def test_faulty_files_are_all_named(folder: Path) -> None:
    """One of each kind in one dataset: every problem is told, at once."""
    images, masks = folder / "images", folder / "masks"
    write_image(images / "00000_00.png", torch.zeros(112, 95, 3))
    (images / "00000_01.png").write_bytes(b"not a picture")
    (images / "00000_02.png").unlink()
    write_image(masks / "00001_00.png", torch.zeros(112, 96))
    write_image(masks / "00001_01.png", torch.full((112, 96), 1 / 255))
    write_image(masks / "00001_02.png", torch.ones(96, 112))
    whole = (masks / "00002_00.png").read_bytes()
    (masks / "00002_00.png").write_bytes(whole[: len(whole) // 2])
    message = refused(
        folder,
        "7 problems",
        "00000_00.png has 95 x 112 pixels, but its camera 96 x 112. Scale w, h",
        "00000_01.png cannot be read",
        "00000_02.png is missing",
        "00001_00.png: the mask covers nothing; its brightest pixel is 0 of 255",
        "00001_01.png: the mask covers nothing; its brightest pixel is 1 of 255",
        "00001_02.png has 112 x 96 pixels",
        "00002_00.png cannot be read",
    )
    assert len(message.splitlines()) == 8


def test_of_very_many_masks_a_sample_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "MASK_PIXELS", 5 * 96 * 112)  # of nine: every second
    write_image(folder / "masks" / "00000_01.png", torch.zeros(112, 96))
    assert opened(folder).notes == ("one of 2 masks was checked; the others are when they are read.",)
    write_image(folder / "masks" / "00000_02.png", torch.zeros(112, 96))
    refused(folder, "00000_02.png: the mask covers nothing")


def test_an_empty_alpha_channel_is_an_empty_mask(folder: Path) -> None:
    write_image(folder / "images" / "00000_00.png", torch.zeros(112, 96, 4))
    edit(folder, lambda about: first(about).pop("fg_mask_path"))
    refused(folder, "00000_00.png: the mask covers nothing")


def test_many_problems_are_counted(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    shutil.rmtree(folder / "masks")
    assert refused(folder, "18 problems").endswith("and 6 more")


def test_a_template_without_texture_coordinates_is_refused(folder: Path) -> None:
    lines = (folder / "template.obj").read_text().splitlines()
    bare = [" ".join(word.split("/")[0] for word in line.split()) for line in lines if line[:2] != "vt"]
    (folder / "template.obj").write_text("\n".join(bare))
    refused(folder, "template.obj", "no texture coordinates", "Unwrap it")
    (folder / "template.obj").unlink()
    refused(folder, "template not found", "template.obj")


def test_a_folder_without_a_description_is_refused(tmp_path: Path, folder: Path) -> None:
    refused(tmp_path, "neither transforms.json nor a COLMAP model")
    refused(tmp_path / "nowhere", "not even a folder")
    text = (folder / "transforms.json").read_text()
    (folder / "transforms.json").write_text(text[:-100])
    refused(folder, "transforms.json is not valid JSON", "cut off")
    (folder / "transforms.json").write_text("[]")
    refused(folder, "expected an object with `frames`; got a list")


def test_files_that_change_after_opening_are_found_on_loading(folder: Path) -> None:
    dataset = opened(folder)
    first_image, second_image, third_image = (dataset.views[k].image for k in range(3))
    whole = first_image.read_bytes()
    first_image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"camera 0, timestep 0: .*00000_00\.png cannot be read: .*again"):
        dataset.load(dataset.views[0])
    second_image.unlink()
    with pytest.raises(DatasetError, match=r"camera 1, timestep 0: picture not found: .*00000_01\.png"):
        dataset.load(dataset.views[1])
    write_image(third_image, torch.zeros(50, 50, 3))
    with pytest.raises(DatasetError, match=r"00000_02\.png changed: it has 50 x 50 pixels, not 96 x 112"):
        dataset.load(dataset.views[2])
    mask = dataset.views[3].mask
    assert mask is not None
    write_image(mask, torch.zeros(112, 96))
    with pytest.raises(DatasetError, match=r"camera 0, timestep 1: .*00001_00\.png: the mask covers nothing"):
        dataset.load(dataset.views[3])


# ---- landmarks ---------------------------------------------------------------------------------------------


def write_landmarks(folder: Path, vertices: list[Any], rows: list[tuple[Any, ...]]) -> Path:
    keys = ("timestep_index", "camera_index", "landmark", "x", "y")
    about = {"template_vertices": vertices, "observations": [dict(zip(keys, row)) for row in rows]}
    (folder / "landmarks.json").write_text(json.dumps(about))
    return folder / "landmarks.json"


def test_landmarks_are_read_of_the_views_that_are_kept(original: Path, tmp_path: Path) -> None:
    rows = [(2, 1, 0, 40.5, 50.25), (0, 2, 1, 10, 20), (0, 0, 1, 0, 112), (1, 2, 0, 1, 2)]
    path = write_landmarks(tmp_path, [7, 3], rows)
    dataset = opened(original, landmarks=path, cameras=[1, 2], timesteps=[0, 2])
    marks = dataset.landmarks
    assert marks is not None
    assert marks.vertices.tolist() == [7, 3]
    assert [dataset.views[k].label for k in marks.view] == ["camera 2, timestep 0", "camera 1, timestep 2"]
    assert marks.landmark.tolist() == [1, 0]
    assert marks.xy.tolist() == [[10, 20], [40.5, 50.25]]
    assert "landmarks: 2, 2 observations in 2 pictures" in describe(dataset)


def test_landmarks_are_undistorted(folder: Path) -> None:
    pytest.importorskip("cv2", reason="needs pip install 'rastergrad[capture]'")
    lens = Distortion(k1=-3.0, p2=0.02)
    edit(folder, lambda about: about.update(k1=lens.k1, p2=lens.p2))
    ideal = torch.tensor([20.0, 90.0], dtype=torch.float64)
    x, y = distort_pixels(ideal, PERFORMANCE.cameras[1], lens).tolist()
    dataset = opened(folder, landmarks=write_landmarks(folder, [0], [(0, 1, 0, x, y)]))
    assert dataset.landmarks is not None
    torch.testing.assert_close(dataset.landmarks.xy[0], ideal.float())
    assert abs(y - 90) > 0.2


@pytest.mark.parametrize(
    ("vertices", "row", "words"),
    [
        ([362], (0, 0, 0, 1, 1), "template_vertices[0]: expected 0 to 361"),
        ([1.5], (0, 0, 0, 1, 1), "got 1.5"),
        ([], (0, 0, 0, 1, 1), "`template_vertices`: expected a list"),
        (
            [1],
            (0, 0, 1, 1, 1),
            "observations[0], `landmark`: expected an index into template_vertices, 0 to 0",
        ),
        ([1], (0, 0, 0, 97, 1), "observations[0]: x = 97, y = 1 lies outside the picture of 96 x 112"),
        ([1], (0, 0, 0, 1, math.nan), "`y`: expected a finite number of pixels; got nan"),
        ([1], (0, 9, 0, 1, 1), "no picture of timestep 0, camera 9"),
        ([1], (0, 0, 0, 1), "expected the fields timestep_index"),
    ],
)
def test_faulty_landmarks_are_refused(
    original: Path, tmp_path: Path, vertices: list[Any], row: tuple[Any, ...], words: str
) -> None:
    path = write_landmarks(tmp_path, vertices, [row])
    refused(original, "landmarks.json", words, landmarks=path)


def test_landmarks_need_a_file_and_a_template_that_keeps_its_order(original: Path, tmp_path: Path) -> None:
    refused(original, "cannot read the landmarks", landmarks=tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"template_vertices": [1')
    refused(original, "cut.json is not valid JSON", landmarks=tmp_path / "cut.json")
    trimesh = pytest.importorskip("trimesh", reason="needs pip install 'rastergrad[demo]'")
    trimesh.load(original / "template.obj", process=False).export(tmp_path / "template.glb")
    path = write_landmarks(tmp_path, [1], [(0, 0, 0, 1, 1)])
    assert open_dataset(original, tmp_path / "template.glb").landmarks is None
    with pytest.raises(DatasetError, match="only OBJ templates keep"):
        open_dataset(original, tmp_path / "template.glb", landmarks=path)


# ---- descriptions ------------------------------------------------------------------------------------------


def test_a_description_says_what_is_there_and_what_is_missing(folder: Path) -> None:
    def thin(about: About) -> None:
        about["frames"].pop(4)
        about["frames"][0].pop("fg_mask_path")
        del about["background"]

    edit(folder, thin)
    text = "\n".join(describe(opened(folder)))
    for words in (
        "cameras: 3 (0 to 2)",
        "frames: 3 (0 to 2), 30 a second",
        "pictures: 8, 8 of 96 x 112; 1 missing, at least 2 cameras in each frame",
        "masks: 7 of 8 pictures",
        "template: 362 vertices, 720 triangles, 200 x 260 x 200 mm",
        "landmarks: none (optional",
        "background: unknown",
    ):
        assert words in text, (words, text)


def test_the_guide_s_complete_example_opens(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs pip install 'rastergrad[capture]'")
    page = (ROOT / "docs" / "guide" / "capture-data.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "transforms.json").write_text(example)
    write_obj(tmp_path / "template.obj", PERFORMANCE.template)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for stem in ("00000_00", "00000_01", "00001_00", "00001_01"):
            write_image(tmp_path / name / f"{stem}.png", torch.ones(424, 320))
    dataset = opened(tmp_path)
    assert (dataset.timesteps, dataset.camera_ids) == ((0, 1), (0, 1))
    assert dataset.notes == ()
    for camera in dataset.cameras:  # the head is in the middle of both pictures
        assert camera.pixels(torch.zeros(3, dtype=torch.float64)).tolist() == pytest.approx([160, 212, 1.5])


def test_the_guide_s_program_turns_opencv_calibrations_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs pip install 'rastergrad[capture]'")
    page = (ROOT / "docs" / "guide" / "capture-data.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(program, "program", "exec"), names)
    matrix, lens = names["K"], np.array([-0.3, 0.1, 0.01, -0.02, 0.05])
    turn, shift = np.array([0.2, 2.9, 0.1]), np.array([0.02, -0.01, 1.4])
    entry = names["frame"]("00000_00.png", 0, 0, matrix, lens, cv2.Rodrigues(turn)[0], shift)
    (tmp_path / "transforms.json").write_text(json.dumps({"units": "metres", "frames": [entry]}))
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "00000_00.png", torch.ones(424, 320))
    write_obj(tmp_path / "template.obj", PERFORMANCE.template)
    (view,) = opened(tmp_path).views
    points = PERFORMANCE.template.positions[::9].double()
    wanted, _ = cv2.projectPoints(points.numpy(), turn, shift, matrix, lens)
    assert view.distortion is not None
    ours = distort_pixels(view.pinhole.pixels(points)[:, :2], view.pinhole, view.distortion)
    # OpenCV counts the first pixel's centre as 0.
    np.testing.assert_allclose(ours.numpy() - 0.5, wanted.reshape(-1, 2), rtol=0, atol=1e-7)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample dataset lies beside the repository only")
def test_the_sample_dataset_opens_and_its_template_lies_where_the_pictures_show_it() -> None:
    dataset = open_dataset(SAMPLE, SAMPLE / "template_subject.obj", landmarks=SAMPLE / "landmarks.json")
    assert (len(dataset.views), len(dataset.cameras), dataset.mm_per_unit) == (90, 9, 1000.0)
    assert dataset.background is not None
    assert dataset.background.tolist() == [0, 0, 0]
    for view in dataset.views_of(0):
        mask = dataset.load(view).mask
        assert mask is not None
        x, y, _ = view.pinhole.pixels(dataset.template.positions.double()).unbind(-1)
        inside = (x > 0) & (x < view.pinhole.width) & (y > 0) & (y < view.pinhole.height)
        rows, columns = view.pinhole.height - 1 - y[inside].long(), x[inside].long()
        # All vertices project into the mask, but for those on the outline itself.
        assert (mask[rows, columns] > 0).float().mean() > 0.995
    marks = dataset.landmarks
    assert marks is not None
    seen = torch.stack(
        [
            dataset.views[view].pinhole.pixels(dataset.template.positions[vertex].double())[:2]
            for view, vertex in zip(marks.view, marks.vertices[marks.landmark])
        ]
    )
    # The subject's own neutral, in frame 0's pose: near what was clicked with 1.5 pixels' noise.
    assert (seen - marks.xy).norm(dim=1).median() < 8
