# SPDX-License-Identifier: MIT
"""One HTML page that shows how good a capture is; it needs no network and no other file."""

import base64
import html
import io
import json
import math
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.capture.charts import SCALE, Line, chart, css_color, painted, round_up
from rastergrad.capture.footage import DIFFERENCE_SCALE, Footage, View, compare, displayed
from rastergrad.capture.frames import filled_texture
from rastergrad.capture.performance import Performance
from rastergrad.scene.extra import require
from rastergrad.scene.image import replacing, srgb_from_linear

PAGE = Path(__file__).with_name("report_page.html")
# Of JPEG; base64 makes a third more of it, and the page shall stay below 15 MB.
PICTURE_BYTES = 10_500_000
SAFETY = 0.85  # a few pictures stand for the size of all
HEIGHTS = (480, 320, 240)  # of pictures, tried in this order until all of them fit
QUALITY = 85
HEAT_SIZE = (400, 320)
# The distances of a capture's metrics, and what each is called.
DISTANCES = {
    "all_frames": "true vertex to captured surface",
    "reverse": "captured vertex to true surface",
    "same_index": "vertex to vertex of the same index",
}
PARTS_OF_A_DISTANCE = ("mean", "median", "p95")


def write_report(
    performance: Performance,
    footage: Footage,
    out: Path,
    details: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `out`/report.html, self-contained.

    Args:
        footage: the pictures to show beside the capture. Where all of them would make the page larger than
            15 MB they get smaller, then frames are left out evenly, and the page says so.
        details: what the capture recorded, each entry optional.
            "losses": list of {"stage", "step", "loss", "image_error"}.
            "psnr_db": [F][C] numbers, None where there is no picture.
            "metrics": what metrics.json holds: distances in mm.
            "vertex_error_mm": tensor [F, V], NaN where unknown.
            "timings_s": seconds by stage.  "step_parts_ms": milliseconds by part of a step.
            "config": TOML text.  "dataset": lines of text.
        progress: called with the frames that are done and their number.
    Errors:
        OSError when writing fails; those of reading the footage; MissingExtraError without Pillow.
    Cost:
        One rendering, one read and three JPEGs for each picture.
    """
    performance = replace(performance, texture=filled_texture(performance.texture, performance.seen))
    error_mm = details.get("vertex_error_mm")
    most_mm = 0.0
    if error_mm is not None:
        known = error_mm[torch.isfinite(error_mm)].double().numpy()
        most_mm = round_up(float(np.quantile(known, 0.95))) if len(known) else 1.0
    pictures = _Pictures(performance, footage, error_mm, most_mm)
    frames, cameras = pictures.choose()
    shown, heat = [], []
    for k, frame in enumerate(frames):
        shown.append([pictures.compared(frame, camera) for camera in cameras])
        if error_mm is not None:
            heat.append(pictures.heat(frame))
        if progress is not None:
            progress(k + 1, len(frames))
    psnr_db = [[_number(x) for x in row] for row in details.get("psnr_db") or []]
    psnr_here = [[psnr_db[f][c] for c in cameras] for f in frames] if psnr_db else []
    data = {
        "frames": [performance.timesteps[f] for f in frames],
        "cameras": [performance.camera_ids[c] for c in cameras],
        "pictures": shown,
        "psnr": psnr_here,
        "heat": heat,
        # Slow enough to see, and not below real time when frames were left out.
        "interval_ms": round(1000 * max(1 / performance.fps, 0.15)),
    }
    metrics = details.get("metrics") or {}
    sections = [
        _psnr_map(data["frames"], data["cameras"], psnr_here),
        _distances(metrics, heat, most_mm),
        _curves(details.get("losses") or []),
        _bars("Time by stage", details.get("timings_s") or {}, "s"),
        _bars("Time of an optimisation step by part", details.get("step_parts_ms") or {}, "ms"),
        _text("Dataset", "\n".join(details.get("dataset") or [])),
        _text("Settings", details.get("config") or ""),
    ]
    options = "".join(f'<option value="{k}">{index}</option>' for k, index in enumerate(data["cameras"]))
    place = out.resolve().name
    values = {
        "title": html.escape(f"Performance capture: {place}" if place else "Performance capture"),
        "subtitle": html.escape(_versions()),
        "tiles": _tiles(performance, psnr_db, metrics, details.get("timings_s") or {}),
        "skipped": html.escape(pictures.skipped(frames, cameras)),
        "cameras": options,
        "last": str(len(frames) - 1),
        "times": str(DIFFERENCE_SCALE),
        "scale": ", ".join(f"#{color}" for color in SCALE),
        "sections": "".join(sections),
        # Numbers and base64: nothing in them could end the script element.
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False),
    }
    template = PAGE.read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)
    path = out / "report.html"
    out.mkdir(parents=True, exist_ok=True)
    with replacing(path) as name:
        Path(name).write_text(page, encoding="utf-8")
    return path


@dataclass
class _Pictures:
    """Pictures of the page as base64 text of JPEG files."""

    performance: Performance
    footage: Footage
    error_mm: Tensor | None
    most_mm: float
    height: int = HEIGHTS[0]

    def __post_init__(self) -> None:
        self.pillow = require("PIL.Image", "writing a report", "capture")
        self.views: dict[tuple[int, int], View] = {(v.frame, v.camera): v for v in self.footage.views}

    def choose(self) -> tuple[list[int], list[int]]:
        """Frames and cameras to show (indices) so that the page has its size; sets `height`."""
        frames = sorted({frame for frame, _ in self.views})
        cameras = sorted({camera for _, camera in self.views})
        tried = [list(self.views)[k] for k in _evenly(len(self.views), 3)]
        heat = 0 if self.error_mm is None else len(self.heat(frames[len(frames) // 2])) * 3 / 4
        room = 0
        for self.height in HEIGHTS:
            sizes = [sum(map(len, self.compared(*place) or [])) * 3 / 4 for place in tried]
            view = sum(sizes) / len(sizes) + heat / len(cameras)
            room = int(SAFETY * PICTURE_BYTES / view)
            if room >= len(frames) * len(cameras):
                break
        cameras = [cameras[k] for k in _evenly(len(cameras), room)]
        return [frames[k] for k in _evenly(len(frames), room // len(cameras))], cameras

    def skipped(self, frames: Sequence[int], cameras: Sequence[int]) -> str:
        """What the reader should know about the choice."""
        words = []
        performance = self.performance
        if len(frames) < len(performance.timesteps):
            words.append(f"{len(frames)} of {len(performance.timesteps)} frames are shown, evenly chosen.")
        if len(cameras) < len(performance.cameras):
            words.append(f"{len(cameras)} of {len(performance.cameras)} cameras are shown.")
        full = max(camera.height for camera in performance.cameras)
        if full > self.height:
            words.append(f"Pictures are reduced from {full} to {self.height} rows.")
        return " ".join(words)

    def compared(self, frame: int, camera: int) -> list[str] | None:
        """Real, captured, difference; None where the footage has no such picture."""
        view = self.views.get((frame, camera))
        if view is None:
            return None
        both = compare(self.performance, self.footage, view, self.height)
        return [self._jpeg(x) for x in (both.real, both.captured, both.difference)]

    def heat(self, frame: int) -> str:
        """The error on the mesh of a frame."""
        assert self.error_mm is not None
        image = painted(self.performance, frame, self.error_mm[frame], self.most_mm, HEAT_SIZE)
        return self._jpeg(displayed(srgb_from_linear(image[..., :3])))

    def _jpeg(self, pixels: Tensor) -> str:
        file = io.BytesIO()
        self.pillow.fromarray(pixels.numpy()).save(file, format="JPEG", quality=QUALITY)
        return base64.b64encode(file.getvalue()).decode()


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, at least one, the first and the last among them where two fit."""
    return sorted({round(x) for x in np.linspace(0, count - 1, max(1, min(count, most))).tolist()})


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and math.isfinite(value) else None


def _or_nan(value: Any) -> float:
    number = _number(value)
    return math.nan if number is None else number


def _shown(value: Any, digits: int) -> str:
    number = _number(value)
    return "–" if number is None else f"{number:.{digits}f}"


def _versions() -> str:
    return f"rastergrad {rg.__version__}, torch {torch.__version__}, Python {platform.python_version()}"


def _tiles(
    performance: Performance,
    psnr_db: list[list[float | None]],
    metrics: Mapping[str, Any],
    timings_s: Mapping[str, float],
) -> str:
    """The numbers that come first."""
    known = [x for row in psnr_db for x in row if x is not None]
    tiles = [
        ("Frames", str(len(performance.timesteps))),
        ("Cameras", str(len(performance.cameras))),
        ("Vertices", f"{len(performance.template.positions):,}"),
    ]
    if known:
        tiles.append(("PSNR, mean", f"{sum(known) / len(known):.1f} dB"))
        tiles.append(("PSNR, worst", f"{min(known):.1f} dB"))
    face = metrics.get("all_frames", {}).get("narrow_face")
    if face:
        tiles += [(f"Face error, {part}", f"{_shown(face[part], 2)} mm") for part in PARTS_OF_A_DISTANCE]
    if timings_s:
        tiles.append(("Time", _clock(sum(timings_s.values()))))
    return "".join(f"<div><dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd></div>" for a, b in tiles)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _psnr_map(frames: Sequence[int], cameras: Sequence[int], psnr_db: list[list[float | None]]) -> str:
    """A table of cameras by frames, coloured; a click shows the picture."""
    known = [x for row in psnr_db for x in row if x is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    rows = []
    for c, camera in enumerate(cameras):
        cells = []
        for f, frame in enumerate(frames):
            value = psnr_db[f][c]
            if value is None:
                cells.append("<td><span>–</span></td>")
                continue
            back, text = css_color((value - low) / max(high - low, 1e-9))
            cells.append(
                f'<td><button type="button" data-frame="{f}" data-camera="{c}" '
                f'style="background:{back};color:{text}" title="camera {camera}, frame {frame}">'
                f"{value:.1f}</button></td>"
            )
        rows.append(f'<tr><th scope="row">camera {camera}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{frame}</th>' for frame in frames)
    return (
        '<h2>Image error</h2><p class="note">PSNR in dB of each picture, by camera and frame; dark is worse. '
        'Press a number to see its picture.</p><div class="scroll"><table class="map"><thead>'
        f'<tr><th scope="row">frame</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _distances(metrics: Mapping[str, Any], heat: Sequence[str], most_mm: float) -> str:
    """Millimetres: painted on the mesh, by region, and by frame."""
    parts = []
    if heat:
        parts.append(
            '<p class="note">Error of the frame chosen above, on the mesh from its right, the front and its '
            'left. Grey where unknown.</p><figure style="max-width:60rem"><img id="heat" alt="">'
            '<div class="scale"></div><div class="ends"><span>0</span>'
            f"<span>{most_mm / 2:g} mm</span><span>{most_mm:g} mm and more</span></div></figure>"
        )
    given = [name for name in DISTANCES if metrics.get(name)]
    if given:
        groups = "".join(f'<th scope="colgroup" colspan="4">{DISTANCES[name]}</th>' for name in given)
        head = "".join(f'<th scope="col">{part}</th>' for part in (*PARTS_OF_A_DISTANCE, "count")) * len(
            given
        )
        regions = list(dict.fromkeys(region for name in given for region in metrics[name]))
        rows = []
        for region in regions:
            cells = []
            for name in given:
                found = metrics[name].get(region, {})
                cells += [f"<td>{_shown(found.get(part), 3)}</td>" for part in PARTS_OF_A_DISTANCE]
                cells.append(f"<td>{_shown(found.get('count'), 0)}</td>")
            label = html.escape(region.replace("_", " "))
            rows.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
        parts.append(
            '<h3>By region, over all frames, mm</h3><div class="scroll"><table class="numbers"><thead>'
            f'<tr><td></td>{groups}</tr><tr><th scope="col">region</th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )
    each = [frame for frame in metrics.get("frames") or [] if frame.get("narrow_face")]
    if each:
        steps = [frame["timestep"] for frame in each]
        lines = [
            Line(part, steps, [_or_nan(frame["narrow_face"].get(part)) for frame in each])
            for part in PARTS_OF_A_DISTANCE
        ]
        parts.append(
            f'<div class="charts">{chart("Face error by frame, mm", lines, "frame", log=False)}</div>'
        )
    return f"<h2>Error in millimetres</h2>{''.join(parts)}" if parts else ""


def _curves(losses: Sequence[Mapping[str, Any]]) -> str:
    """Loss and image error over the steps of all stages, one after the other."""
    stages: dict[str, tuple[list[float], list[float], list[float]]] = {}
    start = last = 0.0
    before: tuple[str, int] | None = None
    for entry in losses:
        stage, step = str(entry["stage"]), int(entry["step"])
        # Steps may be counted from the start of the capture or of the stage.
        if before is not None and step < before[1]:
            start = last
        before, last = (stage, step), start + step
        x, loss, image_error = stages.setdefault(stage, ([], [], []))
        x.append(last)
        loss.append(_or_nan(entry.get("loss")))
        image_error.append(_or_nan(entry.get("image_error")))
    charts = [
        chart(title, [Line(stage, s[0], s[k]) for stage, s in stages.items()], "step", log=True)
        for title, k in (("Loss", 1), ("Image error", 2))
    ]
    return f'<h2>Fit</h2><div class="charts">{"".join(charts)}</div>' if any(charts) else ""


def _bars(title: str, values: Mapping[str, float], unit: str) -> str:
    if not values:
        return ""
    most, total = max(max(values.values()), 1e-12), max(sum(values.values()), 1e-12)
    rows = "".join(
        f"<span>{html.escape(name.replace('_', ' '))}</span>"
        f'<span><b style="width:{100 * value / most:.1f}%"></b></span>'
        f"<span>{value:.3g} {unit}, {100 * value / total:.0f} %</span>"
        for name, value in values.items()
    )
    return f'<h2>{html.escape(title)}</h2><div class="rows">{rows}</div>'


def _text(title: str, text: str) -> str:
    return f'<h2>{html.escape(title)}</h2><pre tabindex="0">{html.escape(text)}</pre>' if text else ""
