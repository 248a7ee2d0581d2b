# SPDX-License-Identifier: MIT
"""The viewer in a real browser, and what it refuses."""

import io
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from rastergrad.scene.camera import look_at
from rastergrad.scene.extra import MissingExtraError
from rastergrad.viewer import CLAY, ERROR, FOV_RAD, TEXTURE, WIREFRAME, Viewer, serve
from testing.performances import small_performance, write_dataset

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


SIZE = (900, 640)  # of the page, pixels
BACK = (0.0, 0.3, 2.4)  # behind the cameras


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder as the viewer reads it."""
    folder = tmp_path_factory.mktemp("viewer")
    performance = small_performance()
    footage = write_dataset(folder / "footage", performance, supersampling=1)
    out = folder / "result"
    performance.save(out)
    frames, vertices = performance.positions.shape[:2]
    np.save(
        out / "checkpoint/vertex_error.npy",
        np.linspace(0, 3, frames * vertices, dtype=np.float32).reshape(frames, -1),
    )
    images = [[f"images/{frame:05d}_{camera:02d}.png" for camera in range(3)] for frame in range(frames)]
    (out / "checkpoint/images.json").write_text(json.dumps({"folder": str(footage), "images": images}))
    region = {"mean": 0.25, "median": 0.125, "p95": 0.5}
    metrics = {
        "psnr_db": [[30.0, None, 32.0]] * frames,
        "main_region": "all",
        "frames": [{"all": region}] * frames,
    }
    (out / "metrics.json").write_text(json.dumps(metrics))
    return out


@pytest.fixture
def viewer(result: Path) -> Iterator[Viewer]:
    found = Viewer(result, port=0)
    yield found
    found.stop()


def picture(page: Any, path: Path) -> np.ndarray:
    page.screenshot(path=path)
    return np.array(Image.open(path).convert("RGB"))[:, :500].astype(int)


def changed(page: Any, path: Path, before: np.ndarray) -> np.ndarray:
    """The page's picture once it differs from `before` and stays as it is."""
    deadline = time.monotonic() + 15
    last = picture(page, path)
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now = picture(page, path)
        if (abs(now - before).max(-1) > 12).mean() > 1e-3 and (now == last).all():
            return now
        last = now
    raise AssertionError("the picture does not change")


def seen_at(viewer: Viewer) -> tuple[float, float]:
    """Where the page shows the middle of the first camera's picture, seen from BACK."""
    frustum = viewer.frusta[0]
    # viser keeps the volume of a frustum: a narrow view is drawn long.
    depth = frustum.scale / np.cbrt(np.tan(frustum.fov / 2) ** 2 * frustum.aspect / 3)
    middle = frustum.position + viewer.turn(frustum.wxyz).as_matrix()[:, 2] * depth
    cam_from_world = look_at(torch.tensor(BACK), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])).numpy()
    x, y, z = cam_from_world[:3, :3] @ middle + cam_from_world[:3, 3]
    focal_px = SIZE[1] / 2 / np.tan(FOV_RAD / 2)
    return SIZE[0] / 2 - focal_px * x / z, SIZE[1] / 2 + focal_px * y / z


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium in /usr/bin")
def test_shows_frames_modes_and_cameras(viewer: Viewer, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda m: errors.append(m.text) if m.type == "error" and "favicon" not in m.text else None,
        )
        page.goto(viewer.url)
        page.get_by_text("timestep 0").wait_for(timeout=20_000)
        blank = np.full((640, 500, 3), 255)
        shown = changed(page, tmp_path / "page.png", blank)
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 500, "a textured egg has many colours"
        assert page.get_by_text("0.25 / 0.12 / 0.50 mm").count() == 1
        assert page.get_by_text("PSNR 31.0 dB").count() == 1

        def show(mode: str) -> None:
            page.get_by_role("combobox").click()
            page.get_by_role("option", name=mode, exact=True).click()

        def turned(act: Callable[[], object]) -> None:
            """What the reader does on the page reaches the server, and its answer the picture."""
            nonlocal shown
            act()
            shown = changed(page, tmp_path / "page.png", shown)

        slider = page.get_by_role("slider").first
        turned(lambda: slider.press("End"))
        assert page.get_by_text("timestep 2").count() == 1
        for mode in (ERROR, CLAY, WIREFRAME):
            turned(lambda mode=mode: show(mode))
        turned(lambda: slider.press("Home"))  # by new vertices, not by a new mesh
        assert page.get_by_text("timestep 0").count() == 1
        turned(lambda: show(TEXTURE))

        (client,) = viewer.server.get_clients().values()

        def stand_back() -> None:
            with client.atomic():
                client.camera.position, client.camera.look_at = BACK, (0.0, 0.0, 0.0)

        turned(stand_back)
        for toggle in ("cameras", "cameras", "their pictures", "their pictures"):
            turned(lambda toggle=toggle: page.get_by_label(toggle, exact=True).click())

        def click_on_the_first_camera() -> None:
            place = seen_at(viewer)
            page.mouse.move(*place)
            page.wait_for_timeout(500)  # viser finds what is under the pointer while it draws
            page.mouse.click(*place, delay=200)

        turned(click_on_the_first_camera)
        left = viewer.performance.cameras[0]
        np.testing.assert_allclose(client.camera.position, left.eye.numpy(), atol=1e-4)
        assert client.camera.fov == pytest.approx(2 * np.arctan2(left.height / 2, left.fl_y))
        forward = client.camera.look_at - client.camera.position
        assert forward @ -left.world_from_cam[:3, 2].numpy() > 0.999 * np.linalg.norm(forward)
        assert np.linalg.norm(client.camera.look_at - viewer.middle.numpy()) < viewer.extent / 4
        browser.close()
    assert not errors


