# SPDX-License-Identifier: MIT
"""Pages that are made from code: one for each script in examples/, and the tables and charts of benchmarks.

`python -m docs.pages_from_code` brings the tables in README.md and docs/guide/gpu.md and the charts in
docs/images up to date with benchmarks/results/*.json.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.gradient_truth.methods import METHODS
from testing.instructions import SIDE as COUNTED_SIDE

from . import gpu_tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"
Column = Callable[[dict[str, Any]], str]
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def example_pages(folder: Path) -> list[Path]:
    """A page for each example: its docstring, its source, and what it prints."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for script in sorted((ROOT / "examples").glob("[0-9]*.py")):
        program = ast.parse(script.read_text(encoding="utf-8"))
        title, _, text = (ast.get_docstring(program) or "").partition("\n")
        first = program.body[1].lineno
        printed = subprocess.run(
            [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        source = f"../../../examples/{script.name}"
        page = folder / f"{script.stem}.md"
        page.write_text(
            f"# {title.rstrip('.')}\n\n{text.strip()}\n\n"
            f"```{{literalinclude}} {source}\n:language: python\n:lines: {first}-\n```\n\n"
            f"`python examples/{script.name}` prints:\n\n```text\n{printed.rstrip()}\n```\n",
            encoding="utf-8",
        )
        pages.append(page)
    return pages


def measured(results: Path = RESULTS, key: str = "machine") -> list[dict[str, Any]]:
    """Committed results that have an entry of that name: times of a "machine", or curves "scaled_on" one."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    return [content for content in found if key in content]


def benchmark_table(results: Path = RESULTS) -> str:
    """All committed times as Markdown, one table for each machine."""
    tables = [_table(content) for content in measured(results)]
    return "\n".join(tables) or "No results are committed yet; `make bench` measures this machine.\n"


def short_table(results: Path = RESULTS) -> str:
    """The README's: operations that have a target, most of them on 1024 x 1024 pixels."""
    tables = []
    for content in measured(results):
        rows = [row for row in content["results"] if row["target_ms"] and row["ms"] >= 0.1]
        tables.append(_heading(content["machine"]) + _lines(SHORT, rows))
    return "\n".join(tables) or "No results are committed yet; `make bench` measures this machine.\n"


def _table(content: dict[str, Any]) -> str:
    peers = [f"- {name}: {version}" for name, version in content["peers"].items()]
    remarks = content["notes"] + [note for row in content["results"] for note in row["notes"]]
    notes = [f"- {note}" for note in remarks]
    listed = "".join(f"\n{line}" for line in peers + notes)
    return _heading(content["machine"]) + _lines(FULL, content["results"]) + (f"{listed}\n" if listed else "")


def _heading(machine: dict[str, Any]) -> str:
    copy = machine["copy_gb_per_s"]
    return (
        f"{machine['processor']}, {machine['threads']} threads, {machine['simd']}, torch {machine['torch']}, "
        f"images of {machine['size']} x {machine['size']} pixels"
        + ("" if copy is None else f"; a large copy runs at {copy:g} GB/s")
        + ".\n\n"
    )


def _time(ms: float) -> str:
    return f"{ms:.3g}" if ms >= 0.1 else f"{ms:.2g}"


def _spread(row: dict[str, Any]) -> str:
    return f"{_time(row['ms'])} ({_time(row['low'])}–{_time(row['high'])})"


def _others(row: dict[str, Any]) -> str:
    return ", ".join(f"{p['name']} {_time(p['ms'])} ({p['speedup']:.1f}×)" for p in row["peers"])


def _maybe(key: str, style: str) -> Column:
    return lambda row: "" if row[key] is None else style.format(row[key])


SHORT: dict[str, Column] = {
    "operation": lambda row: row["name"],
    "ms (quartiles)": _spread,
    "others in the same run, ms": lambda row: ", ".join(
        f"{p['name']} {_time(p['ms'])}" for p in row["peers"] if p["name"] not in charts.OWN
    ),
}
FULL: dict[str, Column] = {
    "operation": SHORT["operation"],
    "ms (quartiles)": _spread,
    "one thread / all": _maybe("scaling", "{:.2f}"),
    "GB/s": _maybe("gb_per_s", "{:.3g}"),
    "of copy": _maybe("bandwidth", "{:.0%}"),
    "ns/pixel": _maybe("ns_per_pixel", "{:.3g}"),
    "ns/triangle": _maybe("ns_per_triangle", "{:.3g}"),
    "others in the same run, ms (× ours)": _others,
}
BOUNDS: dict[str, Column] = {
    "operation": SHORT["operation"],
    "bytes": lambda row: f"{row['gb_per_s'] * row['ms']:,.1f} MB",
    "at copy speed, ms": lambda row: f"{row['ms'] * row['bandwidth']:.2f}",
    "measured, ms": lambda row: _time(row["ms"]),
    "times the limit": lambda row: f"{1 / row['bandwidth']:.1f}",
    "one thread / all": FULL["one thread / all"],
}


def _lines(columns: dict[str, Column], rows: Sequence[dict[str, Any]]) -> str:
    table = [
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
        *(f"| {' | '.join(cell(row) for cell in columns.values())} |" for row in rows),
    ]
    return "\n".join(table) + "\n"


def bounds_table(results: Path = RESULTS) -> str:
    """How far each operation is from the time in which its bytes could be copied; without those that are so
    short that their bytes stay in the caches.
    """
    tables = []
    for content in measured(results):
        rows = [row for row in content["results"] if row["bandwidth"] and row["ms"] >= 0.5]
        tables.append(_heading(content["machine"]) + _lines(BOUNDS, rows))
    return "\n".join(tables) or "No results are committed yet.\n"


def instruction_table(results: Path = RESULTS) -> str:
    """Instructions of the kernels on the scenes that the guard counts."""
    path = results / "instructions.json"
    if not path.exists():
        return "No counts are committed yet; `python -m testing.instructions --update` counts.\n"
    lines = []
    for built_by, counts in json.loads(path.read_text(encoding="utf-8")).items():
        lines += [f"{built_by}, AVX2, one thread, {COUNTED_SIDE} x {COUNTED_SIDE} pixels", ""]
        lines += ["| operation | kernel | instructions | per pixel |", "|---|---|---:|---:|"]
        for name, count in counts.items():
            label, _, kernel = name.partition(": ")
            lines.append(f"| {label} | `{kernel}` | {count:,} | {count / COUNTED_SIDE**2:.0f} |")
    return "\n".join(lines) + "\n"


def chart_files(results: Path = RESULTS) -> dict[str, str]:
    """SVG by file name in docs/images: the first machine's comparison, and its curves."""
    files = {}
    compared = [content for content in measured(results) if charts.compared(content)]
    if compared:
        files["speed.svg"] = charts.comparison(compared[0])
    for content in measured(results, "scaled_on")[:1]:
        for over in dict.fromkeys(curve["over"] for curve in content["curves"]):
            files[f"scaling-{over}.svg"] = charts.scaling(content["curves"], over)
    return files


GRADIENT_METHODS = ("pixel_pair", "pixel_pair_ss4", "outline", "outline_v2", "outline_v4")


def gradient_tables(results: Path = RESULTS) -> str:
    """How true gradients of visibility are, from the committed results of benchmarks.gradient_truth."""
    measured = results / "gradient-truth.json"
    if not measured.exists():
        return "No results are committed yet; `python -m benchmarks.gradient_truth` measures.\n"
    tables = [_gradients(json.loads(measured.read_text(encoding="utf-8")))]
    density = results / "gradient-truth-density.json"
    if density.exists():
        tables.append(_densities(json.loads(density.read_text(encoding="utf-8"))["found"]))
    return "\n".join(tables)


def _gradients(measured: dict[str, Any]) -> str:
    tables = measured["tables"]
    by_scene = tables["place"]
    methods = [name for name in GRADIENT_METHODS if name in by_scene]
    lines = [
        f"Gradient by the place of the vertices, for losses that weigh images of 48 x 48 pixels smoothly. "
        f"Medians over {measured['poses']} random poses: cosine with the exact gradient, and relative error "
        f"(L2). That of the exact gradient itself is at most {measured['truth_error_max']:.1g}.",
        "",
        "| scene | " + " | ".join(METHODS[name].title for name in methods) + " |",
        "|---|" + "---:|" * len(methods),
    ]
    for scene in by_scene[methods[0]]:
        cells = ["{:.3f},&nbsp;{:.2f}".format(*by_scene[name][scene]) for name in methods]
        lines.append(f"| {scene.replace('_', ' ')} | {' | '.join(cells)} |")
    lines += [
        "",
        "Means over the scenes. *Kept* is how much of the exact gradient is in the one found, the length of "
        "its projection. *By place* is as above; *noise* is the same for white noise as weights; *by depth* "
        "is the gradient by depth at a fixed place. *Image* is the root mean square error of the image.",
        "",
        "| method | kept | by place | noise | by depth | image |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in by_scene:
        agreements = [
            "{:.3f}, {:.2f}".format(*tables[k][name]["mean"]) for k in ("place", "place_noise", "depth")
        ]
        kept, image = tables["gain"][name]["mean"][0], tables["image"][name]["mean"][0]
        cells = [METHODS[name].title, f"{100 * kept:.0f} %", *agreements, f"{image:.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _densities(found: list[dict[str, Any]]) -> str:
    kept = {(d["method"], d["triangles"], d["size"]): d["gain"] for d in found}
    methods = [name for name in ("pixel_pair", "outline") if any(name == key[0] for key in kept)]
    sizes, counts = sorted({key[2] for key in kept}), sorted({key[1] for key in kept})
    lines = [
        "Kept on spheres of more and more triangles, by "
        + " / ".join(METHODS[name].title for name in methods),
        "",
        "| triangles | " + " | ".join(f"{size} x {size} px" for size in sizes) + " |",
        "|---:|" + "---:|" * len(sizes),
    ]
    for triangles in counts:
        cells = [" / ".join(f"{100 * kept[m, triangles, size]:.0f} %" for m in methods) for size in sizes]
        lines.append(f"| {triangles:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(text: str, table: str, markers: tuple[str, str] = (BEGIN, END)) -> str:
    """A text whose part between the two markers is the table."""
    begin, end = markers
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}{end}{after}"


#: Pages with a table in them, what makes it, and the markers around it.
TABLES = {
    "README.md": (short_table, (BEGIN, END)),
    "docs/guide/gpu.md": (gpu_tables.gpu_table, gpu_tables.MARKERS),
}


def main() -> None:
    for name, (table, markers) in TABLES.items():
        page = ROOT / name
        page.write_text(with_table(page.read_text(encoding="utf-8"), table(), markers), encoding="utf-8")
    for name, chart in chart_files().items():
        (IMAGES / name).write_text(chart, encoding="utf-8")


if __name__ == "__main__":
    main()
