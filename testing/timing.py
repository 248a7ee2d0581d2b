# SPDX-License-Identifier: MIT
"""Timings that can be compared: interleaved runs, medians and spread. Never used to pass or fail a test.

What ran before would be measured, too: for some 5 ms after an operation of torch its OpenMP threads spin on
every core, and those of Mitsuba for 20; one that needed hundreds of megabytes has emptied the caches and
given pages back. interpolate took 1.5 ms alone and 4.6 ms straight after a gather in torch. So a pause
comes first, in which threads fall asleep. But after a pause cores wake up slowly: rasterizing 1,000
triangles then took 4.0 ms with quartiles 2.6 and 5.0, and 2.5 (2.4 and 2.7) once the core had worked for 20
ms. So each burst of timed calls comes after that much of the same work. Ours and others are treated alike.
A `Run` with `before` goes without both, for rows that show what work in torch does to the next call.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

PAUSE_S = 0.03
WARM_S = 0.02
# Calls of a burst, and how long it goes on at most before the next one has its turn.
BURST, BURST_S = 5, 0.04


@dataclass(frozen=True)
class Timing:
    """Milliseconds over several runs."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    best: float


@dataclass(frozen=True)
class Run:
    """What is timed, and how."""

    call: Callable[[], object]
    threads: int | None = None  # of torch; None leaves its setting
    before: Callable[[], object] | None = None  # called right before each timed call
    clocked: bool = False  # the call returns the milliseconds that count, as measured in another process


def interleaved(
    runs: Mapping[str, Run],
    *,
    budget_s: float,
    least: int = 5,
    most: int = 60,
    pause_s: float = PAUSE_S,
    warm_s: float = WARM_S,
) -> dict[str, Timing]:
    """Time each in turn, round after round, so that a slow moment of the machine hits all alike.

    Args:
        runs: by name; each is called once before anything counts.
        budget_s: seconds for all rounds together.
        least, most: rounds, whatever the budget.
        pause_s: seconds of silence before each burst of timed calls.
        warm_s: seconds of the same calls, untimed, between the pause and the burst.
    """
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    gc.disable()
    try:
        # A call of a burst's length has been through all that before its end.
        long = {name: _timed(run) > BURST_S * 1e3 for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        start = time.perf_counter()
        for done in range(most):
            if done >= least and time.perf_counter() - start > budget_s:
                break
            for name, run in runs.items():
                if run.before is None:
                    time.sleep(pause_s)
                    if not long[name]:
                        _repeat(run, 1 << 30, warm_s)
                times[name] += _repeat(run, BURST, BURST_S)
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()
    return {name: _summary(values) for name, values in times.items()}


def _repeat(run: Run, most: int, seconds: float) -> list[float]:
    """At least once."""
    end = time.perf_counter() + seconds
    times = [_timed(run)]
    while len(times) < most and time.perf_counter() < end:
        times.append(_timed(run))
    return times


def _timed(run: Run) -> float:
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    if run.before is not None:
        run.before()
    start = time.perf_counter()
    answer = run.call()
    passed = (time.perf_counter() - start) * 1e3
    if not run.clocked:
        return passed
    assert isinstance(answer, float), "a clocked run returns its milliseconds"
    return answer


def _summary(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high, min(values))
