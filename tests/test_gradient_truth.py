# SPDX-License-Identifier: MIT
"""The exact gradients that the benchmark compares with: closed forms, finite differences, a brute-force
sampler.

And a small part of the benchmark, with bounds.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("numba", reason="needs pip install 'rastergrad[bench]'")

from benchmarks.gradient_truth import __main__ as command
from benchmarks.gradient_truth import methods, plot, records, studies, truth
from benchmarks.gradient_truth.measure import Agreement, measure
from benchmarks.gradient_truth.methods import METHODS
from benchmarks.gradient_truth.scenes import CLOSED, NAMES, Scene, scene
from benchmarks.gradient_truth.surface import Array, Surface

# ---- closed forms -----------------------------------------------------------------------------------------

SIDE = 6  # px, of the images with closed forms


def quad(x0: float, y0: float, x1: float, y1: float) -> Array:
    """[4, 2] corners of a rectangle, for the triangles `QUAD`."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


QUAD = np.array([[0, 1, 2], [0, 2, 3]])
border = st.floats(0.01, SIDE - 0.01).filter(lambda v: abs(v - round(v)) > 1e-3)


@settings(deadline=None, max_examples=40)
@given(st.tuples(border, border), st.tuples(border, border), st.integers(0, 1000))
def test_a_rectangle_covers_its_area_and_its_sides_move_it(
    xs: tuple[float, float], ys: tuple[float, float], seed: int
) -> None:
    (x0, x1), (y0, y1) = sorted(xs), sorted(ys)
    if x1 - x0 < 1e-2 or y1 - y0 < 1e-2:
        return
    generator = np.random.default_rng(seed)
    ink, paper = generator.random((2, 3))
    vertex = np.concatenate([quad(x0, y0, x1, y1), np.full((4, 1), 0.5)], 1)
    surface = Surface(vertex, QUAD, np.broadcast_to(ink, (2, 3, 3)).copy(), paper)
    weight = generator.standard_normal((SIDE, SIDE, 1, 3))
    image, gradient = truth.image_and_gradient(surface, weight, panels=4)

    start = np.arange(SIDE)
    across, up = (
        np.clip(np.minimum(b, start + 1) - np.maximum(a, start), 0, 1) for a, b in ((x0, x1), (y0, y1))
    )
    covered = (up[:, None] * across)[..., None]
    np.testing.assert_allclose(image, covered * ink + (1 - covered) * paper, atol=1e-12)
    # A side that moves outwards by one px wins its length; its two ends share that.
    per_px = weight[:, :, 0] @ (ink - paper)
    right, left = up @ per_px[:, int(x1)], -(up @ per_px[:, int(x0)])
    bottom, top = per_px[int(y1)] @ across, -(per_px[int(y0)] @ across)
    d_x, d_y, d_near = gradient[0].T
    found = [d_x[1] + d_x[2], d_x[0] + d_x[3], d_y[2] + d_y[3], d_y[0] + d_y[1]]
    np.testing.assert_allclose(found, [right, left, bottom, top], atol=1e-10)
    np.testing.assert_allclose(d_near, 0, atol=1e-10)  # of one colour, so depth changes nothing


