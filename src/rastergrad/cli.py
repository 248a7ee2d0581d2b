# SPDX-License-Identifier: MIT
"""The command `rastergrad`: demo, render, capture, view, doctor."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rastergrad import __version__
from rastergrad.core.dispatch import BACKENDS

MAX_SIDE = 16384


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit code: 0 done, 1 `doctor` found a fault, 2 user error, 130 interrupted.
    """
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("rastergrad: interrupted", file=sys.stderr)
        return 130
    # What the library raises for a user's mistake names the mistake and the remedy; no traceback is needed.
    except (OSError, ValueError, ImportError, MemoryError, RuntimeError) as error:
        no_memory = isinstance(error, MemoryError) or "can't allocate memory" in str(error)  # torch's words
        wrong_use = not isinstance(error, (MemoryError, RuntimeError))
        if os.environ.get("RASTERGRAD_TRACEBACK") or not (no_memory or wrong_use):
            raise
        text = "not enough memory; try a smaller picture" if no_memory else error
        print(f"rastergrad: error: {text}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rastergrad", description="Differentiable rasterisation on any CPU."
    )
    parser.add_argument("--version", action="version", version=f"rastergrad {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="run an experiment of the paper")
    demos = demo.add_subparsers(title="demos", required=True, metavar="NAME")
    _add_cube(demos.add_parser("cube", help="recover a cube from images of a few pixels"))
    _add_demo_capture(demos.add_parser("capture", help="record a made-up performance and capture it"))
    _add_render(commands.add_parser("render", help="draw a mesh file"))
    _add_capture(commands.add_parser("capture", help="fit a moving textured mesh to footage by many cameras"))
    _add_view(commands.add_parser("view", help="look at a capture in the browser"))
    doctor = commands.add_parser("doctor", help="say what this installation can do, and check that it does")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_capture(parser: argparse.ArgumentParser) -> None:
    from rastergrad.capture.cli import add_arguments

    add_arguments(parser)


def _add_view(parser: argparse.ArgumentParser) -> None:
    parser.description = "Serve a page with a capture: frames to scrub through, the mesh, the real cameras."
    parser.add_argument(
        "result", type=Path, metavar="RESULT", help="the result folder of `rastergrad capture`"
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="0 takes any that is free (8080)")
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")
    parser.set_defaults(run=_view)


def _view(options: argparse.Namespace) -> int:
    from rastergrad.viewer import serve

    serve(options.result, options.host, options.port, not options.no_open)
    return 0


def _add_cube(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Vertex positions and colours of a cube from random views (Laine et al. 2020, figures 4, 5)."
    )
    parser.add_argument("--quick", action="store_true", help="a shorter run of about a minute")
    parser.add_argument(
        "--resolutions", type=_list(_count), metavar="N,N,...", help="image sides in pixels (2,4,8,16)"
    )
    parser.add_argument("--iterations", type=_count, metavar="N", help="steps of each run (5000)")
    parser.add_argument(
        "--repeats", type=_count, metavar="N", help="runs of each kind, with seeds of their own (16)"
    )
    parser.add_argument(
        "--colors",
        choices=["continuous", "discontinuous", "both"],
        help="8 shared or 24 per-face colours (both)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the first run (0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (results/demo/cube)")
    parser.add_argument("--backend", choices=BACKENDS, help="which implementation computes (by device)")
    parser.set_defaults(run=_demo_cube)


def _demo_cube(options: argparse.Namespace) -> int:
    from rastergrad.demo.cube import COLORINGS
    from rastergrad.demo.run import CubeOptions, run_cube

    settings = CubeOptions().quick() if options.quick else CubeOptions()
    given: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("resolutions", "iterations", "repeats", "seed", "out", "backend")
        if getattr(options, name) is not None
    }
    if options.colors and options.colors != "both":
        given["colorings"] = tuple(name for name in COLORINGS if name == options.colors)
    print(*run_cube(replace(settings, **given)), sep="\n")
    return 0


def _add_demo_capture(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Nine virtual cameras record a made-up person (the Anny head model); the performance is captured "
        "from another person's head and compared with the truth."
    )
    parser.add_argument(
        "--full", action="store_true", help="20 frames of 480x640 and all steps; half an hour"
    )
    parser.add_argument("--no-landmarks", action="store_true", help="do without the landmarks")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of motion, skin and fit (0)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the results (results/demo/capture)"
    )
    parser.set_defaults(run=_demo_capture)


def _demo_capture(options: argparse.Namespace) -> int:
    from rastergrad.capture.cli import share_process_with_torch
    from rastergrad.demo.performance import RESULTS, CaptureDemoOptions, run_capture_demo

    wanted = CaptureDemoOptions(
        out=options.out or RESULTS,
        full=options.full,
        seed=options.seed,
        landmarks=not options.no_landmarks,
    )
    share_process_with_torch()
    print(*run_capture_demo(wanted), sep="\n")
    return 0


