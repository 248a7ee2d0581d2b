# SPDX-License-Identifier: MIT
"""The parts of the fit: pictures, comparisons, blended textures, deformations, and whose turn it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rastergrad.capture.dataset import Dataset, DatasetError, Landmarks, open_dataset
from rastergrad.capture.deformation import Basis, Free
from rastergrad.capture.loop import Loop, turned
from rastergrad.capture.photometric import Look, blend, compare, landmark_error
from rastergrad.capture.pictures import Pictures, encoded
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.surface import SurfaceLoop
from rastergrad.capture.team import Team
from rastergrad.scene.laplacian import uniform_laplacian
from rastergrad.scene.large_steps import LargeSteps
from testing.performances import ball, quick_config, small_performance, write_dataset

PERFORMANCE = small_performance()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = write_dataset(tmp_path_factory.mktemp("parts"), PERFORMANCE)
    return open_dataset(folder, folder / "template.obj")


@pytest.fixture(scope="module")
def scene(dataset: Dataset) -> Iterator[Scene]:
    made = Scene(dataset, 2**28)
    yield made
    made.pictures.close()


def truth(scene: Scene, frame: int) -> Tensor:
    return PERFORMANCE.positions[frame] / scene.unit


def look() -> Look:
    return Look(PERFORMANCE.texture[None], PERFORMANCE.light)


def test_pictures_are_the_datasets_own(dataset: Dataset) -> None:
    pictures = Pictures(dataset, 2**24)
    for level in (0, 1):
        picture = dataset.load(dataset.views[4], level)
        batch = pictures.batch([4, 4], level)
        assert picture.mask is not None
        torch.testing.assert_close(batch[1, ..., :3], encoded(picture.color))
        torch.testing.assert_close(batch[0, ..., 3:4], picture.mask)
        assert (batch[..., 4] == 1).all()
    pictures.close()


def test_pictures_are_read_once_ahead_and_forgotten_within_the_bound(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, int]] = []
    real = Pictures._read

    def counted(self: Pictures, view: int, level: int) -> Tensor:
        reads.append((view, level))
        return real(self, view, level)

    monkeypatch.setattr(Pictures, "_read", counted)
    size = 112 * 96 * 5 * 4
    pictures = Pictures(dataset, int(2.5 * size))
    pictures.expect([0, 1], 0)
    pictures.batch([0, 1], 0)
    pictures.batch([1, 0], 0)
    assert sorted(reads) == [(0, 0), (1, 0)]
    pictures.batch([2], 0)  # 1 was used before 0
    pictures.batch([0], 0)
    assert len(reads) == 3
    pictures.batch([1], 0)
    assert reads[3:] == [(1, 0)]
    pictures.close()


def test_a_broken_picture_is_named_when_it_is_asked_for(dataset: Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(dataset.views[1].image.read_bytes()[:2000])
    views = list(dataset.views)
    views[1] = replace(views[1], image=broken)
    pictures = Pictures(replace(dataset, views=tuple(views)), 2**24)
    pictures.expect([0, 1], 0)
    pictures.batch([0], 0)
    with pytest.raises(DatasetError, match=r"broken\.png"):
        pictures.batch([1], 0)
    pictures.close()


def test_the_truth_looks_like_its_pictures(scene: Scene) -> None:
    for frame in (0, 2):
        views = scene.views_of[frame]
        errors = compare(scene, views, [truth(scene, frame)] * 3, look(), 0)
        # What is left is sampling: the pictures have four samples a pixel.
        assert float(errors.image) / 3 < 0.003
        assert float(errors.outline) / 3 < 0.002
        wrong = compare(scene, views, [truth(scene, frame) + 0.01] * 3, look(), 0)
        assert float(wrong.image) > 5 * float(errors.image)


def test_the_gradient_leads_back(scene: Scene) -> None:
    shift = torch.tensor([0.004, -0.003, 0.0], requires_grad=True)
    views = scene.views_of[0]
    errors = compare(scene, views, [truth(scene, 0) + shift] * 3, look(), 0)
    (errors.image + errors.outline).backward()
    assert shift.grad is not None
    assert shift.grad[0] > 0 > shift.grad[1]


def test_shares_of_a_batch_add_up(scene: Scene) -> None:
    views = [0, 1, 2, 4]
    shapes = [truth(scene, scene.dataset.views[v].frame) + 0.002 for v in views]
    seen_by_camera = look()._replace(gain=torch.tensor([[0.7], [1.0], [1.3]]).repeat(1, 3))
    whole = compare(scene, views, shapes, seen_by_camera, 1)
    parts = [compare(scene, [v], [s], seen_by_camera, 1) for v, s in zip(views, shapes)]
    for k in range(2):
        torch.testing.assert_close(
            whole[k], torch.stack([part[k] for part in parts]).sum(), rtol=1e-5, atol=0
        )


def test_gain_and_bias_belong_to_their_camera(scene: Scene) -> None:
    gain, bias = torch.ones(3, 3), torch.zeros(3, 3)
    gain[1], bias[2] = 0.5, 0.2
    shapes = [truth(scene, 0)]
    plain = [float(compare(scene, [v], shapes, look(), 0).image) for v in range(3)]
    changed = [
        float(compare(scene, [v], shapes, look()._replace(gain=gain, bias=bias), 0).image) for v in range(3)
    ]
    assert changed[0] == plain[0]
    assert changed[1] > 10 * plain[1]
    assert changed[2] > 10 * plain[2]


@pytest.mark.parametrize("background", [None, torch.zeros(3)])
def test_pictures_without_masks(dataset: Dataset, background: Tensor | None) -> None:
    """Only what the head covers, and its outline against what is behind, counts."""
    views = tuple(replace(view, mask=None) for view in dataset.views)
    scene = Scene(replace(dataset, views=views, background=background), 2**26)
    good = compare(scene, [0, 1], [truth(scene, 0)] * 2, look(), 0)
    assert float(good.outline) == 0
    assert float(good.image) / 2 < 0.003
    shift = torch.tensor([0.006, 0.0, 0.0], requires_grad=True)
    compare(scene, [0, 1], [truth(scene, 0) + shift] * 2, look(), 0).image.backward()
    assert shift.grad is not None
    assert shift.grad[0] > 0
    scene.pictures.close()


def test_pictures_of_several_sizes_in_one_batch(dataset: Dataset, tmp_path: Path) -> None:
    cameras = list(PERFORMANCE.cameras)
    cameras[1] = cameras[1].resized(64, 80)
    folder = write_dataset(tmp_path, replace(PERFORMANCE, cameras=tuple(cameras)))
    scene = Scene(open_dataset(folder, folder / "template.obj"), 2**26)
    assert scene.same_size([0, 1, 2]) == [[0, 2], [1]]
    errors = compare(scene, [0, 1, 2], [truth(scene, 0)] * 3, look(), 0)
    assert float(errors.image) / 3 < 0.005
    scene.pictures.close()


def test_blending_gives_the_texture_back(scene: Scene) -> None:
    total, seen = blend(scene, scene.views_of[0], truth(scene, 0), 0, 128)
    well = seen[0, ..., 0] > 0.3
    assert 0.2 < float(well.float().mean()) < 0.7  # the front
    found = (total / seen.clamp_min(1e-6))[0]
    lit = PERFORMANCE.texture
    # Light is in it, 0.8 to 0.9; correlation says that places are right.
    assert 0.8 < float(found[well].mean() / lit[well].mean()) < 0.95
    x, y = (v[well].reshape(-1) - v[well].mean() for v in (found, lit))
    assert float((x @ y) / (x.norm() * y.norm())) > 0.9


def test_landmarks_count_distance_in_head_units(dataset: Dataset) -> None:
    marked = torch.tensor([100, 150, 200])
    xy = dataset.views[1].pinhole.pixels(PERFORMANCE.positions[0, marked].double())[:, :2].float()
    marks = Landmarks(marked, torch.tensor([1, 1, 1]), torch.tensor([0, 1, 2]), xy)
    scene = Scene(replace(dataset, landmarks=marks), 2**20)
    assert float(landmark_error(scene, 0, truth(scene, 0))) < 1e-6
    assert float(landmark_error(scene, 1, truth(scene, 0) + 0.1)) == 0  # of another frame
    up = torch.tensor([0.0, 0.02, 0.0])
    # Linear beyond the knee of 0.005; the camera looks almost along -z.
    assert float(landmark_error(scene, 0, truth(scene, 0) + up)) == pytest.approx(0.02 - 0.0025, rel=0.03)
    scene.pictures.close()


def test_a_texture_that_was_seen_holds_still_while_frames_are_followed(scene: Scene) -> None:
    changes = []
    for seen in (0.0, 100.0):
        state = State.begin(scene, 32)
        state.base = truth(scene, 0)
        state.seen += seen
        before = state.texture.clone()
        stage = replace(quick_config().track[0], steps=3)
        loop = SurfaceLoop(scene, state, quick_config(), Team(), 1, 0, stage, first=False, last=False)
        loop.begin()
        for number in range(3):
            loop.step(number)
        loop.finish()
        changes.append(float((state.texture - before).abs().max()))
    assert changes[0] > 0.01
    assert changes[1] < 1e-3 * changes[0]


def offsets(count: int = 5) -> tuple[LargeSteps, Tensor]:
    template = ball()
    large = LargeSteps(uniform_laplacian(template.tri, len(template.positions)), 5.0)
    generator = torch.Generator().manual_seed(0)
    return large, large.vertices(
        torch.randn(len(template.positions), 3 * count, generator=generator)
    ).reshape(-1, count, 3).permute(1, 0, 2).contiguous()


def test_free_and_basis_begin_where_they_are_told() -> None:
    large, wanted = offsets()
    shapes = torch.randn(2, *wanted.shape[1:], generator=torch.Generator().manual_seed(1))
    for deformation in (Free(large, wanted), Basis(large, wanted, 5, None), Basis(large, wanted, 5, shapes)):
        for frame in range(5):
            torch.testing.assert_close(deformation.offset(frame), wanted[frame], rtol=0, atol=1e-4)


def test_a_small_basis_is_the_best_one_and_says_what_it_is() -> None:
    large, wanted = offsets()
    basis = Basis(large, wanted, 2, None)
    flat = wanted.reshape(5, -1)
    u, s, v = torch.linalg.svd(flat, full_matrices=False)
    best = (u[:, :2] * s[:2]) @ v[:2]
    found = torch.stack([basis.offset(frame).detach() for frame in range(5)]).reshape(5, -1)
    torch.testing.assert_close(found, best, rtol=0, atol=1e-4)
    shapes, weights = basis.found()
    torch.testing.assert_close(
        torch.einsum("fr,rvc->fvc", weights, shapes).reshape(5, -1), best, rtol=0, atol=1e-4
    )


def test_a_step_on_the_basis_lowers_a_loss() -> None:
    large, wanted = offsets()
    basis = Basis(large, wanted * 0, 3, wanted[:2])
    optimizers = basis.optimizers(0.02)
    losses = []
    for _ in range(30):
        loss = sum((basis.offset(frame) - wanted[frame]).square().sum() for frame in range(5))
        assert isinstance(loss, Tensor)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_everyone_has_a_turn_in_an_order_of_their_own(scene: Scene) -> None:
    class Turns(Loop):
        name, steps = "turns", 1

    state = State.begin(scene, 16)
    one, two = (Turns(scene, state, replace(quick_config(), seed=k), Team()) for k in (0, 1))
    people = list(range(10, 17))
    steps = [one.picks(people, 3, number) for number in range(40)]
    for first, second in zip(steps[::2], steps[1::2]):
        assert len({*first, *second}) == 6  # a round of two steps, nobody twice
    assert {person for step in steps for person in step} == set(people)
    assert steps == [one.picks(people, 3, number) for number in range(40)]
    assert steps != [two.picks(people, 3, number) for number in range(40)]
    assert steps != [one.picks(people, 3, number, "other") for number in range(40)]
    assert sorted(one.picks(people, 99, 5)) == people


def test_turned_is_a_rotation_with_a_gradient_at_rest() -> None:
    vector = torch.tensor([0.3, -0.2, 0.5])
    matrix = turned(vector)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix @ vector, vector, rtol=0, atol=1e-6)
    assert float(torch.arccos((matrix.trace() - 1) / 2)) == pytest.approx(float(vector.norm()), rel=1e-4)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(turned, zero)
