# SPDX-License-Identifier: MIT
"""The command `rastergrad capture`."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.description = (
        "Fit a template to footage by calibrated cameras: geometry of each frame, one texture, and a report "
        "of how good they are. Several processes share the work under torchrun: "
        "torchrun --nproc-per-node 2 -m rastergrad.cli capture ..."
    )
    parser.add_argument(
        "folder", type=Path, metavar="DATA", help="folder with transforms.json, or with a COLMAP model"
    )
    parser.add_argument(
        "--template",
        type=Path,
        required=True,
        metavar="MESH",
        help="mesh with UVs, about where the head is (OBJ, PLY, GLB)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results/capture"),
        metavar="DIR",
        help="result folder (results/capture)",
    )
    parser.add_argument("--landmarks", type=Path, metavar="JSON", help="template vertices marked in pictures")
    parser.add_argument("--truth", type=Path, metavar="NPZ", help="true vertices, to measure millimetres")
    parser.add_argument(
        "--blendshapes",
        type=Path,
        metavar="NPZ",
        help="`shapes` [K, V, 3] to begin the basis with (model=basis)",
    )
    parser.add_argument("--cameras", type=_numbers, metavar="N,N,...", help="only these camera_index")
    parser.add_argument("--timesteps", type=_numbers, metavar="N,N-N,...", help="only these timestep_index")
    parser.add_argument("--units", metavar="UNIT", help="of the world: metres, centimetres, millimetres")
    parser.add_argument(
        "--config", type=Path, metavar="TOML", help="settings; see `config.toml` of any result"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one setting, e.g. model=basis or polish.0.steps=2000; may be repeated",
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--resume", action="store_true", help="continue a capture that was stopped")
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew in a folder that holds a capture"
    )
    parser.add_argument("--check", action="store_true", help="check the data, describe it, and stop")
    parser.add_argument("--quiet", action="store_true", help="no progress, no words")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from rastergrad.capture.config import Config, read_config, with_setting
    from rastergrad.capture.dataset import describe
    from rastergrad.capture.run import Options, capture, open_checked

    config = Config() if options.config is None else read_config(options.config)
    for assignment in options.settings:
        config = with_setting(config, assignment)
    wanted = Options(
        folder=options.folder,
        template=options.template,
        out=options.out,
        landmarks=options.landmarks,
        truth=options.truth,
        blendshapes=options.blendshapes,
        cameras=options.cameras,
        timesteps=options.timesteps,
        units=options.units,
        config=config,
        resume=options.resume,
        overwrite=options.overwrite,
        quiet=options.quiet,
        device=_device(options.device),
    )
    if options.check:
        sys.stdout.write("\n".join(describe(open_checked(wanted))) + "\n")
        return 0
    share_process_with_torch()
    capture(wanted)
    return 0


def share_process_with_torch() -> None:
    """A fit alternates between torch's operations and ours: for a program, not a library, to settle."""
    import rastergrad as rg

    rg.recycle_torch_memory()
    rg.rest_torch_threads()


def _device(name: str) -> str:
    import torch

    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu, cuda or cuda:N; got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here; `rastergrad doctor` says why")
    return name


def _numbers(text: str) -> tuple[int, ...]:
    """0,2,5-8"""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"expected numbers and ranges, e.g. 0,2,5-8; got {text!r}")
        found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))
