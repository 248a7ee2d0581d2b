# SPDX-License-Identifier: MIT
"""The cube experiment: its ingredients, its arithmetic, and the files that it leaves."""

import json
import math
from pathlib import Path

import pytest
import torch

import rastergrad as rg
from rastergrad.demo.cube import (
    COLORINGS,
    CONVERGED,
    DISTANCE,
    HALF_SIDE,
    TRANSLATION,
    VIEW_WINDOW,
    curve_points,
    draw,
    fit,
    learning_rate,
    random_views,
    true_cube,
)
from rastergrad.demo.run import CubeOptions, run_cube
from rastergrad.scene.camera import perspective, translation


@pytest.mark.parametrize("coloring", COLORINGS)
def test_the_true_cube_is_closed_and_faces_outward(coloring: str) -> None:
    cube = true_cube(coloring)
    corners = cube.positions[cube.tri.long()]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normal * corners.mean(1)).sum(-1) > 0).all()
    edges = [(int(t[k]), int(t[(k + 1) % 3])) for t in cube.tri for k in range(3)]
    assert len(set(edges)) == 36
    assert {(b, a) for a, b in edges} == set(edges)
    assert corners.abs().unique().tolist() == [HALF_SIDE]
    assert normal.norm(dim=-1).sum() / 2 == pytest.approx(24 * HALF_SIDE**2)


def test_colorings_share_colors_or_do_not() -> None:
    shared = true_cube("continuous")
    assert shared.colors.shape == (8, 3)
    assert torch.equal(shared.color_tri, shared.tri)
    split = true_cube("discontinuous")
    assert split.colors.shape == (24, 3)
    by_face = split.colors[split.color_tri.long()].reshape(6, 6, 3)
    assert torch.equal(by_face, by_face[:, :1].expand(-1, 6, -1))
    assert len({tuple(color.tolist()) for color in by_face[:, 0]}) == 6
    # A corner of the cube has three colours, one for each face; no colour serves two corners.
    users = {(int(c), int(p)) for c, p in zip(split.color_tri.reshape(-1), split.tri.reshape(-1))}
    assert len(users) == 24
    with pytest.raises(ValueError, match="continuous, discontinuous"):
        true_cube("plaid")


def test_random_views_are_what_the_paper_says() -> None:
    views = random_views(torch.Generator().manual_seed(0), 4000)
    fixed = perspective(VIEW_WINDOW, VIEW_WINDOW) @ translation(0, 0, -DISTANCE)
    moved = torch.linalg.inv(fixed) @ views
    turn, offset = moved[:, :3, :3], moved[:, :3, 3]
    eye = torch.eye(3, dtype=torch.float64).expand_as(turn)
    torch.testing.assert_close(turn @ turn.transpose(1, 2), eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(4000, dtype=torch.float64))
    assert offset.abs().max() <= TRANSLATION + 1e-12
    # Uniform: variance t^2 / 3, no direction preferred; three standard errors of 4,000 samples.
    assert float(offset.var()) == pytest.approx(TRANSLATION**2 / 3, rel=0.05)
    assert turn.mean(0).abs().max() < 3 * math.sqrt(1 / 3 / 4000) * 1.5


def test_learning_rate_falls_to_a_hundredth() -> None:
    assert [learning_rate(step) for step in (0, 2000, 4000, 9999)] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-4])


@pytest.mark.parametrize("iterations", [1, 2, 10, 5000])
def test_curve_points_are_dense_at_the_start_and_end_at_the_end(iterations: int) -> None:
    points = curve_points(iterations)
    assert points[0] == 1
    assert points[-1] == iterations
    assert points[:10] == list(range(1, min(iterations, 10) + 1))
    assert points == sorted(set(points))


def test_shape_alone_moves_the_vertices_through_visibility() -> None:
    cube = true_cube("continuous")
    positions = cube.positions[None].clone().requires_grad_()
    view = random_views(torch.Generator().manual_seed(1), 1).float()
    flat = torch.ones(1, 8, 3)
    draw(cube, positions, flat, view, 8).sum().backward()
    # A uniform colour has no shading gradient: whatever arrives came by antialias.
    assert positions.grad is not None
    assert positions.grad.norm() > 1


