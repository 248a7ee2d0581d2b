# SPDX-License-Identifier: MIT
"""What surrounds the kernels: ordinary tensors pass a quick check in native code, all others those in Python,
with the same results and the same words; and torch's table of functions may be missing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import autograd, native
from testing.closeness import assert_values_close

POS = torch.tensor(
    [[[-0.9, -0.8, 0.1, 1.0], [0.8, -0.7, 0.2, 1.1], [-0.3, 0.9, 0.3, 0.9], [0.7, 0.8, 0.2, 1.0]]]
)
TRI = torch.tensor([[0, 1, 2], [2, 1, 3]], dtype=torch.int32)
RAST, RAST_DB = rg.rasterize(POS, TRI, (6, 8))
ATTR = torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(1))
TEX = torch.rand(1, 8, 4, 3, generator=torch.Generator().manual_seed(2))
UV = torch.rand(1, 6, 8, 2, generator=torch.Generator().manual_seed(3))
UV_DA = torch.rand(1, 6, 8, 4, generator=torch.Generator().manual_seed(4)) / 8
COLOR = torch.rand(1, 6, 8, 3, generator=torch.Generator().manual_seed(5))
TOPOLOGY = rg.edge_topology(TRI)
NEEDS_EXCHANGE = pytest.mark.skipif(
    not hasattr(Tensor, "__dlpack_c_exchange_api__"), reason="this torch has no table of functions for C"
)

Call = Callable[..., Tensor]
CALLS: dict[str, tuple[Call, tuple[Tensor, ...]]] = {
    "rasterize": (lambda pos, tri=TRI: rg.rasterize(pos, tri, (6, 8))[0], (POS,)),
    "interpolate": (lambda attr, rast, tri=TRI: rg.interpolate(attr, rast, tri)[0], (ATTR, RAST)),
    "interpolate_db": (
        lambda attr, rast, rast_db, tri=TRI: torch.cat(rg.interpolate(attr, rast, tri, rast_db, "all"), -1),
        (ATTR, RAST, RAST_DB),
    ),
    "texture": (rg.texture, (TEX, UV)),
    "texture_mipmapped": (rg.texture, (TEX, UV, UV_DA)),
    "texture_prebuilt": (lambda t, u, d: rg.texture(t, u, d, mip=rg.build_mipmaps(t)), (TEX, UV, UV_DA)),
    "texture_background": (lambda t, u, d, r: rg.texture(t, u, d, rast=r), (TEX, UV, UV_DA, RAST)),
    "antialias": (lambda c, r, p, tri=TRI: rg.antialias(c, r, p, tri), (COLOR, RAST, POS)),
    "antialias_topology": (
        lambda c, r, p, tri=TRI: rg.antialias(c, r, p, tri, topology=TOPOLOGY),
        (COLOR, RAST, POS),
    ),
    "antialias_pixel_pair": (
        lambda c, r, p, tri=TRI: rg.antialias(c, r, p, tri, method="pixel_pair"),
        (COLOR, RAST, POS),
    ),
}
every_call = pytest.mark.parametrize("name", CALLS)


class Subclass(Tensor):
    pass


def strided(x: Tensor) -> Tensor:
    return torch.stack([x, x], -1)[..., 0]


def parameter(x: Tensor) -> Tensor:
    return torch.nn.Parameter(x)


UNUSUAL: dict[str, Callable[[Tensor], Any]] = {
    "strided": strided,
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "whole numbers": lambda x: x.int(),
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "subclass": lambda x: x.as_subclass(Subclass),
    "parameter": parameter,
    "a view that requires a gradient": lambda x: x.clone().requires_grad_().view(x.shape),
    "nothing in it": lambda x: x[:, :0],
    "no images": lambda x: x[:0],
    "narrow": lambda x: x[..., :1],
    "0-dimensional": lambda x: x.sum(),
    "1-dimensional": lambda x: x.flatten(),
    "two images": lambda x: torch.cat([x, x]),
    "None": lambda x: None,
    "a list": lambda x: x.tolist(),
    "a negative view": lambda x: x._neg_view(),
}


@pytest.fixture(params=[True, False], ids=["exchange", "python"])
def exchange(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Both ways to look at tensors."""
    yield native.use_exchange(request.param)
    native.use_exchange()


def outcome(run: Callable[[], Tensor]) -> Tensor | tuple[type[BaseException], str]:
    try:
        return run().detach()
    except Exception as failure:
        return type(failure), str(failure)


@NEEDS_EXCHANGE
def test_the_table_is_used_and_can_be_left_out() -> None:
    assert native.use_exchange()
    assert native.ordinary("fNHW4", RAST)
    try:
        assert not native.use_exchange(False)
        assert not native.ordinary("fNHW4", RAST)
    finally:
        native.use_exchange()


