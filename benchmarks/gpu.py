# SPDX-License-Identifier: MIT
"""Everything that needs an NVIDIA GPU, in one call: `python -m benchmarks.gpu`.

It compiles all kernels (first use, then from the disk), runs the tests and the golden cases on the device,
tries the drop-in module, OpenGL and a small capture there, looks for memory errors and races with
compute-sanitizer, checks each operation against the CPU, and times it by CUDA graphs and events. `--only`
picks parts; results go to a JSON file. Nothing has to be installed: with the shared library in
src/rastergrad/core, `PYTHONPATH=src python -m benchmarks.gpu` runs in a bare checkout.
"""

import argparse
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rastergrad.core import gpu, native, nvrtc
from testing import gpu_resources

from . import gpu_rows
from .results import path_for, write

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("compile", "tests", "golden", "compat", "opengl", "capture", "sanitizer", "graphs", "time")
TESTS = (
    "test_rasterize test_rasterize_coverage test_rasterize_door test_rasterize_gate test_interpolate "
    "test_texture test_texture_background test_texture_errors test_antialias test_antialias_far "
    "test_antialias_outline test_antialias_topology test_antialias_visibility test_outline_counts "
    "test_golden test_registration test_scene test_scenes test_fits test_hostile"
)
COMPAT = "test_compat_golden test_compat_program test_compat_contexts"
OPENGL = "test_opengl test_opengl_contexts test_opengl_cuda"
CHECKED = ("rasterize", "interpolate", "texture", "antialias", "full step")
# Kind, triangles, side, batch; milliseconds wanted of an H200 (rasterize forward, full step).
SCENES: tuple[tuple[str, int, int, int, dict[str, float]], ...] = (
    ("sphere", 1_000, 1024, 1, {}),
    ("sphere", 10_000, 1024, 1, {}),
    ("sphere", 100_000, 1024, 1, {"rasterize": 0.15, "full step": 1.0}),
    ("sphere", 1_000_000, 1024, 1, {}),
    ("sphere", 10_000_000, 1024, 1, {}),
    ("sphere", 100_000, 2048, 1, {}),
    ("sphere", 1_000_000, 2048, 1, {"rasterize": 0.6}),
    ("sphere", 10_000, 1024, 16, {}),
    ("sphere", 100_000, 1024, 16, {}),
    ("soup of large triangles", 10_000, 1024, 1, {}),
    ("soup below a pixel", 10_000_000, 1024, 1, {}),
    ("soup of all sizes", 10_000, 1024, 1, {}),
)
CHECKED_TRIANGLES = 10_000  # larger scenes take float64 on the CPU too long


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 if every part went well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts: {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, help="JSON file (benchmarks/results/<GPU>.json)")
    parser.add_argument("--triangles", type=int, default=10**9, help="leave larger scenes out")
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes for tests"
    )
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("benchmarks.gpu: torch sees no CUDA device", file=sys.stderr)
        return 2
    content: dict[str, Any] = {"gpu": machine()}
    print(content["gpu"], flush=True)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "compile": compile_all,
        "tests": lambda: run_tests(options.workers),
        "golden": run_golden,
        "compat": lambda: pytest(*files(COMPAT)),
        "opengl": lambda: run_opengl(options.workers),
        "capture": run_capture,
        "sanitizer": run_sanitizer,
        "graphs": check_graphs,
        "time": lambda: time_all(options.triangles),
    }
    good = True
    for name in options.only.split(","):
        started = time.perf_counter()
        try:
            content[name] = parts[name]()
        except Exception as failure:  # the other parts are still worth their time on the device
            content[name] = {"ok": False, "error": f"{type(failure).__name__}: {failure}"}
        good &= bool(content[name].get("ok", True))
        shown = {k: v for k, v in content[name].items() if k != "rows"}
        print(f"== {name}: {time.perf_counter() - started:.1f} s {shown}", flush=True)
    write(options.out or path_for(torch.cuda.get_device_name()), content)
    return 0 if good else 1


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    found = nvrtc.compiler()
    return {
        "name": torch.cuda.get_device_name(),
        "capability": list(torch.cuda.get_device_capability()),
        "driver": native.gpu_driver_version(),
        "torch": torch.__version__,
        "nvrtc": list(found.version),
    }


