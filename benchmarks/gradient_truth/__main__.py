# SPDX-License-Identifier: MIT
"""Compare the library's gradients of visibility with exact ones: Markdown tables, and the figures as JSON."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from . import fits, studies
from .measure import Measurement, measure
from .methods import METHODS, Method, chosen
from .records import record
from .scenes import NAMES, scene
from .table import TABLES, markdown, medians, qualification

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradient_truth", description=__doc__)
    parser.add_argument("--poses", type=int, default=12, help="random poses of each scene")
    parser.add_argument(
        "--scenes", nargs="+", choices=NAMES, default=NAMES, metavar="SCENE", help=", ".join(NAMES)
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--quick", action="store_true", help="three poses, or one in a sweep")
    study = parser.add_mutually_exclusive_group()
    study.add_argument(
        "--sweep", action="store_true", help="instead: spheres of 80 to 20,480 triangles at 48 to 384 px"
    )
    study.add_argument(
        "--gain", type=int, metavar="N", help="instead: least and greatest gain over N poses of closed scenes"
    )
    study.add_argument("--fits", action="store_true", help="instead: fit poses from random starts")
    parser.add_argument("--out", type=Path, help="where the JSON goes instead of benchmarks/results/")
    args = parser.parse_args()
    if args.fits:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # images of 48 x 48 px are not worth sharing
        try:
            fitted = list(fits.run(starts=3) if args.quick else fits.run())
        finally:
            torch.set_num_threads(threads)
        print(fits.markdown(fitted))
        keep(args.out or RESULTS / "gradient-truth-fits.json", fits.content(fitted))
        return
    methods = chosen(args.methods)
    if args.sweep:
        densities = studies.densities(methods, poses=1 if args.quick else 3)
        print(studies.densities_markdown(densities))
        keep(args.out or RESULTS / "gradient-truth-density.json", {"found": [d.as_dict() for d in densities]})
    elif args.gain:
        spreads = studies.spreads(methods, args.gain)
        print(studies.spreads_markdown(spreads))
        keep(args.out or RESULTS / "gradient-truth-gain.json", {"found": [s.as_dict() for s in spreads]})
    else:
        measurements = measure_all(args.scenes, 3 if args.quick else args.poses, methods)
        print(markdown(measurements))
        tables = {table.key: medians(measurements, table) for table in TABLES}
        keep(args.out or RESULTS / "gradient-truth.json", {**qualification(measurements), "tables": tables})


def measure_all(scenes: Sequence[str], poses: int, methods: Sequence[Method]) -> list[Measurement]:
    """Every method on every pose of every scene."""
    found = []
    for name in scenes:
        for pose in range(poses):
            posed = scene(name, pose)
            truth = record(posed)
            found += [measure(posed, truth, method) for method in methods]
        print(f"{name} measured", flush=True)
    return found


def keep(path: Path, content: dict[str, object]) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({"torch": torch.__version__, **content}, indent=1) + "\n")
    draft.replace(path)
    print(f"Results: {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
