# SPDX-License-Identifier: MIT
"""backend="opengl" against the CPU's kernels, the oracle and the golden cases."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import rastergrad as rg
import rastergrad.compat.nvdiffrast as dr
from benchmarks.scene import camera, seen
from rastergrad.capture import render as capture
from rastergrad.core import dispatch, opengl
from rastergrad.demo.cube import fit
from rastergrad.ops.rasterize import op
from rastergrad.ops.rasterize.opengl import Renderer
from testing import golden, performances, scenes, strategies, with_opengl
from testing.with_opengl import allowed, assert_same

pytestmark = with_opengl.needs_opengl

ROOT = Path(__file__).parent.parent
FULL = torch.tensor([[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]])
ONE = torch.tensor([[0, 1, 2]], dtype=torch.int32)


@pytest.fixture(autouse=True)
def _context() -> opengl.Context:
    return with_opengl.require()


@pytest.fixture(params=["layers", "one by one"])
def renderer(request: pytest.FixtureRequest) -> Iterator[Renderer]:
    """A renderer of its own, with and without the extension that lets vertices choose their image."""
    with opengl.context(torch.device("cpu")) as context:
        yield Renderer(context, layers=False if request.param == "one by one" else None)


def draw(pos: Tensor, tri: Tensor, size: tuple[int, int], **options: object) -> tuple[Tensor, Tensor]:
    return rg.rasterize(pos, tri, size, backend="opengl", **options)  # type: ignore[arg-type]


# ---- what is visible ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize(
    "name", [n for n in golden.names("r") + golden.names("p") if not n.startswith("r18")]
)
def test_golden_cases(name: str) -> None:
    """On safe pixels, as the runner masks them, layers and gradients included."""
    if name[:3] in ("r09", "r10") and not with_opengl.software(with_opengl.require()):
        pytest.skip("the fill rule is the hardware's own")
    assert golden.failures(golden.native_functions("opengl"), name) == []


@pytest.mark.parametrize(("triangles", "side"), [(1_000, 512), (10_000, 256), (100_000, 512)])
def test_spheres_show_the_same_triangles(triangles: int, side: int) -> None:
    """The whole sweep, 1k to 100k triangles at 256^2 to 2048^2, is `python -m benchmarks.opengl`."""
    scene = seen(scenes.sphere(triangles, bumps=0.1), camera(), side)
    want = rg.rasterize(scene.pos, scene.tri, (side, side))
    got = draw(scene.pos, scene.tri, (side, side))
    assert_same(got, want, allowed(side * side))


@pytest.mark.parametrize("size", [(1, 1), (1, 23), (19, 1), (7, 5), (33, 129), (2160, 4096)])
def test_sizes(size: tuple[int, int]) -> None:
    mesh = scenes.sphere(300)
    pos = mesh.clip(scenes.orbit(1, aspect=size[1] / size[0]))
    assert_same(draw(pos, mesh.tri, size), rg.rasterize(pos, mesh.tri, size), allowed(size[0] * size[1]))


def test_one_triangle_covers_all() -> None:
    """The example of `rasterize`, in numbers."""
    rast, rast_db = draw(FULL[None], ONE, (2, 2))
    assert rast[0, 0, 1].tolist() == [0.5, 0.375, 0.0, 1.0]
    assert rast_db[0, 0, 1].tolist() == [-0.25, -0.25, 0.25, 0.0]


BEHIND = ("w near zero", "behind")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scene=strategies.clip_scenes(tuple(k for k in strategies.KINDS if k not in BEHIND)))
def test_any_scene(scene: strategies.ClipScene) -> None:
    """Slivers, folds, corners on pixel centres, clipping at the sides, several images: another triangle shows
    only near edges, and where both are nearly equally deep, as drivers clip in float32.
    """
    got, want = draw(scene.pos, scene.tri, scene.size), rg.rasterize(scene.pos, scene.tri, scene.size)
    differs = got[0][..., 3] != want[0][..., 3]
    tie = (got[0][..., 2] - want[0][..., 2]).abs() < 1e-4
    assert bool((with_opengl.doubtful(got, want) | tie)[differs].all())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scene=strategies.clip_scenes((*BEHIND, "plain")))
def test_any_scene_behind_the_camera(scene: strategies.ClipScene) -> None:
    """Where the near plane cuts a triangle, clipping in float32 moves and tilts what is left: up to 8 pixels
    of an image differ in 4,000 such scenes. A corner projected through the camera would show at many.
    """
    got, want = draw(scene.pos, scene.tri, scene.size), rg.rasterize(scene.pos, scene.tri, scene.size)
    differs = got[0][..., 3] != want[0][..., 3]
    assert int(differs.sum()) <= 8


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0])
def test_a_corner_without_a_place_drops_its_triangle(value: float) -> None:
    """And no other one. All four coordinates 0 are no place either."""
    pos = torch.cat([FULL * torch.tensor([1, 1, 0, 1]) + torch.tensor([0, 0, 0.5, 0]), FULL])[None]
    for corner in (3, 4, 5):
        broken = pos.clone()
        broken[0, corner, slice(None) if value == 0 else corner - 3] = value
        rast, _ = draw(broken, torch.arange(6).reshape(2, 3), (4, 4))
        assert bool((rast[..., 3] == 1).all()), corner
    rast, rast_db = draw(torch.full((1, 3, 4), value), ONE, (4, 4))
    assert not bool(rast.any() | rast_db.any())


def test_near_and_far_are_inside() -> None:
    """z/w = -1 and 1 are drawn, what lies beyond is not; of equal depths the later triangle wins."""
    for depth, shown in ((-1.0, 1), (1.0, 1), (-1.001, 0), (1.001, 0)):
        rast, _ = draw((FULL + torch.tensor([0, 0, depth, 0]))[None], ONE, (3, 3))
        assert bool((rast[..., 3] == shown).all())
        assert bool((rast[..., 2] == depth * shown).all())
    rast, _ = draw(FULL[None], torch.tensor([[0, 1, 2], [2, 1, 0], [1, 2, 0]]), (3, 3))
    assert bool((rast[..., 3] == 3).all())


def test_ids_above_two_to_the_24() -> None:
    """The bits go on counting, as golden case r18 records."""
    wanted = {
        2**24 - 1: 2**24 - 1,
        2**24: 2**24,
        2**24 + 1: 2**24 + 2,
        20_000_000: 23_222_784 * 2 - 16_777_216 + 0,
    }
    ids = torch.tensor(list(wanted))
    tri = torch.zeros(20_000_000, 3, dtype=torch.int32)
    tri[ids - 1] = torch.arange(3, dtype=torch.int32)
    ranges = torch.stack([ids - 1, torch.ones_like(ids)], 1)
    rast, _ = draw(FULL, tri, (1, 1), ranges=ranges)
    assert torch.equal(rast, rg.rasterize(FULL, tri, (1, 1), ranges=ranges)[0])


# ---- many images -------------------------------------------------------------------------------------------


def assert_draws(
    renderer: Renderer, pos: Tensor, tri: Tensor, size: tuple[int, int], ranges: Tensor | None = None
) -> None:
    rast, rast_db, key = renderer.draw(pos, tri.int(), ranges, None, size, False)
    assert key.numel() == 0
    assert_same((rast, rast_db), rg.rasterize(pos, tri, size, ranges=ranges), 2)


@pytest.mark.parametrize("together", [17, 5, 1])
def test_a_minibatch_of_17(renderer: Renderer, together: int) -> None:
    """At once, in parts of which the last repeats some, and one by one."""
    mesh = scenes.sphere(200, bumps=0.2)
    renderer.most_images = together
    assert_draws(renderer, mesh.clip(scenes.orbit(17)), mesh.tri, (24, 40))


def test_ranges_overlap_are_empty_and_end_early(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index beyond the end is read: some drivers would give 0 for it, others crash."""
    issue, ends = renderer.gl.DrawElementsInstanced, []

    def noted(mode: int, count: int, kind: int, offset: int, instances: int) -> None:
        ends.append(offset // 4 + count)
        issue(mode, count, kind, offset, instances)

    monkeypatch.setattr(renderer.gl, "DrawElementsInstanced", noted)
    mesh = scenes.sphere(200)
    T = len(mesh.tri)
    ranges = torch.tensor([[0, T], [10, 90], [50, 0], [0, 1], [T - 5, 900], [T + 9, 4], [40, 80]])
    assert_draws(renderer, mesh.clip(scenes.orbit(1)[0]), mesh.tri, (32, 20), ranges)
    renderer.most_images = 3
    assert_draws(renderer, mesh.clip(scenes.orbit(1)[0]), mesh.tri, (32, 20), ranges)
    assert max(ends) == 3 * T


def test_vertices_that_do_not_fit_split_the_minibatch(renderer: Renderer) -> None:
    mesh = scenes.sphere(200)
    renderer.most_texels = 3 * len(mesh.pos) + 300
    assert_draws(renderer, mesh.clip(scenes.orbit(8)), mesh.tri[:100], (16, 16))


@pytest.mark.parametrize(("images", "vertices", "triangles"), [(0, 3, 1), (2, 3, 0), (2, 0, 0), (0, 0, 0)])
def test_empty_is_legal(renderer: Renderer, images: int, vertices: int, triangles: int) -> None:
    pos, tri = torch.zeros(images, vertices, 4), torch.zeros(triangles, 3, dtype=torch.int32)
    rast, rast_db, _ = renderer.draw(FULL.expand(1, 3, 4), ONE, None, None, (4, 4), False)
    assert bool((rast[..., 3] == 1).all())  # so that there is something to be cleared
    rast, rast_db, key = renderer.draw(pos, tri, None, None, (4, 4), True)
    assert rast.shape == rast_db.shape == (images, 4, 4, 4)
    assert not bool(rast.any() | rast_db.any())
    assert bool((key == 1).all())


def test_what_was_drawn_before_does_not_show(renderer: Renderer) -> None:
    """Meshes and sizes come and go: kept buffers and images hold nothing of the others."""
    meshes = [scenes.sphere(n, bumps=b) for n, b in ((50, 0.0), (4000, 0.2), (300, 0.1))]
    for mesh in (*meshes, *reversed(meshes)):
        for views, size in ((1, (20, 30)), (3, (9, 9)), (2, (20, 30))):
            assert_draws(renderer, mesh.clip(scenes.orbit(views)), mesh.tri, size)


def test_images_to_draw_into_are_kept_within_512_mb(renderer: Renderer) -> None:
    """The last ones, and a single larger one."""
    for side in (16, 1024, 2048, 1536, 16):
        renderer.draw(FULL[None], ONE, None, None, (side, side), False)
        sizes = [44 * height * width for height, width, *_ in renderer._targets]
        assert sizes[-1] == 44 * side**2
        assert sum(sizes) <= 512 << 20
    assert len(renderer._targets) > 2
    renderer.draw(FULL[None], ONE, None, None, (3600, 3600), False)
    assert len(renderer._targets) == 1


def test_an_index_buffer_that_changes_is_seen() -> None:
    """In place, through NumPy's memory, and by one that lies where another one died."""
    pos = torch.stack([FULL, FULL * 0.25]).reshape(1, 6, 4) * torch.tensor([1, 1, 1, 1.0])
    pos[..., 3] = 1
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    assert bool((draw(pos, tri, (4, 4))[0][..., 3] == 1).all())
    tri.numpy()[:] = [[3, 4, 5]]
    assert_same(draw(pos, tri, (4, 4)), rg.rasterize(pos, tri, (4, 4)))
    tri += -3
    assert bool((draw(pos, tri, (4, 4))[0][..., 3] == 1).all())
    assert not bool(draw(pos[:, :3], tri.clone() * 0, (4, 4))[0].any())


# ---- layers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 40), (17, 65)])
def test_layers_are_those_of_the_cpu(size: tuple[int, int]) -> None:
    """Through a ball within a ball within a ball: six, then no more."""
    shells = [scenes.sphere(400, radius=r) for r in (1.0, 0.7, 0.4)]
    pos = torch.cat([m.clip(scenes.orbit(2)) for m in shells], 1)
    tri = torch.cat([m.tri + k * len(m.pos) for k, m in enumerate(shells)])
    got = list(rg.depth_layers(pos, tri, size, backend="opengl"))
    want = list(rg.depth_layers(pos, tri, size))
    assert len(got) == len(want) == 6
    for a, b in zip(got, want, strict=True):
        assert_same(a, b, 3)
    assert torch.equal(got[0][0], draw(pos, tri, size)[0])


def test_layers_of_ranges(renderer: Renderer) -> None:
    depths = torch.tensor([0.5, -0.5, 0.0])
    pos = (FULL + torch.tensor([0, 0, 1.0, 0]) * depths[:, None, None]).reshape(9, 4)
    tri, key, seen_ids = torch.arange(9, dtype=torch.int32).reshape(3, 3), None, []
    ranges = torch.tensor([[0, 2], [1, 2], [0, 3]])
    renderer.most_images = 2
    for _ in range(4):
        rast, _, key = renderer.draw(pos, tri, ranges, key, (3, 3), True)
        assert bool((rast[..., 3] == rast[:, :1, :1, 3]).all())
        seen_ids.append(rast[:, 0, 0, 3].tolist())
    assert seen_ids == [[2, 2, 2], [1, 3, 3], [0, 0, 1], [0, 0, 0]]


# ---- gradients, other functions, other ways in -------------------------------------------------------------


def test_gradients_are_those_of_the_kernels() -> None:
    mesh = scenes.sphere(300)
    start = mesh.clip(scenes.orbit(2))
    generator = torch.Generator().manual_seed(0)
    upstream = [torch.rand(2, 32, 32, 4, generator=generator) for _ in range(2)]
    for dtype in (torch.float32, torch.float64):
        results = []
        for backend in ("opengl", "cpu"):
            pos = start.to(dtype).requires_grad_()
            outs = rg.rasterize(pos, mesh.tri, (32, 32), backend=backend)
            assert all(out.dtype == dtype for out in outs)
            same = outs[0].detach()[..., 3:] > 0
            results.append(torch.autograd.grad(outs, pos, [g.to(dtype) * same for g in upstream])[0])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4 * float(results[1].abs().max()))


