# SPDX-License-Identifier: MIT
"""Charts made of results, as SVG without anything else: small, and legible on white and on black."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

OURS = "rastergrad"
# Ways of ours that are compared with each other are not what a chart of other programs shows.
OWN = ("pixel pair", "one sample", "one by pixel pairs", "a Function that does nothing")
COLOURS = {
    OURS: "#2f81f7",
    "llvmpipe": "#e8590c",
    "Embree": "#2f9e44",
    "Mitsuba 3": "#a855c7",
    "DEODR": "#e03131",
    "torch": "#b08800",
}
OTHER = "#868e96"
# Grey that stands out from both; a viewer that knows its scheme gets the better one.
STYLE = """<style>
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #6e7681 }
.strong { font-weight: 600 } .end { text-anchor: end } .mid { text-anchor: middle }
.grid { stroke: #8b949e; stroke-opacity: .3 } .line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #adbac7 } }
@media (prefers-color-scheme: light) { text { fill: #424a53 } }
</style>"""


def colour(name: str) -> str:
    """That of a peer's first word: "torch gather" is torch."""
    return next((c for key, c in COLOURS.items() if name.startswith(key)), OTHER)


class Axis:
    """A logarithmic axis from one power of ten, or a third of it, to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        steps = [m * 10.0**k for k in range(-9, 14) for m in (1, 3)]
        self.low = max(s for s in steps if s <= min(values))
        self.high = min(s for s in steps if s >= max(values) and s > self.low)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        exponents = range(
            math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1
        )
        return [10.0**k for k in exponents]


def number(value: float) -> str:
    """Short: whole below 10,000, else with the prefix that fits."""
    if value < 1e4 and value == int(value):
        return str(int(value))
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def compared(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that other programs have done too, those programs only."""
    rows = []
    for row in measured["results"]:
        peers = [peer for peer in row["peers"] if peer["name"] not in OWN]
        if peers:
            rows.append({**row, "peers": peers})
    return rows


def comparison(measured: dict[str, Any]) -> str:
    """A line for each operation, a dot for each program; to the left is faster."""
    rows = compared(measured)
    names = [OURS, *dict.fromkeys(_family(p["name"]) for row in rows for p in row["peers"])]
    left, right, top, step = 330.0, 720.0, 58.0, 23.0
    bottom = top + step * len(rows)
    times = [row["ms"] for row in rows] + [p["ms"] for row in rows for p in row["peers"]]
    axis = Axis(times or [1.0, 10.0], left, right)
    parts: list[str] = []
    place = 4.0
    for name in names:
        parts.append(_dot(place + 6, 14, name) + _text(place + 16, 18, name))
        place += 34 + 7.0 * len(name)
    parts.append(_text(right + 60, top - 12, "nearest", "end"))
    for tick in axis.ticks():
        x = axis(tick)
        parts.append(f'<line class="grid" x1="{x}" y1="{top - 6}" x2="{x}" y2="{bottom - 6}"/>')
        parts.append(_text(x, top - 12, f"{tick / 1e3:g} s" if tick >= 1e3 else f"{tick:g} ms", "mid"))
    for k, row in enumerate(rows):
        y = top + step * k + 6
        # What gradients go to is left to the table: there is no room for it.
        label = row["name"].replace(", forward", "").partition(" to ")[0]
        parts.append(_text(left - 12, y + 4, label, "end"))
        dots = [(p["name"], p["ms"]) for p in row["peers"]] + [(OURS, row["ms"])]
        far = max(ms for _, ms in dots)
        parts.append(f'<line class="grid" x1="{axis(row["ms"])}" y1="{y}" x2="{axis(far)}" y2="{y}"/>')
        for name, ms in dots:
            dot = _dot(axis(ms), y, name, hollow=name.endswith("read-back"))
            parts.append(dot.replace("/>", f"><title>{escape(name)}: {ms:.3g} ms</title></circle>"))
        nearest = min(p["ms"] for p in row["peers"]) / row["ms"]
        parts.append(_text(right + 60, y + 4, f"{nearest:.1f}×", "end strong"))
    parts.append(
        _text(
            right + 60,
            bottom + 14,
            "Hollow: copied to host memory. ×: the fastest other's time over ours.",
            "end",
        )
    )
    return _svg(right + 70, bottom + 24, parts, "Times of rastergrad and of other programs")


def scaling(curves: Sequence[dict[str, Any]], over: str) -> str:
    """Time and memory of the operations against one number, all axes logarithmic."""
    chosen = [c for c in curves if c["over"] == over]
    parts: list[str] = []
    palette = ("#2f81f7", "#e8590c", "#2f9e44", "#a855c7")
    for k, (what, title, scale) in enumerate((("ms", "ms", 1.0), ("bytes", "MB beyond inputs", 1e-6))):
        # A point may take no memory that shows.
        lines = [
            [(p[over], p[what] * scale) for p in c["points"] if "failed" not in p and p[what] * scale > 0.01]
            for c in chosen
        ]
        points = [point for line in lines for point in line]
        if not points:
            continue
        left = 50.0 + 410.0 * k
        x_axis = Axis([x for x, _ in points], left, left + 290)
        y_axis = Axis([y for _, y in points], 230.0, 50.0)
        parts.append(_text(left, 16, title, "strong"))
        for tick in sorted({x for x, _ in points}):
            x = x_axis(tick)
            parts.append(f'<line class="grid" x1="{x}" y1="50" x2="{x}" y2="230"/>')
            parts.append(_text(x, 248, number(tick), "mid"))
        for tick in y_axis.ticks():
            y = y_axis(tick)
            parts.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{left + 290}" y2="{y}"/>')
            parts.append(_text(left - 6, y + 4, number(tick), "end"))
        parts.append(_text(left + 145, 266, over, "mid"))
        for c, line, shade in zip(chosen, lines, palette):
            path = " ".join(f"{x_axis(x)},{y_axis(y)}" for x, y in line)
            parts.append(f'<polyline class="line" stroke="{shade}" points="{path}"/>')
            parts += [f'<circle cx="{x_axis(x)}" cy="{y_axis(y)}" r="3" fill="{shade}"/>' for x, y in line]
            label = f"{c['operation']} ~ {over}^{c['exponents'][what]:.2f}"
            named = _text(left + 190 * chosen.index(c), 36, label)
            parts.append(named.replace("<text", f'<text style="fill: {shade}"'))
    return _svg(830, 276, parts, f"Time and memory against {over}")


def _family(name: str) -> str:
    return next((key for key in COLOURS if name.startswith(key)), name)


def _text(x: float, y: float, text: str, classes: str = "") -> str:
    kind = f' class="{classes}"' if classes else ""
    return f'<text{kind} x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _dot(x: float, y: float, name: str, *, hollow: bool = False) -> str:
    shade = colour(name)
    look = f'fill="none" stroke="{shade}" stroke-width="1.5"' if hollow else f'fill="{shade}"'
    return f'<circle cx="{x:g}" cy="{y:g}" r="{6 if name == OURS else 4.5}" {look}/>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img">\n<title>{escape(title)}</title>\n'
        f"{STYLE}\n{body}\n</svg>\n"
    )
