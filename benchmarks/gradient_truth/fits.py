# SPDX-License-Identifier: MIT
"""Do fits with these gradients converge? A rigid pose and a uniform scale, recovered from exact images.

`python -m benchmarks.gradient_truth --fits`. Adam follows the gradient of the mean squared difference from
the box-filtered image of the truth, at four rates, so that no lucky one decides. Every start has a scene of
its own: the n-th start belongs to the n-th pose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from . import truth
from .methods import METHODS, Method
from .scenes import DISTANCE, FOCAL, SIZE, Scene, scene
from .surface import Array

TURN_RAD = np.radians(10)
SHIFT_PX = (2, 3)  # along each of the three axes, either way
GROWTH = 0.15  # at most, either way
STARTS = 20
STEPS = 200
RATES = (0.01, 0.02, 0.03, 0.05)  # of Adam: radians, units of the scene and logarithms of the scale alike
LAST = 0.01  # of the rate, at the last step
CONVERGED_PX = 1.0


@dataclass(frozen=True)
class Case:
    """A scene, how far off its starts are, and the methods that are compared."""

    scene: str
    reach: float  # factor on TURN_RAD, SHIFT_PX and GROWTH
    methods: tuple[str, ...]


# Ribbons are narrower than a pixel. 4 px off, most of them overlap with nothing of their own image and the
# loss has other minima: 100 steps along the exact gradients, at a rate of 0.03, led home from one of the
# first six such starts. So thin parts are for a tracker that loses no frames, and the basin is shown: 1.3,
# 2 and 4 px.
THIN = ("outline_v2", "pixel_pair", "pixel_pair_ss2")
CASES = (
    Case("subpixel", 1, ("outline", "pixel_pair", "pixel_pair_ss2")),
    Case("thin", 1 / 3, THIN),
    Case("thin", 1 / 2, THIN),
    Case("thin", 1, THIN),
)


@dataclass(frozen=True)
class Fits:
    """How far vertices are from their true places in the image, root mean square in px, for each start."""

    scene: str
    reach: float
    method: str
    rate: float
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def converged(self) -> int:
        return sum(distance < CONVERGED_PX for distance in self.after)


# ---- one fit ----------------------------------------------------------------------------------------------


def random_start(generator: np.random.Generator, reach: float = 1) -> Array:
    """Rotation vector, translation, logarithm of the scale: what has to become zero. [7]"""
    axis = generator.standard_normal(3)
    unit_per_px = 2 * DISTANCE / (FOCAL * SIZE)
    shift = generator.uniform(*SHIFT_PX, 3) * generator.choice([-1, 1], 3) * unit_per_px
    growth = generator.uniform(-GROWTH, GROWTH)
    turn = TURN_RAD * axis / np.linalg.norm(axis)
    return np.concatenate([reach * turn, reach * shift, [np.log1p(reach * growth)]])


def placed(position: Tensor, parameters: Tensor) -> Tensor:
    """Positions [P, 3] turned and scaled about their centre, then shifted."""
    x, y, z = parameters[:3]
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    centre = position.mean(0)
    turned = (position - centre) @ torch.linalg.matrix_exp(cross).T
    return parameters[6].exp() * turned + centre + parameters[3:6]


def target_of(posed: Scene, size: int = SIZE, *, panels: float = 8) -> Tensor:
    """[size, size, 3] float32: the exact image of a scene."""
    return torch.from_numpy(truth.image(posed.surface(size), size, size, panels=panels)).float()


def recover(
    posed: Scene, target: Tensor, method: Method, start: Array, rate: float, steps: int = STEPS
) -> tuple[float, float]:
    """Distances in px before and after a fit. `target` is square."""
    position, parameters = torch.from_numpy(posed.position), torch.from_numpy(start).clone().requires_grad_()
    before = distance_px(posed, parameters, len(target))
    optimizer = torch.optim.Adam([parameters], lr=rate)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, LAST ** (1 / steps))
    for _ in range(steps):
        image = method.render(posed, placed(position, parameters), len(target))
        loss = (image - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return before, distance_px(posed, parameters, len(target))


def distance_px(posed: Scene, parameters: Tensor, size: int) -> float:
    """Root mean square of the distances of all vertices, hidden ones too, from where they should be."""
    true_position = torch.from_numpy(posed.position)
    found, true = (
        FOCAL * size / 2 * position[:, :2] / -position[:, 2:]
        for position in (placed(true_position, parameters.detach()), true_position)
    )
    return float((found - true).square().sum(1).mean().sqrt())


# ---- all of them ------------------------------------------------------------------------------------------


def run(
    cases: Sequence[Case] = CASES,
    starts: int = STARTS,
    rates: Sequence[float] = RATES,
    steps: int = STEPS,
    *,
    panels: float = 8,
) -> Iterator[Fits]:
    """Fits of every case, method and rate."""
    for case in cases:
        poses = [scene(case.scene, pose) for pose in range(starts)]
        targets = [target_of(posed, panels=panels) for posed in poses]
        for method in case.methods:
            for rate in rates:
                found = [
                    recover(
                        posed,
                        target,
                        METHODS[method],
                        random_start(np.random.default_rng([posed.pose, *case.scene.encode()]), case.reach),
                        rate,
                        steps,
                    )
                    for posed, target in zip(poses, targets)
                ]
                print(f"{case.scene} fitted with {method} at rate {rate:g}", flush=True)
                before, after = zip(*found)
                yield Fits(case.scene, case.reach, method, rate, before, after)


def markdown(fits: Sequence[Fits]) -> str:
    """How many converged, and the median distance at the end; a column for each rate."""
    rates = sorted({f.rate for f in fits})
    starts = len(fits[0].after)
    lines = [
        f"**Fits that end within {CONVERGED_PX:g} px, of {starts}, and median distance at the end in px**",
        "",
        "| scene | start, px | method | " + " | ".join(f"rate {rate:g}" for rate in rates) + " |",
        "|---|---|---|" + "---|" * len(rates),
    ]
    for scene_name, reach, method in dict.fromkeys((f.scene, f.reach, f.method) for f in fits):
        same = {f.rate: f for f in fits if (f.scene, f.reach, f.method) == (scene_name, reach, method)}
        before = np.median(next(iter(same.values())).before)
        cells = [f"{f.converged} / {np.median(f.after):.2f}" for f in (same[rate] for rate in rates)]
        lines.append(f"| {scene_name} | {before:.1f} | {METHODS[method].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def content(fits: Sequence[Fits]) -> dict[str, object]:
    """For the JSON: settings and every distance."""
    return {
        "torch": torch.__version__,
        "steps": STEPS,
        "turn_degrees": float(np.degrees(TURN_RAD)),
        "shift_px": SHIFT_PX,
        "growth": GROWTH,
        "converged_px": CONVERGED_PX,
        "fits": [
            {**asdict(f), "before": np.round(f.before, 4).tolist(), "after": np.round(f.after, 4).tolist()}
            for f in fits
        ],
    }