@pytest.mark.parametrize("offered", [None, object(), 3])
def test_a_table_of_another_kind_is_left_out(monkeypatch: pytest.MonkeyPatch, offered: object) -> None:
    monkeypatch.setattr(Tensor, "__dlpack_c_exchange_api__", offered, raising=False)
    try:
        assert not native.use_exchange()
        assert torch.equal(rg.rasterize(POS, TRI, (6, 8))[0], RAST)
    finally:
        monkeypatch.undo()
        native.use_exchange()


@NEEDS_EXCHANGE
@every_call
def test_ordinary_tensors_pass_the_quick_door(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run, inputs = CALLS[name]
    seen: list[bool] = []
    original = native.ordinary

    def watched(pattern: str, *tensors: object) -> bool:
        seen.append(original(pattern, *tensors))
        return seen[-1]

    monkeypatch.setattr(native, "ordinary", watched)
    run(*inputs)
    run(*[x.double() for x in inputs])
    run(*[torch.nn.Parameter(x) for x in inputs])
    assert seen == [True] * 3


@pytest.mark.parametrize("what", UNUSUAL)
@every_call
def test_both_doors_agree_on_what_is_unusual(name: str, what: str) -> None:
    """The same numbers, or the same exception with the same words, whichever argument it is."""
    run, inputs = CALLS[name]
    for k in range(len(inputs)):
        args: list[Any] = [x.clone() for x in inputs]
        args[k] = UNUSUAL[what](args[k])
        agree(lambda args=args: run(*args))


@pytest.mark.parametrize(
    "tri",
    [
        TRI.long(),
        strided(TRI),
        TRI.float(),
        TRI[:0],
        TRI[0],
        TRI + 2,
        TRI - 1,
        None,
        TRI.as_subclass(Subclass),
    ],
    ids=["int64", "strided", "float", "empty", "1-dimensional", "too large", "negative", "None", "subclass"],
)
@pytest.mark.parametrize("name", [n for n in CALLS if not n.startswith("texture")])
def test_both_doors_agree_on_triangles(name: str, tri: Any) -> None:
    run, inputs = CALLS[name]
    agree(lambda: run(*inputs, tri))


@pytest.mark.parametrize(
    "run",
    [
        lambda: rg.rasterize(POS, TRI, [6, 8])[0],
        lambda: rg.rasterize(POS, TRI, (6, 0))[0],
        lambda: rg.rasterize(POS, TRI, (6, 8.0))[0],  # type: ignore[arg-type]
        lambda: rg.rasterize(POS, TRI, (True, 8))[0],
        lambda: rg.rasterize(POS, TRI, (6, 1 << 20))[0],
        lambda: rg.rasterize(POS, TRI, (6,))[0],
        lambda: rg.rasterize(POS, TRI, (6, 8), db_grad=1)[0],  # type: ignore[arg-type]
        lambda: rg.rasterize(POS, TRI, (6, 8), backend="gpu")[0],
        lambda: rg.interpolate(ATTR, RAST, TRI, None, "all")[0],
        lambda: rg.interpolate(ATTR, RAST, TRI, RAST_DB, [0, 5, -9])[1],
        lambda: rg.interpolate(ATTR, RAST, TRI, RAST_DB, [])[1],
        lambda: rg.interpolate(ATTR, RAST, TRI, RAST_DB, "none")[0],
        lambda: rg.interpolate(ATTR, RAST, TRI, RAST_DB, [0.5])[0],  # type: ignore[list-item]
        lambda: rg.interpolate(ATTR, RAST, TRI, RAST_DB[:, :2], "all")[0],
        lambda: rg.texture(TEX[:, :3], UV, UV_DA),
        lambda: rg.texture(TEX, UV, UV_DA, mip=rg.build_mipmaps(TEX[:, :4])),
        lambda: rg.texture(TEX, UV, UV_DA, mip=rg.build_mipmaps(TEX.double())),
        lambda: rg.texture(TEX, UV, UV_DA[:, :2]),
        lambda: rg.texture(TEX, UV, rast=RAST[:, :2]),
        lambda: rg.texture(TEX, UV, rast=RAST.double()),
        lambda: rg.texture(torch.rand(1, 6, 4, 4, 2), torch.rand(1, 3, 3, 3), boundary_mode="cube"),
        lambda: rg.texture(torch.rand(1, 6, 4, 3, 2), torch.rand(1, 3, 3, 3), boundary_mode="cube"),
        lambda: rg.texture(torch.rand(1, 5, 4, 4, 2), torch.rand(1, 3, 3, 3), boundary_mode="cube"),
        lambda: rg.antialias(COLOR[:, :3], RAST, POS, TRI),
        lambda: rg.antialias(COLOR, RAST, POS, TRI, topology=rg.edge_topology(TRI[:1])),
        lambda: rg.antialias(COLOR, RAST, POS, TRI, topology=3),  # type: ignore[arg-type]
        lambda: rg.antialias(COLOR, RAST, POS, TRI, pos_gradient_boost="x"),  # type: ignore[arg-type]
        lambda: rg.antialias(COLOR, RAST, POS.double(), TRI),
    ],
)
def test_both_doors_agree_on_other_arguments(run: Callable[[], Tensor]) -> None:
    torch.manual_seed(0)
    agree(run)


def agree(run: Callable[[], Tensor]) -> None:
    state = torch.get_rng_state()
    quick = outcome(run)
    native.use_exchange(False)
    try:
        torch.set_rng_state(state)
        slow = outcome(run)
    finally:
        native.use_exchange()
    if isinstance(slow, Tensor):
        assert isinstance(quick, Tensor), quick
        assert type(quick) is type(slow)
        assert quick.dtype == slow.dtype
        assert quick.shape == slow.shape
        assert torch.equal(quick.nan_to_num(), slow.nan_to_num())
    else:
        assert quick == slow


# ---- gradients --------------------------------------------------------------------------------------------


@every_call
def test_gradients_are_those_of_the_general_way(name: str, exchange: bool) -> None:
    run, inputs = CALLS[name]
    leaves = [x.clone().requires_grad_() for x in inputs]
    got = torch.autograd.grad(run(*leaves).square().sum(), leaves, allow_unused=True)
    want = torch.func.grad(lambda *x: run(*x).square().sum(), argnums=tuple(range(len(inputs))))(*inputs)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(torch.zeros_like(b) if a is None else a, b)


@every_call
def test_a_change_in_place_is_noticed(name: str, exchange: bool) -> None:
    run, inputs = CALLS[name]
    for k in range(len(inputs)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        others = [x.clone() if j == k else x for j, x in enumerate(leaves)]
        value = run(*others).sum()
        with torch.no_grad():
            others[k].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


@pytest.mark.parametrize("name", [n for n in CALLS if not n.startswith("texture")])
def test_a_change_of_triangles_is_noticed(name: str, exchange: bool) -> None:
    run, inputs = CALLS[name]
    tri = TRI.clone()
    value = run(*[x.clone().requires_grad_() for x in inputs], tri).sum()
    tri[0, 0] = 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@every_call
def test_a_second_derivative_is_refused(name: str, exchange: bool) -> None:
    run, inputs = CALLS[name]
    leaf = inputs[0].clone().requires_grad_()
    (first,) = torch.autograd.grad(run(leaf, *inputs[1:]).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="a second derivative is not available"):
        first.sum().backward()


@every_call
def test_forward_mode_is_refused(name: str, exchange: bool) -> None:
    run, inputs = CALLS[name]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(inputs[0], torch.ones_like(inputs[0]))
        with pytest.raises(RuntimeError, match="forward-mode differentiation is not available"):
            run(dual, *inputs[1:])


def test_what_gets_no_gradient_still_makes_a_result_that_requires_one(exchange: bool) -> None:
    fragments = RAST.clone().requires_grad_()
    for image in (rg.antialias(COLOR, fragments, POS, TRI), rg.texture(TEX, UV, rast=fragments)):
        assert image.requires_grad
        assert torch.autograd.grad(image.sum(), fragments, allow_unused=True) == (None,)
    both = rg.antialias(COLOR.clone().requires_grad_(), fragments, POS, TRI)
    both.sum().backward()
    assert fragments.grad is None


def test_no_gradient_no_graph(exchange: bool) -> None:
    for run, inputs in CALLS.values():
        assert run(*inputs).grad_fn is None
        with torch.no_grad():
            assert not run(*[x.clone().requires_grad_() for x in inputs]).requires_grad


def test_saved_tensors_go_through_hooks_of_torch(exchange: bool) -> None:
    packed: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        packed.append(x)
        return x

    attr = ATTR.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        rg.interpolate(attr, RAST, TRI)[0].sum().backward()
    assert any(x is TRI for x in packed)
    assert attr.grad is not None


# ---- the native functions ---------------------------------------------------------------------------------


@NEEDS_EXCHANGE
@pytest.mark.parametrize(
    ("pattern", "shapes", "fits"),
    [
        ("fNHW4", [(2, 3, 5, 4)], True),
        ("fNHW4", [(2, 3, 5, 3)], False),
        ("fNHW4", [(3, 5, 4)], False),
        ("fNHW4", [(1, 2, 3, 5, 4)], False),
        ("fNHW4", [(2, 0, 5, 4)], False),
        ("fNH fNH", [(2, 3), (2, 3)], True),
        ("fNH fHN", [(2, 3), (2, 3)], False),
        ("fhh", [(3, 3)], True),
        ("fhh", [(3, 4)], False),
        ("fN fNA|1A", [(5,), (1, 2)], True),
        ("fN fNA|1A", [(5,), (5, 2)], True),
        ("fN fNA|1A", [(5,), (2, 2)], False),
        ("fVA|NVA|1VA fNA", [(4, 2), (3, 2)], True),
        ("fVA|NVA fNA", [(3, 4, 2), (3, 2)], True),
        ("fVA|NVA fNA", [(3, 4, 2), (2, 2)], False),
        ("fA f", [(3,), ()], True),
    ],
)
def test_patterns(pattern: str, shapes: list[tuple[int, ...]], fits: bool) -> None:
    assert native.ordinary(pattern, *[torch.zeros(s) for s in shapes]) is fits


@NEEDS_EXCHANGE
def test_patterns_know_kinds() -> None:
    one, whole = torch.zeros(2), torch.zeros(2, dtype=torch.int32)
    assert native.ordinary("fA iA", one, whole)
    assert not native.ordinary("fA iA", one, whole.long())
    assert not native.ordinary("fA iA", one, one)
    assert not native.ordinary("fA fA", one, one.double())
    assert not native.ordinary("fA", whole)
    assert native.ordinary("?fA iA", None, whole)
    assert not native.ordinary("fA", None)
    assert not native.ordinary("fA", "text")


def test_wrong_use_raises_and_does_not_crash(exchange: bool) -> None:
    for args in ((), (3,), (None, RAST)):
        with pytest.raises(TypeError):
            native.ordinary(*args)  # type: ignore[arg-type]
    for pattern in ("", "x", "fNHW4", "??f"):
        with pytest.raises(ValueError, match="no word for tensor"):
            native.ordinary(pattern, RAST, RAST) if exchange or pattern != "fNHW4" else native.ordinary(
                "", RAST
            )
    with pytest.raises(TypeError):
        native.empty_as()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        native.empty_as(RAST, *[1] * 9)
    with pytest.raises((TypeError, AttributeError)):
        native.empty_as(3, 4)  # type: ignore[arg-type]
    with pytest.raises((TypeError, MemoryError)):
        native.empty_as(RAST, -1)
    with pytest.raises(MemoryError):
        native.empty_as(RAST, 1 << 40, 1 << 40)
    with pytest.raises(TypeError):
        native._native.use_exchange(None)  # type: ignore[call-arg]
    handle = native.kernels("interpolate_forward")[torch.float32]
    with pytest.raises(TypeError):
        native.call(handle, *[0] * 14, "text")  # type: ignore[arg-type]
    with pytest.raises((RuntimeError, NotImplementedError), match=r"data|storage"):
        native.call(handle, *[0] * 14, RAST.to_sparse())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32])
