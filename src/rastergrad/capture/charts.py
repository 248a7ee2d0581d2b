# SPDX-License-Identifier: MIT
"""Colours for numbers, line charts as SVG, and errors painted on a mesh."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rastergrad.capture.performance import Performance
from rastergrad.capture.render import clip_matrices, draw
from rastergrad.capture.video import ORBIT_RAD, Orbit
from rastergrad.scene.camera import project
from rastergrad.scene.harmonics import shading, white_light
from rastergrad.scene.image import linear_from_srgb
from rastergrad.scene.normals import vertex_normals

# Nine points of viridis (van der Walt and Smith 2015, CC0), of even lightness steps from low to high.
SCALE = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
UNKNOWN = 0.5  # grey, of vertices whose error is not a number
POINTS = 300  # of one line, at most: more than the pixels of a chart
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 240, 62, 26, 8


def color_of(share: Tensor) -> Tensor:
    """Colours of numbers on a scale.

    Args:
        share: [...] float, 0 is the low end, 1 the high end; clamped, NaN becomes grey.
    Returns:
        [..., 3] sRGB in [0, 1].
    """
    anchors = torch.tensor([[int(c[k : k + 2], 16) / 255 for k in (0, 2, 4)] for c in SCALE])
    place = share.nan_to_num(0).clamp(0, 1).float() * (len(SCALE) - 1)
    low = place.floor().clamp_max(len(SCALE) - 2).long()
    color = torch.lerp(anchors[low], anchors[low + 1], (place - low)[..., None])
    return torch.where(share.isnan()[..., None], UNKNOWN, color)


def css_color(share: float) -> tuple[str, str]:
    """Background of `color_of`, and black or white, whichever is easier to read on it."""
    color = color_of(torch.tensor(share))
    text = (
        "#000" if float(linear_from_srgb(color) @ torch.tensor([0.2126, 0.7152, 0.0722])) > 0.18 else "#fff"
    )
    return "#" + "".join(f"{round(c * 255):02x}" for c in color.tolist()), text


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def painted(
    performance: Performance, frame: int, error: Tensor, most: float, size: tuple[int, int]
) -> Tensor:
    """The mesh of a frame from its right, the front and its left, coloured by a number at each vertex.

    Args:
        error: [V]; 0 is the low end of the scale, `most` the high end.
        size: (H, W) of each of the three pictures.
    Returns:
        [H, 3 W, 4] linear light premultiplied by coverage, and coverage; row 0 is the bottom.
    """
    template = performance.template
    positions = performance.positions[frame]
    orbit = Orbit(performance, size)
    angles_rad = (-ORBIT_RAD, 0.0, ORBIT_RAD)
    pos = project(clip_matrices([orbit.camera(angle) for angle in angles_rad], positions), positions)
    turned = torch.stack([orbit.world_from_orbit(angle).float() for angle in angles_rad])
    normal = vertex_normals(positions, template.tri) @ turned
    light = white_light(positions) * 0.8
    light[2] = 0.6  # enough shade to see the shape, too little to change a colour's meaning
    shade = shading(normal, light) * linear_from_srgb(color_of(error / most))
    with torch.no_grad():
        images = draw(pos, template, torch.ones(1, 1, 1, 3), shade.contiguous(), size)
    return torch.cat(list(images), dim=1)


@dataclass(frozen=True)
class Line:
    name: str
    x: Sequence[float]
    y: Sequence[float]


def chart(title: str, lines: Sequence[Line], x_label: str, *, log: bool) -> str:
    """An SVG element with lines over a common axis; lines take the CSS classes line0, line1 ...

    Args:
        title: says what y is, with its unit.
        lines: points that are not finite (with `log`: not above 0) are left out; many are averaged.
    Returns:
        SVG text that is escaped; empty when no line has a point.
    """
    kept = []
    for number, line in enumerate(lines):
        points = [(x, y) for x, y in zip(line.x, line.y) if math.isfinite(y) and (y > 0 or not log)]
        if points:
            kept.append((number, line.name, _averaged(points)))
    if not kept:
        return ""
    every = [point for _, _, points in kept for point in points]
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    ticks = _log_ticks(low, high) if log else _ticks(high)
    scale = math.log10 if log else float
    bottom, top = min(scale(ticks[0]), scale(low)), max(scale(ticks[-1]), scale(high))

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * (x - x_low) / max(x_high - x_low, 1e-12)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (scale(y) - bottom) / max(top - bottom, 1e-12)

    name = html.escape(title)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">']
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {down(tick):.1f}H{WIDTH - 8}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{x_low:.6g}</text>')
    parts.append(f'<text x="{WIDTH - 8}" y="{HEIGHT - 6}" text-anchor="end">{x_high:.6g}</text>')
    middle = (LEFT + WIDTH) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>')
    for number, line_name, points in kept:
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        hint = html.escape(f"{line_name}: {points[0][1]:.4g} to {points[-1][1]:.4g}")
        parts.append(f'<polyline class="line{number % 6}" points="{path}"><title>{hint}</title></polyline>')
    key = "".join(
        f'<span><i class="key{number % 6}"></i>{html.escape(line_name)}</span>'
        for number, line_name, _ in kept
    )
    svg = "".join(parts) + "</svg>"
    return f'<figure><figcaption>{name}<span class="keys">{key}</span></figcaption>{svg}</figure>'


def _averaged(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of equal runs, at most POINTS of them."""
    run = -(-len(points) // POINTS)
    runs = [points[k : k + run] for k in range(0, len(points), run)]
    return [(sum(x for x, _ in r) / len(r), sum(y for _, y in r) / len(r)) for r in runs]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten from just below `low` to just above `high`; powers alone when far apart."""
    steps = (1, 2, 5) if high / low < 200 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1
    every = [step * 10.0**power for power in range(first, last) for step in steps]
    below = max((t for t in every if t <= low), default=every[0])
    above = min((t for t in every if t >= high), default=every[-1])
    return [t for t in every if below <= t <= above]


def _ticks(high: float) -> list[float]:
    """0 and up to five round steps that reach `high`."""
    step = round_up(high / 5)
    return [k * step for k in range(math.ceil(high / step - 1e-9) + 1)]
