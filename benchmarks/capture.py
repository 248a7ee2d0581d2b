# SPDX-License-Identifier: MIT
"""What a capture's time goes into: `python -m benchmarks.capture`.

Records the demo's footage, or takes a dataset with truth, captures it, and checks the result in millimetres
first. Then: seconds by stage, milliseconds by part of a polishing step, and the share of a step in which the
machine computes: rastergrad's operations and torch's kernels as torch's profiler sees them, not Python.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from rastergrad.capture.config import Config, small
from rastergrad.capture.fit import Fit
from rastergrad.capture.metrics import measure, read_truth
from rastergrad.capture.parts import step_parts_ms
from rastergrad.capture.polish import PolishLoop
from rastergrad.capture.run import Options, open_checked
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.team import Team
from rastergrad.demo.footage import FootageOptions, make_footage

STEPS = 10
MOST_MM = 0.4  # mean over the main region, all frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a dataset with template.obj and truth.npz")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or make_footage(Path(folder) / "footage", FootageOptions())
        config = Config() if options.data else small(Config())
        wanted = Options(
            data, data / "template.obj", Path(folder) / "out", config=replace(config, save_every_s=1e9)
        )
        dataset = open_checked(wanted)
        scene = Scene(dataset, 2**31)
        begun = time.perf_counter()
        fit = Fit(scene, config, Team(), wanted.out)
        state = fit.run(False)
        seconds = time.perf_counter() - begun
        truth = read_truth(data / "truth.npz", dataset.timesteps)
        cameras = [[view.pinhole for view in dataset.views_of(f)] for f in range(scene.frames)]
        positions = torch.stack([state.vertices(f) for f in range(scene.frames)]) * scene.unit
        found, _ = measure(
            positions, dataset.template, truth, cameras, dataset.timesteps, dataset.mm_per_unit
        )
        mm = found["all_frames"][found["main_region"]]["mean"]
        assert mm < MOST_MM, (
            f"the capture is {mm:.2f} mm from the truth, not {MOST_MM}: its times mean nothing"
        )
        print(f"{mm:.3f} mm from the truth (mean over {found['main_region']}), after {seconds:.0f} s:")
        for name, value in fit.seconds.items():
            print(f"  {name:<20}{value:8.1f} s")
        parts = step_parts_ms(scene, state, config)
        print(f"a step of the polish: {sum(parts.values()):.1f} ms on {torch.get_num_threads()} threads")
        for name, value in parts.items():
            print(f"  {name:<20}{value:8.2f} ms")
        print(f"computing, not Python: {100 * computing_share(scene, state, config):.0f} %")
        scene.pictures.close()


def computing_share(scene: Scene, state: State, config: Config) -> float:
    """Self times of operations over the wall clock of some steps."""
    loop = PolishLoop(scene, state, config, Team(), 0, config.polish[-1], None)
    loop.begin()
    for number in range(3):
        loop.step(number)
    begun = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for number in range(3, 3 + STEPS):
            loop.step(number)
    wall_us = 1e6 * (time.perf_counter() - begun)
    events = recorded.key_averages()
    # torch's own, and the autograd functions, whose time is that of the kernels they call.
    return sum(e.self_cpu_time_total for e in events if e.key.startswith(("aten::", "_"))) / wall_us


if __name__ == "__main__":
    main()
