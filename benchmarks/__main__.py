# SPDX-License-Identifier: MIT
"""Run the table, print it, and keep it as JSON under benchmarks/results/."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import rastergrad as rg

from . import compare, results
from .measure import measure
from .peers import PEERS
from .peers.process import Peers
from .rows import Result

ROOMS = ("rasterize", "interpolate", "texture", "antialias", "step", "small", "overhead")
IN_PROCESS = "torch"  # grid_sample, a gather, and ways of ours that are compared with each other


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    if args.peers is None:
        args.peers = (IN_PROCESS,) if args.quick else (IN_PROCESS, *PEERS)
    rooms = args.only or [*ROOMS, *(["large"] if args.large else [])]
    old = None if args.compare is None else json.loads(args.compare.read_text(encoding="utf-8"))
    peers = Peers([name for name in PEERS if name in args.peers], max(args.threads))
    torch.set_num_threads(max(args.threads))
    rg.recycle_torch_memory()
    rg.rest_torch_threads()
    machine = results.machine(args.threads, args.size)
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    peers.start()
    left_out = list(peers.notes)
    found: list[Result] = []
    try:
        for room in rooms:
            for rows in import_module(f"benchmarks.bench_{room}").groups(args.size):
                fresh = measure(
                    rows,
                    threads=args.threads,
                    # A group of more rows gets more time.
                    budget_s=len(rows) * (0.2 if args.quick else 2.0),
                    least=2 if args.quick else 5,
                    peers=peers,
                    in_process_peers=IN_PROCESS in args.peers,
                )
                for result in fresh:
                    print(results.line(result), flush=True)
                found += fresh
    finally:
        peers.stop()
    new = {
        "machine": {**machine, "copy_gb_per_s": results.copy_speed(found)},
        "peers": peers.versions,
        "notes": left_out,
        "results": [result.as_dict() for result in found],
    }
    path = args.out or results.path_for(machine["processor"])
    before = json.loads(path.read_text(encoding="utf-8")) if args.only and path.exists() else None
    results.write(path, results.merged(before, new))
    print(f"{len(found)} rows, each checked against the oracle first. Results: {os.path.relpath(path)}")
    return 0 if old is None else _compare(old, new, args.fail_above)


def _compare(old: dict[str, Any], new: dict[str, Any], above: float | None) -> int:
    comparison = compare.compare(old, new)
    print(compare.report(comparison))
    failed = compare.fails(comparison, above)
    for name in failed:
        print(f"more than {above:g} % slower: {name}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of several; no other programs")
    parser.add_argument("--large", action="store_true", help="also work that needs up to 17 GB and minutes")
    parser.add_argument("--only", choices=[*ROOMS, "large"], action="append", help="one room; repeatable")
    parser.add_argument(
        "--threads", type=_threads, default=(1, 2), help="numbers of torch threads; the targets are for 2"
    )
    parser.add_argument(
        "--size", type=int, default=1024, help="image side in pixels; the targets are for 1024"
    )
    parser.add_argument(
        "--peers",
        type=_peers,
        help=f"none, all, or some of {', '.join([IN_PROCESS, *PEERS])}; default: all that are "
        f"installed, {IN_PROCESS} with --quick",
    )
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="say what became slower since")
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="PERCENT",
        help="with --compare: status 1 if a row is slower by more",
    )
    return parser


def _threads(text: str) -> tuple[int, ...]:
    counts = tuple(sorted({int(part) for part in text.split(",")}))
    if min(counts) < 1:
        raise argparse.ArgumentTypeError("a number of threads is at least 1")
    return counts


def _peers(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    if text == "all":
        return (IN_PROCESS, *PEERS)
    known = {name.lower(): name for name in (IN_PROCESS, *PEERS)}
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no peer {', '.join(unknown)}; there are {', '.join(known.values())}"
        )
    return tuple(known[name] for name in names)


if __name__ == "__main__":
    sys.exit(main())
