# SPDX-License-Identifier: MIT
"""Check the rows of a group, then time them, and what they are compared with, in one interleaved run."""

from collections.abc import Sequence

import torch

from testing.timing import Run, Timing, interleaved

from .peers.process import Peers, Prepared
from .rows import Peer, Result, Row, Spread

# What torch's copy moved on the machine that the targets were set on, bytes per second.
TARGET_COPY = 41.5e9


def copy_bandwidth(repeats: int = 9) -> float:
    """Bytes per second that torch's copy of 64 MB reads and writes here: the limit for streaming work."""
    source = torch.rand(16 << 20)
    target = torch.empty_like(source)
    run = Run(lambda: target.copy_(source))
    timing = interleaved({"copy": run}, budget_s=0.2, most=repeats)["copy"]
    return 2 * source.numel() * 4 / (timing.best / 1e3)


def measure(
    rows: Sequence[Row],
    *,
    threads: Sequence[int],
    budget_s: float,
    least: int,
    peers: Peers,
    in_process_peers: bool = True,
) -> list[Result]:
    """Every row with each number of threads; peers with the largest only.

    Raises AssertionError if a row differs from the oracle. A peer that differs, fails or is missing is left
    out, and the row says why.
    """
    for row in rows:
        row.check()
    limit, most = copy_bandwidth(), max(threads)
    runs: dict[str, Run] = {}
    outside: dict[str, list[Prepared]] = {}
    notes: dict[str, list[str]] = {}
    for row in rows:
        for count in threads:
            runs[_key(row.name, count)] = Run(row.run, count, row.before, row.clocked)
        if row.run_peer is not None and in_process_peers:
            runs[_key(row.name, f"beside {row.peer}")] = Run(row.run_peer, most)
        noted = len(peers.notes)
        outside[row.name] = [] if row.task is None else peers.prepare(row.task)
        notes[row.name] = peers.notes[noted:]
        for peer in outside[row.name]:
            runs[_key(row.name, peer.name)] = Run(peer.run, clocked=True)
    try:
        timings = interleaved(runs, budget_s=budget_s, least=least)
    finally:
        for prepared in outside.values():
            peers.drop(prepared)
    for name, ready in outside.items():
        notes[name] += dict.fromkeys(peers.failed[p.key] for p in ready if p.key in peers.failed)
        outside[name] = [p for p in ready if p.key not in peers.failed]
    return [_result(row, timings, threads, limit, outside[row.name], notes[row.name]) for row in rows]


def _key(row: str, which: object) -> str:
    return f"{row} | {which}"


def _result(
    row: Row,
    timings: dict[str, Timing],
    threads: Sequence[int],
    limit: float,
    outside: Sequence[Prepared],
    notes: Sequence[str],
) -> Result:
    by_threads = {count: timings[_key(row.name, count)] for count in sorted(threads)}
    ours = by_threads[max(threads)]
    beside = timings.get(_key(row.name, f"beside {row.peer}"))
    peers = [] if beside is None or row.peer is None else [_peer(row.peer, beside, ours)]
    peers += [_peer(peer.name, timings[_key(row.name, peer.name)], ours) for peer in outside]
    target = row.target_ms
    rate = row.bytes_moved / (ours.median / 1e3) if row.bytes_moved else None
    return Result(
        name=row.name,
        ms=ours.median,
        low=ours.low,
        high=ours.high,
        threads={str(count): Spread(t.median, t.low, t.high) for count, t in by_threads.items()},
        scaling=by_threads[1].median / ours.median if 1 in by_threads and len(by_threads) > 1 else None,
        target_ms=target,
        of_target=None if target is None else ours.median / target,
        in_proportion=None if target is None else ours.median / target / _slowness(row, beside, limit),
        bandwidth=None if rate is None else rate / limit,
        gb_per_s=None if rate is None else rate / 1e9,
        ns_per_pixel=ours.median * 1e6 / row.pixels if row.pixels else None,
        ns_per_triangle=ours.median * 1e6 / row.triangles if row.triangles else None,
        peers=tuple(peers),
        notes=tuple(notes),
    )


def _peer(name: str, timing: Timing, ours: Timing) -> Peer:
    return Peer(name, timing.median, timing.low, timing.high, timing.median / ours.median)


def _slowness(row: Row, peer: Timing | None, limit: float) -> float:
    """How many times slower this machine is than the one that the target was set on."""
    if peer is not None and row.peer_target_ms is not None:
        return peer.median / row.peer_target_ms
    return TARGET_COPY / limit