def test_frames_are_kept_within_a_bound(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(viewer._glb(TEXTURE, 0))
    monkeypatch.setattr("rastergrad.viewer.KEPT_BYTES", int(2.5 * size))
    for frame in (0, 1, 2):
        viewer.frame.value = frame
        viewer.show()
    assert list(viewer._nodes) == [(TEXTURE, 1), (TEXTURE, 2)]
    assert [node.visible for node, _ in viewer._nodes.values()] == [False, True]


def test_plays(viewer: Viewer) -> None:
    viewer.fps.value = 30
    viewer.playing.value = True
    seen = set()
    deadline = time.monotonic() + 10
    while len(seen) < 3 and time.monotonic() < deadline:
        seen.add(int(viewer.frame.value))
        time.sleep(0.01)
    assert seen == {0, 1, 2}


def test_cameras_stand_where_they_stood(viewer: Viewer) -> None:
    for camera, handle in zip(viewer.performance.cameras, viewer.frusta):
        np.testing.assert_allclose(handle.position, camera.eye.numpy(), atol=1e-6)
        # OpenCV's axes: the third one points at the head, which is at the origin.
        ahead = viewer.turn(handle.wxyz).as_matrix()[:, 2]
        assert ahead @ (-camera.eye.numpy()) > 0.99 * np.linalg.norm(camera.eye.numpy())


def test_footage_that_is_gone_is_said(result: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    for name in ("checkpoint/performance.npz", "metrics.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((result / name).read_bytes())
    viewer = Viewer(folder, port=0)
    try:
        assert "without pictures" in viewer.numbers.content
        assert viewer.frusta[0].image is None
        assert ERROR not in viewer.mode.options
    finally:
        viewer.stop()


ODD = {
    "checkpoint/images.json": [[1], {"folder": None, "images": None}, {"folder": "/", "images": [None, [3]]}],
    "metrics.json": [
        [1],
        {"psnr_db": [3, 4, 5]},
        {"psnr_db": [None] * 3, "main_region": ["a"], "frames": 7},
        {"psnr_db": [[math.nan]] * 3, "main_region": "a", "frames": [{"a": {"mean": 1, "p95": None}}] * 3},
    ],
    "checkpoint/vertex_error.npy": ["junk"],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, odd) for name, all_odd in ODD.items() for odd in all_odd]
)
def test_odd_files_beside_the_capture_only_lack(name: str, content: Any, tmp_path: Path) -> None:
    small_performance().save(tmp_path)
    (tmp_path / name).write_text(json.dumps(content))
    viewer = Viewer(tmp_path, port=0)
    try:
        lines = viewer.numbers.content.split("  \n")
        assert lines[:2] == ["timestep 0", "The footage is not where it was: cameras without pictures."]
        assert ("vertex_error.npy is damaged" in lines[-1]) == name.endswith(".npy")
        assert ERROR not in viewer.mode.options
    finally:
        viewer.stop()


def test_the_error_of_another_capture_is_not_painted(tmp_path: Path) -> None:
    small_performance().save(tmp_path)
    np.save(tmp_path / "checkpoint/vertex_error.npy", np.zeros((2, 5), np.float32))
    viewer = Viewer(tmp_path, port=0)
    try:
        assert "of another capture" in viewer.numbers.content
        assert ERROR not in viewer.mode.options
    finally:
        viewer.stop()


def test_unknown_errors_are_grey_and_not_small(viewer: Viewer) -> None:
    assert viewer.error_mm is not None
    viewer.error_mm[0] = math.nan
    mesh: Any = trimesh.load(io.BytesIO(viewer._glb(ERROR, 0)), file_type="glb", force="mesh")
    linear_grey = round(255 * ((0.5 + 0.055) / 1.055) ** 2.4)
    assert set(np.unique(mesh.visual.vertex_colors[:, :3])) == {linear_grey}


def test_serves_in_the_background_until_stopped(result: Path) -> None:
    said: list[str] = []
    viewer = serve(result, port=0, open_browser=False, block=False, say=said.append)
    assert viewer.url in said[0]
    with urllib.request.urlopen(viewer.url, timeout=10) as answer:
        assert answer.status == 200
    viewer.stop()
    viewer.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(viewer.url, timeout=10)


def test_the_command_ends_cleanly_on_ctrl_c(result: Path) -> None:
    command = [sys.executable, "-u", "-m", "rastergrad.cli", "view", str(result), "--no-open", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        emergency = threading.Timer(60, process.kill)
        emergency.start()
        for line in process.stdout:
            if "Ctrl-C ends" in line:
                process.send_signal(signal.SIGINT)
                break
        assert process.wait() == 0
        emergency.cancel()
        assert "Traceback" not in process.stderr.read()


def test_without_viser_the_remedy_is_named(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingExtraError, match=r"viser.*capture"):
        Viewer(result, port=0)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_be_is_refused(result: Path, port: int) -> None:
    with pytest.raises(ValueError, match=f"--port .* got {port}"):
        Viewer(result, port=port)


def test_a_taken_port_and_an_empty_folder_are_refused(result: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="--port"):
            Viewer(result, port=taken.getsockname()[1])
    command = [sys.executable, "-m", "rastergrad.cli", "view", str(tmp_path), "--no-open"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "holds no finished capture" in done.stderr