def test_one_step_of_optimisation() -> None:
    """rasterize with OpenGL, interpolate, texture, antialias, loss, backward: the gradients of the CPU."""
    mesh = scenes.sphere(500)
    clip_from_world = scenes.orbit(2)
    texture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    results = []
    for backend in ("opengl", "cpu"):
        world, tex = mesh.pos.clone().requires_grad_(), texture.clone().requires_grad_()
        pos = scenes.transform(world, clip_from_world)
        rast, rast_db = rg.rasterize(pos, mesh.tri, (48, 48), backend=backend)
        uv, uv_da = rg.interpolate(mesh.uv, rast, mesh.tri, rast_db, "all", backend=backend)
        color = rg.texture(tex, uv, uv_da, backend=backend) * (rast[..., 3:] > 0)
        image = rg.antialias(color, rast, pos, mesh.tri, backend=backend)
        loss = (image - 0.5).square().sum()
        results.append((loss.detach(), *torch.autograd.grad(loss, (world, tex))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_one_step_of_capture() -> None:
    """Its picture of a lit, textured template in two cameras, and what Adam makes of it."""
    template = performances.ball()
    texture = performances.speckle(64)[None]
    results = []
    for backend in ("opengl", "cpu"):
        verts, tex = template.positions.clone().requires_grad_(), texture.clone().requires_grad_()
        optimizer = torch.optim.Adam([verts, tex], lr=1e-3)
        pos = scenes.transform(verts * 8, scenes.orbit(2))
        shade = torch.ones(2, len(verts), 3)
        image = capture.draw(pos, template, tex, shade, (40, 32), backend=backend)
        loss = (image - 0.3).square().mean()
        loss.backward()
        optimizer.step()
        results.append((loss.detach(), verts.grad, tex.grad, verts.detach(), tex.detach()))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_compile_vmap_and_inference() -> None:
    mesh = scenes.sphere(100)
    views = mesh.clip(scenes.orbit(3))
    want = draw(views, mesh.tri, (16, 16))
    mapped = torch.func.vmap(lambda pos: draw(pos[None], mesh.tri, (16, 16))[0][0])(views)
    assert torch.equal(mapped, want[0])
    compiled = torch.compile(
        lambda pos: draw(pos, mesh.tri, (16, 16))[0] * 2, backend="eager", fullgraph=True
    )
    assert torch.equal(compiled(views), want[0] * 2)
    with torch.inference_mode():
        assert torch.equal(draw(mesh.clip(scenes.orbit(3)), mesh.tri.clone(), (16, 16))[0], want[0])


def test_a_device_without_kernels_gets_its_gradient_through_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an AMD GPU: with tensors that say that they are elsewhere."""

    class Elsewhere(Tensor):
        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return torch.device("xpu")

    pos = FULL[None].as_subclass(Elsewhere)
    rast, rast_db = rg.rasterize(FULL[None], ONE, (4, 4))
    grads = (torch.ones_like(rast), None, None)
    inputs = (pos, ONE, None, None, 4, 4, False, True, True, True, "", "opengl")
    moved: list[object] = []
    monkeypatch.setattr(Elsewhere, "cpu", lambda self: moved.append("cpu") or FULL[None], raising=False)
    monkeypatch.setattr(Tensor, "to", lambda self, where: moved.append(where) or self)
    got = op._backward((True,), inputs, (rast, rast_db, rast), grads)
    assert moved == ["cpu", torch.device("xpu")]
    assert len(got) == 1
    assert got[0] is not None
    assert float(got[0].abs().sum()) > 0


# ---- errors ------------------------------------------------------------------------------------------------


def test_sides_beyond_the_driver() -> None:
    most = with_opengl.require().kept(Renderer).most_side
    # Some drivers draw what is too large for all backends.
    driver = r' with backend="opengl" on .*' if most < op._LARGEST_SIDE else ""
    for size in ((most + 1, 1), (1, most + 1)):
        with pytest.raises(ValueError, match=rf"at most {most} pixels a side{driver}; got"):
            draw(FULL[None], ONE, size)
    for size in ((most, 1), (1, most)):
        assert bool((draw(FULL[None], ONE, size)[0][..., 3] == 1).all())


def test_more_than_a_driver_holds(renderer: Renderer) -> None:
    renderer.most_texels = 5
    with pytest.raises(
        ValueError, match=r"`pos` must have at most 5 vertices with backend=.opengl. on .*; got 6"
    ):
        renderer.draw(torch.zeros(1, 6, 4), ONE, None, None, (4, 4), False)
    with pytest.raises(
        ValueError, match=r"`tri` must have at most 1 triangles .*; got 2\. Draw the mesh in parts"
    ):
        renderer.draw(torch.zeros(1, 3, 4), ONE.repeat(2, 1), None, None, (4, 4), False)


def test_images_that_do_not_fit_in_memory() -> None:
    """Whatever the driver says to 8 GB per image, there is an error that helps, and the next call works."""
    with opengl.context(torch.device("cpu")) as context:
        renderer = Renderer(context)
        most = renderer.most_side
        if not with_opengl.software(context):
            pytest.skip("a GPU may have that much memory")
        with pytest.raises(
            RuntimeError, match=r"OpenGL: images of 1 x \d+ x \d+ pixels: GL_OUT_OF_MEMORY\. Use fewer"
        ):
            renderer._target((most, most), 1, False)
        rast, _, _ = renderer.draw(FULL[None], ONE, None, None, (4, 4), False)
        assert bool((rast[..., 3] == 1).all())


def test_indices_out_of_range() -> None:
    """Native: an error that names the first; drop-in: such triangles are left out."""
    tri = torch.tensor([[0, 1, 2], [0, 1, 3], [-1, 0, 1]])
    for _ in range(2):  # whether they are new to it or known
        with pytest.raises(
            ValueError, match=r"rasterize: `tri` must hold .* 0 to 2, .* \[0, 1, 3\] in triangle 1"
        ):
            draw(FULL[None], tri, (4, 4))
    with pytest.raises(ValueError, match=r"depth_layers: `tri` must hold"):
        next(rg.depth_layers(FULL[None], tri, (4, 4), backend="opengl"))
    with pytest.raises(ValueError, match=r"0 to -1, as `pos` has 0 vertices"):
        draw(torch.zeros(1, 0, 4), ONE, (4, 4))
    with pytest.raises(ValueError, match=r"no negative number; got \(-1, 1\)"):
        draw(FULL, ONE, (4, 4), ranges=torch.tensor([[-1, 1]]))


def test_other_primitives_take_the_word() -> None:
    """It rasterises only: elsewhere "opengl" is what None is, while an unknown word is still an error."""
    rast, _ = draw(FULL[None], ONE, (4, 4))
    for backend in ("opengl", None):
        attr, _ = rg.interpolate(FULL, rast, ONE, backend=backend)
    assert torch.equal(attr, rg.interpolate(FULL, rast, ONE, backend="cpu")[0])
    for device, others in (("cpu", "cpu"), ("xpu", "reference")):
        assert dispatch.resolve("texture", "opengl", torch.device(device)) == others
        assert dispatch.resolve("rasterize", "opengl", torch.device(device), draws=True) == "opengl"
        assert dispatch.resolve("rasterize", None, torch.device(device), draws=True) == others
    with pytest.raises(ValueError, match="one of 'cpu', 'cuda', 'opengl', 'reference'; got 'vulkan'"):
        rg.interpolate(FULL, rast, ONE, backend="vulkan")


# ---- programs ----------------------------------------------------------------------------------------------


def test_the_cube_of_the_paper_is_fitted_with_it() -> None:
    """From the same random views the same losses, but where one of the few pixels lies at an edge."""
    got, want = (fit("continuous", 8, 60, [0, 1], backend=backend) for backend in ("opengl", "cpu"))
    off = torch.tensor(got.loss) / torch.tensor(want.loss) - 1
    assert float((off.abs() < 1e-3).float().mean()) > 0.8
    assert float(off.abs().max()) < 0.2
    assert got.distance[-1] == pytest.approx(want.distance[-1], rel=1e-2)
    assert sum(got.distance[-1]) < 0.9 * sum(got.start)


# ---- the drop-in module ------------------------------------------------------------------------------------


def test_a_gl_context_draws_with_opengl_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bool] = []
    original = Renderer.draw
    monkeypatch.setattr(Renderer, "draw", lambda *args: drawn.append(True) or original(*args))
    gl, cuda = dr.RasterizeGLContext(device="cpu"), dr.RasterizeCudaContext("cpu")

    def draws(context: dr.RasterizeCudaContext) -> tuple[bool, bool]:
        drawn.clear()
        rast, _ = dr.rasterize(context, FULL[None], ONE, [4, 4])
        assert bool((rast[..., 3] == 1).all())
        plain = bool(drawn)
        drawn.clear()
        with dr.DepthPeeler(context, FULL[None], ONE, [4, 4]) as peeler:
            assert bool((peeler.rasterize_next_layer()[0][..., 3] == 1).all())
            assert not bool(peeler.rasterize_next_layer()[0].any())
        return plain, bool(drawn)

    for value, opengl_draws in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv("RASTERGRAD_COMPAT_OPENGL", value)
        gl.set_context()
        assert draws(gl) == (opengl_draws, opengl_draws)
        gl.release_context()
        assert draws(cuda) == (False, False)
    monkeypatch.setenv("RASTERGRAD_COMPAT_OPENGL", "yes")
    with pytest.raises(ValueError, match="RASTERGRAD_COMPAT_OPENGL must be 0 or 1; got 'yes'"):
        dr.rasterize(gl, FULL[None], ONE, (4, 4))


def test_a_program_runs_with_opengl(tmp_path: Path) -> None:
    """`--opengl` reaches the program, which stops where OpenGL is missing. Without the option it goes on."""
    program = tmp_path / "program.py"
    program.write_text(
        "import torch, nvdiffrast.torch as dr\n"
        "pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]]).cuda()\n"
        "tri = torch.tensor([[0, 1, 2]], dtype=torch.int32).cuda()\n"
        "glctx = dr.RasterizeGLContext()\n"
        "print(int(dr.rasterize(glctx, pos, tri, resolution=[4, 4])[0][..., 3].sum()))\n"
        "from rastergrad.core import opengl\n"
        "print(len(opengl._threads.contexts))\n"
    )

    def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rastergrad.compat", "--device", "cpu", *options, str(program)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert run("--opengl").stdout.split() == ["16", "1"]
    assert run().stdout.split() == ["16", "0"]
    absent = {"__EGL_VENDOR_LIBRARY_DIRS": str(tmp_path)}
    assert run(**absent).stdout.split() == ["16", "0"]
    failed = run("--opengl", **absent)
    assert failed.returncode == 1
    assert "no driver for it" in failed.stderr
