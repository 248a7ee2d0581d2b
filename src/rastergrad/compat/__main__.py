# SPDX-License-Identifier: MIT
"""`python -m rastergrad.compat`: runs a program that was written for nvdiffrast and CUDA."""

import argparse
import os
import sys

import torch

from .children import begin
from .program import run_module, run_script
from .registration import OPENGL_CHOICE


def main() -> None:
    """Read the options, say in one line what holds, run the program."""
    parser = argparse.ArgumentParser(
        prog="python -m rastergrad.compat",
        description="Run a program that was written for nvdiffrast, unchanged. Where torch sees no GPU, "
        "or with --device cpu, every request for a CUDA device lands on the CPU.",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if torch sees a GPU")
    parser.add_argument(
        "--opengl",
        action="store_true",
        help="draw with OpenGL where the program has a RasterizeGLContext",
    )
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="run a module instead of a file")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a Python file and its arguments")
    options = parser.parse_args()
    program = options.module or options.program
    if not program:
        parser.error("name a program, or -m and a module")
    on_cpu = options.device == "cpu" or not torch.cuda.is_available()
    if options.opengl:
        os.environ[OPENGL_CHOICE] = "1"  # in children, too
    where = "every request for a CUDA device lands on the CPU" if on_cpu else "CUDA is the GPU"
    sys.stderr.write(f"rastergrad.compat: nvdiffrast is rastergrad here; {where}\n")
    begin(on_cpu)
    run = run_module if options.module else run_script
    run(program[0], program[1:])


if __name__ == "__main__":
    main()
