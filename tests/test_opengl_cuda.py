# SPDX-License-Identifier: MIT
"""backend="opengl" on tensors of an NVIDIA GPU, which OpenGL and CUDA share: against the CUDA kernels, and
against the way through the CPU's memory. Skips where torch sees no CUDA device, OpenGL does not draw on it,
or the package cuda-bindings is missing.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import rastergrad as rg
import rastergrad.compat.nvdiffrast as dr
from rastergrad.core import opengl
from rastergrad.core.debug import debugging
from rastergrad.core.opengl_transfer import Cuda, Host, cuda_runtime
from rastergrad.ops.rasterize.opengl import Renderer
from testing import scenes, with_opengl
from testing.with_opengl import allowed, assert_same

pytestmark = [
    with_opengl.needs_opengl,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

GPU = torch.device("cuda", 0)
INTEROP = "RASTERGRAD_GL_INTEROP"
Outputs = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def renderer() -> Renderer:
    """What draws on the GPU in this thread."""
    if cuda_runtime() is None:
        pytest.skip("the package cuda-bindings is missing")
    try:
        with opengl.context(GPU) as context:
            found = context.kept(Renderer)
    except RuntimeError as failure:
        pytest.skip(f"OpenGL does not draw on the GPU: {failure}")
    if not found._nvidia:
        pytest.skip(f"OpenGL draws with {found.renderer}")
    return found


def shape(
    triangles: int, views: int, size: tuple[int, int] = (1, 1), bumps: float = 0.1
) -> tuple[Tensor, Tensor]:
    """A sphere from several sides, on the GPU."""
    mesh = scenes.sphere(triangles, bumps=bumps)
    return mesh.clip(scenes.orbit(views, aspect=size[1] / size[0])).to(GPU), mesh.tri.to(GPU)


def draw(pos: Tensor, tri: Tensor, size: tuple[int, int], **options: Any) -> Outputs:
    return rg.rasterize(pos, tri, size, backend="opengl", **options)


def kernels(pos: Tensor, tri: Tensor, size: tuple[int, int], **options: Any) -> Outputs:
    return rg.rasterize(pos, tri, size, backend="cuda", **options)


def few(images: int, size: tuple[int, int]) -> int:
    """Pixels that may show another triangle: small images have no share, but some pixels at edges."""
    return max(2 * images, allowed(images * size[0] * size[1], GPU))


def assert_draws(pos: Tensor, tri: Tensor, size: tuple[int, int], ranges: Tensor | None = None) -> None:
    images = len(pos) if ranges is None else len(ranges)
    assert_same(
        draw(pos, tri, size, ranges=ranges), kernels(pos, tri, size, ranges=ranges), few(images, size)
    )


# ---- which way ---------------------------------------------------------------------------------------------


def test_opengl_and_cuda_share_the_gpu(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way through the CPU's memory is not taken, but on request."""

    def refused(*_: object) -> None:
        raise AssertionError("through the CPU's memory")

    for name in ("upload", "upload_image", "empty", "download", "delivered"):
        monkeypatch.setattr(Host, name, refused)
    assert type(renderer._way(GPU)) is Cuda
    pos, tri = shape(200, 2)
    rast, rast_db = draw(pos, tri, (24, 24))
    assert rast.device == rast_db.device == GPU
    assert float(rast[..., 3].max()) > 0
    monkeypatch.setenv(INTEROP, "0")
    with pytest.raises(AssertionError, match="through the CPU's memory"):
        draw(pos, tri, (24, 24))


def copies(run: Callable[[], object]) -> list[str]:
    """What is copied from or to the CPU's memory, as the GPU's profiler sees it."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        run()
        torch.cuda.synchronize()
    return [e.name for e in recorded.events() if "DtoH" in e.name or "HtoD" in e.name]


@pytest.mark.filterwarnings("ignore")  # of the profiler
def test_nothing_is_copied_through_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pos, tri = shape(500, 2)
    draw(pos, tri, (64, 64))  # which compiles shaders
    shared = copies(lambda: draw(pos, tri, (64, 64)))
    monkeypatch.setenv(INTEROP, "0")
    draw(pos, tri, (64, 64))
    through = copies(lambda: draw(pos, tri, (64, 64)))
    if not through:
        pytest.skip("torch's profiler shows no copies here")
    assert shared == []


def test_both_ways_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minibatches, ranges, layers, float64; drawn by one driver, so only what crosses can differ."""
    size = (70, 90)
    pos, tri = shape(3000, 3, size)
    ranges = torch.tensor([[0, 500], [100, 2000], [40, 0], [2500, 499]])

    def everything() -> list[Tensor]:
        found = [*draw(pos, tri, size), *draw(pos[0], tri, size, ranges=ranges)]
        found += draw(pos.double(), tri, size)
        for layer in rg.depth_layers(pos, tri, size, 3, backend="opengl"):
            found += layer
        return found

    shared = everything()
    monkeypatch.setenv(INTEROP, "0")
    through = everything()
    assert len(shared) == len(through) == 12
    for k, (a, b) in enumerate(zip(shared, through, strict=True)):
        assert a.device == b.device == GPU
        assert torch.equal(a, b), k