@settings(deadline=None, max_examples=40)
@given(border, st.floats(0.02, 0.2), st.booleans(), st.integers(0, 1000))
def test_an_intersection_moves_with_depth_and_place(
    at: float, slope: float, upright: bool, seed: int
) -> None:
    """A sheet of constant nearness and one whose nearness grows along x (or y) meet at `at` px."""
    generator = np.random.default_rng(seed)
    flat, sloping, paper = generator.random((3, 3))
    place = quad(-3, -3, SIDE + 3, SIDE + 3)
    near = 3 + slope * (place[:, 0] - at)
    if upright:
        place = place[:, ::-1]
    vertex = np.concatenate([np.c_[place, np.full(4, 3.0)], np.c_[place, near]])
    color = np.repeat([flat, flat, sloping, sloping], 3, 0).reshape(4, 3, 3)
    surface = Surface(vertex, np.concatenate([QUAD, QUAD + 4]), color, paper)
    weight = generator.standard_normal((SIDE, SIDE, 1, 3))
    image, gradient = truth.image_and_gradient(surface, weight, panels=4)
    if upright:
        image, weight, gradient = image.swapaxes(0, 1), weight.swapaxes(0, 1), gradient[..., [1, 0, 2]]

    share = np.clip(at - np.arange(SIDE), 0, 1)[:, None]  # of the flat sheet, in each column
    if not upright:  # across scanlines, the crossing is a kink inside a panel
        np.testing.assert_allclose(
            image, np.broadcast_to(share * flat + (1 - share) * sloping, image.shape), atol=1e-12
        )
    per_px = (weight[:, int(at), 0] @ (flat - sloping)).sum()  # when the crossing moves towards +x
    of_flat, of_sloping = gradient[0, :4].sum(0), gradient[0, 4:].sum(0)
    np.testing.assert_allclose(of_flat, [0, 0, per_px / slope], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(of_sloping, [per_px, 0, -per_px / slope], rtol=1e-9, atol=1e-10)


def test_what_is_hidden_has_no_gradient_and_changes_none() -> None:
    surface = random_surface(3)
    weight = np.random.default_rng(0).standard_normal((8, 8, 1, 2))
    wall = np.c_[quad(-2, -2, 10, 10), np.full(4, 5.0)]  # nearer than all of it
    behind = Surface(
        np.concatenate([surface.vertex, wall]),
        np.concatenate([surface.tri, QUAD + len(surface.vertex)]),
        np.concatenate([surface.color, np.full((2, 3, 2), 0.5)]),
        surface.background,
    )
    image, gradient = truth.image_and_gradient(behind, weight, panels=4)
    np.testing.assert_allclose(image, 0.5, atol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


# ---- independent computations -----------------------------------------------------------------------------


def random_surface(seed: int, triangles: int = 4, size: int = 8) -> Surface:
    """Large unconnected triangles, twice as deep on one side as on the other, many of which pierce others."""
    generator = np.random.default_rng(seed)
    middle = generator.uniform(1, size - 1, (triangles, 1, 2))
    place = middle + generator.normal(0, size / 3, (triangles, 3, 2))
    vertex = np.concatenate([place, generator.uniform(0.5, 1, (triangles, 3, 1))], 2).reshape(-1, 3)
    tri = np.arange(3 * triangles).reshape(-1, 3)
    return Surface(vertex, tri, generator.random((triangles, 3, 2)), generator.random(2))


@pytest.mark.parametrize("seed", range(6))
def test_derivative_is_that_of_the_image(seed: int) -> None:
    """Finite differences of the image know nothing of edges and intersections."""
    # With 4096 panels, 24 seeds differ by 7e-6 (median) and 4e-5 (most); with 1024, ten times as much.
    panels, step = 4096, 1e-3
    surface = random_surface(seed)
    generator = np.random.default_rng([seed, 1])
    weight = generator.standard_normal((8, 8, 1, 2))
    direction = generator.standard_normal(surface.vertex.shape) * [1, 1, 0.1]
    _, gradient = truth.image_and_gradient(surface, weight, panels=panels)
    expected = slope(lambda h: surface._replace(vertex=surface.vertex + h * direction), weight, step, panels)
    change = gradient[0] * direction
    assert abs(expected - change.sum()) < 1e-4 * np.linalg.norm(change)


@pytest.mark.parametrize("name", ["triangle", "boxes", "cube_unshared"])
def test_positions_in_camera_space_get_the_derivative_of_the_image(name: str) -> None:
    size = 12
    posed = scene(name, 5)
    found = records.compute(posed, size, losses=(records.NOISE,), panels=64)
    direction = np.random.default_rng(2).standard_normal(posed.position.shape)
    # Steps are in the scene's units here, 3 px each, and rounder: 1e-4 in these poses, 6e-4 in the worst of
    # twelve.
    expected = slope(lambda h: moved(posed, h * direction).surface(size), found.weight, 1e-3, 1024)
    change = posed.position_gradient(found.d_screen[0], size) * direction
    assert abs(expected - change.sum()) < 1e-3 * np.linalg.norm(change)


def slope(surface_at: Callable[[float], Surface], weight: Array, step: float, panels: float) -> float:
    """Central difference of sum(weight * image) along a path of surfaces."""
    height, width = weight.shape[:2]
    low, high = (
        (truth.image(surface_at(h), height, width, panels=panels) * weight[:, :, 0]).sum()
        for h in (-step, step)
    )
    return (high - low) / (2 * step)


def moved(posed: Scene, offset: Array) -> Scene:
    return Scene(**{**vars(posed), "position": posed.position + offset})


@pytest.mark.parametrize("name", ["boxes", "cube_unshared", "soup", "thin"])
def test_image_is_that_of_a_ray_caster(name: str) -> None:
    """Rays from the camera against triangles in space: no projection, no nearness, no scanlines."""
    size, samples = 12, 16
    posed = scene(name, 1)
    found = truth.image(posed.surface(size), size, size, panels=16)
    # A steep edge is misplaced in each row of 16 samples by 1/16/sqrt(12) of a pixel, in the mean of 16 rows
    # by 0.0045. Times a jump of 0.3, that is 1.4e-3 where one edge crosses a pixel. Wrong visibility costs
    # 1e-2 and more.
    error = found - cast(posed, size, samples)
    assert np.sqrt((error**2).mean()) < 4e-3


def cast(posed: Scene, size: int, samples: int) -> Array:
    """[size, size, 3] by samples x samples rays a pixel."""
    along = (np.arange(size * samples) + 0.5) / (size * samples) * 2 - 1  # -1 to 1
    x, y = np.meshgrid(along / 2, along / 2)  # tangents up to 1 / FOCAL
    ray = np.stack([x, y, -np.ones_like(x)], -1).reshape(-1, 3)
    depth = np.full(len(ray), np.inf)
    color = np.broadcast_to(posed.background, (len(ray), 3)).copy()
    corners = posed.position[posed.place[posed.tri]]
    for corner, tint in zip(corners, posed.color[posed.tri]):
        # ray * t = sum of b_k corner_k with sum b = 1: b / t solves a 3 x 3 system
        scaled = ray @ np.linalg.inv(corner)
        t = 1 / scaled.sum(1)
        hit = (scaled >= 0).all(1) & (t < depth)
        depth[hit] = t[hit]
        color[hit] = (scaled[hit] * t[hit, None]) @ tint
    return color.reshape(size, samples, size, samples, 3).mean((1, 3))


@pytest.mark.parametrize("name", ["sphere", "boxes", "soup", "thin"])
def test_columns_for_scanlines_give_the_same(name: str) -> None:
    """With x and y exchanged, all quadratures are others. What remains is the noise floor of the truth."""
    size = 24
    surface = scene(name, 2).surface(size)
    weight = records.smooth_weight(np.random.default_rng(0), size)[:, :, None]
    image, gradient = truth.image_and_gradient(surface, weight)
    turned = surface._replace(vertex=np.ascontiguousarray(surface.vertex[:, [1, 0, 2]]))
    image_turned, gradient_turned = truth.image_and_gradient(turned, weight.swapaxes(0, 1))
    assert np.sqrt(((image - image_turned.swapaxes(0, 1)) ** 2).mean()) < 3e-4
    for axes, other in (([0, 1], [1, 0]), ([2], [2])):
        difference = gradient[0][:, axes] - gradient_turned[0][:, other]
        # 4e-4 in this soup, where methods differ from the truth by 0.1 and more
        assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(gradient[0][:, axes])


# ---- scenes and records -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_scenes_are_in_the_frame_and_repeat(name: str) -> None:
    one, same, other = scene(name, 3), scene(name, 3), scene(name, 4)
    for field in ("position", "place", "tri", "color", "background", "part"):
        np.testing.assert_array_equal(getattr(one, field), getattr(same, field))
    assert not np.array_equal(one.position[:3], other.position[:3])
    assert one.tri.max() == len(one.color) - 1 == len(one.place) - 1
    assert one.place.max() == len(one.position) - 1 == len(one.part) - 1
    depth = -one.position[:, 2]
    assert 1 < depth.min() < depth.max() < 10, "between the near and the far plane"
    assert (np.abs(one.position[:, :2]).max(1) < depth / 2 * 1.1).all()
    assert 0 <= one.color.min() <= one.color.max() <= 1


@pytest.mark.parametrize("name", CLOSED)
def test_closed_scenes_are_closed_and_turned_outwards(name: str) -> None:
    posed = scene(name, 0)
    tri = posed.place[posed.tri]
    sides = np.concatenate([tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]])
    assert len(np.unique(sides, axis=0)) == len(sides), "each direction of an edge belongs to one triangle"
    assert {tuple(s) for s in sides} == {tuple(s[::-1]) for s in sides}
    middle = posed.position.mean(0)
    for part in range(posed.part.max() + 1):
        own = tri[posed.part[tri[:, 0]] == part]
        assert np.linalg.det(posed.position[own] - middle).sum() > 0


@given(st.sampled_from(NAMES), st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_screen_and_camera_gradients_are_inverse(name: str, seed: int) -> None:
    posed = scene(name, seed % 4)
    d_position = np.random.default_rng(seed).standard_normal(posed.position.shape)
    back = posed.position_gradient(posed.screen_gradient(d_position))
    np.testing.assert_allclose(back, d_position, atol=1e-10)


def test_records_are_kept_until_their_sources_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT", tmp_path)
    posed = scene("triangle", 0)
    first = records.record(posed, 8, panels=1)
    with monkeypatch.context() as patch:
        patch.setattr(records, "compute", None)  # kept: calling it would fail
        again = records.record(posed, 8, panels=1)
    np.testing.assert_array_equal(first.d_screen, again.d_screen)
    assert again.error == first.error
    monkeypatch.setattr(records, "_sources", lambda: b"changed")
    records.record(posed, 8, panels=1)
    assert len(list(tmp_path.iterdir())) == 2


def test_agreement_of_known_vectors() -> None:
    true = np.array([3.0, 4.0])
    assert Agreement.of(true, true) == Agreement(1, 0, 1, 1)
    assert Agreement.of(true / 2, true) == Agreement(1, 0.5, 0.5, 0.5)
    assert Agreement.of(np.array([-4.0, 3.0]), true) == Agreement(0, 2**0.5, 0, 1)
    assert Agreement.of(np.zeros(2), true) == Agreement(0, 1, 0, 0)


# ---- a small part of the benchmark ------------------------------------------------------------------------

POSES = (0, 1)
# For each method and scene: least cosine, greatest relative L2, of the mean over POSES with one smooth
# weight.
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "pixel_pair": {
        "triangle": (0.99, 0.12),
        "cube_unshared": (0.9, 0.4),
        "boxes": (0.8, 0.6),
        "sphere": (0.6, 0.9),
        "thin": (0.5, 0.95),
    },
    "outline": {
        "triangle": (0.99, 0.12),
        "cube_unshared": (0.99, 0.12),
        "boxes": (0.92, 0.32),
        "sphere": (0.98, 0.16),
        "torus": (0.99, 0.12),
    },
    "outline_v2": {
        "boxes": (0.98, 0.16),
        "sphere": (0.99, 0.08),
        "thin": (0.9, 0.45),
    },
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_ask_for_what_they_are_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolution of the image and of visibility, and the way to antialias."""
    asked: list[tuple[str, int, int]] = []

    def antialias(
        color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, *, method: str, visibility: Any = None
    ) -> Tensor:
        asked.append((method, rast.shape[1], rast.shape[1] if visibility is None else visibility.shape[1]))
        return color

    monkeypatch.setattr(methods.rg, "antialias", antialias)
    posed = scene("triangle", 0)
    image = METHODS[name].render(posed, torch.from_numpy(posed.position), 12)
    assert image.shape == (12, 12, 3)
    expected = {
        "point": [],
        "pixel_pair": [("pixel_pair", 12, 12)],
        "pixel_pair_ss2": [("pixel_pair", 24, 24)],
        "pixel_pair_ss4": [("pixel_pair", 48, 48)],
        "outline": [("outline", 12, 12)],
        "outline_v2": [("outline", 12, 24)],
        "outline_v4": [("outline", 12, 48)],
    }
    assert asked == expected[name]


@pytest.fixture(scope="module")
def truths() -> dict[str, list[tuple[Scene, records.Record]]]:
    names = dict.fromkeys(name for bounds in BOUNDS.values() for name in bounds)
    return {
        name: [
            (posed, records.compute(posed, 48, losses=(records.SMOOTH,), panels=8))
            for posed in (scene(name, pose) for pose in POSES)
        ]
        for name in names
    }


@pytest.mark.parametrize(("method", "name"), [(m, n) for m, bounds in BOUNDS.items() for n in bounds])
def test_methods_keep_their_bounds(
    method: str, name: str, truths: dict[str, list[tuple[Scene, records.Record]]]
) -> None:
    found = [measure(posed, true, METHODS[method], losses=(records.SMOOTH,)) for posed, true in truths[name]]
    cosine, relative = (
        np.mean([m.mean(records.SMOOTH, "place", f) for m in found]) for f in ("cosine", "relative")
    )
    least, most = BOUNDS[method][name]
    assert cosine >= least
    assert relative <= most
    assert not any(c.non_finite for m in found for c in m.losses)
    assert max(m.truth_error for m in found) < 1e-3


def test_command_prints_and_keeps_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(records, "KEPT", tmp_path / "kept")
    out = tmp_path / "results" / "truth.json"
    run(
        monkeypatch,
        ["--scenes", "triangle", "--methods", "point", "pixel_pair", "--poses", "2", "--out", str(out)],
    )
    assert "| triangle |" in capsys.readouterr().out
    kept = json.loads(out.read_text())
    cosine, relative = kept["tables"]["place"]["pixel_pair"]["triangle"]
    assert cosine > 0.9 > relative
    assert kept["poses"] == 2
    assert kept["non_finite"] == 0


def run(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gradient_truth", *arguments])
    command.main()


def test_gains_are_bounded_over_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pose of a closed scene makes a gradient explode."""
    monkeypatch.setattr(records, "KEPT", tmp_path)
    (found,) = studies.spreads(
        [METHODS["pixel_pair"]], 8, scenes=("sphere", "two_spheres", "boxes", "cube_unshared")
    )
    assert -0.1 < found.least_gain <= found.median_gain <= found.greatest_gain < 1.2
    assert found.greatest_length < 1.2
    assert found.non_finite == 0


def test_density_study_shows_what_dense_meshes_lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pixel pairs, only silhouette edges of triangles that are seen at a pixel have a gradient."""
    monkeypatch.setattr(records, "KEPT", tmp_path)
    found = studies.densities([METHODS["pixel_pair"]], levels=(1, 3), sizes=(48,), poses=1)
    assert [d.triangles for d in found] == [80, 1280]
    assert 1 > found[0].gain > 2 * found[1].gain > 0
    assert "| 1280 | 48 |" in studies.densities_markdown(found)


def test_results_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs pip install 'rastergrad[bench]'")
    table = {m: {"sphere": [0.9, 0.4], "mean": [0.9, 0.4]} for m in METHODS}
    plot.scenes_figure({"tables": {"place": table}}).savefig(tmp_path / "scenes.svg")
    rows = [{"method": m, "triangles": t, "size": 48, "gain": 0.5} for m in METHODS for t in (80, 320)]
    plot.densities_figure(rows).savefig(tmp_path / "density.svg")
    assert all("<svg" in path.read_text() for path in tmp_path.iterdir())
