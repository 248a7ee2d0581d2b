# SPDX-License-Identifier: MIT
"""Draw the kept results: `python -m benchmarks.gradient_truth.plot FOLDER` writes two pictures there."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rastergrad.scene.extra import require

from .methods import METHODS

RESULTS = Path(__file__).parents[1] / "results"
# Okabe and Ito's palette, told apart by all readers: a hue for each antialiasing, a mark for each sampling.
STYLES: dict[str, tuple[str, str]] = {
    "point": ("0.55", "x"),
    "pixel_pair": ("#d55e00", "o"),
    "pixel_pair_ss2": ("#d55e00", "s"),
    "pixel_pair_ss4": ("#d55e00", "D"),
    "outline": ("#0072b2", "o"),
    "outline_v2": ("#0072b2", "s"),
    "outline_v4": ("#0072b2", "D"),
}


def scenes_figure(result: Mapping[str, Any]) -> Any:
    """Cosine and relative L2 of the gradient by place: a row for each scene, a mark for each method."""
    figure = require("matplotlib.figure", "drawing the plot").Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    table = result["tables"]["place"]
    names = list(next(iter(table.values())))
    labels = ("cosine with the exact gradient", "relative L2 error")
    for panel, part, label in zip(panels, (0, 1), labels):
        for method, of_scene in table.items():
            color, mark = STYLES[method]
            values = [of_scene[name][part] for name in names]
            panel.plot(
                values,
                range(len(names)),
                linestyle="none",
                marker=mark,
                markersize=6,
                color=color,
                fillstyle="full" if mark == "o" else "none",
                label=METHODS[method].title,
            )
        panel.set(xlabel=label, xlim=(-0.05, 1.05), yticks=range(len(names)), yticklabels=names)
        panel.axhline(len(names) - 1.5, color="0.7", linewidth=0.8)  # above: scenes; below: their mean
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
    panels[0].invert_yaxis()
    handles, titles = panels[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    return figure


def densities_figure(found: Sequence[Mapping[str, Any]]) -> Any:
    """Gain over the density of a sphere, a panel for each resolution."""
    sizes = sorted({d["size"] for d in found})
    figure = require("matplotlib.figure", "drawing the plot").Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False, sharey=True)[0]
    for panel, size in zip(panels, sizes):
        for method in dict.fromkeys(d["method"] for d in found):
            color, mark = STYLES[method]
            line = [d for d in found if d["method"] == method and d["size"] == size]
            panel.plot(
                [d["triangles"] for d in line],
                [d["gain"] for d in line],
                color=color,
                marker=mark,
                fillstyle="full" if mark == "o" else "none",
                label=METHODS[method].title,
            )
        panel.axhline(1, color="0.7", linewidth=0.8)
        panel.set(xscale="log", xlabel="triangles", ylim=(-0.1, 1.1))
        panel.set_title(f"{size} x {size} px", fontsize="medium")
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
    panels[0].set_ylabel("share of the gradient that is left")
    handles, titles = panels[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradient_truth.plot", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON lies")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "gradient-truth": scenes_figure(read(args.results / "gradient-truth.json")),
        "gradient-truth-density": densities_figure(
            read(args.results / "gradient-truth-density.json")["found"]
        ),
    }
    for name, figure in drawn.items():
        path = args.folder / f"{name}.{args.format}"
        figure.savefig(path, dpi=144, facecolor="white")
        print(path)


def read(path: Path) -> dict[str, Any]:
    """Results that a run has kept."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SystemExit(
            f"{path} is missing: `python -m benchmarks.gradient_truth --help` says how to make it"
        ) from None


if __name__ == "__main__":
    main()
