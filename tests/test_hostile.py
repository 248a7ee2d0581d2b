# SPDX-License-Identifier: MIT
"""Hostile tensors: no crash, no wrong shape, no difference between thread counts, no nameless error.

RASTERGRAD_HOSTILE_ROUNDS sets the number of calls, RASTERGRAD_HOSTILE_SEED the first one's seed.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rastergrad as rg
from testing import hostile
from testing.poison import NUMBERS, Poison, equal

ROUNDS = int(os.environ.get("RASTERGRAD_HOSTILE_ROUNDS", "900"))
SEED = int(os.environ.get("RASTERGRAD_HOSTILE_SEED", "0"))
KINDS = len(hostile.ATTACKS)


@pytest.mark.parametrize("kind", range(KINDS), ids=[a.__name__.strip("_") for a in hostile.ATTACKS])
def test_hostile_tensors_give_results_or_errors_that_name_the_function(kind: int) -> None:
    first = SEED + (kind - SEED) % KINDS
    outcomes = Counter(hostile.strike(seed)[1] for seed in range(first, first + ROUNDS, KINDS))
    # A fuzz that is turned away at the door proves nothing about what lies behind it.
    assert outcomes["result"] >= outcomes["refusal"]


def test_a_failing_round_is_told_with_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_shape(*args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(3), torch.zeros(3)

    seed = next(s for s in range(0, 999, KINDS) if hostile.strike(s) == ("rasterize", "result"))
    monkeypatch.setattr(rg, "rasterize", wrong_shape)
    with pytest.raises(AssertionError, match=rf"rasterize, .*--seed {seed}"):
        hostile.strike(seed)


def test_a_nameless_error_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(*args: Any, **options: Any) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(rg, "rasterize", nameless)
    with pytest.raises(AssertionError, match="nameless refusal"):
        hostile.strike(0)


def test_results_are_compared_bit_by_bit_but_for_nan() -> None:
    numbers = torch.tensor(NUMBERS)
    assert equal([numbers, None], [numbers.clone(), None])
    assert not equal([torch.tensor(0.0)], [torch.tensor(-0.0)])
    assert not equal([None], [numbers])


def test_layouts_keep_the_numbers() -> None:
    changed = 0
    for seed in range(200):
        x = torch.arange(60.0).reshape(3, 4, 5)
        laid = Poison(seed).layout(x)
        assert laid.shape == x.shape
        changed += not laid.is_contiguous() or laid.storage_offset() != 0
        if 0 not in laid.stride():
            assert torch.equal(laid.flatten().sort().values, x.flatten())
    assert changed > 50


META = {"device": "meta"}
TRI = torch.zeros(1, 3, dtype=torch.int32, **META)
RAST, POS = torch.zeros(1, 2, 2, 4, **META), torch.zeros(1, 3, 4, **META)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("rasterize", lambda: rg.rasterize(POS, TRI, (2, 2))),
        ("depth_layers", lambda: rg.depth_layers(POS, TRI, (2, 2), 1)),
        ("interpolate", lambda: rg.interpolate(POS, RAST, TRI)),
        ("texture", lambda: rg.texture(RAST, RAST[..., :2])),
        ("texture", lambda: rg.texture(torch.ones(1, 2, 2, 3), torch.ones(1, 2, 2, 2), rast=RAST)),
        ("build_mipmaps", lambda: rg.build_mipmaps(RAST)),
        ("edge_topology", lambda: rg.edge_topology(TRI)),
        ("antialias", lambda: rg.antialias(RAST, RAST, POS, TRI)),
    ],
)
def test_tensors_without_numbers_are_refused(name: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .*meta"):
        call()


def test_the_driver_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testing.hostile", "--rounds", "8", "--seed", "5"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "survived 8 rounds", done.stderr
