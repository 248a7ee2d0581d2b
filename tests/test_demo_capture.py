# SPDX-License-Identifier: MIT
"""The capture demo's made-up person and its footage; the capture itself is what `make demo` runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rastergrad.capture.dataset import open_dataset
from rastergrad.capture.metrics import read_truth, seen_by
from rastergrad.demo.footage import (
    OTHER,
    PERSON,
    RIG,
    SWINGS,
    FootageOptions,
    make_footage,
    narrow_face,
    perform,
)
from rastergrad.demo.head import Head, heads, packed
from rastergrad.demo.performance import start_error_mm
from rastergrad.scene.laplacian import edges

SMALL = FootageOptions(frames=2, width=60, height=80, supersampling=1, texture_side=128, fps=4.0)


@pytest.fixture(scope="module")
def both() -> list[Head]:
    return heads([PERSON, OTHER], tuple(name for name, _, _ in SWINGS))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_footage(tmp_path_factory.mktemp("demo") / "footage", SMALL)


def test_heads_share_a_topology_and_differ_in_shape(both: list[Head]) -> None:
    person, other = (head.template for head in both)
    assert torch.equal(person.tri, other.tri)
    assert torch.equal(person.uv, other.uv)
    assert 0.002 < float((person.positions - other.positions).norm(dim=-1).mean()) < 0.05
    size = person.positions.amax(0) - person.positions.amin(0)
    assert ((size > 0.12) & (size < 0.35)).all()  # metres


def test_a_face_looks_out_and_its_surface_is_whole(both: list[Head]) -> None:
    head = both[0]
    place, part = head.template.positions, head.part
    assert {int(k) for k in part.unique()} == {0, 1, 2, 3}
    for eye in (1, 2):
        assert float(place[part == eye, 2].mean()) > 0.05
        assert int((part == eye).sum()) == int((part == 3 - eye).sum())
    assert len(head.lips) > 10
    assert float(place[head.lips, 1].mean()) < float(place[part == 1, 1].mean()) - 0.03
    # No edge has more than two triangles; the skin's only border is the neck.
    tri = head.template.tri.long()
    ends = torch.cat([tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]]).sort(1).values
    pairs, count = torch.unique(ends, dim=0, return_counts=True)
    assert len(pairs) == len(edges(tri))
    assert int(count.max()) == 2
    border = pairs[count == 1].unique()
    assert float(place[border, 1].max()) < float(place[:, 1].min()) + 0.05


def test_actions_move_what_they_name(both: list[Head]) -> None:
    head = both[0]
    jaw = head.actions[head.names.index("jawOpen")]
    chin = head.template.positions[:, 1] < head.template.positions[head.lips, 1].mean() - 0.02
    front = head.template.positions[:, 2] > 0.06
    assert float(jaw[chin & front, 1].mean()) < -0.01
    assert float(jaw[head.template.positions[:, 1] > 0.05].abs().max()) < 1e-4
    left = head.actions[head.names.index("eyeBlinkLeft")].norm(dim=-1)
    right = head.actions[head.names.index("eyeBlinkRight")].norm(dim=-1)
    assert (
        float(head.template.positions[left > 1e-3, 0].mean())
        * float(head.template.positions[right > 1e-3, 0].mean())
        < 0
    )


def test_charts_lie_apart_in_the_unit_square(both: list[Head]) -> None:
    uv = both[0].template.uv
    assert ((uv >= 0) & (uv <= 1)).all()
    square = torch.tensor([[0.0, 0], [3, 0], [3, 1], [0, 1]])
    charts = torch.tensor([0] * 4 + [1] * 4 + [2] * 4)
    found = packed(torch.cat([square, square + 5, square * 2]), charts, torch.tensor([1.0, 2.0, 0.5]))
    boxes = [(found[charts == k].amin(0), found[charts == k].amax(0)) for k in range(3)]
    for k, (low, high) in enumerate(boxes):
        assert ((low >= 0) & (high <= 1)).all()
        for other_low, other_high in boxes[k + 1 :]:
            assert (high <= other_low).any() or (other_high <= low).any()
    widths = [float((high - low)[0]) for low, high in boxes]
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-4)
    assert widths[2] == pytest.approx(widths[0], rel=1e-4)  # twice as large, at half the detail


def test_footage_is_a_dataset_that_begins_more_than_three_millimetres_away(footage: Path) -> None:
    dataset = open_dataset(footage, footage / "template.obj", landmarks=footage / "landmarks.json")
    assert (len(dataset.timesteps), len(dataset.camera_ids)) == (2, len(RIG))
    assert dataset.mm_per_unit == 1000
    assert start_error_mm(footage, 2) > 3
    truth = read_truth(footage / "truth.npz", [0, 1])
    face = truth.regions["narrow_face"]
    assert 300 < int(face.sum()) < 4000
    seen = seen_by(truth.positions[0], truth.tri, dataset.cameras, 1000.0)
    assert float((seen[face] >= 2).float().mean()) > 0.8
    assert float((truth.positions[1] - truth.positions[0]).norm(dim=-1).max()) > 0.003


def test_landmarks_are_where_the_truth_is(footage: Path) -> None:
    marks = json.loads((footage / "landmarks.json").read_text())
    dataset = open_dataset(footage, footage / "template.obj")
    truth = read_truth(footage / "truth.npz", [0, 1])
    away = []
    for entry in marks["observations"]:
        vertex = marks["template_vertices"][entry["landmark"]]
        camera = dataset.cameras[entry["camera_index"]]
        x, y, _ = camera.pixels(truth.positions[0, vertex].double()).tolist()
        away.append((entry["x"] - x, entry["y"] - y))
    assert np.abs(np.mean(away, axis=0)).max() < 0.6  # noise of one pixel
    assert 0.6 < np.std(away) < 1.4


def test_a_seed_gives_one_performance(both: list[Head]) -> None:
    one, two = (perform(both[0], SMALL) for _ in range(2))
    assert torch.equal(one.positions, two.positions)
    assert torch.equal(one.texture, two.texture)
    other = perform(both[0], replace(SMALL, seed=1))
    assert not torch.equal(one.texture, other.texture)
    assert not torch.equal(one.positions[1], other.positions[1])
    assert torch.equal(one.positions[0], other.positions[0])  # all begin neutral
    assert narrow_face(both[0]).any()