def test_empty_as(dtype: torch.dtype, exchange: bool) -> None:
    like = torch.zeros(2, 3, dtype=dtype).requires_grad_(dtype.is_floating_point)
    for made, shape in (
        (native.empty_as(like), (2, 3)),
        (native.empty_as(like.t()), (3, 2)),
        (native.empty_as(like, 4, 0, 5), (4, 0, 5)),
        (native.empty_as(like.as_subclass(Subclass)), (2, 3)),
    ):
        assert type(made) is Tensor
        assert (made.shape, made.dtype, made.device) == (shape, dtype, like.device)
        assert made.is_contiguous()
        assert not made.requires_grad
    made = native.empty_as(like)
    made.fill_(3)
    assert bool((made == 3).all())


def test_fields_may_be_tensors(exchange: bool) -> None:
    handle = native.kernels("interpolate_forward")[torch.float32]
    attr = ATTR.as_subclass(Subclass)
    out = [torch.zeros(1, 6, 8, 3), torch.zeros(1, 6, 8, 3)]
    sizes = (1, 48, 4, 3, 2, 0, 0, 1)
    native.call(handle, attr, RAST, None, TRI, None, out[0], None, *sizes)
    addresses = [None if x is None else x.data_ptr() for x in (ATTR, RAST, None, TRI, None, out[1], None)]
    native.call(handle, *addresses, *sizes)
    assert torch.equal(out[0], out[1])
    assert_values_close(out[0], rg.interpolate(ATTR, RAST, TRI)[0], dtype=torch.float32, what="interpolate")


def test_tensors_of_a_schema_come_first() -> None:
    nothing: Any = lambda *_: ()  # noqa: E731
    with pytest.raises(ValueError, match="tensors must come first"):
        autograd.Primitive("x", "int n, Tensor a", nothing, nothing, nothing, outputs=1, differentiable=1)
