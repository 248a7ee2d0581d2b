# SPDX-License-Identifier: MIT
"""What a capture leaves behind, read back by other eyes: meshes, texture, cameras, GLB, films."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rastergrad.capture import gltf, video
from rastergrad.capture.export import export_all
from rastergrad.capture.footage import compare
from rastergrad.capture.frames import filled_texture, write_cameras, write_frames, write_texture
from rastergrad.capture.performance import Performance
from rastergrad.scene.image import linear_from_srgb, read_texture, srgb_from_linear
from rastergrad.scene.normals import vertex_normals
from rastergrad.scene.pinhole import Pinhole
from testing.footage import Recorded, RecordedPicture, RecordedView
from testing.gltf import Glb
from testing.performances import small_performance, write_dataset


@pytest.fixture(scope="module")
def performance() -> Performance:
    """With a gap in its timesteps, and cameras that are not numbered from 0."""
    return replace(small_performance(), timesteps=(2, 3, 5), camera_ids=(4, 7, 9))


@pytest.fixture(scope="module")
def recorded(performance: Performance, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(write_dataset(tmp_path_factory.mktemp("dataset"), performance))


# ---- meshes, texture, cameras ----------------------------------------------------------------


def test_frames_keep_the_template_and_every_bit(performance: Performance, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for name in ("00004.ply", "notes.ply"):
        (tmp_path / "frames" / name).write_text("of an earlier capture")
    # Lips that touch share a place, not a vertex.
    performance = replace(performance, positions=performance.positions.clone())
    performance.positions[:, 7] = performance.positions[:, 200]
    paths = write_frames(performance, tmp_path)
    assert [path.name for path in paths] == ["00002.ply", "00003.ply", "00005.ply"]
    for path, positions in zip(paths, performance.positions):
        mesh = trimesh.load(path, process=False)
        assert np.array_equal(mesh.vertices.astype(np.float32), positions.numpy())
        assert np.array_equal(mesh.faces, performance.template.tri.numpy())
    left = {path.name for path in (tmp_path / "frames").iterdir()}
    assert left == {"00002.ply", "00003.ply", "00005.ply", "notes.ply"}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.integers(0, 2**31))
def test_filling_keeps_what_was_seen_and_invents_no_colour(h: int, w: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    texture = torch.rand(h, w, 3, generator=generator)
    seen = (torch.rand(h, w, generator=generator) < 0.3).float()
    filled = filled_texture(texture, seen)
    assert torch.equal(filled[seen > 0], texture[seen > 0])
    known = texture[seen > 0] if bool((seen > 0).any()) else texture.reshape(-1, 3)
    assert bool((filled >= known.amin(0) - 1e-5).all())
    assert bool((filled <= known.amax(0) + 1e-5).all())


def test_filling_takes_colours_from_nearby() -> None:
    texture = torch.zeros(64, 64, 3)
    texture[:, :16] = 1.0
    seen = torch.zeros(64, 64)
    seen[:, :8], seen[:, -8:] = 1, 1
    filled = filled_texture(texture, seen)[..., 0].mean(0)
    assert bool((filled[:16] > 0.8).all())
    assert bool((filled[-16:] < 0.2).all())
    assert bool((filled.diff() <= 1e-3).all())


def test_texture_file_is_srgb_with_v_1_on_top(performance: Performance, tmp_path: Path) -> None:
    path = write_texture(performance, tmp_path)
    assert float((read_texture(path)[0, ..., :3] - performance.texture).abs().max()) < 0.005
    top = np.array(Image.open(path))[0, :, 0] / 255
    linear = np.where(top <= 0.04045, top / 12.92, ((top + 0.055) / 1.055) ** 2.4)
    assert np.abs(linear - performance.texture[-1, :, 0].numpy()).max() < 0.005


def test_cameras_file_says_where_points_appear(performance: Performance, tmp_path: Path) -> None:
    gain = torch.tensor([[0.5, 1.0, 2.0]]) * torch.arange(1, 4)[:, None]
    about = json.loads(write_cameras(replace(performance, gain=gain), tmp_path).read_text())
    assert about["timestep_indices"] == [2, 3, 5]
    assert np.allclose(about["light"]["coefficients"], performance.light)
    for entry, index, camera, colour in zip(about["cameras"], (4, 7, 9), performance.cameras, gain):
        assert entry["camera_index"] == index
        assert entry["gain"] == colour.tolist()
        pose = torch.tensor(entry["transform_matrix"], dtype=torch.float64)
        numbers = [entry[name] for name in ("w", "h", "fl_x", "fl_y", "cx", "cy")]
        again = Pinhole(*numbers, world_from_cam=pose)
        points = performance.positions[0].double()
        assert torch.equal(again.pixels(points), camera.pixels(points))


# ---- GLB -------------------------------------------------------------------------------------


def moving(frames: int, *, noise: float = 0.0) -> Performance:
    """A longer performance; with noise (world units) it has no low rank."""
    generator = torch.Generator().manual_seed(3)
    performance = small_performance(frames)
    moved = performance.positions + noise * torch.randn(performance.positions.shape, generator=generator)
    return replace(performance, positions=moved)


def assert_plays(glb: Glb, performance: Performance, tolerance_mm: float) -> None:
    """Each frame at its time, and straight lines between frames."""
    split = gltf.split_seams(performance.template)
    wanted = performance.positions[:, split.vertex].double().numpy() * performance.mm_per_unit
    normals = vertex_normals(performance.positions, performance.template.tri)[:, split.vertex].numpy()
    times_s = [(t - performance.timesteps[0]) / performance.fps for t in performance.timesteps]
    for frame, time_s in enumerate(times_s):
        positions, normal = glb.play(time_s)
        assert np.abs(1000 * positions - wanted[frame]).max() < tolerance_mm
        assert (normal * normals[frame]).sum(1).min() > np.cos(np.radians(2))
        if frame:
            between, _ = glb.play((times_s[frame - 1] + time_s) / 2)
            assert np.abs(2000 * between - wanted[frame - 1] - wanted[frame]).max() < 2 * tolerance_mm


def test_glb_plays_the_performance(performance: Performance, tmp_path: Path) -> None:
    unseen = replace(
        performance, mm_per_unit=10.0, seen=torch.zeros(128, 128).index_fill(0, torch.arange(64), 1)
    )
    path = gltf.write_glb(unseen, tmp_path)
    glb = Glb.read(path)
    assert_plays(glb, unseen, 1e-5)
    mesh = glb.json["meshes"][0]
    assert mesh["extras"]["targetNames"] == ["frame_00003", "frame_00005"]
    # The template's order comes first, and each corner keeps its texture coordinates.
    template = performance.template
    primitive = mesh["primitives"][0]
    positions = glb.array(primitive["attributes"]["POSITION"])
    assert np.array_equal(positions[: len(template.positions)], performance.positions[0].numpy())
    corners = glb.array(primitive["indices"])
    assert np.array_equal(
        positions[corners], performance.positions[0][template.tri.reshape(-1).long()].numpy()
    )
    uv = glb.array(primitive["attributes"]["TEXCOORD_0"])[corners]
    assert np.allclose([0, 1] + uv * [1, -1], template.uv[template.uv_tri.reshape(-1).long()], atol=1e-6)
    # The texture is the file beside it.
    pixels = np.array(Image.open(io.BytesIO(glb.image())))
    assert np.array_equal(pixels, np.array(Image.open(write_texture(unseen, tmp_path))))
    # Another reader understands it.
    (loaded,) = trimesh.load(path).geometry.values()
    assert len(loaded.faces) == len(template.tri)
    assert loaded.visual.material.doubleSided


def test_glb_of_one_frame_stands_still(tmp_path: Path) -> None:
    performance = small_performance(1)
    glb = Glb.read(gltf.write_glb(performance, tmp_path))
    assert "animations" not in glb.json
    assert_plays(glb, performance, 1e-5)


def test_long_smooth_performances_need_few_targets(tmp_path: Path) -> None:
    performance = moving(gltf.EXACT + 30)
    glb = Glb.read(gltf.write_glb(performance, tmp_path))
    assert len(glb.json["meshes"]) == 1
    assert len(glb.json["meshes"][0]["weights"]) <= 12
    assert_plays(glb, performance, gltf.TOLERANCE_MM)
    weights = [a for a in glb.json["animations"][0]["channels"] if a["target"]["path"] == "weights"]
    output = glb.json["animations"][0]["samplers"][weights[0]["sampler"]]["output"]
    assert np.abs(glb.array(output)).max() <= 1 + 1e-6  # sliders of modelling programs end somewhere


@pytest.mark.parametrize("frames", [33, 41, 42])  # the last piece has 16, 8 and 9 targets, or a single one
def test_long_restless_performances_are_cut_in_pieces(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gltf, "MOST_TARGETS", 8)
    performance = moving(frames, noise=0.001)
    glb = Glb.read(gltf.write_glb(performance, tmp_path))
    assert len(glb.json["meshes"]) == -(-(frames - 1) // 8)
    assert_plays(glb, performance, 1e-3)


def test_vertices_without_a_triangle_keep_their_place(tmp_path: Path) -> None:
    performance = small_performance(2)
    template = replace(
        performance.template, tri=performance.template.tri[:-40], uv_tri=performance.template.uv_tri[:-40]
    )
    split = gltf.split_seams(template)
    assert torch.equal(split.vertex[: len(template.positions)], torch.arange(len(template.positions)))
    Glb.read(gltf.write_glb(replace(performance, template=template), tmp_path))


# ---- films -----------------------------------------------------------------------------------


def frames_of(path: Path) -> tuple[str, np.ndarray]:
    """What ffmpeg says of the stream, and its pictures [n, H, W, 3]."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    (about,) = re.findall(r"Stream #0:0\[.*Video: (.*)", done.stderr.decode())
    width, height = map(int, re.findall(r" (\d+)x(\d+),? ", about)[0])
    return about, np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def test_comparison_shows_both_in_true_colours(
    performance: Performance, recorded: Recorded, tmp_path: Path
) -> None:
    dark = replace(performance, gain=torch.tensor([[0.25], [1.0], [1.0]]).expand(3, 3))
    about, films = frames_of(video.write_comparison(dark, recorded, tmp_path, cameras=[1, 0]))
    assert " 30 fps" in about
    hold = len(films) // 6
    assert len(films) == 6 * hold
    assert hold >= 15  # three frames a tenth of a second long would show nothing
    views = [
        view
        for camera in (1, 0)
        for view in sorted(recorded.views, key=lambda v: v.frame)
        if view.camera == camera
    ]
    for number, view in enumerate(views):
        wanted = compare(dark, recorded, view)
        film = films[number * hold + hold // 2]
        gap = (film.shape[1] - 3 * 96) // 2
        for k, panel in enumerate((wanted.real, wanted.captured, wanted.difference)):
            left = k * (96 + gap)
            shown = film[-112:, left : left + 96].astype(float)
            error = np.abs(shown.mean((0, 1)) - panel.float().mean((0, 1)).numpy())
            assert error.max() < 4, (number, k)
    difference = [films[k][-112:, -96:].mean() for k in (hold // 2, -hold // 2)]
    assert difference[0] < 4
    assert difference[1] > 40


def test_only_the_head_counts_where_there_are_masks(performance: Performance, recorded: Recorded) -> None:
    view = recorded.views[0]
    behind = type("Behind", (), {"views": recorded.views, "load": lambda self, v: lit(recorded, v)})()
    with_mask = compare(performance, behind, view).difference.float()
    assert float(with_mask.mean()) < 6
    without = type(
        "Bare", (), {"views": recorded.views, "load": lambda self, v: replace(lit(recorded, v), mask=None)}
    )()
    assert float(compare(performance, without, view).difference.float().mean()) > 100
    nothing = torch.zeros(112, 96, 1)
    invalid = type(
        "Cut", (), {"views": [], "load": lambda self, v: replace(lit(recorded, v), valid=nothing)}
    )()
    assert float(compare(performance, invalid, view).difference.float().max()) == 0


def lit(recorded: Recorded, view: RecordedView) -> RecordedPicture:
    """The picture before a bright wall."""
    picture = recorded.load(view)
    return replace(picture, color=picture.color + (1 - picture.mask) * 0.8)


def test_large_pictures_are_reduced_in_linear_light(performance: Performance, recorded: Recorded) -> None:
    whole, half = (compare(performance, recorded, recorded.views[0], rows) for rows in (None, 56))
    assert whole.real.shape == (112, 96, 3)
    assert half.real.shape == half.captured.shape == half.difference.shape == (56, 48, 3)
    assert float(half.difference.float().mean()) < 4  # the capture is drawn anew, not resampled alike
    light = linear_from_srgb(whole.real.float() / 255).reshape(56, 2, 48, 2, 3).mean((1, 3))
    assert float((srgb_from_linear(light) * 255 - half.real).abs().max()) < 3


def test_comparison_needs_pictures(performance: Performance, recorded: Recorded, tmp_path: Path) -> None:
    class Empty:
        views: tuple[()] = ()
        load = recorded.load

    with pytest.raises(ValueError, match="no picture of the cameras"):
        video.write_comparison(performance, Empty(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_turntable_swings_and_plays(performance: Performance, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = video.write_turntable(performance, tmp_path, (96, 80), lambda *a: told.append(a))
    about, films = frames_of(path)
    for expected in ("h264", "yuv420p(tv, bt709, progressive)", "160x96", "30 fps"):
        assert expected in about
    assert len(films) == 120
    assert told[-1] == (120, 120)
    background = films[0][0, 0].astype(float)
    covered = np.stack([(np.abs(film - background).max(2) > 12) for film in films])
    assert covered[:, :, :80].any((0, 2)).mean() > 0.8
    for film in covered:  # the object is whole, on both halves, in the middle
        for half in (film[:, :80], film[:, 80:]):
            rows, columns = np.nonzero(half)
            assert rows.min() > 0
            assert rows.max() < 95
            assert abs(columns.mean() - 39.5) < 6
    # The clay half is grey, the other is not; and something moves.
    clay = films[0][:, 80:].astype(int)
    assert np.ptp(clay, axis=2).max() <= 8
    assert np.ptp(films[0][:, :80].astype(int), axis=2).max() > 40
    assert np.abs(films[0].astype(int) - films[30]).max() > 40


def test_orbit_holds_the_head_from_every_side(performance: Performance) -> None:
    orbit = video.Orbit(performance, (96, 80))
    for share in np.linspace(-1, 1, 21):
        camera = orbit.camera(float(share) * video.ORBIT_RAD)
        x, y, depth = camera.pixels(performance.positions.reshape(-1, 3).double()).unbind(-1)
        assert float(depth.min()) > 0
        assert 0 < float(x.min()) < float(x.max()) < 80
        assert 0 < float(y.min()) < float(y.max()) < 96
    assert float(orbit.camera(0.5).eye[0]) > 0.1  # to the right of who looks at the face


@pytest.mark.parametrize("around", [4, 5])
def test_cameras_all_around_leave_a_front(around: int) -> None:
    performance = small_performance(2, cameras=around)
    poses = []
    for k, camera in enumerate(performance.cameras):
        angle = 2 * np.pi * k / around
        turn = torch.eye(4, dtype=torch.float64)
        turn[0, 0] = turn[2, 2] = np.cos(angle)
        turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
        poses.append(replace(camera, world_from_cam=turn @ performance.cameras[0].world_from_cam))
    performance = replace(performance, cameras=tuple(poses))
    assert video.central_camera(performance) in range(around)
    assert np.isfinite(video.Orbit(performance, (96, 80)).focal)


def test_central_camera_looks_from_the_front(performance: Performance) -> None:
    assert video.central_camera(performance) == 1


@pytest.mark.parametrize(
    ("fps", "film_fps"), [(5, 25), (12, 24), (24, 24), (30, 30), (60, 30), (120, 30), (1000, 25)]
)
def test_turntables_of_any_speed_play_in_real_time(fps: float, film_fps: float) -> None:
    repeat, step = video._pace(fps)
    assert fps * repeat / step == film_fps
    assert video.to_and_fro(5, 2) == [0, 2, 4, 2]
    assert video.to_and_fro(1) == [0]


def test_a_full_disk_is_named_and_leaves_the_old_film(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("old")
    code = """
import resource, signal, sys, torch
from pathlib import Path
from rastergrad.capture.video import film
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with film(Path(sys.argv[1]), (128, 128), 30.0) as add:
        for k in range(200):
            add(torch.randint(0, 255, (128, 128, 3), dtype=torch.uint8))
except OSError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path / "film.mp4"], capture_output=True, text=True
    )
    assert "film.mp4 could not be written: ffmpeg ended with status" in done.stdout, done
    assert "Is the disk full" in done.stdout
    assert done.stderr == ""
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"film.mp4": "old"}


def test_films_keep_strong_colours(tmp_path: Path) -> None:
    """Which a mix-up of the matrices of small and large films would shift by tens of steps."""
    wanted = torch.tensor([[200, 20, 20], [20, 200, 20], [20, 20, 200], [230, 230, 230]], dtype=torch.uint8)
    with video.film(tmp_path / "f.mp4", (32, 48), 25.0) as add:
        for color in wanted:
            add(color.expand(32, 48, 3))
    _, films = frames_of(tmp_path / "f.mp4")
    assert np.abs(films.mean((1, 2)) - wanted.numpy()).max() < 6


def test_films_have_even_sizes(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="even sizes; got 99 x 80"),
        video.film(tmp_path / "f.mp4", (99, 80), 30),
    ):
        pass


def test_everything_is_written_whole(
    performance: Performance, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "ORBIT_S", 0.5)
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "new" / "result"
    paths = export_all(performance, recorded, out, lambda *a: told.append(a))
    names = ["cameras.json", "comparison.mp4", "frames", "performance.glb", "texture.png", "turntable.mp4"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(str(path.relative_to(out)) for path in paths if path.parent == out) == names[:2] + names[3:]
    assert [name for name, done, _ in told if done == 0] == ["frames", *(p.name for p in paths[3:])]
    assert all(done <= total for _, done, total in told)
