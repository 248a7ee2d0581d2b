# SPDX-License-Identifier: MIT
"""Pages that are made from code: one for each script in examples/, and the benchmark table.

`python -m docs.pages_from_code` brings the table in README.md up to date with benchmarks/results/*.json.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
