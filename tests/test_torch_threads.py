# SPDX-License-Identifier: MIT
"""Torch's threads sleep between operations once they were asked to."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import rastergrad as rg

# CPU time that passes while nobody computes: threads that spin use it up, whatever else the machine does.
BURNED = """
import os, sys, time
import torch
import rastergrad as rg
torch.set_num_threads(len(os.sched_getaffinity(0)))
x = torch.zeros(1 << 20)
x.add_(1)
if sys.argv[1] == "rest":
    assert rg.rest_torch_threads()
burned = 0.0
for _ in range(20):
    x.add_(1)
    start = time.process_time()
    time.sleep(0.01)
    burned += time.process_time() - start
assert bool((x == 21).all())
print(burned)
"""

FORKED = """
import os
import rastergrad as rg
rg.rest_torch_threads()
child = os.fork()
if child == 0:
    os._exit(3)
print(os.waitpid(child, 0)[1] >> 8)
"""

MAPS = Path("/proc/self/maps")
needs_gomp = pytest.mark.skipif(
    not (MAPS.exists() and "libgomp" in MAPS.read_text()), reason="torch does not use GNU's OpenMP here"
)


def burned(how: str) -> float:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", BURNED, how], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


@needs_gomp
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="on one core torch has no second thread to spin")
def test_threads_no_longer_spin() -> None:
    """Red if the second team is missing: threads then spin for milliseconds after each operation."""
    assert burned("rest") < 0.5 * burned("spin")


@needs_gomp
def test_asking_twice_holds_one_team() -> None:
    rg.rest_torch_threads()
    before = threading.active_count()
    assert rg.rest_torch_threads()
    assert threading.active_count() == before


def test_results_stay_and_forks_go_on() -> None:
    rg.rest_torch_threads()
    x = torch.arange(1 << 20)
    assert torch.equal(x + 1, torch.arange(1, (1 << 20) + 1))
    if hasattr(os, "fork"):
        done = subprocess.run(
            [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.strip() == "3"
