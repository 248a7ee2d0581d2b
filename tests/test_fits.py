# SPDX-License-Identifier: MIT
"""Fits of poses to exact images: their ingredients, and a few short ones."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="needs pip install 'rastergrad[bench]'")

from benchmarks.gradient_truth import __main__ as command
from benchmarks.gradient_truth import fits
from benchmarks.gradient_truth.methods import METHODS
from benchmarks.gradient_truth.scenes import scene


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_placed_is_a_similarity_about_the_centre(seed: int) -> None:
    generator = np.random.default_rng(seed)
    position = torch.from_numpy(generator.standard_normal((5, 3)))
    parameters = torch.from_numpy(fits.random_start(generator))
    found = fits.placed(position, parameters)
    growth = parameters[6].exp()
    torch.testing.assert_close(torch.cdist(found, found), growth * torch.cdist(position, position))
    torch.testing.assert_close(found.mean(0), position.mean(0) + parameters[3:6])
    # Of a rotation by an angle a, the trace is 1 + 2 cos a; the rotation is found from where points went.
    before, after = position - position.mean(0), found - found.mean(0)
    turn = torch.linalg.lstsq(before, after).solution.T / growth
    torch.testing.assert_close(turn.trace().item(), 1 + 2 * np.cos(fits.TURN_RAD))
    torch.testing.assert_close(fits.placed(position, torch.zeros(7, dtype=torch.float64)), position)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_starts_are_some_pixels_off(seed: int) -> None:
    start, same = (fits.random_start(np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(start, same)
    half = fits.random_start(np.random.default_rng(seed), reach=0.5)
    np.testing.assert_allclose(half[:6], start[:6] / 2)
    posed = scene("thin", 0)
    assert 2 < fits.distance_px(posed, torch.from_numpy(start), 48) < 9
    assert fits.distance_px(posed, torch.zeros(7, dtype=torch.float64), 48) < 1e-12


# Measured: from 4.4 to 1.9 px (pixel_pair: to 6.9), and thin parts from 2.1 to 0.6 px (pixel_pair: to 3.7).
@pytest.mark.parametrize(
    ("name", "reach", "method", "most"), [("subpixel", 1, "outline", 0.5), ("thin", 0.5, "outline_v2", 0.35)]
)
def test_true_gradients_lead_home(name: str, reach: float, method: str, most: float) -> None:
    posed = scene(name, 0)
    target = fits.target_of(posed, panels=2)
    start = fits.random_start(np.random.default_rng([0, *name.encode()]), reach)
    before, after = fits.recover(posed, target, METHODS[method], start, rate=0.03, steps=40)
    assert after < most * before
    _, astray = fits.recover(posed, target, METHODS["pixel_pair"], start, rate=0.03, steps=40)
    assert astray > before, "pixel pairs have learnt to fit these; then the comparison proves nothing"


def test_command_prints_and_keeps_the_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [replace(case, methods=case.methods[:1]) for case in fits.CASES if case.scene == "thin"]
    found = list(fits.run(few, starts=2, rates=(0.01, 0.02), steps=3, panels=1))
    assert [(f.reach, f.rate) for f in found] == [(c.reach, rate) for c in few for rate in (0.01, 0.02)]
    monkeypatch.setattr(fits, "run", lambda **_: found)
    monkeypatch.setattr(sys, "argv", ["gradient_truth", "--fits", "--out", str(tmp_path / "new" / "a.json")])
    command.main()
    printed = capsys.readouterr().out
    assert printed.count("| thin |") == len(few)
    near = found[0]
    assert near.converged == sum(distance < 1 for distance in near.after)
    assert f"| {near.converged} / {np.median(near.after):.2f} |" in printed
    kept = json.loads((tmp_path / "new" / "a.json").read_text())
    assert [fit["after"] for fit in kept["fits"]] == [pytest.approx(f.after, abs=1e-4) for f in found]
