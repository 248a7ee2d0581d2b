# SPDX-License-Identifier: MIT
"""The tiny capture of the tests on a GPU and on the CPU: seconds, and millimetres from the truth."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rastergrad.capture.config import Config
from rastergrad.capture.dataset import open_dataset
from rastergrad.capture.fit import Fit
from rastergrad.capture.metrics import measure, read_truth
from rastergrad.capture.run import on_cpu, performance_of
from rastergrad.capture.scene import Scene
from rastergrad.capture.team import Team
from rastergrad.demo.recording import write_obj
from testing.performances import quick_config, small_performance, write_dataset

MOST_MM = 0.6  # of tests/test_capture_fit.py: a pixel of this footage is 2.4 mm wide
# Between devices, in the mean: sums are added in another order, and hundreds of steps follow. An H200 was
# 0.03 to 0.1 apart.
MOST_APART_MM = 0.2


@dataclass(frozen=True)
class Found:
    """What a capture on one device found."""

    seconds: float
    mm: float  # mean error over what two cameras see, all frames
    positions: Tensor  # [F, V, 3], millimetres


def footage(folder: Path, scale: int = 1) -> Path:
    """The dataset, with a template that is displaced and larger than the truth; pictures `scale` times as
    wide as the tests'.
    """
    performance = small_performance(width=96 * scale, height=112 * scale)
    write_dataset(folder, performance)
    moved = performance.template.positions * 1.03 + torch.tensor([0.003, -0.002, 0.002])
    write_obj(folder / "other.obj", replace(performance.template, positions=moved))
    return folder


def config(scale: int = 1) -> Config:
    """The tests' settings, drawn `scale` times as wide."""
    found = quick_config()

    def wider(stages: Any) -> Any:
        return tuple(replace(stage, head_px=scale * stage.head_px) for stage in stages)

    return replace(
        found,
        identity=wider(found.identity),
        track=wider(found.track),
        polish=wider(found.polish),
    )


def captured(data: Path, device: str, scale: int = 1) -> Found:
    """Fit it on that device."""
    dataset = open_dataset(data, data / "other.obj")
    team = Team(device)
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        scene = Scene(dataset, 2**28, team.device)
        state = Fit(scene, config(scale), team, Path(out), quiet=True).run(False)
        performance = performance_of(scene, on_cpu(state))
        seconds = time.perf_counter() - begun
    truth = read_truth(data / "truth.npz", dataset.timesteps)
    cameras = [[view.pinhole for view in dataset.views_of(f)] for f in range(scene.frames)]
    result, _ = measure(
        performance.positions, dataset.template, truth, cameras, dataset.timesteps, dataset.mm_per_unit
    )
    return Found(seconds, result["all_frames"]["seen"]["mean"], performance.positions * dataset.mm_per_unit)


def compare(devices: tuple[str, ...] = ("cpu", "cuda"), scales: tuple[int, ...] = (1, 4)) -> dict[str, Any]:
    """On each device: seconds and errors, at two sizes of pictures; how far the devices are apart."""
    rows: dict[str, Any] = {"ok": True}
    for scale in scales:
        with tempfile.TemporaryDirectory() as folder:
            data = footage(Path(folder), scale)
            found = [captured(data, device, scale) for device in devices]
        apart = float((found[0].positions - found[-1].positions).norm(dim=-1).mean())
        rows["ok"] &= apart < MOST_APART_MM and all(each.mm < MOST_MM for each in found)
        rows[f"{96 * scale} x {112 * scale}"] = {
            **{
                device: {"s": round(each.seconds, 2), "mm": round(each.mm, 4)}
                for device, each in zip(devices, found, strict=True)
            },
            "apart_mm": round(apart, 4),
        }
    return rows
