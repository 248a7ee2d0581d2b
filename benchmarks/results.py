# SPDX-License-Identifier: MIT
"""The measured rows on paper: a line each on the terminal, one JSON per machine."""

import json
import os
import platform
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rastergrad.core import native

from .rows import Peer, Result

RESULTS = Path(__file__).parent / "results"
# Rows of two runs belong together only where these agree.
SAME_MACHINE = ("processor", "cores", "threads", "simd", "torch", "size")

FIRST_WORDS = ("rasterize", "interpolate", "texture", "antialias", "full", "pose", "overhead")


def machine(threads: Sequence[int], size: int) -> dict[str, Any]:
    """What the times depend on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": max(threads),
        "simd": native.simd_level(),
        "torch": torch.__version__,
        "size": size,
    }


def copy_speed(results: Sequence[Result]) -> float | None:
    """What a large copy reached beside the rows, in GB/s: the median, as single ones are lucky."""
    speeds = [r.gb_per_s / r.bandwidth for r in results if r.gb_per_s is not None and r.bandwidth is not None]
    return round(statistics.median(speeds), 1) if speeds else None


def processor() -> str:
    """The processor's name, or its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"{found[1] if found else platform.processor() or 'processor'} {platform.machine()}"


def path_for(name: str, kind: str = "") -> Path:
    """Where results of a processor are kept."""
    return RESULTS / (re.sub(r"[^a-z0-9]+", "-", f"{name} {kind}".lower()).strip("-") + ".json")


def write(path: Path, content: dict[str, Any]) -> None:
    """Aside, then renamed: an interrupted run leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def merged(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """New rows instead of old ones of the same name, if both were measured alike; else the new ones."""
    # Other versions of this program may have written other entries.
    if old is None or old.keys() != new.keys():
        return new
    if any(old["machine"][k] != new["machine"][k] for k in SAME_MACHINE):
        return new
    fresh = {row["name"]: row for row in new["results"]}
    kept = [fresh.pop(row["name"], row) for row in old["results"]]
    # That a peer is missing is true until it is seen.
    notes = [n for n in old["notes"] if n not in new["notes"] and not n.startswith(tuple(new["peers"]))]
    return {
        **new,
        "peers": {**old["peers"], **new["peers"]},
        "notes": notes + new["notes"],
        "results": sorted(kept + list(fresh.values()), key=_place),
    }


def _place(row: dict[str, Any]) -> int:
    """Rows of one operation stand together, whichever room was measured last."""
    first = row["name"].split(" ")[0]
    return FIRST_WORDS.index(first) if first in FIRST_WORDS else len(FIRST_WORDS)


def line(r: Result) -> str:
    """name, median (quartiles), one thread, ratio to the target (and in proportion to this machine), peers"""
    parts = [f"{r.name:72s} {_time(r.ms)} ({r.low:.3g}-{r.high:.3g})"]
    if r.scaling is not None:
        parts.append(f"{r.scaling:4.2f} x on {max(map(int, r.threads))} threads")
    if r.of_target is not None:
        here = "" if r.in_proportion is None else f" ({r.in_proportion:.2f} here)"
        parts.append(f"{r.of_target:.2f} x target {r.target_ms:g}{here}")
    if r.bandwidth is not None:
        parts.append(f"{r.gb_per_s:.3g} GB/s, {r.bandwidth:.0%} of copy")
    if r.ns_per_pixel is not None:
        parts.append(f"{r.ns_per_pixel:.2f} ns/px")
    if r.ns_per_triangle is not None:
        parts.append(f"{r.ns_per_triangle:.3g} ns/triangle")
    return "; ".join([*parts, *(_peer(peer) for peer in r.peers)])


def _time(ms: float) -> str:
    return f"{ms:8.3f} ms" if ms >= 0.05 else f"{1e3 * ms:8.2f} us"


def _peer(peer: Peer) -> str:
    if peer.speedup >= 1:
        return f"{peer.speedup:.1f} x faster than {peer.name} ({peer.ms:.3g} ms)"
    return f"{1 / peer.speedup:.2f} x the time of {peer.name} ({peer.ms:.3g} ms)"
