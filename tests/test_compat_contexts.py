# SPDX-License-Identifier: MIT
"""What existing programs do with contexts, peelers and names; each docstring quotes the line it holds."""

import importlib
import inspect
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import rastergrad.compat.nvdiffrast as dr

POS = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])
TRI = torch.tensor([[0, 1, 2]], dtype=torch.int32)
CONTEXTS = (dr.RasterizeCudaContext, dr.RasterizeGLContext)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without one, and with the warning still to come."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    dr._warn_once.cache_clear()


def test_signatures_are_those_that_programs_rely_on() -> None:
    """Every public name, its arguments in their order, and their defaults."""
    bare = {
        name: ", ".join(
            p.name if p.default is p.empty else f"{p.name}={p.default!r}"
            for p in inspect.signature(getattr(dr, name)).parameters.values()
        )
        for name in dr.__all__
    }
    assert bare == {
        "RasterizeCudaContext": "device=None",
        "RasterizeGLContext": "output_db=True, mode='automatic', device=None",
        "get_log_level": "",
        "set_log_level": "level",
        "rasterize": "glctx, pos, tri, resolution, ranges=None, grad_db=True",
        "DepthPeeler": "glctx, pos, tri, resolution, ranges=None, grad_db=True",
        "interpolate": "attr, rast, tri, rast_db=None, diff_attrs=None",
        "texture": "tex, uv, uv_da=None, mip_level_bias=None, mip=None, filter_mode='auto', "
        "boundary_mode='wrap', max_mip_level=None",
        "texture_construct_mip": "tex, max_mip_level=None, cube_mode=False",
        "antialias": "color, rast, pos, tri, topology_hash=None, pos_gradient_boost=1.0",
        "antialias_construct_topology_hash": "tri",
    }


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("device", [torch.device("cuda"), "cuda", "cuda:0", "cuda:7", 0, None, "cpu"])
@pytest.mark.filterwarnings("ignore:torch sees no CUDA")
def test_device_is_a_device_a_string_an_int_or_none(context: type, device: object) -> None:
    """Creation: "with device as torch.device, string, int or None"."""
    ctx = context(device=device)
    assert ctx.device == torch.device("cpu")
    rast, _ = dr.rasterize(ctx, POS, TRI, (2, 2))
    assert bool((rast[..., 3] == 1).all())


def test_a_context_without_a_gpu_warns_once() -> None:
    """A CUDA context on a CPU-only machine falls back to the CPU with one warning that says so."""
    with pytest.warns(RuntimeWarning, match=r"no CUDA device.*fall back to the CPU.*rastergrad\.compat"):
        dr.RasterizeCudaContext()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dr.RasterizeCudaContext("cuda:0")
        dr.RasterizeGLContext()
    dr._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dr.RasterizeCudaContext("cpu")


def test_with_a_gpu_the_device_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert dr.RasterizeCudaContext("cuda:1").device == torch.device("cuda:1")
    assert dr.RasterizeCudaContext(1).device == torch.device("cuda:1")
    assert dr.RasterizeGLContext().device == torch.device("cuda")
    # The tensors decide where the work is done.
    assert dr.rasterize(dr.RasterizeCudaContext(), POS, TRI, (2, 2))[0].device.type == "cpu"


