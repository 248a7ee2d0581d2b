# SPDX-License-Identifier: MIT
"""The report of a capture, in a real browser and without one."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect, sync_playwright

from rastergrad.capture import charts, report
from rastergrad.capture.performance import Performance
from testing.footage import Recorded
from testing.performances import small_performance, write_dataset

CHROMIUM = Path("/usr/bin/chromium")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
HOSTILE = "</script><script>document.title = 'taken'</script>&amp;"


@pytest.fixture(scope="module")
def performance() -> Performance:
    return replace(small_performance(), timesteps=(2, 3, 5), camera_ids=(4, 7, 9))


@pytest.fixture(scope="module")
def recorded(performance: Performance, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Without the picture of the second camera in the last frame."""
    recorded = Recorded(write_dataset(tmp_path_factory.mktemp("dataset"), performance))
    recorded.views = [view for view in recorded.views if (view.frame, view.camera) != (2, 1)]
    return recorded


def details(performance: Performance) -> dict[str, Any]:
    """As a capture gives them, and with what may come: no picture, a perfect one, texts like HTML."""
    distance = {"mean": 0.21, "median": 0.1, "p95": 0.876, "count": 1234}
    unknown = {"mean": None, "median": math.nan, "p95": None, "count": 0}
    regions = {"narrow_face": distance, "mouth_<b>": unknown}
    stages = [("rigid", 0, 40), ("identity", 0, 900), ("polish", 900, 1200)]
    return {
        "losses": [
            {"stage": stage, "step": step, "loss": math.exp(-step / 200) + 0.01, "image_error": 0.0}
            for stage, first, last in stages
            for step in range(first, last)
        ],
        "psnr_db": [[31.0, 32.0, 33.0], [34.0, 35.0, 36.0], [37.0, None, math.inf]],
        "metrics": {
            "all_frames": regions,
            "reverse": {"narrow_face": distance},
            "same_index": {"narrow_face": distance},
            "frames": [{"timestep": t, "narrow_face": distance} for t in performance.timesteps],
        },
        "vertex_error_mm": performance.positions[:, :, 0].clamp_min(0) * 20,
        "timings_s": {"rigid": 10.0, "identity": 65.0},
        "step_parts_ms": {"rasterize": 3.0, "loss": 1.0},
        "config": f"text = '{HOSTILE}'\n",
        "dataset": [f"folder: {HOSTILE}", "3 frames, 3 cameras"],
    }