def test_a_batch_of_repeats_takes_the_steps_of_each_alone() -> None:
    seeds = (3, 11, 42)
    together = fit("discontinuous", 5, 30, seeds, keep=(0, 30))
    for k, seed in enumerate(seeds):
        alone = fit("discontinuous", 5, 30, [seed], keep=(0, 30))
        assert [row[0] for row in alone.loss] == [row[k] for row in together.loss]
        for step in (0, 30):
            for mine, theirs in zip(alone.shapes[step], together.shapes[step]):
                assert torch.equal(mine[0], theirs[k])


def test_a_fit_comes_closer() -> None:
    found = fit("continuous", 16, 300, range(4))
    assert all(0.3 < start < 0.7 for start in found.start)
    # Measured 0.004; a tenth of the start's distance needs gradients through visibility.
    assert float(found.final.median()) < 0.05


def test_few_pixels_ask_for_outlines() -> None:
    outline, pixel_pair = (
        float(fit("discontinuous", 4, 600, range(16), method=method).final.median())
        for method in ("outline", "pixel_pair")
    )
    # Measured 0.123 and 0.233.
    assert outline < 0.7 * pixel_pair


# Ten losses of seeds 0 and 1, 6 x 6 pixels, discontinuous colours, by the float64 reference.
GOLDEN = {
    "outline": (
        (0.051632091, 0.026346218),
        (0.084282629, 0.037734214),
        (0.072389908, 0.029000921),
        (0.059994094, 0.059498884),
        (0.051262993, 0.045025039),
        (0.034260876, 0.034675270),
        (0.043044467, 0.039736852),
        (0.043888967, 0.053997140),
        (0.085905045, 0.038892809),
        (0.040004108, 0.060673412),
    ),
    "pixel_pair": (
        (0.058788415, 0.039034218),
        (0.099585228, 0.037944552),
        (0.081212111, 0.028735919),
        (0.071882568, 0.065654606),
        (0.052557260, 0.061137348),
        (0.043015432, 0.041204326),
        (0.043497682, 0.041069515),
        (0.052708175, 0.058685463),
        (0.095007665, 0.035627767),
        (0.048922684, 0.061923381),
    ),
}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("method", list(GOLDEN))
def test_first_ten_losses(method: str, backend: str) -> None:
    found = fit("discontinuous", 6, 10, (0, 1), method=method, backend=backend)
    # float32 kernels differ from the float64 reference by 4e-7 at most; a wrong term shows above 1e-3.
    torch.testing.assert_close(torch.tensor(found.loss), torch.tensor(GOLDEN[method]), rtol=1e-5, atol=0)


def test_run_leaves_its_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs pip install 'rastergrad[demo]'")
    image = pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[demo]'")
    out = tmp_path / "new" / "folder"
    options = CubeOptions(resolutions=(3, 4), iterations=5, repeats=2, seed=7, out=out)
    lines = run_cube(options)
    assert lines[-1].startswith("Cube demo: ")
    assert str(out) in lines[-1]
    assert sorted(p.name for p in out.iterdir()) == [
        "convergence.png",
        "cube.ply",
        "curves.json",
        "shapes_continuous.png",
        "shapes_discontinuous.png",
    ]
    written = json.loads((out / "curves.json").read_text())
    settings = written["settings"]
    assert (settings["seed"], settings["version"], settings["converged_below"]) == (
        7,
        rg.__version__,
        CONVERGED,
    )
    assert [(run["coloring"], run["resolution"]) for run in written["runs"]] == [
        (coloring, side) for coloring in COLORINGS for side in (3, 4)
    ]
    for run in written["runs"]:
        assert run["iterations"] == [1, 2, 3, 4, 5]
        assert [len(curve) for curve in run["distance"]] == [5, 5]
        assert run["final_distance"] == [curve[-1] for curve in run["distance"]]
    direct = fit("continuous", 4, 5, (7, 8))
    assert written["runs"][1]["loss"] == [list(curve) for curve in zip(*direct.loss)]
    for name in ("convergence", "shapes_continuous", "shapes_discontinuous"):
        with image.open(out / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(2**24)) > 50
