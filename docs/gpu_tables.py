# SPDX-License-Identifier: MIT
"""The table of docs/guide/gpu.md from what benchmarks.gpu measured."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
MARKERS = "<!-- gpu: begin -->", "<!-- gpu: end -->"

Row = dict[str, Any]


def gpu_table(results: Path = RESULTS) -> str:
    """Markdown for every committed GPU: milliseconds by size of the mesh, and whole frames."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    tables = [_of_one(content) for content in found if "gpu" in content and "time" in content]
    return (
        "\n".join(tables) or "No results are committed yet; `python -m benchmarks.gpu` measures this GPU.\n"
    )


def _of_one(content: dict[str, Any]) -> str:
    gpu, time, start = content["gpu"], content["time"], content["compile"]
    nvrtc = ".".join(map(str, gpu["nvrtc"]))
    rows = [row for row in time["rows"] if "ms" in row]
    return "\n".join(
        [
            f"{gpu['name']}, torch {gpu['torch']}, NVRTC {nvrtc}; a large copy runs at "
            f"{time['copy_gb_per_s']:,} GB/s. All {start['programs']} programs are compiled in "
            f"{start['first_use_s']:.2g} s on {start['cores']} cores; a later process loads them in "
            f"{start['cached_start_s'] * 1e3:.0f} ms.",
            "",
            "Milliseconds on images of 1024 x 1024 pixels, replayed as CUDA graphs, forward / backward, and "
            "the share of the copy's speed at which the fewest bytes would move:",
            "",
            *_by_triangles([row for row in rows if row["size"] == 1024 and row["batch"] == 1]),
            "",
            "Other sizes, and scenes that are hard to balance, forward / backward:",
            "",
            *_others(rows),
            "",
        ]
    )


def _cell(row: Row | None, share: bool = True) -> str:
    if row is None:
        return ""
    text = f"{row['ms']:.3g}"
    if "backward_ms" in row:
        text += f" / {row['backward_ms']:.3g}"
        shares = f"{row['of_copy']:.0%}, {row['backward_of_copy']:.0%}"
    else:
        shares = f"{row['of_copy']:.0%}"
    return f"{text} ({shares})" if share else text


def _by_triangles(rows: Sequence[Row]) -> list[str]:
    spheres = [row for row in rows if row["scene"] == "sphere"]
    counts = sorted({row["triangles"] for row in spheres})
    known = {(row["name"], row["triangles"]): row for row in spheres}
    lines = [f"| triangles | {' | '.join(f'{n:,}' for n in counts)} |", f"|---|{'---:|' * len(counts)}"]
    for name in dict.fromkeys(row["name"] for row in spheres):
        whole = name in ("edge_topology", "full step")
        cells = [_cell(known.get((name, n)), share=not whole) for n in counts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _others(rows: Sequence[Row]) -> list[str]:
    lines = ["| scene | images | rasterize | full step |", "|---|---|---:|---:|"]
    scenes: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        key = row["scene"], row["triangles"], row["batch"], row["size"]
        if row["size"] != 1024 or row["batch"] != 1 or row["scene"] != "sphere":
            scenes.setdefault(key, {})[row["name"]] = row
    for (scene, triangles, batch, size), found in scenes.items():
        cells = [_cell(found.get(name), share=False) for name in ("rasterize", "full step")]
        lines.append(f"| {scene}, {triangles:,} triangles | {batch} x {size}² | {' | '.join(cells)} |")
    return lines