# ---- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triangles", "side"), [(1_000, 256), (1_000, 1024), (100_000, 512), (100_000, 2048)]
)
def test_pictures_are_those_of_the_kernels(triangles: int, side: int) -> None:
    assert_draws(*shape(triangles, 1), (side, side))


@pytest.mark.parametrize("size", [(1, 1), (1, 23), (7, 5), (33, 129)])
def test_sizes_that_are_no_powers_of_two(size: tuple[int, int]) -> None:
    assert_draws(*shape(300, 2, size), size)


@pytest.mark.parametrize("together", [17, 5, 1])
def test_minibatches_and_ranges(renderer: Renderer, monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """At once, in parts of which the last repeats some, and one by one."""
    monkeypatch.setattr(renderer, "most_images", together)
    pos, tri = shape(200, 17, (24, 40))
    assert_draws(pos, tri, (24, 40))
    count = len(tri)
    ranges = torch.tensor([[0, count], [10, 90], [50, 0], [0, 1], [count - 5, 900], [40, 80]])
    assert_draws(pos[0].contiguous(), tri, (32, 20), ranges)


def test_buffers_grow_and_shrink_in_turn(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that changes its memory is registered anew; nothing is left of what it held before."""
    way = renderer._way(GPU)
    assert isinstance(way, Cuda)
    calls: list[str] = []
    original = way._call
    monkeypatch.setattr(way, "_call", lambda name, *given: calls.append(name) or original(name, *given))
    sizes = ((1, (20, 30)), (3, (9, 9)), (1, (600, 500)), (2, (20, 30)))
    for triangles in (50, 20_000, 300, 20_000, 50):
        for views, size in sizes:
            assert_draws(*shape(triangles, views, size), size)
    assert calls.count("cudaGraphicsUnregisterResource") >= 8
    assert calls.count("cudaGraphicsMapResources") == calls.count("cudaGraphicsUnmapResources")
    pos, tri = shape(300, 1)
    draw(pos, tri, (20, 20))
    calls.clear()
    draw(pos * 0.5, tri, (20, 20))
    assert [c for c in calls if "egister" in c] == []
    assert calls.count("cudaMemcpyAsync") == 3


def test_depth_layers() -> None:
    """Through a ball within a ball: four, then no more; what was drawn goes back as a texture."""
    size = (40, 56)
    shells = [scenes.sphere(400, radius=r) for r in (1.0, 0.6)]
    views = scenes.orbit(2, aspect=size[1] / size[0])
    pos = torch.cat([m.clip(views) for m in shells], 1).to(GPU)
    tri = torch.cat([m.tri + k * len(m.pos) for k, m in enumerate(shells)]).to(GPU)
    got = list(rg.depth_layers(pos, tri, size, backend="opengl"))
    want = list(rg.depth_layers(pos, tri, size, backend="cuda"))
    assert len(got) == len(want) == 4
    for a, b in zip(got, want, strict=True):
        assert_same(a, b, 4)


def test_empty_is_legal() -> None:
    for images, vertices, triangles in ((0, 3, 1), (2, 3, 0), (2, 0, 0)):
        pos = torch.zeros(images, vertices, 4, device=GPU)
        tri = torch.zeros(triangles, 3, dtype=torch.int32, device=GPU)
        rast, rast_db = draw(pos, tri, (4, 4))
        assert rast.shape == rast_db.shape == (images, 4, 4, 4)
        assert rast.device == GPU
        assert not bool(rast.any() | rast_db.any())


def test_indices_that_change_and_those_out_of_range() -> None:
    pos, tri = shape(200, 1)
    assert_draws(pos, tri, (32, 32))
    tri += 1  # in place
    tri.clamp_(max=pos.shape[1] - 1)
    assert_draws(pos, tri, (32, 32))
    tri[7, 2] = pos.shape[1]
    before = debugging()
    try:
        rg.debug(False)
        assert not bool((draw(pos, tri, (32, 32))[0][..., 3] == 8).any())
        rg.debug(True)
        for _ in range(2):
            with pytest.raises(ValueError, match="in triangle 7"):
                draw(pos, tri, (32, 32))
    finally:
        rg.debug(before)


# ---- order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [1, 2])
def test_other_streams(streams: int) -> None:
    """What a stream wrote before is drawn, and what it reads afterwards is there; nobody waits in between."""
    mesh = scenes.sphere(2000, bumps=0.1)
    tri = mesh.tri.to(GPU)
    views = mesh.clip(scenes.orbit(6)).to(GPU)
    want = [draw(view[None].contiguous(), tri, (200, 200))[0].clone() for view in views]
    torch.cuda.synchronize()
    lanes = [torch.cuda.Stream() for _ in range(streams)]
    got = []
    for k in range(len(views)):
        with torch.cuda.stream(lanes[k % streams]):
            pos = torch.zeros(1, views.shape[1], 4, device=GPU)
            torch.cuda._sleep(20_000_000)  # some 10 ms
            pos += views[k]
            rast, _ = draw(pos, tri, (200, 200))
            got.append(rast * 1)
            del rast  # its memory may be used again
            torch.full((1, 200, 200, 4), 7.0, device=GPU)
    torch.cuda.synchronize()
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert torch.equal(a, b), k


def test_many_frames_in_turn_with_the_kernels() -> None:
    """As a program does: no frame shows what another one held, on the CPU's context either."""
    pos, tri = shape(1000, 8)
    host_pos, host_tri = pos.cpu(), tri.cpu()
    want = [kernels(pos[k : k + 1], tri, (48, 48)) for k in range(8)]
    for _ in range(10):
        for k in range(8):
            assert_same(draw(pos[k : k + 1], tri, (48, 48)), want[k], 4)
    on_cpu = draw(host_pos, host_tri, (48, 48))
    assert_same(on_cpu, rg.rasterize(host_pos, host_tri, (48, 48)), 16)
    assert_same(draw(pos[:1], tri, (48, 48)), want[0], 4)


def test_threads_and_contexts_that_come_and_go() -> None:
    """With them go buffers that were registered."""
    pos, tri = shape(500, 2)
    want, _ = draw(pos, tri, (64, 64))
    found: list[bool] = []

    def work() -> None:
        found.extend(torch.equal(draw(pos, tri, (64, 64))[0], want) for _ in range(3))

    for _ in range(4):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 24
    for _ in range(10):
        opengl.release()
        assert torch.equal(draw(pos, tri, (64, 64))[0], want)


# ---- gradients ---------------------------------------------------------------------------------------------


def assert_near(got: Tensor, want: Tensor) -> None:
    scale = float(want.abs().max())
    assert scale > 0
    worst = float((got - want).abs().max()) / scale
    assert worst < 1e-3, f"gradients differ by {worst} of the largest"


def test_gradients_of_positions() -> None:
    """Of (u, v) and their derivatives, at pixels that show the same triangle."""
    start, tri = shape(1000, 2)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.rand(2, 96, 96, 4, generator=generator).to(GPU) for _ in range(2)]
    results = []
    for backend in ("opengl", "cuda"):
        pos = start.clone().requires_grad_()
        results.append((pos, rg.rasterize(pos, tri, (96, 96), backend=backend)))
    same = results[0][1][0][..., 3:] == results[1][1][0][..., 3:]
    grads = []
    for pos, (rast, rast_db) in results:
        total = (weights[0] * rast * same)[..., :2].sum() + (weights[1] * rast_db * same).sum()
        grads += torch.autograd.grad(total, pos)
    assert_near(*grads)


def test_one_step_of_optimisation() -> None:
    """rasterize with OpenGL, then the kernels: one backend for all."""
    mesh = scenes.sphere(500)
    clip_from_world = scenes.orbit(2).to(GPU)
    texture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)).to(GPU)
    tri, uv = mesh.tri.to(GPU), mesh.uv.to(GPU)
    results = []
    for backend in ("opengl", "cuda"):
        world, tex = mesh.pos.to(GPU).requires_grad_(), texture.clone().requires_grad_()
        pos = scenes.transform(world, clip_from_world)
        rast, rast_db = rg.rasterize(pos, tri, (48, 48), backend=backend)
        at, at_da = rg.interpolate(uv, rast, tri, rast_db, "all", backend=backend)
        color = rg.texture(tex, at, at_da, backend=backend) * (rast[..., 3:] > 0)
        image = rg.antialias(color, rast, pos, tri, backend=backend)
        loss = (image - 0.5).square().sum()
        results.append((loss.detach(), *torch.autograd.grad(loss, (world, tex))))
    for got, want in zip(*results, strict=True):
        assert_near(got, want)