def _add_render(parser: argparse.ArgumentParser) -> None:
    from rastergrad.scene.aim import VIEWS

    parser.description = "Draw an OBJ, PLY, GLB or glTF file with its texture or vertex colours."
    parser.add_argument("mesh", type=Path, metavar="MESH", help="the mesh file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="picture to write: .png, .exr or .npy",
    )
    parser.add_argument("--size", type=_size, default=(1024, 1024), metavar="WxH", help="pixels (1024x1024)")
    parser.add_argument(
        "--camera",
        default="corner",
        metavar="VIEW",
        help=f"{', '.join(VIEWS)}; AZIMUTH,ELEVATION in degrees (write --camera=-30,20 if negative); "
        'or a .json file with "eye" and "target" (corner)',
    )
    parser.add_argument("--fov", type=_fov, default=35.0, metavar="DEG", help="vertical opening angle (35)")
    parser.add_argument("--up", choices=["y", "z"], default="y", help="the mesh's upright axis (y)")
    parser.add_argument("--texture", type=Path, metavar="PICTURE", help="put this picture on the mesh")
    parser.add_argument(
        "--background",
        type=_background,
        default="white",
        metavar="COLOUR",
        help="transparent, white, black or R,G,B in 0..255, for a PNG (white)",
    )
    what = parser.add_mutually_exclusive_group()
    for name, text in (
        ("depth", "distance along the camera's axis; 0 where there is nothing"),
        ("normals", "unit normals in world space"),
        ("ids", "triangle index plus one; 0 where there is nothing"),
    ):
        what.add_argument(f"--{name}", dest="what", action="store_const", const=name, help=text)
    parser.add_argument("--backend", choices=BACKENDS, help="which implementation computes (by device)")
    parser.epilog = (
        "A PNG is for the eye: encoded colours, scaled depth, coloured ids. EXR and NPY hold the numbers: "
        "linear colour premultiplied by alpha, depth in world units, normals in -1..1, ids. PNG and EXR "
        "begin with the top row, NPY with the bottom row as all tensors of rastergrad do."
    )
    parser.set_defaults(run=_render, what="color")


def _render(options: argparse.Namespace) -> int:
    from rastergrad.scene.aim import aim
    from rastergrad.scene.image import check_format, write_image
    from rastergrad.scene.mesh import load_mesh
    from rastergrad.scene.render import display, render

    check_format(options.output)
    mesh = load_mesh(options.mesh)
    if options.texture is not None:
        mesh = mesh.with_texture(options.texture)
    width, height = options.size
    camera = aim(options.camera, mesh, width / height, up=options.up, fov_deg=options.fov)
    started = time.perf_counter()
    image = render(options.what, mesh, camera, (height, width), up=options.up, backend=options.backend)
    seconds = time.perf_counter() - started
    covered = (
        image[..., 3] if options.what == "color" else image.reshape(height, width, -1).abs().amax(-1)
    ) > 0
    if not covered.any():
        print("rastergrad: warning: the camera sees nothing of the mesh", file=sys.stderr)
    if options.output.suffix.lower() == ".png":
        image = display(options.what, image, options.background)
    write_image(options.output, image)
    print(
        f"Wrote {options.output}: {width} x {height} pixels of {len(mesh.tri):,} triangles, "
        f"{100 * covered.float().mean():.0f} % covered, drawn in {seconds:.2f} s"
    )
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rastergrad.doctor import examine

    lines, healthy = examine()
    print(*lines, sep="\n")
    return 0 if healthy else 1


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; got {text!r}")
    return number


def _list(kind: Callable[[str], int]) -> Callable[[str], tuple[int, ...]]:
    def parse(text: str) -> tuple[int, ...]:
        return tuple(dict.fromkeys(kind(part) for part in text.split(",")))

    return parse


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, e.g. 640x480; got {text!r}")
    if not (1 <= int(width) <= MAX_SIDE and 1 <= int(height) <= MAX_SIDE):
        raise argparse.ArgumentTypeError(f"each side must be from 1 to {MAX_SIDE} pixels; got {text!r}")
    return int(width), int(height)


def _fov(text: str) -> float:
    try:
        degrees = float(text)
    except ValueError:
        degrees = 0.0
    if not 0 < degrees < 180:
        raise argparse.ArgumentTypeError(f"expected degrees between 0 and 180; got {text!r}")
    return degrees


def _background(text: str) -> tuple[float, ...] | None:
    """sRGB in 0..1, or None for transparent."""
    if text == "transparent":
        return None
    numbers = {"white": "255,255,255", "black": "0,0,0"}.get(text, text).split(",")
    if len(numbers) != 3 or not all(n.isdecimal() and int(n) <= 255 for n in numbers):
        raise argparse.ArgumentTypeError(
            f"expected transparent, white, black or R,G,B in 0..255; got {text!r}"
        )
    return tuple(int(n) / 255 for n in numbers)


if __name__ == "__main__":
    sys.exit(main())
