# SPDX-License-Identifier: MIT
"""What only a GPU can show: streams, graphs, several devices, first use. Skips where torch sees none."""

import subprocess
import sys
import warnings

import pytest
import torch

import rastergrad as rg
from rastergrad.core import gpu
from rastergrad.core.debug import debugging

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

G = torch.Generator().manual_seed(0)
POS = torch.cat([torch.rand(2, 12, 3, generator=G) * 2 - 1, torch.ones(2, 12, 1)], -1)
TRI = torch.randint(0, 12, (20, 3), generator=G, dtype=torch.int32)


def step(pos: torch.Tensor, tri: torch.Tensor, attr: torch.Tensor) -> list[torch.Tensor]:
    pos, attr = pos.detach().requires_grad_(), attr.detach().requires_grad_()
    rast, db = rg.rasterize(pos, tri, (64, 64))
    uv, uv_da = rg.interpolate(attr, rast, tri, db, "all")
    tex = torch.linspace(0, 1, 3 * 32 * 32, device=pos.device).view(1, 32, 32, 3).sin()
    color = rg.texture(tex, uv, uv_da)
    image = rg.antialias(color, rast, pos, tri)
    return [image.detach(), *torch.autograd.grad(image.square().sum(), [pos, attr])]


def inputs(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return POS.to(device), TRI.to(device), torch.linspace(0, 3, 24).view(12, 2).cos().to(device)


def test_a_step_as_on_the_cpu() -> None:
    for got, want in zip(step(*inputs("cuda")), step(*inputs("cpu")), strict=True):
        assert torch.allclose(got.cpu(), want, atol=2e-5 * float(want.abs().max()))


def test_a_thread_without_a_context_and_another_device_current() -> None:
    """Backward passes run in threads of their own; the tensors' device need not be the current one."""
    for index in range(torch.cuda.device_count()):
        for got, want in zip(step(*inputs(f"cuda:{index}")), step(*inputs("cpu")), strict=True):
            assert got.device.index == index
            assert torch.allclose(got.cpu(), want, atol=2e-5 * float(want.abs().max()))


def test_work_goes_to_the_current_stream_and_nothing_waits() -> None:
    pos, tri, attr = inputs("cuda")
    step(pos, tri, attr)  # compiled and remembered
    want = [x.clone() for x in step(pos, tri, attr)]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    before = debugging()
    rg.debug(False)  # which waits
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls this mode a prototype
            torch.cuda.set_sync_debug_mode("error")
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            got = step(pos, tri, attr)
            assert not stream.query(), "the work waits behind the sleep"
    finally:
        torch.cuda.set_sync_debug_mode("default")
        rg.debug(before)
    stream.synchronize()
    assert torch.equal(got[0], want[0])


def test_tensors_on_several_devices_are_refused() -> None:
    pos, tri, _ = inputs("cuda")
    with pytest.raises(ValueError, match=r"`pos` is on cuda:0, `tri` on cpu"):
        rg.rasterize(pos, tri.cpu(), (4, 4))
    with pytest.raises(ValueError, match=r'backend="cpu" takes tensors on the CPU; got cuda:0'):
        rg.rasterize(pos, tri, (4, 4), backend="cpu")


def test_debug_names_a_bad_triangle() -> None:
    pos, tri, _ = inputs("cuda")
    tri[7, 2] = 12
    before = debugging()
    try:
        rg.debug(False)
        rg.rasterize(pos, tri, (8, 8))
        rg.debug(True)
        with pytest.raises(ValueError, match="in triangle 7"):
            rg.rasterize(pos, tri, (8, 8))
    finally:
        rg.debug(before)


def test_first_use_may_be_inside_a_graph() -> None:
    """Nothing is compiled yet in a fresh process."""
    code = (
        "import torch, rastergrad as rg\n"
        "pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]], device='cuda')\n"
        "tri = torch.tensor([[0, 1, 2]], device='cuda', dtype=torch.int32)\n"
        "graph = torch.cuda.CUDAGraph()\n"
        "with torch.cuda.graph(graph):\n"
        "    rast, _ = rg.rasterize(pos, tri, (4, 4))\n"
        "graph.replay()\n"
        "assert bool((rast[..., 3] == 1).all())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_more_blocks_than_a_grid_has_rows() -> None:
    """70,000 images."""
    pos = POS[:1, :3].expand(70_000, 3, 4).contiguous().cuda()
    tri = torch.tensor([[0, 1, 2]], device="cuda", dtype=torch.int32)
    rast, _ = rg.rasterize(pos, tri, (2, 2))
    assert torch.equal(rast[0], rast[-1])
    assert gpu.runs_on(rast.device)
