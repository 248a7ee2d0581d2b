# SPDX-License-Identifier: MIT
"""The capture demo: footage of a made-up person is recorded, and captured from another person's head."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from rastergrad.capture.config import Config, small
from rastergrad.capture.metrics import distances, psnr_db, read_truth, write_json
from rastergrad.capture.performance import Performance
from rastergrad.capture.run import Options, capture
from rastergrad.capture.template import load_template
from rastergrad.demo.footage import RIG, FootageOptions, make_footage
from rastergrad.scene.extra import require
from rastergrad.scene.image import read_texture, srgb_from_linear

RESULTS = Path("results/demo/capture")


@dataclass(frozen=True)
class CaptureDemoOptions:
    """Settings of the demo; `full` records twenty frames of 480 x 640 pixels and captures with all steps."""

    out: Path = RESULTS
    full: bool = False
    seed: int = 0
    landmarks: bool = True


def run_capture_demo(options: CaptureDemoOptions, say: Callable[[str], None] = print) -> list[str]:
    """Record the footage into out/footage, capture it into out/result, and compare with the truth.

    Returns:
        Lines for the user.
    Errors:
        MissingExtraError before any work; OSError when `options.out` cannot be written.
    """
    for module, purpose in (
        ("anny", "the demo's head model"),
        ("cholespy", "the capture"),
        ("imageio_ffmpeg", "films"),
    ):
        require(module, purpose, "capture")
    tqdm = require("tqdm", "showing progress", "capture").tqdm
    footage, result = options.out / "footage", options.out / "result"
    recorded = FootageOptions(seed=options.seed)
    recorded = recorded.full() if options.full else recorded
    say("recording nine cameras ...")
    with tqdm(total=recorded.frames * len(RIG), unit="picture", file=sys.stderr) as bar:
        make_footage(footage, recorded, bar.update)
    config = Config(seed=options.seed)
    wanted = Options(
        folder=footage,
        template=footage / "template.obj",
        out=result,
        landmarks=footage / "landmarks.json" if options.landmarks else None,
        truth=footage / "truth.npz",
        config=config if options.full else small(config),
        overwrite=True,
    )
    metrics = capture(wanted, say)
    before = start_error_mm(footage, recorded.frames)
    after = metrics["all_frames"]["narrow_face"]["mean"]
    texture_db = texture_quality(result, footage / "albedo.png")
    metrics["template_error_mm"], metrics["texture_psnr_db"] = before, texture_db
    write_json(result / "metrics.json", metrics)
    return [
        f"mean over the face: from {before:.2f} mm, the other person's head, to {after:.2f} mm",
        f"texture PSNR where seen: {texture_db:.1f} dB",
        f"Results: {result}/ (report.html first), footage: {footage}/",
    ]


def start_error_mm(footage: Path, frames: int) -> float:
    """Mean distance of the true face, over all frames, from the template as it was given."""
    truth = read_truth(footage / "truth.npz", range(frames))
    template = load_template(footage / "template.obj")
    face = truth.regions["narrow_face"]
    found = [distances(shape[face], template.positions, template.tri) for shape in truth.positions]
    return float(torch.cat(found).mean()) * 1000


def texture_quality(result: Path, albedo: Path) -> float:
    """PSNR in dB of the texture against the true albedo, sRGB, over texels that were seen."""
    performance = Performance.load(result)
    side = performance.texture.shape[0]
    true = read_texture(albedo)[..., :3]
    while true.shape[1] > side:
        true = torch.nn.functional.avg_pool2d(true.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    return psnr_db(srgb_from_linear(performance.texture), srgb_from_linear(true[0]), performance.seen > 0.5)