# ---- the drop-in module ------------------------------------------------------------------------------------


def test_a_gl_context_of_the_drop_in_module(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.device] = []
    original = Renderer.draw
    monkeypatch.setattr(
        Renderer, "draw", lambda self, pos, *rest: drawn.append(pos.device) or original(self, pos, *rest)
    )
    monkeypatch.setenv("RASTERGRAD_COMPAT_OPENGL", "1")
    pos, tri = shape(500, 2)
    start = pos.clone().requires_grad_()
    context = dr.RasterizeGLContext()
    got = dr.rasterize(context, start, tri, [64, 64])
    assert drawn == [GPU]
    want = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, [64, 64])
    assert drawn == [GPU]
    assert_same((got[0].detach(), got[1].detach()), want, 4)
    got[0][..., :2].sum().backward()
    assert start.grad is not None
    assert float(start.grad.abs().sum()) > 0
    with dr.DepthPeeler(context, pos, tri, [64, 64]) as peeler:
        assert torch.equal(peeler.rasterize_next_layer()[0], got[0].detach())
        assert bool(peeler.rasterize_next_layer()[0].any())
    # Triangles with an index out of range are left out.
    tri = tri.clone()
    tri[0, 0] = 10**6
    assert not bool((dr.rasterize(context, pos, tri, [64, 64])[0][..., 3] == 1).any())
