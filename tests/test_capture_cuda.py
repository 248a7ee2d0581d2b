# SPDX-License-Identifier: MIT
"""Captures of the tiny performance on a GPU. Skips where torch sees none."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_capture import MOST_APART_MM, MOST_MM, Found, captured, config, footage
from rastergrad.capture import checkpoint
from rastergrad.capture.config import to_toml
from rastergrad.capture.dataset import open_dataset
from rastergrad.capture.fit import Fit
from rastergrad.capture.performance import Performance
from rastergrad.capture.scene import Scene
from rastergrad.capture.team import Team
from testing.performances import disturbed, interrupt

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = footage(tmp_path_factory.mktemp("footage"))
    (folder / "config.toml").write_text(to_toml(config()))
    return folder


@pytest.fixture(scope="module")
def on_cpu(data: Path) -> Found:
    return captured(data, "cpu")


def assert_found(found: torch.Tensor, on_cpu: Found) -> None:
    """What the CPU finds, in millimetres, but for what rounding becomes in hundreds of steps."""
    apart = float((found - on_cpu.positions).norm(dim=-1).mean())
    assert apart < MOST_APART_MM, f"{apart} mm from what the CPU finds"


def test_finds_what_the_cpu_finds(data: Path, on_cpu: Found) -> None:
    found = captured(data, "cuda")
    assert found.mm < MOST_MM
    assert_found(found.positions, on_cpu)


def test_goes_on_after_an_interrupt(data: Path, on_cpu: Found, tmp_path: Path) -> None:
    """In a tracked surface: what was saved returns to the GPU, Adam's moments too."""

    def scene() -> Scene:
        return Scene(open_dataset(data, data / "other.obj"), 2**28, torch.device("cuda", 0))

    with pytest.raises(KeyboardInterrupt):
        disturbed(150, interrupt)(scene(), config(), Team("cuda"), tmp_path, quiet=True).run(False)
    assert checkpoint.load(tmp_path)["done"] != [0, 0]
    again = scene()
    state = Fit(again, config(), Team("cuda"), tmp_path, quiet=True).run(True)
    shapes = torch.stack([state.vertices(f).detach().cpu() for f in range(again.frames)]) * again.unit
    assert_found(shapes * 1000, on_cpu)


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def options(data: Path, out: Path, device: str) -> list[str]:
    files = ["--template", str(data / "other.obj"), "--config", str(data / "config.toml")]
    return ["capture", str(data), "--device", device, "--quiet", *files, "--out", str(out)]


def test_the_command(data: Path, on_cpu: Found, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="films need imageio-ffmpeg, of the extra capture")
    out = tmp_path / "out"
    truth = ["--truth", str(data / "truth.npz")]
    done = run("-m", "rastergrad.cli", *options(data, out, "cuda"), *truth)
    assert done.returncode == 0, done.stderr
    assert_found(Performance.load(out).positions * 1000, on_cpu)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["all_frames"]["seen"]["mean"] < MOST_MM
    assert (out / "report.html").stat().st_size > 0
    refused = run("-m", "rastergrad.cli", *options(data, tmp_path / "none", "cuda:99"))
    assert refused.returncode != 0


def torchrun(*program: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a GPU for each process")
def test_two_processes_with_a_gpu_each(data: Path, on_cpu: Found, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="films need imageio-ffmpeg, of the extra capture")
    done = torchrun("-m", "rastergrad.cli", *options(data, tmp_path / "out", "cuda"))
    assert done.returncode == 0, done.stderr
    assert_found(Performance.load(tmp_path / "out").positions * 1000, on_cpu)


SHARING = """
import sys, torch.distributed as dist
begin = dist.init_process_group
dist.init_process_group = lambda _: begin("gloo")
from rastergrad.cli import main
sys.exit(main())
"""


def test_two_processes_that_share_a_gpu(data: Path, on_cpu: Found, tmp_path: Path) -> None:
    """Gloo instead of NCCL, which refuses that: who sends what is the same."""
    pytest.importorskip("imageio_ffmpeg", reason="films need imageio-ffmpeg, of the extra capture")
    program = tmp_path / "sharing.py"
    program.write_text(SHARING)
    done = torchrun(str(program), *options(data, tmp_path / "out", "cuda:0"))
    assert done.returncode == 0, done.stderr
    assert_found(Performance.load(tmp_path / "out").positions * 1000, on_cpu)


def test_nccl_takes_what_a_team_sends(tmp_path: Path) -> None:
    """One process is all that one GPU allows: types and devices of what is sent are NCCL's."""
    if not torch.distributed.is_nccl_available():
        pytest.skip("torch has no NCCL")
    program = """
        import sys, torch, torch.distributed as dist
        from rastergrad.capture.team import Team
from testing.performances import disturbed, interrupt
        torch.cuda.set_device(0)
        dist.init_process_group("nccl", init_method="file://" + sys.argv[1], rank=0, world_size=1)
        team = Team("cuda")
        mine = {k: [torch.full((2, 3), k + 1.0, device="cuda"), torch.ones(4, device="cuda")] for k in (0, 1)}
        parts = team._exchanged(mine, 2)
        assert [float(parts[k][0][1, 2]) for k in (0, 1)] == [1.0, 2.0]
        assert parts[1][1].shape == (4,)
        team.size = 2
        assert team.totals([1.5, 2.0]) == [1.5, 2.0]
        team.close()
        print("sent")
    """
    done = run("-c", textwrap.dedent(program), str(tmp_path / "store"))
    assert "sent" in done.stdout, done.stderr
