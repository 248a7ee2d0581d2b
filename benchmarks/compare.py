# SPDX-License-Identifier: MIT
"""What became slower or faster between two results, beyond their spread."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Quartiles of a quiet machine lie within a few per cent; two runs differ by as much more.
NOISE = 0.05


@dataclass(frozen=True)
class Change:
    """A row of both results. `ratio` is the new median over the old."""

    name: str
    old_ms: float
    new_ms: float
    ratio: float
    beyond_noise: bool


@dataclass(frozen=True)
class Comparison:
    """Rows by what happened to them."""

    changes: tuple[Change, ...]
    missing: tuple[str, ...]  # of the old result
    added: tuple[str, ...]
    machine: tuple[str, ...]  # what differs between the machines: then ratios mean little

    @property
    def median(self) -> float:
        """Of all ratios: far from 1 if the machine as a whole was slower or faster."""
        return statistics.median(c.ratio for c in self.changes) if self.changes else 1.0

    @property
    def slower(self) -> list[Change]:
        return sorted((c for c in self.changes if c.beyond_noise and c.ratio > 1), key=lambda c: -c.ratio)

    @property
    def faster(self) -> list[Change]:
        return sorted((c for c in self.changes if c.beyond_noise and c.ratio < 1), key=lambda c: c.ratio)


def compare(old: dict[str, Any], new: dict[str, Any]) -> Comparison:
    """A change counts if the quartiles are apart and the medians differ by more than NOISE."""
    before = {row["name"]: row for row in old["results"]}
    after = {row["name"]: row for row in new["results"]}
    changes = []
    for name, row in after.items():
        if name in before:
            was = before[name]
            ratio = row["ms"] / was["ms"]
            apart = row["low"] > was["high"] or row["high"] < was["low"]
            changes.append(Change(name, was["ms"], row["ms"], ratio, apart and abs(ratio - 1) > NOISE))
    keys = ("processor", "threads", "simd", "torch", "size")
    differs = tuple(
        f"{key}: {old['machine'].get(key)} then, {new['machine'].get(key)} now"
        for key in keys
        if old["machine"].get(key) != new["machine"].get(key)
    )
    return Comparison(
        tuple(changes),
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
        differs,
    )


def report(found: Comparison) -> str:
    """For the terminal."""
    lines = [f"{found.median:.2f} x in the median: if all rows moved alike, it may be the machine"]
    lines += [f"measured differently: {text}" for text in found.machine]
    for title, changes in (("slower", found.slower), ("faster", found.faster)):
        lines += [
            f"{c.ratio:6.2f} x  {title}: {c.name} ({c.old_ms:.3g} -> {c.new_ms:.3g} ms)" for c in changes
        ]
    lines += [f"missing: {name}" for name in found.missing]
    lines += [f"new: {name}" for name in found.added]
    even = len(found.changes) - len(found.slower) - len(found.faster)
    return "\n".join([*lines, f"{even} rows within noise"])


def fails(found: Comparison, above_percent: float | None) -> Sequence[str]:
    """Rows that are slower by more than that, beyond noise."""
    if above_percent is None:
        return []
    return [c.name for c in found.slower if 100 * (c.ratio - 1) > above_percent]
