# SPDX-License-Identifier: MIT
"""Captures of the tiny performance: they find it, stop and go on, and share the work."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rastergrad.capture import checkpoint
from rastergrad.capture.checkpoint import CaptureStoppedError
from rastergrad.capture.config import Config, to_toml
from rastergrad.capture.dataset import Dataset, open_dataset
from rastergrad.capture.fit import Fit
from rastergrad.capture.metrics import measure, read_truth
from rastergrad.capture.performance import Performance
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.team import Team
from rastergrad.demo.recording import write_obj
from testing.performances import disturbed, interrupt, quick_config, small_performance, write_dataset

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, with a template that is displaced, turned and larger than the truth."""
    folder = write_dataset(tmp_path_factory.mktemp("footage"), small_performance())
    template = small_performance().template
    moved = template.positions * 1.03 + torch.tensor([0.003, -0.002, 0.002])
    write_obj(folder / "other.obj", replace(template, positions=moved))
    return folder


def opened(footage: Path) -> Dataset:
    return open_dataset(footage, footage / "other.obj")


def fit(footage: Path, out: Path, config: Config, resume: bool = False) -> State:
    return Fit(Scene(opened(footage), 2**28), config, Team(), out, quiet=True).run(resume)


@pytest.fixture(scope="module")
def whole(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    """What an undisturbed run finds."""
    return fit(footage, tmp_path_factory.mktemp("whole"), quick_config())


def errors_mm(footage: Path, state: State) -> tuple[float, float]:
    """Mean error of the template and of the capture, over what two cameras see."""
    dataset = opened(footage)
    scene = Scene(dataset, 2**20)
    truth = read_truth(footage / "truth.npz", dataset.timesteps)
    cameras = [[view.pinhole for view in dataset.views_of(f)] for f in range(scene.frames)]
    found = []
    for positions in (
        dataset.template.positions.repeat(scene.frames, 1, 1),
        torch.stack([state.vertices(f) for f in range(scene.frames)]) * scene.unit,
    ):
        result, _ = measure(positions, dataset.template, truth, cameras, dataset.timesteps, 1000.0)
        found.append(result["all_frames"]["seen"]["mean"])
    scene.pictures.close()
    return found[0], found[1]


def test_finds_the_performance(footage: Path, whole: State) -> None:
    before, after = errors_mm(footage, whole)
    assert before > 3
    # A pixel of this footage is 2.4 mm wide on the surface.
    assert after < 0.6


def test_head_pose_moves_as_the_head_does(whole: State) -> None:
    """The egg nods by 0.06 radians a frame about x, and turns by 0.05 about y."""
    truth = small_performance().head_pose[:, :3, :3]
    for frame in (1, 2):
        turn = whole.rotation[frame] @ (truth[frame] @ truth[0].T).T
        angle = torch.arccos(((turn.trace() - 1) / 2).clamp(-1, 1))
        # The bump that grows on one side takes a part of it.
        assert float(angle) < 0.25 * 0.078 * frame


def test_basis_finds_it_too_and_holds_its_offsets(footage: Path, tmp_path: Path) -> None:
    config = replace(quick_config(), model="basis", rank=2)
    state = fit(footage, tmp_path, config)
    assert errors_mm(footage, state)[1] < 0.7
    assert state.basis.shape[0] <= 2
    again = torch.einsum("fr,rvc->fvc", state.weights, state.basis)
    torch.testing.assert_close(again, state.offset, rtol=0, atol=1e-6)


def equal(left: State, right: State) -> bool:
    return all(torch.equal(x, right.tensors()[name]) for name, x in left.tensors().items())


def test_a_seed_gives_one_result_and_another_seed_another(
    footage: Path, whole: State, tmp_path: Path
) -> None:
    assert equal(fit(footage, tmp_path / "same", quick_config()), whole)
    assert not equal(fit(footage, tmp_path / "other", replace(quick_config(), seed=1)), whole)


# Aligning, in a warp, the first surface, a pose, a tracked surface, and the polish.
@pytest.mark.parametrize("after", [7, 40, 85, 112, 150, 275])
def test_resumed_after_an_interrupt_ends_with_the_same_bits(
    after: int, footage: Path, whole: State, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        disturbed(after, interrupt)(
            Scene(opened(footage), 2**28), quick_config(), Team(), tmp_path, quiet=True
        ).run(False)
    content = checkpoint.load(tmp_path)
    assert content["done"] != [0, 0]
    assert equal(fit(footage, tmp_path, quick_config(), resume=True), whole)


def test_killed_for_real_and_resumed(footage: Path, whole: State, tmp_path: Path) -> None:
    """kill -9 whenever a checkpoint has just appeared, again and again, until it is done."""
    config = replace(quick_config(), save_every_s=0.0)
    (tmp_path / "config.toml").write_text(to_toml(config))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rastergrad.cli", "capture", str(footage), "--quiet"]
    command += [
        "--template",
        str(footage / "other.obj"),
        "--config",
        str(tmp_path / "config.toml"),
        "--out",
        str(out),
    ]
    file = out / checkpoint.FILE
    for life in range(3):
        process = subprocess.Popen(command + ["--resume"] * file.exists(), cwd=ROOT, env=environment())
        written = file.stat().st_mtime_ns if file.exists() else 0
        while process.poll() is None and (not file.exists() or file.stat().st_mtime_ns == written):
            time.sleep(0.02)
        time.sleep(0.3 * life)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(out.glob("*.glb")), "it was to be killed before the end"
    finished = subprocess.run(
        [*command, "--resume"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    found = Performance.load(out).positions
    scene = Scene(opened(footage), 2**20)
    wanted = torch.stack([whole.vertices(f) for f in range(3)]) * scene.unit
    scene.pictures.close()
    assert torch.equal(found, wanted)


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def test_two_processes_find_what_one_finds(footage: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(to_toml(quick_config()))
    common = ["rastergrad.cli", "capture", str(footage), "--quiet", "--template", str(footage / "other.obj")]
    common += ["--config", str(tmp_path / "config.toml"), "--out"]
    alone = [sys.executable, "-m", *common, str(tmp_path / "one")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    for command in (alone, [*torchrun, *common, str(tmp_path / "two")]):
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (Performance.load(tmp_path / name) for name in ("one", "two"))
    assert float((one.positions - two.positions).abs().max()) * 1000 < 1e-3  # millimetres
    assert float((one.texture - two.texture).abs().max()) < 1e-3


def test_an_image_that_breaks_stops_the_capture_with_its_state_saved(
    footage: Path, whole: State, tmp_path: Path
) -> None:
    image = footage / "images" / "00001_01.png"
    content = image.read_bytes()
    try:
        dataset = opened(footage)
        image.write_bytes(content[: len(content) // 2])
        with pytest.raises(CaptureStoppedError, match=r"00001_01\.png") as caught:
            Fit(Scene(dataset, 2**28), quick_config(), Team(), tmp_path, quiet=True).run(False)
    finally:
        image.write_bytes(content)
    assert "--resume" in str(caught.value)
    assert equal(fit(footage, tmp_path, quick_config(), resume=True), whole)


def test_a_full_disk_leaves_the_older_checkpoint_whole(
    footage: Path, whole: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(quick_config(), save_every_s=0.0)
    real, calls = torch.save, 0

    def save(content: object, file: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            file.write(b"half of it")  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")
        real(content, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CaptureStoppedError, match=r"No space left.*\n?.*--resume"):
        fit(footage, tmp_path, config)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.pt"]
    assert equal(fit(footage, tmp_path, config, resume=True), whole)


def test_resume_refuses_what_is_not_its_own(footage: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing was begun"):
        fit(footage, tmp_path, quick_config(), resume=True)
    with pytest.raises(KeyboardInterrupt):
        disturbed(3, interrupt)(
            Scene(opened(footage), 2**28), quick_config(), Team(), tmp_path, quiet=True
        ).run(False)
    with pytest.raises(ValueError, match=r"other settings \(seed = 5"):
        fit(footage, tmp_path, replace(quick_config(), seed=5), resume=True)
    fewer = open_dataset(footage, footage / "other.obj", cameras=[0, 1])
    with pytest.raises(ValueError, match="another dataset"):
        Fit(Scene(fewer, 2**28), quick_config(), Team(), tmp_path, quiet=True).run(True)
    path = tmp_path / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        fit(footage, tmp_path, quick_config(), resume=True)


def test_results_of_the_command(footage: Path, tmp_path: Path) -> None:
    """Everything that the issue of the command promises is there and can be read."""
    (tmp_path / "config.toml").write_text(to_toml(quick_config()))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rastergrad.cli", "capture", str(footage), "--out", str(out)]
    command += ["--template", str(footage / "other.obj"), "--config", str(tmp_path / "config.toml")]
    command += ["--truth", str(footage / "truth.npz")]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all frames, seen by two cameras" in done.stdout
    for name in (
        "performance.glb", "frames/00000.ply", "frames/00002.ply", "texture.png", "cameras.json",
        "metrics.json", "config.toml", "report.html", "turntable.mp4", "comparison.mp4",
        "checkpoint/state.pt", "checkpoint/performance.npz", "checkpoint/images.json",
        "checkpoint/vertex_error.npy",
    ):  # fmt: skip
        assert (out / name).stat().st_size > 0, name
    assert np.load(out / "checkpoint/vertex_error.npy").shape == (
        3,
        len(small_performance().template.positions),
    )
    again = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert "--overwrite" in again.stderr
