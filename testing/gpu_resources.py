# SPDX-License-Identifier: MIT
"""Compiles every CUDA kernel for every architecture, without a GPU, and says what each takes of one.

`python -m testing.gpu_resources --update` records registers and spilled bytes in
benchmarks/results/gpu-resources.json; a test compares.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

import rastergrad
from rastergrad.core import gpu, nvrtc

SOURCE = Path(rastergrad.__file__).parent
RECORD = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "gpu-resources.json"
#: Turing, Ampere (data centre, desktop), Ada, Hopper, Blackwell (data centre, desktop)
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
TYPES = {"float": torch.float32, "double": torch.float64}

#: kernel -> (registers, spilled bytes)
Resources = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Compiled:
    """A module for one number type and architecture."""

    module: str  # "interpolate/cuda.cu"
    number: str
    architecture: int
    kernels: Resources
    complaints: str  # of the compiler
    seconds: float


def modules() -> list[Path]:
    """All sources that are compiled at run time."""
    return sorted(SOURCE.rglob("*.cu"))


def compile_one(job: tuple[Path, str, int]) -> Compiled:
    """One module, as the library compiles it."""
    import time

    path, number, architecture = job
    chosen = [*gpu.options(TYPES[number]), f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"]
    started = time.perf_counter()
    _, log = nvrtc.compiler().compile(path, chosen)
    seconds = time.perf_counter() - started
    lines = [line for line in log.splitlines() if line.strip()]
    complaints = [line for line in lines if not line.startswith(("ptxas info", "ptxas  "))]
    return Compiled(
        f"{path.parent.name}/{path.name}", number, architecture, parsed(log), "\n".join(complaints), seconds
    )


def parsed(log: str) -> Resources:
    """Registers and spills from what the assembler says."""
    found: Resources = {}
    parts = re.split(r"Compiling entry function '(\w+)'", log)
    for name, text in zip(parts[1::2], parts[2::2]):
        registers = re.search(r"Used (\d+) registers", text)
        spilled = re.search(r"(\d+) bytes spill stores", text)
        found[name] = int(registers[1]) if registers else 0, int(spilled[1]) if spilled else 0
    return found


def compile_all(processes: int | None = None) -> Iterator[Compiled]:
    """Every module, for both number types and all architectures."""
    jobs = [(path, number, arch) for path in modules() for number in TYPES for arch in ARCHITECTURES]
    with ProcessPoolExecutor(processes or min(4, os.cpu_count() or 1)) as pool:
        yield from pool.map(compile_one, jobs)


def table(results: list[Compiled]) -> dict[str, dict[str, list[int]]]:
    """ "interpolate/cuda.cu float sm_90" -> kernel -> [registers, spilled bytes]"""
    return {
        f"{r.module} {r.number} sm_{r.architecture}": {k: list(v) for k, v in sorted(r.kernels.items())}
        for r in results
    }


def recorded() -> dict[str, dict[str, list[int]]]:
    return json.loads(RECORD.read_text())["kernels"]


def main() -> int:
    results = list(compile_all())
    for r in results:
        print(f"{r.module} {r.number} sm_{r.architecture} {r.seconds:.2f} s", r.kernels, r.complaints)
    if "--update" in sys.argv:
        rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in table(results).items())
        version = ".".join(map(str, nvrtc.compiler().version))
        RECORD.write_text(f'{{\n "nvrtc": "{version}",\n "kernels": {{\n{rows}\n }}\n}}\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