@pytest.fixture(scope="module")
def page_file(performance: Performance, recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "take <i>one"
    return report.write_report(performance, recorded, folder, details(performance))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, page_file: Path) -> Iterator[Page]:
    """The report, opened from the disk; complains of anything on the console and of any request."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    page = context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url[:100]))
    page.goto(page_file.as_uri())
    yield page
    context.close()
    assert [words for words in heard if not words.startswith("data:")] == [page_file.as_uri()]


PIXELS = """async id => {
  const image = document.getElementById(id); await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const paint = canvas.getContext("2d"); paint.drawImage(image, 0, 0);
  const shown = paint.getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.height, canvas.width, Array.from(shown.data)];
}"""


# ---- in a browser ----------------------------------------------------------------------------


def about(page: Page) -> str:
    return page.inner_text("#about")


def test_scrubbing_and_changing_the_camera(page: Page) -> None:
    assert page.title() == "Performance capture: take <i>one"
    assert about(page) == "camera 4, frame 2, PSNR 31.0 dB"
    first = page.get_attribute("#real", "src")
    page.keyboard.press("ArrowRight")
    assert about(page) == "camera 4, frame 3, PSNR 34.0 dB"
    assert page.get_attribute("#real", "src") != first
    page.select_option("#camera", label="9")
    assert about(page) == "camera 9, frame 3, PSNR 36.0 dB"
    page.fill("#frame", "2")
    assert about(page) == "camera 9, frame 5"  # its PSNR is infinite
    page.focus("#frame")
    page.keyboard.press("ArrowRight")  # once, not once by the slider and once by the page
    assert about(page) == "camera 9, frame 2, PSNR 33.0 dB"
    page.keyboard.press("ArrowLeft")
    assert about(page) == "camera 9, frame 5"
    page.keyboard.press("Shift+C")
    assert about(page) == "camera 7, frame 5: no picture"
    assert not page.is_visible("#real")
    page.keyboard.press("c")
    assert page.is_visible("#real")
    assert page.get_attribute("#real", "alt") == "real: camera 9, frame 5"


def test_pictures_are_where_they_belong(page: Page, performance: Performance, recorded: Recorded) -> None:
    page.click(".map button[data-frame='1'][data-camera='2']")
    assert about(page) == "camera 9, frame 3, PSNR 36.0 dB"
    assert page.get_attribute(".map [aria-current]", "title") == "camera 9, frame 3"
    view = next(view for view in recorded.views if (view.frame, view.camera) == (1, 2))
    wanted = report.compare(performance, recorded, view)
    for name, pixels in (
        ("real", wanted.real),
        ("captured", wanted.captured),
        ("difference", wanted.difference),
    ):
        height, width, rgba = page.evaluate(PIXELS, name)
        assert (height, width) == (112, 96)
        shown = np.array(rgba).reshape(112, 96, 4)[..., :3]
        assert np.abs(shown - pixels.numpy()).mean() < 5, name
    heat = page.get_attribute("#heat", "src")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#heat", "src") != heat


def test_play_runs_and_stops(page: Page) -> None:
    page.keyboard.press("p")
    assert page.inner_text("#play") == "Pause"
    for frame in (3, 5, 2):
        expect(page.locator("#about")).to_contain_text(f"frame {frame}")
    page.click("#play")
    assert page.get_attribute("#play", "aria-pressed") == "false"
    stopped = about(page)
    page.wait_for_timeout(400)
    assert about(page) == stopped


def test_texts_of_others_stay_texts(page: Page) -> None:
    assert page.title() != "taken"
    assert HOSTILE in page.inner_text("body")
    assert "mouth <b>" in page.inner_text("body")
    assert page.locator("body i:not([class])").count() == 0


def test_everything_has_its_place(page: Page) -> None:
    text = page.inner_text("body")
    for words in (
        *(
            "Frames\n3",
            "Cameras\n3",
            "PSNR, mean\n34.0 dB",
            "PSNR, worst\n31.0 dB",
            "Face error, p95\n0.88 mm",
        ),
        *(
            "1 min 15 s",
            "Error in millimetres",
            "captured vertex to true surface",
            "0.876",
            "1234",
            "rasterize",
        ),
        *("3 ms, 75 %", "identity", "65 s, 87 %", "Settings", "Dataset"),
    ):
        assert words in text, words
    labels = page.eval_on_selector_all("svg", "all => all.map(svg => svg.getAttribute('aria-label'))")
    assert labels == ["Face error by frame, mm", "Loss"]  # an image error of 0 has no logarithm
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_readers_scheme(browser: Browser, page_file: Path, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 700})
    page = context.new_page()
    page.goto(page_file.as_uri())
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
    assert light > 200 if scheme == "light" else light < 60
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


# ---- without one -----------------------------------------------------------------------------


def test_only_what_is_known_is_shown(performance: Performance, recorded: Recorded, tmp_path: Path) -> None:
    text = report.write_report(performance, recorded, tmp_path, {}).read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == ["Footage and capture"]
    assert "{{" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]", text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_long_takes_leave_out_frames_evenly_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    performance = small_performance(12, cameras=2)
    recorded = Recorded(write_dataset(tmp_path / "dataset", performance, supersampling=1))
    whole = report.write_report(performance, recorded, tmp_path / "whole", {})
    assert "frames are shown" not in whole.read_text()
    empty = len(whole.read_text()) - sum(map(len, re.findall(r'"(/9j[^"]*)"', whole.read_text())))
    for share in (0.7, 0.4, 0.01):
        most = int(share * (whole.stat().st_size - empty) * 3 / 4)
        monkeypatch.setattr(report, "PICTURE_BYTES", most)
        text = report.write_report(performance, recorded, tmp_path / "part", {}).read_text()
        frames = list(map(int, re.findall(r'"frames":\[([\d,]+)\]', text)[0].split(",")))
        cameras = re.findall(r'"cameras":\[([\d,]+)\]', text)[0].split(",")
        assert len(text) - empty <= max(most * 4 / 3, 3 * 10_000)
        assert f"{len(frames)} of 12 frames are shown, evenly chosen." in text
        steps = set(np.diff(frames).tolist())
        assert len(frames) == 1 or (frames[0] == 0 and frames[-1] == 11 and max(steps) - min(steps) <= 1)
        assert len(cameras) == (1 if share == 0.01 else 2)
        assert ("cameras are shown" in text) == (share == 0.01)


def test_large_pictures_are_reduced_before_frames_go(
    performance: Performance, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "HEIGHTS", (56,))
    small = report.write_report(performance, recorded, tmp_path, {}).read_text()
    room = 1.2 / report.SAFETY * sum(map(len, re.findall(r'"(/9j[^"]*)"', small))) * 3 / 4
    monkeypatch.setattr(report, "HEIGHTS", (80, 56))
    monkeypatch.setattr(report, "PICTURE_BYTES", room)
    text = report.write_report(performance, recorded, tmp_path, {}).read_text()
    assert "Pictures are reduced from 112 to 56 rows." in text
    assert "frames are shown" not in text


def test_a_failing_picture_leaves_the_old_report(
    performance: Performance, recorded: Recorded, tmp_path: Path
) -> None:
    class Broken(Recorded):
        def __init__(self) -> None:
            self.views = recorded.views

        def load(self, view: Any) -> Any:
            raise OSError(f"{view.image} cannot be read")

    (tmp_path / "report.html").write_text("old")
    with pytest.raises(OSError, match="cannot be read"):
        report.write_report(performance, Broken(), tmp_path, {})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"report.html": "old"}


# ---- colours and charts ----------------------------------------------------------------------


def test_colours_climb_in_lightness_and_unknown_is_grey() -> None:
    color = charts.color_of(torch.linspace(0, 1, 101))
    assert bool(((color @ torch.tensor([0.2126, 0.7152, 0.0722])).diff() > 0).all())
    assert torch.equal(charts.color_of(torch.tensor([-1.0, 2.0])), color[[0, -1]])
    assert charts.color_of(torch.tensor(math.nan)).tolist() == [0.5] * 3
    assert charts.css_color(0.0) == ("#440154", "#fff")
    assert charts.css_color(1.0) == ("#fde725", "#000")


def test_errors_are_painted_on_the_right_side(performance: Performance) -> None:
    """+x is to the right of who looks at the face, its own left: the last of the three pictures."""
    error = torch.where(performance.positions[1, :, 0] > 0.02, 1.0, 0.0)
    image = charts.painted(performance, 1, error, 1.0, (60, 50))
    yellow = (image[..., 0] > 2 * image[..., 2]) & (image[..., 3] > 0)
    shares = [
        float(yellow[:, k * 50 : k * 50 + 50].sum() / (image[:, k * 50 : k * 50 + 50, 3] > 0).sum())
        for k in range(3)
    ]
    assert shares[0] < 0.1 < shares[1] < shares[2]
    assert shares[2] > 0.6
    front = yellow[:, 50:100].float().sum(0)
    assert float(front[:25].sum()) == 0
    half = charts.painted(performance, 1, error, 2.0, (60, 50))  # 1 of 2 mm is green
    assert float((half[..., 1] > 2 * half[..., 0])[yellow].float().mean()) > 0.8


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20), st.booleans())
def test_ticks_hold_the_values(values: list[float], log: bool) -> None:
    low, high = min(values), max(values)
    ticks = charts._log_ticks(low, high) if log else charts._ticks(high)
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low * (1 + 1e-9)
    assert ticks[-1] >= high * (1 - 1e-9)
    assert 1 <= len(ticks) <= 22
    assert charts.round_up(high) >= high * (1 - 1e-9)
    assert charts.round_up(high) <= 2.5001 * high


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-10, 1e6), st.just(math.nan), st.just(math.inf)), max_size=900),
    st.booleans(),
)
def test_lines_stay_in_their_chart(values: list[float], log: bool) -> None:
    svg = charts.chart("a <title>", [charts.Line("<b>", range(len(values)), values)], "step", log=log)
    kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    assert bool(svg) == bool(kept)
    if not kept or (not log and min(kept) < 0):
        return
    assert "<b>" not in svg
    (points,) = re.findall(r'points="(.*?)"', svg)
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    assert len(places) <= charts.POINTS
    for x, y in places:
        assert charts.LEFT - 0.1 <= x <= charts.WIDTH
        assert charts.TOP - 0.1 <= y <= charts.HEIGHT - charts.BOTTOM + 0.1


def test_stages_follow_each_other() -> None:
    """Whether a stage counts its steps anew or goes on."""
    losses = [
        {"stage": stage, "step": step, "loss": 1.0, "image_error": 1.0}
        for stage, steps in (("one", range(11)), ("two", range(11)), ("three", range(10, 21)))
        for step in steps
    ]
    lines = re.findall(r'points="(\S+) .*? (\S+)"', report._curves(losses))[:3]
    ends = [(float(a.split(",")[0]), float(b.split(",")[0])) for a, b in lines]
    width = (charts.WIDTH - charts.LEFT - 8) / 3
    for k, (start, end) in enumerate(ends):
        assert start == pytest.approx(charts.LEFT + k * width, abs=0.2)
        assert end == pytest.approx(charts.LEFT + (k + 1) * width, abs=0.2)
