# SPDX-License-Identifier: MIT
"""Compare the library's gradients of visibility with exact ones: Markdown tables, and the figures as JSON."""

import argparse
import json
import os
from pathlib import Path

import torch

from . import fits
from .measure import Measurement, measure
from .methods import METHODS, chosen
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
    parser.add_argument("--quick", action="store_true", help="three poses")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "gradient-truth.json", help="where the JSON goes"
    )
    parser.add_argument(
        "--fits", action="store_true", help="fit poses from random starts instead; takes --quick and --out"
    )
    args = parser.parse_args()
    if args.fits:
        torch.set_num_threads(1)  # images of 48 x 48 px are not worth sharing
        found = list(fits.run(starts=3) if args.quick else fits.run())
        print(fits.markdown(found))
        keep(args.out.with_stem(f"{args.out.stem}-fits"), fits.content(found))
        return
    methods = chosen(args.methods)
    measurements: list[Measurement] = []
    for name in args.scenes:
        for pose in range(3 if args.quick else args.poses):
            posed = scene(name, pose)
            truth = record(posed)
            measurements += [measure(posed, truth, method) for method in methods]
        print(f"{name} measured", flush=True)
    print(markdown(measurements))
    keep(
        args.out,
        {
            **qualification(measurements),
            "torch": torch.__version__,
            "tables": {table.key: medians(measurements, table) for table in TABLES},
        },
    )


def keep(path: Path, content: dict[str, object]) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(path)
    print(f"Results: {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
