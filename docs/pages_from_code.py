# SPDX-License-Identifier: MIT
"""Pages that are made from code: one for each script in examples/, and the tables of benchmarks.

`python -m docs.pages_from_code` brings the table in README.md up to date with benchmarks/results/*.json.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gradient_truth.methods import METHODS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
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


def benchmark_table(results: Path = RESULTS) -> str:
    """All committed results as Markdown, one table for each machine."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    tables = [_table(measured) for measured in found if "machine" in measured]  # others hold no times
    if not tables:
        return "No results are committed yet; `make bench` measures this machine.\n"
    return "\n".join(tables)


def _table(measured: dict[str, Any]) -> str:
    machine = measured["machine"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, {machine['simd']}, torch {machine['torch']}, "
        f"images of {machine['size']} x {machine['size']} pixels; a large copy runs at "
        f"{machine['copy_gb_per_s']:g} GB/s.",
        "",
        "| operation | ms (quartiles) | of copy speed | compared in the same run |",
        "|---|---:|---:|---|",
    ]
    for row in measured["results"]:
        band = "" if row["bandwidth"] is None else f"{100 * row['bandwidth']:.0f} %"
        peer = "" if row["peer"] is None else f"{row['peer']}: {row['peer_ms']:.3g} ms"
        lines.append(
            f"| {row['name']} | {row['ms']:.3g} ({row['low']:.3g}–{row['high']:.3g}) | {band} | {peer} |"
        )
    return "\n".join(lines) + "\n"


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


def with_table(text: str, table: str) -> str:
    """A text whose part between the two markers is the table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main() -> None:
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), benchmark_table()), encoding="utf-8")


if __name__ == "__main__":
    main()
