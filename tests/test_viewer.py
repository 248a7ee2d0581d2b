# SPDX-License-Identifier: MIT
"""The viewer in a real browser, and what it refuses."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rastergrad.viewer import CLAY, ERROR, TEXTURE, WIREFRAME, Viewer
from testing.performances import small_performance, write_dataset

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


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
        time.sleep(0.5)
        now = picture(page, path)
        if (abs(now - before).max(-1) > 12).mean() > 1e-3 and (now == last).all():
            return now
        last = now
    raise AssertionError("the picture does not change")


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium in /usr/bin")
def test_shows_frames_modes_and_cameras(viewer: Viewer, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 900, "height": 640})
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

        def choose(**values: Any) -> None:
            nonlocal shown
            for name, value in values.items():
                getattr(viewer, name).value = value
            viewer.show()
            shown = changed(page, tmp_path / "page.png", shown)

        choose(frame=2)
        assert page.get_by_text("timestep 2").count() == 1
        for mode in (ERROR, CLAY, WIREFRAME, TEXTURE):
            choose(mode=mode)
        choose(mode=CLAY)
        choose(frame=0)  # by new vertices, not by a new mesh
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
