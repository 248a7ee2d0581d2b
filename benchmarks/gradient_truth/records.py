# SPDX-License-Identifier: MIT
"""The truth about a scene: its image, the weights that turn an image into a loss, and the exact gradients.

Computing it takes up to some seconds, so it is kept in build/gradient_truth/, under a name that changes with
the sources.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from . import truth
from .scenes import SIZE, Scene
from .surface import Array

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / "build" / "gradient_truth"
SMOOTH, NOISE, MOVED = "smooth", "noise", "moved"
# Three smooth weights are the main figure; noise is what no method of one sample can do well at; "moved" is
# the mean squared difference from the image of the scene after a small motion.
LOSSES = (SMOOTH, SMOOTH, SMOOTH, NOISE, MOVED)


@dataclass(frozen=True)
class Record:
    """Exact image and gradients of a scene."""

    image: Array  # [H, W, 3]
    weight: Array  # [H, W, K, 3], dL_k/d(image) at the true image
    target: Array  # [H, W, 3] image of the moved scene; empty if no loss is about it
    d_screen: Array  # [K, P, 3]: dL/d(x, y) in px at fixed depth, dL/d(depth) at fixed x and y
    # Relative L2 between d_screen of the first loss and that of a quadrature with half as many panels, by
    # place or by depth, whichever is greater. It bounds the error, as one with the full number is several
    # times smaller.
    error: float


def record(scene: Scene, size: int = SIZE, *, losses: Sequence[str] = LOSSES, panels: float = 32) -> Record:
    """The truth, from the store if it is there."""
    name = f"{scene.name}-{scene.pose}-{size}-{_digest(scene, size, tuple(losses), panels)}.npz"
    path = KEPT / name
    if path.exists():
        with np.load(path) as stored:
            return Record(
                **{k: stored[k] for k in ("image", "weight", "target", "d_screen")},
                error=float(stored["error"]),
            )
    found = compute(scene, size, losses=losses, panels=panels)
    KEPT.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.part.npz")
    np.savez_compressed(draft, **vars(found))
    draft.replace(path)
    return found


def compute(scene: Scene, size: int, *, losses: Sequence[str] = LOSSES, panels: float = 32) -> Record:
    """The truth, computed."""
    surface = scene.surface(size)
    image = truth.image(surface, size, size, panels=panels)
    generator = np.random.default_rng([scene.pose, size])
    moved = scene.moved(generator).surface(size)
    target = truth.image(moved, size, size, panels=panels) if MOVED in losses else image[:0]
    weights = []
    for loss in losses:
        if loss == SMOOTH:
            weights.append(smooth_weight(generator, size))
        elif loss == NOISE:
            weights.append(generator.standard_normal((size, size, 3)))
        else:
            weights.append(2 * (image - target) / image.size)
    weight = np.stack(weights, 2)
    _, gradient = truth.image_and_gradient(surface, weight, panels=panels)
    _, coarse = truth.image_and_gradient(surface, weight[:, :, :1], panels=panels / 2)
    for d_vertex in (gradient, coarse):
        d_vertex[..., 2] *= -(surface.vertex[:, 2] ** 2)  # d(1/depth) / d(depth)
    errors = [
        np.linalg.norm(coarse[0][:, axes] - gradient[0][:, axes]) / np.linalg.norm(gradient[0][:, axes])
        for axes in (slice(2), slice(2, 3))
    ]
    return Record(image, weight, target, gradient, float(max(errors)))


def smooth_weight(generator: np.random.Generator, size: int, wavelength_px: float = 10) -> Array:
    """[size, size, 3]: in each channel four waves, none shorter than `wavelength_px` along an axis."""
    y, x = np.mgrid[:size, :size] + 0.5
    waves = generator.uniform(-1, 1, (2, 3, 4)) * 2 * np.pi / wavelength_px
    phase = generator.uniform(0, 2 * np.pi, (3, 4))
    return np.sin(x[..., None, None] * waves[0] + y[..., None, None] * waves[1] + phase).sum(-1)


@lru_cache(maxsize=1)
def _sources() -> bytes:
    """What the truth depends on; how methods are run and compared is not part of it."""
    return b"".join(
        (HERE / f"{name}.py").read_bytes() for name in ("surface", "line", "truth", "scenes", "records")
    )


def _digest(scene: Scene, *settings: object) -> str:
    text = hashlib.sha256(_sources() + repr(settings).encode())
    for array in (scene.position, scene.place, scene.tri, scene.color, scene.background):
        text.update(np.ascontiguousarray(array).tobytes())
    return text.hexdigest()[:16]
