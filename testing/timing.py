# SPDX-License-Identifier: MIT
"""Timings that can be compared: interleaved runs, medians and spread. Never used to pass or fail a test."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Milliseconds over several runs."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    best: float


def interleaved(
    runs: Mapping[str, Callable[[], object]], *, budget_s: float, most: int = 60
) -> dict[str, Timing]:
    """Time each callable in turn, round after round, so that a slow moment of the machine hits all alike.

    Args:
        runs: callables by name; each is called twice before anything counts.
        budget_s: seconds for all rounds together; at least five rounds are made.
        most: rounds at most.
    """
    for run in runs.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for done in range(most):
        if done >= 5 and time.perf_counter() - start > budget_s:
            break
        for name, run in runs.items():
            before = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - before) * 1e3)
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return Timing(median, low, high, min(values))
