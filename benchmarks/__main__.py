# SPDX-License-Identifier: MIT
"""Run the table, print it, and keep it as JSON under benchmarks/results/."""

import argparse
import json
import os
import platform
import re
from importlib import import_module
from pathlib import Path

import torch

from rastergrad.core import native

from .rows import Result, copy_bandwidth, measure

ROOMS = ("rasterize", "interpolate", "texture", "antialias", "step")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument("--only", choices=ROOMS, action="append", help="one room (may be repeated)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (the targets are for 2)")
    parser.add_argument(
        "--size", type=int, default=1024, help="image side in pixels (the targets are for 1024)"
    )
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "simd": native.simd_level(),
        "torch": torch.__version__,
        "size": args.size,
        "copy_gb_per_s": round(copy_bandwidth() / 1e9, 1),
    }
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    results: list[Result] = []
    for room in args.only or ROOMS:
        rows = import_module(f"benchmarks.bench_{room}").rows(args.size)
        results += measure(rows, budget_s=3 if args.quick else 20)
        for result in results[-len(rows) :]:
            print(line(result), flush=True)
    path = args.out or RESULTS / (
        re.sub(r"[^a-z0-9]+", "-", machine["processor"].lower()).strip("-") + ".json"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(
        json.dumps({"machine": machine, "results": [r.as_dict() for r in results]}, indent=1) + "\n"
    )
    draft.replace(path)
    print(f"{len(results)} rows, each checked against the oracle first. Results: {os.path.relpath(path)}")


def line(r: Result) -> str:
    """name, median (quartiles), ratio to the target (and in proportion to this machine), copy, peer"""
    target = (
        ""
        if r.of_target is None
        else f"{r.of_target:5.2f} x target {r.target_ms:g} ({r.in_proportion:.2f} here)"
    )
    band = "" if r.bandwidth is None else f"{r.bandwidth:4.0%} of copy"
    peer = ""
    if r.speedup is not None and r.speedup >= 1:
        peer = f"{r.speedup:5.1f} x faster than {r.peer} ({r.peer_ms:.2f} ms)"
    elif r.speedup is not None:
        peer = f"{1 / r.speedup:5.2f} x the time of {r.peer} ({r.peer_ms:.2f} ms)"
    return f"{r.name:66s} {r.ms:8.3f} ms ({r.low:.3f}-{r.high:.3f})  {target:34s} {band:12s} {peer}"


def processor() -> str:
    """The processor's name, or its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"{found[1] if found else platform.processor() or 'processor'} {platform.machine()}"


if __name__ == "__main__":
    main()