def test_contexts_are_created_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation: "at import time, as a class attribute, once per call, once per device string, many at a time,
    and from several threads".
    """
    module = tmp_path / "at_import_time.py"
    module.write_text(
        "import rastergrad.compat.nvdiffrast as dr\nglctx = dr.RasterizeGLContext(device='cpu')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    imported = importlib.import_module("at_import_time").glctx

    class Renderer:
        glctx = dr.RasterizeCudaContext("cpu")

    by_device = {name: dr.RasterizeCudaContext(device=name) for name in ("cpu", "cpu:0")}
    many = [dr.RasterizeCudaContext("cpu") for _ in range(100)]

    def in_a_thread(_: int) -> torch.Tensor:
        return dr.rasterize(dr.RasterizeCudaContext("cpu"), POS, TRI, (8, 8))[0]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(in_a_thread, range(16)))
    wanted = dr.rasterize(imported, POS, TRI, (8, 8))[0]
    contexts = (Renderer.glctx, Renderer().glctx, *by_device.values(), many[99])
    results += [dr.rasterize(ctx, POS, TRI, (8, 8))[0] for ctx in contexts]
    assert all(torch.equal(r, wanted) for r in results)


def test_isinstance_holds() -> None:
    """Creation: "`isinstance(ctx, RasterizeCudaContext)` is tested"."""
    cuda, gl = dr.RasterizeCudaContext("cpu"), dr.RasterizeGLContext(device="cpu")
    assert isinstance(cuda, dr.RasterizeCudaContext)
    assert not isinstance(cuda, dr.RasterizeGLContext)
    assert isinstance(gl, dr.RasterizeGLContext)
    assert isinstance(gl, dr.RasterizeCudaContext)  # an alias of it in current releases
    for ctx in (None, "cuda", dr.RasterizeCudaContext):
        with pytest.raises(TypeError, match="`glctx` must be a RasterizeCudaContext"):
            dr.rasterize(ctx, POS, TRI, (2, 2))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="`glctx` must be a RasterizeCudaContext"):
            dr.DepthPeeler(ctx, POS, TRI, (2, 2))  # type: ignore[arg-type]


def test_gl_contexts_are_set_and_released() -> None:
    """Creation: "`set_context()`, `release_context()` exist on the GL one"."""
    for mode in ("automatic", "manual"):
        ctx = dr.RasterizeGLContext(False, mode, "cpu")
        ctx.set_context()
        assert dr.rasterize(ctx, POS, TRI, (2, 2))[1].shape == (1, 2, 2, 4)
        ctx.release_context()
    with pytest.raises(ValueError, match="`mode` must be one of 'automatic', 'manual'"):
        dr.RasterizeGLContext(mode="auto", device="cpu")
    with pytest.raises(TypeError, match="`device` must be"):
        dr.RasterizeCudaContext(device=1.5)  # type: ignore[arg-type]


def test_log_levels(caplog: pytest.LogCaptureFixture) -> None:
    """Creation: "`get_log_level`, `set_log_level`"."""
    logger = logging.getLogger("rastergrad")
    before = logger.level
    try:
        assert dr.get_log_level() == 1
        for level, wanted in (
            (0, logging.INFO),
            (2, logging.ERROR),
            (3, logging.CRITICAL),
            (1, logging.WARNING),
        ):
            dr.set_log_level(level)
            assert dr.get_log_level() == level
            assert logger.level == wanted
    finally:
        logger.setLevel(before)


def test_peeler_gives_as_many_layers_as_asked_for() -> None:
    """DepthPeeler: "`with DepthPeeler(...) as p: rast, db = p.rasterize_next_layer()` as often as wanted"."""
    depths = torch.tensor([0.5, -0.5, 0.0])
    pos = (POS[0] + torch.tensor([0, 0, 1.0, 0]) * depths[:, None, None]).reshape(1, 9, 4).requires_grad_()
    tri = torch.arange(9).reshape(3, 3)  # int64
    ctx = dr.RasterizeCudaContext("cpu")
    with dr.DepthPeeler(ctx, pos, tri, np.asarray([4, 4]), ranges=None, grad_db=True) as peeler:
        layers = [peeler.rasterize_next_layer() for _ in range(5)]
    assert [float(rast[0, 0, 0, 3].detach()) for rast, _ in layers] == [2, 3, 1, 0, 0]
    assert all(torch.equal(a, b) for a, b in zip(layers[0], dr.rasterize(ctx, pos, tri, (4, 4)), strict=True))
    assert not any(bool(x.any()) for x in layers[4])
    layers[1][0][..., 0].sum().backward()
    assert pos.grad is not None
    assert pos.grad[0, 6:].abs().sum() > 0  # the triangle of that layer
    assert pos.grad[0, :6].abs().sum() == 0
    # In range mode, too.
    with dr.DepthPeeler(ctx, pos[0].detach(), tri, (2, 2), torch.tensor([[0, 1], [1, 2]]).int()) as peeler:
        seen = [peeler.rasterize_next_layer()[0][:, 0, 0, 3].tolist() for _ in range(2)]
    assert seen == [[1, 2], [0, 3]]


def test_peeler_states() -> None:
    """DepthPeeler: "a plain `rasterize` inside is an error"; a second peeler, one entered again, and a layer
    outside are errors as well.
    """
    ctx, other = dr.RasterizeCudaContext("cpu"), dr.RasterizeCudaContext("cpu")
    peeler = dr.DepthPeeler(ctx, POS, TRI, (2, 2))
    with pytest.raises(RuntimeError, match="inside the `with` block only"):
        peeler.rasterize_next_layer()
    with peeler:
        with pytest.raises(RuntimeError, match="a DepthPeeler is active on this context"):
            dr.rasterize(ctx, POS, TRI, (2, 2))
        with (
            pytest.raises(RuntimeError, match="another one is active"),
            dr.DepthPeeler(ctx, POS, TRI, (2, 2)),
        ):
            pass
        dr.rasterize(other, POS, TRI, (2, 2))
        with pytest.raises(RuntimeError, match="cannot be entered a second time"):
            peeler.__enter__()
        assert bool(peeler.rasterize_next_layer()[0].any())  # still good
    with pytest.raises(RuntimeError, match="cannot be entered a second time"):
        peeler.__enter__()
    with pytest.raises(RuntimeError, match="inside the `with` block only"):
        peeler.rasterize_next_layer()
    dr.rasterize(ctx, POS, TRI, (2, 2))
    with pytest.raises(KeyError), dr.DepthPeeler(ctx, POS, TRI, (2, 2)):
        raise KeyError
    dr.rasterize(ctx, POS, TRI, (2, 2))  # an exception ends a peeler, too


def test_private_names_say_what_to_do() -> None:
    """Not supportable: "private names (`_get_plugin`, `_rasterize_func.backward`)"."""
    for name in ("_get_plugin", "_rasterize_func", "_texture_func_mip"):
        with pytest.raises(AttributeError, match=rf"{name} is private to nvdiffrast.*Coming from nvdiffrast"):
            getattr(dr, name)
    assert not hasattr(dr, "rasterise")
    with pytest.raises(AttributeError, match="no attribute 'rasterise'"):
        dr.rasterise  # noqa: B018


def test_errors_speak_of_the_arguments_given() -> None:
    ctx = dr.RasterizeCudaContext("cpu")
    with pytest.raises(TypeError, match="`grad_db` must be True or False"):
        dr.rasterize(ctx, POS, TRI, (2, 2), grad_db=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`cube_mode` must be True or False"):
        dr.texture_construct_mip(torch.zeros(1, 4, 4, 1), cube_mode=1)  # type: ignore[arg-type]
    rast, _ = dr.rasterize(ctx, POS, TRI, (2, 2))
    with pytest.raises(
        TypeError, match=r"`topology_hash` must be None or .*antialias_construct_topology_hash"
    ):
        dr.antialias(torch.zeros(1, 2, 2, 1), rast, POS, TRI, topology_hash=TRI)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"built for a texture.*texture_construct_mip\(tex, cube_mode=False\)"
    ):
        dr.texture(
            torch.zeros(1, 4, 4, 1),
            torch.zeros(1, 2, 2, 2),
            torch.zeros(1, 2, 2, 4),
            mip=dr.texture_construct_mip(torch.zeros(1, 8, 8, 1)),
        )
    with pytest.raises(ValueError, match="texture_construct_mip: `tex` must halve evenly"):
        dr.texture_construct_mip(torch.zeros(1, 6, 10, 1))
    with pytest.raises(ValueError, match="`filter_mode` must be one of"):
        dr.texture(torch.zeros(1, 4, 4, 1), torch.zeros(1, 2, 2, 2), filter_mode="cubic")
    with pytest.raises(ValueError, match="`diff_attrs` needs `rast_db`"):
        dr.interpolate(torch.zeros(3, 1), rast, TRI, diff_attrs="all")