# ---- compilation -------------------------------------------------------------------------------------------

FIRST_USE = """
import time, torch
from benchmarks import gpu
torch.zeros(1, device="cuda"); torch.cuda.synchronize()
begin = time.perf_counter()
gpu.load_all()
print("seconds", time.perf_counter() - begin)
"""


def load_all() -> None:
    """Every program for float32 onto the device, compiled or from the disk."""
    device = torch.device("cuda", torch.cuda.current_device())
    for source in gpu_resources.modules():
        kernel = re.search(r"^RG_GLOBAL\w*\((\w+)", source.read_text(), re.MULTILINE)
        assert kernel is not None, source
        gpu.engine.kernel(source, torch.float32, device, kernel[1])


def touch() -> None:
    """A forward and a backward pass of every operation."""
    for run in gpu_rows.all_passes(small_scene("cuda"), {}):
        results(run)


def small_scene(device: str) -> gpu_rows.Inputs:
    return gpu_rows.Inputs(1_000, 64, 2, device)


def compile_all() -> dict[str, Any]:
    """Seconds until all programs are on the device: with an empty cache, then, in a new process, a full."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RASTERGRAD_CACHE_DIR": folder}
        first = seconds_of(FIRST_USE, environment)
        again = min(seconds_of(FIRST_USE, environment) for _ in range(2))
        programs = [p.stat().st_size for p in Path(folder).glob("*.cubin")]
    return {
        "first_use_s": round(first, 3),
        "cached_start_s": round(again, 4),
        "cores": os.cpu_count(),
        "programs": len(programs),
        "bytes": sum(programs),
    }


def seconds_of(code: str, environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    found = re.search(r"^seconds ([\d.e-]+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(done.stderr[-2000:])
    return float(found[1])


# ---- correctness -------------------------------------------------------------------------------------------


def run_tests(workers: int) -> dict[str, Any]:
    """The operations' tests with their tensors carried to the device, and tests that are about devices."""
    carried = pytest("--kernels", "cuda", *spread(workers), *files(TESTS))
    devices = pytest("tests/test_cuda_device.py")
    return {"ok": carried["ok"] and devices["ok"], "carried": carried, "devices": devices}


def files(names: str) -> list[str]:
    return [f"tests/{name}.py" for name in names.split()]


def spread(workers: int) -> list[str]:
    return ["-n", str(workers)] if workers > 1 else []


def run_opengl(workers: int) -> dict[str, Any]:
    """OpenGL's tests, those with memory shared with CUDA among them, then its table, in a file of its own."""
    from . import opengl  # which needs pytest

    tests = pytest(*spread(workers), *files(OPENGL))
    out = path_for(torch.cuda.get_device_name(), "opengl")
    return {"ok": tests["ok"] and opengl.main(["--device", "cuda", "--out", str(out)]) == 0, "tests": tests}


def run_capture() -> dict[str, Any]:
    """Tests of captures on the GPU, then how long a small one takes and what it finds, here and there."""
    from . import gpu_capture

    tests = pytest("tests/test_capture_cuda.py")
    found = gpu_capture.compare()
    return {"ok": tests["ok"] and found["ok"], "tests": tests, "found": found}


