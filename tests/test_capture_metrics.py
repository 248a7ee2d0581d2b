# SPDX-License-Identifier: MIT
"""Millimetres and decibels, against brute force and known shifts."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rastergrad.capture.metrics import (
    Truth,
    distances,
    measure,
    psnr_db,
    read_truth,
    seen_by,
    statistics,
    write_json,
)
from testing.performances import small_performance, write_dataset


def brute_force(point: np.ndarray, corners: np.ndarray, steps: int = 60) -> float:
    """The smallest distance to many points of each triangle."""
    grid = np.array([(i, j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    weight = np.concatenate([grid, 1 - grid.sum(1, keepdims=True)], axis=1)
    return float(np.linalg.norm(weight @ corners - point, axis=-1).min())


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), flatness=st.floats(0.0, 1.0))
def test_distances_against_brute_force(seed: int, flatness: float) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.normal(size=(5, 3, 3))
    corners[:, 2] = corners[:, 1] + (corners[:, 2] - corners[:, 1]) * max(flatness, 1e-3)  # down to slivers
    points = generator.normal(size=(6, 3)) * 2
    tri = torch.arange(15).reshape(5, 3)
    found = distances(torch.from_numpy(points), torch.from_numpy(corners.reshape(-1, 3)), tri).numpy()
    expected = [brute_force(point, corners) for point in points]
    # The grid is never nearer, and at most a step of the longest edge away.
    longest = np.linalg.norm(corners - corners[:, [1, 2, 0]], axis=-1).max()
    assert (found <= np.array(expected) + 1e-9).all()
    assert (found >= np.array(expected) - longest / 60).all()


def test_distance_inside_edges_and_corners() -> None:
    triangle = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]])
    points = torch.tensor([[0.5, 0.5, 3.0], [1.0, -2.0, 0.0], [-3.0, -4.0, 0.0], [2.0, 2.0, 0.0]])
    found = distances(points, triangle, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(found, torch.tensor([3.0, 2.0, 5.0, math.sqrt(2)], dtype=torch.float64))


def test_statistics() -> None:
    assert statistics(torch.arange(101.0)) == {"mean": 50.0, "median": 50.0, "p95": 95.0, "count": 101}
    assert math.isnan(statistics(torch.zeros(0))["mean"])


def test_seen_by_counts_what_nothing_hides() -> None:
    """The egg's front is seen by all three cameras, its back by none."""
    performance = small_performance()
    template = performance.template
    count = seen_by(template.positions, template.tri, performance.cameras, 1000.0)
    z = template.positions[:, 2]
    assert (count[z > 0.09] == 3).all()
    assert (count[z < -0.085] == 0).all()


def measured(shift: float) -> tuple[dict, torch.Tensor]:
    performance = small_performance()
    truth = Truth(
        performance.positions,
        performance.template.tri,
        {"all": torch.ones(len(performance.template.positions), dtype=torch.bool)},
    )
    moved = performance.positions + torch.tensor([0.0, 0.0, shift])
    cameras = [performance.cameras] * 3
    return measure(moved, performance.template, truth, cameras, [4, 5, 6], 1000.0)


def test_truth_measured_against_itself_is_exact() -> None:
    result, vertex_error = measured(0.0)
    assert result["all_frames"]["all"]["mean"] < 1e-9
    assert result["same_index"]["seen"]["mean"] == 0
    assert [entry["timestep"] for entry in result["frames"]] == [4, 5, 6]
    assert float(vertex_error.max()) < 1e-6


def test_a_shift_of_a_millimetre_is_a_millimetre() -> None:
    result, vertex_error = measured(0.001)
    assert result["same_index"]["all"]["mean"] == pytest.approx(1, rel=1e-4)
    # To the surface it is the shift's part along the normal: all of it in front, none at the side.
    front = small_performance().template.positions[:, 2] > 0.095
    assert float(vertex_error[0, front].mean()) == pytest.approx(1, abs=0.1)
    assert 0.3 < result["all_frames"]["all"]["mean"] < 0.7
    assert result["reverse"]["all"]["mean"] == pytest.approx(result["all_frames"]["all"]["mean"], rel=0.05)
    assert result["all_frames"]["seen"]["count"] < result["all_frames"]["all"]["count"]


def test_psnr() -> None:
    image = torch.full((4, 4, 3), 0.5)
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[1:3] = True
    other = image.clone()
    other[1:3] += 0.1
    other[0] += 0.5
    assert psnr_db(image, other, inside) == pytest.approx(20, abs=1e-4)


def test_truth_files_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, small_performance(frames=2, cameras=1), supersampling=1)
    path = folder / "truth.npz"
    assert read_truth(path, [0, 1]).regions.keys() == {"narrow_face", "all"}
    assert len(read_truth(path, [1]).positions) == 1  # by its number
    with pytest.raises(FileNotFoundError, match="truth not found"):
        read_truth(tmp_path / "none.npz", [0])
    with pytest.raises(ValueError, match=r"`vertices` must be \[3 frames"):
        read_truth(path, [0, 1, 2])
    np.savez(tmp_path / "other.npz", faces=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="`vertices` is missing; there are faces"):
        read_truth(tmp_path / "other.npz", [0])
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read"):
        read_truth(tmp_path / "broken.npz", [0])


def test_json_has_no_nan_and_appears_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [math.nan, 1.5, math.inf], "b": None})
    assert (tmp_path / "x.json").read_text().split() == [
        "{",
        '"a":',
        "[",
        "null,",
        "1.5,",
        "null",
        "],",
        '"b":',
        "null",
        "}",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
