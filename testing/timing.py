# SPDX-License-Identifier: MIT
"""Timings that can be compared: interleaved runs, medians and spread. Never used to pass or fail a test.

Before each timed call comes a pause and a call that does not count. What ran before would otherwise be
measured too: for some 5 ms after an operation of torch its OpenMP threads spin on every core, and one that
needed hundreds of megabytes has emptied the caches and given pages back. interpolate took 1.5 ms alone and
4.6 ms straight after a gather in torch. A `Run` with `before` keeps exactly that in, for rows that show it.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

# Twice what OpenMP threads spin at most here before they sleep.
PAUSE_S = 0.01
# A call this long is not helped by one before it, which would double the time of a benchmark.
WARM_BELOW_MS = 50.0


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
    before: Callable[[], object] | None = None  # called right before, in place of the pause and the warm call
    clocked: bool = False  # the call returns the milliseconds that count, as measured in another process


def interleaved(
    runs: Mapping[str, Run], *, budget_s: float, least: int = 5, most: int = 60, pause_s: float = PAUSE_S
) -> dict[str, Timing]:
    """Time each in turn, round after round, so that a slow moment of the machine hits all alike.

    Args:
        runs: by name; each is called twice before anything counts.
        budget_s: seconds for all rounds together.
        least, most: rounds, whatever the budget.
        pause_s: seconds of silence before each timed call.
    """
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    gc.disable()
    try:
        latest = {name: min(_timed(run), _timed(run)) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        start = time.perf_counter()
        for done in range(most):
            if done >= least and time.perf_counter() - start > budget_s:
                break
            for name, run in runs.items():
                if run.before is None:
                    time.sleep(pause_s)
                    if latest[name] < WARM_BELOW_MS:
                        _timed(run)
                latest[name] = _timed(run)
                times[name].append(latest[name])
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()
    return {name: _summary(values) for name, values in times.items()}


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
    low, median, high = statistics.quantiles(values, n=4)
    return Timing(median, low, high, min(values))
