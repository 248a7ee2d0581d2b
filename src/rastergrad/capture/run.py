# SPDX-License-Identifier: MIT
"""A capture from a folder of footage to a folder of results."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.capture import checkpoint
from rastergrad.capture.config import Config, to_toml
from rastergrad.capture.dataset import Dataset, describe, open_dataset
from rastergrad.capture.export import export_all
from rastergrad.capture.fit import Fit
from rastergrad.capture.metrics import Truth, measure, psnr_db, read_truth, write_json
from rastergrad.capture.parts import step_parts_ms
from rastergrad.capture.performance import Performance
from rastergrad.capture.render import render
from rastergrad.capture.report import write_report
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.team import Team
from rastergrad.scene.image import srgb_from_linear

# A texel that pictures showed less than this is filled in from its surroundings.
SEEN = 0.01


@dataclass(frozen=True)
class Options:
    """What to capture and where to put it; see `rastergrad capture --help`."""

    folder: Path
    template: Path
    out: Path
    landmarks: Path | None = None
    truth: Path | None = None
    blendshapes: Path | None = None
    cameras: Sequence[int] | None = None
    timesteps: Sequence[int] | None = None
    units: str | None = None
    config: Config = field(default_factory=Config)
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False
    device: str = "cpu"


def capture(options: Options, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Fit a performance and write its result folder.

    Returns:
        What metrics.json holds; empty in processes that do not lead.
    Errors:
        DatasetError and ConfigError before any work; CaptureStoppedError in it, with the state saved; OSError
        when results cannot be written.
    """
    begun = time.monotonic()
    team = Team(options.device)
    try:
        return _capture(options, team, say if team.leads and not options.quiet else _silent, begun)
    finally:
        team.close()


def _silent(_: str) -> None:
    return None


def _capture(options: Options, team: Team, say: Callable[[str], None], begun: float) -> dict[str, Any]:
    out = options.out
    if (out / checkpoint.FILE).exists() and not (options.resume or options.overwrite):
        raise ValueError(
            f"{out} holds a capture already. --resume continues it, --overwrite begins anew, "
            "or give another --out."
        )
    dataset = open_checked(options)
    say("\n".join(describe(dataset)))
    truth = None if options.truth is None else read_truth(options.truth, dataset.timesteps)
    scene = Scene(dataset, options.config.cache_mb * 2**20, team.device)
    shapes = None if options.blendshapes is None else _blendshapes(options.blendshapes, scene)
    fit = Fit(scene, options.config, team, out, shapes, options.quiet)
    if team.leads:
        (out / "checkpoint").mkdir(parents=True, exist_ok=True)
        _write_text(out / "config.toml", to_toml(options.config))
    state = fit.run(options.resume)
    if not team.leads:
        return {}
    return _results(options, fit, state, truth, say, begun)


def open_checked(options: Options) -> Dataset:
    """The dataset of the options; DatasetError with all that is wrong with it."""
    return open_dataset(
        options.folder,
        options.template,
        landmarks=options.landmarks,
        cameras=options.cameras,
        timesteps=options.timesteps,
        units=options.units,
    )


def _results(
    options: Options, fit: Fit, state: State, truth: Truth | None, say: Callable[[str], None], begun: float
) -> dict[str, Any]:
    out, scene, dataset = options.out, fit.scene, fit.scene.dataset
    fitted, state = state, on_cpu(state)
    performance = performance_of(scene, state)
    performance.save(out)
    if state.basis.shape[0]:
        _save_arrays(
            out / "checkpoint/basis.npz",
            shapes=(state.basis * scene.unit).numpy(),
            weights=state.weights.numpy(),
        )
    say("measuring ...")
    psnr = image_quality(performance, dataset)
    values = [x for row in psnr for x in row if x is not None]
    metrics: dict[str, Any] = {"psnr_mean_db": sum(values) / len(values), "psnr_db": psnr}
    vertex_error = None
    if truth is not None:
        cameras = [[view.pinhole for view in dataset.views_of(f)] for f in range(scene.frames)]
        found, vertex_error = measure(
            performance.positions, dataset.template, truth, cameras, dataset.timesteps, dataset.mm_per_unit
        )
        metrics.update(found)
        _save_array(out / "checkpoint/vertex_error.npy", vertex_error.numpy())
    parts = step_parts_ms(scene, fitted, options.config)
    metrics["timings_s"] = dict(fit.seconds)
    metrics["step_parts_ms"] = parts
    _write_images(out, dataset)
    say("writing meshes and films ...")
    exporting = time.monotonic()
    export_all(performance, dataset, out)
    metrics["timings_s"]["files and films"] = time.monotonic() - exporting
    metrics["timings_s"]["all"] = time.monotonic() - begun
    write_json(out / "metrics.json", metrics)
    say("writing the report ...")
    details = {
        "losses": [{**entry, "stage": entry["stage"].partition(" ")[0]} for entry in fit.losses],
        "psnr_db": psnr,
        "metrics": metrics if truth is not None else None,
        "vertex_error_mm": vertex_error,
        "timings_s": {name: s for name, s in metrics["timings_s"].items() if name != "all"},
        "step_parts_ms": parts,
        "config": to_toml(options.config),
        "dataset": describe(dataset),
    }
    write_report(performance, dataset, out, details)
    say("\n".join(summary(metrics, out)))
    return metrics