def pytest(*arguments: str) -> dict[str, Any]:
    """One run: how it went, and what failed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:benchmark",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    log = os.environ.get("OUT")
    if log:
        with Path(log, "tests.txt").open("a") as file:
            file.write(done.stdout + done.stderr)
    summary = (done.stdout.strip().splitlines() or [done.stderr[-500:]])[-1]
    failed = re.findall(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)
    return {"ok": done.returncode == 0, "summary": summary, "failed": [line[:200] for line in failed[:60]]}


def run_golden() -> dict[str, Any]:
    from testing import golden

    if not golden.available():
        return {"summary": golden.MISSING}
    module = golden.GoldenModule(golden.native_functions("cuda"))
    missed = golden.loader().run(module, None, device="cuda", verbose=False)
    return {"ok": not missed, "cases": len(golden.names("")), "missed": [str(m) for m in missed][:20]}


# The pause: torch's backward threads may still be dropping Python objects, and an interpreter that ends
# meanwhile kills them, which ends the process with an error of its own.
SANITIZED = """
import time, torch
from benchmarks import gpu
gpu.touch()
torch.cuda.synchronize()
print("touched everything", flush=True)
time.sleep(2)
"""
SANITIZER_S = 150


def run_sanitizer() -> dict[str, Any]:
    """compute-sanitizer on a forward and a backward pass of every operation."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        return {"summary": "compute-sanitizer is not installed"}
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    checks = {
        check: subprocess.Popen(
            [tool, "--tool", check, "--error-exitcode", "9", sys.executable, "-c", SANITIZED],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for check in ("memcheck", "racecheck")
    }
    found: dict[str, Any] = {"ok": True}
    for check, process in checks.items():
        try:
            text, _ = process.communicate(timeout=SANITIZER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            text = f"did not end within {SANITIZER_S} s"
        found[check] = (re.findall(r"=+ ((?:ERROR|RACECHECK) SUMMARY.*)", text) or [text[-1500:]])[-1]
        good = process.returncode == 0 and "touched everything" in text
        found["ok"] &= good
        if not good:
            print(text[-4000:], flush=True)
    return found


def fingerprint(steps: int) -> str:
    """Of a reproducible step's results, which must be the same each time."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    run = gpu_rows.step(small_scene("cuda")).run
    want = run()
    for _ in range(steps):
        assert all(torch.equal(a, b) for a, b in zip(want, run(), strict=True))
    return hashlib.sha256(b"".join(t.cpu().numpy().tobytes() for t in want)).hexdigest()


def check_graphs() -> dict[str, Any]:
    """A training loop recorded as a CUDA graph gives what it gives outside; two streams do not disturb each
    other; reproducible gradients are bitwise equal from run to run.
    """
    x = small_scene("cuda")
    found: dict[str, Any] = {}
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        run = gpu_rows.step(x)
        want = [t.clone() for t in run.run()]
        found["reproducible"] = all(torch.equal(a, b) for _ in range(5) for a, b in zip(want, run.run()))
        graph, outputs = captured(run.run)
        for _ in range(3):
            graph.replay()
        torch.cuda.synchronize()
        found["graph_equals_eager"] = all(torch.equal(a, b) for a, b in zip(want, outputs))
        streams = [torch.cuda.Stream() for _ in range(2)]
        results = []
        for k in range(10):
            streams[k % 2].wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(streams[k % 2]):
                results.append(run.run())
        torch.cuda.synchronize()
        found["two_streams"] = all(torch.equal(a, b) for r in results for a, b in zip(want, r))
        code = "from benchmarks import gpu; print(gpu.fingerprint(300))"
        beside = [
            subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        mine = fingerprint(300)
        found["contexts_of_three_processes"] = all(p.communicate()[0].strip() == mine for p in beside)
    finally:
        torch.use_deterministic_algorithms(False)
    compiled = torch.compile(gpu_rows.rasterize(x).run)
    found["compiled"] = bool(torch.equal(compiled()[0], x.rast))
    return {"ok": all(found.values()), **found}


# ---- time --------------------------------------------------------------------------------------------------


def captured(run: Callable[[], Sequence[Tensor]]) -> tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]:
    """The work as a graph, and the tensors that a replay fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        outputs = run()
    return graph, outputs


def milliseconds(replay: Callable[[], None], budget_s: float = 0.06) -> float:
    """Median of rounds, each of many replays between two events."""
    replay()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    replay()
    end.record()
    torch.cuda.synchronize()
    count = max(1, min(200, int(budget_s * 1e3 / 7 / max(begin.elapsed_time(end), 1e-3))))
    rounds = []
    for _ in range(7):
        begin.record()
        for _ in range(count):
            replay()
        end.record()
        torch.cuda.synchronize()
        rounds.append(begin.elapsed_time(end) / count)
    return statistics.median(rounds)


def backward_graph(run: gpu_rows.Pass) -> torch.cuda.CUDAGraph:
    """The backward pass alone; the forward pass ran outside, on the same stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        outputs = [o for o in run.run() if o.requires_grad]
        upstream = [torch.rand_like(o) for o in outputs]
        torch.autograd.grad(outputs, run.inputs, upstream, retain_graph=True)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        torch.autograd.grad(outputs, run.inputs, upstream, retain_graph=True)
    return graph


def copy_bandwidth() -> float:
    """Bytes per second that a copy of 1 GB reads and writes."""
    source = torch.rand(1 << 28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / (milliseconds(lambda: target.copy_(source)) / 1e3)


def time_all(most_triangles: int) -> dict[str, Any]:
    limit = copy_bandwidth()
    print(f"copy {limit / 1e9:.0f} GB/s", flush=True)
    rows: list[dict[str, Any]] = []
    checked: dict[str, dict[str, Any]] = {}
    good = True
    for kind, triangles, size, batch, wanted in SCENES:
        if triangles > most_triangles:
            continue
        sphere = kind == "sphere"
        x = gpu_rows.Inputs(triangles, size, batch, "cuda", kind)
        if sphere and batch == 1 and size == 1024 and triangles <= CHECKED_TRIANGLES:
            checked[f"{triangles:,}"] = agrees(triangles, size, x)
            good &= checked[f"{triangles:,}"]["ok"]
        for run in gpu_rows.all_passes(x, wanted) if sphere else [gpu_rows.rasterize(x)]:
            try:
                row = timed(run, limit)
            except Exception as failure:  # one row must not cost the others
                row = {"name": run.name, "error": f"{type(failure).__name__}: {failure}"[:300]}
                good = False
            row.update(scene=kind, triangles=triangles, size=size, batch=batch)
            rows.append(row)
            print({k: v for k, v in row.items() if v is not None}, flush=True)
        del x, run
        torch.cuda.empty_cache()
    return {"ok": good, "copy_gb_per_s": round(limit / 1e9), "checked": checked, "rows": rows}


def agrees(triangles: int, size: int, x: gpu_rows.Inputs) -> dict[str, Any]:
    """Every operation's outputs, and gradients for an upstream of ones, against float64 on the CPU: at most
    three times as far from it as float32 on the CPU.
    """
    there = gpu_rows.Inputs(triangles, size, 1, "cpu")
    found: dict[str, Any] = {"rast_equal": bool(torch.equal(x.rast.cpu(), there.rast))}
    found["ok"] = found["rast_equal"]
    for ours, theirs, exact in zip(
        *(gpu_rows.all_passes(inputs, {}) for inputs in (x, there, there.double())), strict=True
    ):
        if not ours.name.startswith(CHECKED):
            continue
        for k, (a, b, truth) in enumerate(zip(results(ours), results(theirs), results(exact), strict=True)):
            length = truth.norm().clamp_min(1e-30)
            here, cpu = (float((r.cpu().double() - truth).norm() / length) for r in (a, b))
            if not here <= 3 * cpu + 1e-6:
                found["ok"] = False
                found[f"{ours.name} {k}"] = [here, cpu]
    return found


def results(run: gpu_rows.Pass) -> list[Tensor]:
    outputs = list(run.run())
    grads: Sequence[Tensor] = ()
    if run.inputs and not run.whole:
        attached = [o for o in outputs if o.requires_grad]
        grads = torch.autograd.grad(attached, run.inputs, [torch.ones_like(o) for o in attached])
    return [*(o.detach() for o in outputs), *grads]


def timed(run: gpu_rows.Pass, limit: float) -> dict[str, Any]:
    """Milliseconds forward and backward by graphs, and as a program sees them; fractions of the copy's
    bandwidth.
    """
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    if run.inputs and not run.whole:
        results(run)
    else:
        run.run()
    peak = torch.cuda.max_memory_allocated() - before
    graph, _ = captured(run.run)
    forward = milliseconds(graph.replay)
    row: dict[str, Any] = {
        "name": run.name,
        "ms": round(forward, 4),
        "of_copy": round(run.forward_bytes / limit / (forward / 1e3), 3),
        "eager_ms": round(milliseconds(lambda: void(run.run())), 4),
        "peak_mb": round(peak / 2**20, 1),
        "wanted_ms": run.wanted_ms,
    }
    if run.inputs and not run.whole:
        backward = milliseconds(backward_graph(run).replay)
        row["backward_ms"] = round(backward, 4)
        row["backward_of_copy"] = round(run.backward_bytes / limit / (backward / 1e3), 3)
    return row


def void(_: object) -> None:
    """Only for its argument's sake."""


if __name__ == "__main__":
    sys.exit(main())
