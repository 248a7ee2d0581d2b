# SPDX-License-Identifier: MIT
"""What a line of the benchmark table is, and how a group of lines is measured."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from testing.timing import Timing, interleaved


@dataclass(frozen=True)
class Row:
    """One operation at one size."""

    name: str
    target_ms: float | None  # design figure for 2 threads at 1024^2; None: no target
    run: Callable[[], object]
    check: Callable[[], None]  # raises if the result differs from the oracle
    bytes_moved: int = 0  # inputs, outputs and gradients, each once; 0: not bound by memory
    peer: str | None = None
    run_peer: Callable[[], object] | None = None
    peer_target_ms: float | None = None  # the peer on the machine that the target was set on


# What torch's copy moved on the machine that the targets were set on, bytes per second.
TARGET_COPY = 41.5e9


@dataclass(frozen=True)
class Result:
    """A measured row. Times are in milliseconds."""

    name: str
    ms: float
    low: float
    high: float
    target_ms: float | None
    of_target: float | None  # ms / target: below 1 is better
    # The same in this machine's terms: the target scaled by how long the peer takes here and took there, or
    # without a peer by how fast memory is copied here and was there.
    in_proportion: float | None
    bandwidth: float | None  # bytes_moved per second, relative to a large copy in the same run
    peer: str | None
    peer_ms: float | None
    speedup: float | None  # peer_ms / ms

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def copy_bandwidth(repeats: int = 9) -> float:
    """Bytes per second that torch's copy of 64 MB reads and writes here: the machine's limit for streaming
    work.
    """
    source = torch.rand(16 << 20)
    target = torch.empty_like(source)
    timing = interleaved({"copy": lambda: target.copy_(source)}, budget_s=0.2, most=repeats)["copy"]
    return 2 * source.numel() * 4 / (timing.best / 1e3)


def measure(rows: Sequence[Row], *, budget_s: float) -> list[Result]:
    """Check every row, then time all of them and their peers in one interleaved run."""
    for row in rows:
        row.check()
    limit = copy_bandwidth()
    runs: dict[str, Callable[[], object]] = {}
    for row in rows:
        runs[row.name] = row.run
        if row.run_peer is not None:
            runs[f"peer of {row.name}"] = row.run_peer
    timings = interleaved(runs, budget_s=budget_s)
    return [_result(row, timings[row.name], timings.get(f"peer of {row.name}"), limit) for row in rows]


def _result(row: Row, timing: Timing, peer: Timing | None, limit: float) -> Result:
    return Result(
        name=row.name,
        ms=timing.median,
        low=timing.low,
        high=timing.high,
        target_ms=row.target_ms,
        of_target=None if row.target_ms is None else timing.median / row.target_ms,
        in_proportion=None
        if row.target_ms is None
        else timing.median / row.target_ms / _slowness(row, peer, limit),
        bandwidth=row.bytes_moved / (timing.median / 1e3) / limit if row.bytes_moved else None,
        peer=row.peer,
        peer_ms=None if peer is None else peer.median,
        speedup=None if peer is None else peer.median / timing.median,
    )


def _slowness(row: Row, peer: Timing | None, limit: float) -> float:
    """How many times slower this machine is than the one that the target was set on."""
    if peer is not None and row.peer_target_ms is not None:
        return peer.median / row.peer_target_ms
    return TARGET_COPY / limit