def on_cpu(state: State) -> State:
    """The same on the CPU, where results are written."""
    return State(**{name: value.detach().cpu() for name, value in state.tensors().items()})


def performance_of(scene: Scene, state: State) -> Performance:
    """What was found, in world units."""
    dataset, unit = scene.dataset, scene.unit
    pose = torch.eye(4).repeat(scene.frames, 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = state.rotation, state.shift * unit
    return Performance(
        template=dataset.template,
        timesteps=dataset.timesteps,
        camera_ids=dataset.camera_ids,
        cameras=dataset.cameras,
        positions=torch.stack([state.vertices(f) for f in range(scene.frames)]) * unit,
        head_pose=pose,
        texture=state.texture[0],
        seen=(state.seen[0, ..., 0] > SEEN).float(),
        light=state.light,
        gain=state.gain,
        bias=state.bias,
        mm_per_unit=dataset.mm_per_unit,
        fps=dataset.fps,
    )


def image_quality(performance: Performance, dataset: Dataset) -> list[list[float | None]]:
    """PSNR in dB of each frame and camera, sRGB, inside the mask, or else what is covered."""
    found: list[list[float | None]] = [[None] * len(dataset.camera_ids) for _ in dataset.timesteps]
    for view in dataset.views:
        picture = dataset.load(view)
        drawn = render(performance, view.frame, [view.pinhole])[0]
        color = (
            drawn[..., :3] * performance.gain[view.camera] + performance.bias[view.camera] * drawn[..., 3:]
        )
        inside = drawn[..., 3] > 0.5 if picture.mask is None else picture.mask[..., 0] > 0.5
        if picture.valid is not None:
            inside = inside & (picture.valid[..., 0] > 0.99)
        if inside.any():
            value = psnr_db(srgb_from_linear(color), srgb_from_linear(picture.color), inside)
            found[view.frame][view.camera] = value
    return found


def summary(metrics: dict[str, Any], out: Path) -> list[str]:
    """The result in some lines."""
    lines = [f"image PSNR inside the masks: {metrics['psnr_mean_db']:.1f} dB"]
    if "all_frames" in metrics:
        lines.append("millimetres from the truth to the capture: mean / median / 95th percentile")
        for title, part in (("all frames", metrics["all_frames"]), ("first frame", metrics["frames"][0])):
            for region, words in ((metrics["main_region"], ""), ("seen", ", seen by two cameras")):
                numbers = " / ".join(f"{part[region][name]:.3f}" for name in ("mean", "median", "p95"))
                lines.append(f"  {title}{words}: {numbers}")
    seconds = metrics["timings_s"]["all"]
    lines.append(f"{seconds:.0f} s in all. Look at {out / 'report.html'}")
    return lines


def _blendshapes(path: Path, scene: Scene) -> Tensor:
    """Displacements [K, V, 3] in head units from an .npz file with `shapes`, world units."""
    if not path.is_file():
        raise FileNotFoundError(f"blendshapes not found: {path}")
    with np.load(path, allow_pickle=False) as file:
        if "shapes" not in file.files:
            raise ValueError(f"{path}: the array `shapes` is missing; there are {', '.join(file.files)}.")
        shapes = file["shapes"]
    if shapes.ndim != 3 or shapes.shape[1:] != (scene.vertices, 3):
        raise ValueError(
            f"{path}: `shapes` must be [K, {scene.vertices}, 3], displacements of the template's vertices; "
            f"got {list(shapes.shape)}."
        )
    return (torch.from_numpy(shapes.astype(np.float32)) / scene.unit).to(scene.device)


def _write_images(out: Path, dataset: Dataset) -> None:
    """Where the viewer finds the footage."""
    rows: list[list[str | None]] = [[None] * len(dataset.camera_ids) for _ in dataset.timesteps]
    for view in dataset.views:
        rows[view.frame][view.camera] = str(Path(os.path.relpath(view.image, dataset.folder)))
    write_json(out / "checkpoint/images.json", {"folder": str(dataset.folder.resolve()), "images": rows})


def _write_text(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _save_array(path: Path, array: np.ndarray) -> None:
    aside = path.with_name(path.name + ".tmp.npy")
    np.save(aside, array)
    aside.replace(path)


def _save_arrays(path: Path, **arrays: np.ndarray) -> None:
    aside = path.with_name(path.name + ".tmp.npz")
    np.savez(aside, **arrays)  # pyright: ignore[reportArgumentType]
    aside.replace(path)
