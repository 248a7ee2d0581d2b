# SPDX-License-Identifier: MIT
"""One operation, four ways in: eager autograd, no autograd, functorch (vmap, grad) and torch.compile.

No single pattern of torch does everything: `custom_op` costs 12 us more per call and gives zero tangents in
forward mode without a word; a Function with `setup_context` breaks under torch.compile if it has a `jvp`; a
plain Function cannot be vmapped. Therefore:

    torch.compile        -> a torch.library operator (define, impl, fake, autograd, vmap)
    functorch, dual AD   -> a Function with setup_context, vmap and jvp
    gradients wanted     -> a plain Function: the quick way
    otherwise            -> the kernel itself

A second derivative and forward mode raise an error: a Function whose backward is native would otherwise give
wrong numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_LIBRARY = torch.library.Library("rastergrad", "FRAGMENT")
# Private to torch: without it, every differentiable call takes the functorch-proof way.
_transforms: Callable[[], Any] = getattr(
    getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: True
)

Forward = Callable[..., tuple[Tensor, ...]]
# backward(needs, inputs, outputs, grads) -> one gradient or None per input
Backward = Callable[
    [Sequence[bool], Sequence[Any], Sequence[Tensor], Sequence[Tensor | None]], Sequence[Tensor | None]
]


class Primitive:
    """A differentiable operation given by its kernels.

    Args:
        name: of the torch.library operator.
        inputs: its schema, e.g. "Tensor a, Tensor? b, int n, Tensor[] rest"; a `Tensor[]` may only come last.
        forward: takes the inputs, returns a tuple of `outputs` tensors, contiguous and never an alias of an
            input.
        backward: see `Backward`; gradients are contiguous, of the shape of their input. `grads` may hold
            None: no gradient arrived.
        shapes: takes the inputs (fake ones), returns what forward would, uncomputed.
        outputs: how many tensors forward returns.
        constant_outputs: positions of outputs without gradient; a function of the inputs if it depends on
            them.
        saves_outputs: whether backward looks at the outputs.
    """

    def __init__(
        self,
        name: str,
        inputs: str,
        forward: Forward,
        backward: Backward,
        shapes: Forward,
        *,
        outputs: int,
        constant_outputs: Callable[..., Sequence[int]] = lambda *_: (),
        saves_outputs: bool = False,
    ) -> None:
        self.name = name
        self.forward = forward
        self.backward = backward
        self.constant_outputs = constant_outputs
        self.saves_outputs = saves_outputs
        self.outputs = outputs
        parts = inputs.split(", ")
        self.has_list = parts[-1].startswith("Tensor[]")
        self.fixed = len(parts) - self.has_list
        self._operator = _register(self, inputs, shapes)

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            result = self._operator(*inputs)
            return (result,) if self.outputs == 1 else result
        flat = (*inputs[:-1], *inputs[-1]) if self.has_list else inputs
        if _transforms() or forward_ad._current_level >= 0:
            return _Transformable.apply(self, *flat)
        if torch.is_grad_enabled():
            # Plain loops here and below: a generator inside `any` or `all` takes a microsecond more.
            for x in flat:
                if isinstance(x, Tensor) and x.requires_grad:
                    return _Eager.apply(self, *flat)
        return self.forward(*inputs)

    def nested(self, flat: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs as forward takes them, from the flat sequence that a Function takes."""
        return (*flat[: self.fixed], list(flat[self.fixed :])) if self.has_list else tuple(flat)


def _save(ctx: Any, primitive: Primitive, flat: Sequence[Any], outputs: tuple[Tensor, ...]) -> None:
    constant = primitive.constant_outputs(*primitive.nested(flat))
    if constant:
        ctx.mark_non_differentiable(*[outputs[i] for i in constant])
    ctx.set_materialize_grads(False)
    constants: list[Any] = []
    positions: list[int] = []
    saved: list[Tensor] = []
    for i, x in enumerate(flat):
        if isinstance(x, Tensor):
            constants.append(None)
            positions.append(i)
            saved.append(x)
        else:
            constants.append(x)
    ctx.kept = primitive, constants, positions
    if primitive.saves_outputs:
        saved += outputs
    ctx.save_for_backward(*saved)


def _restore(ctx: Any) -> tuple[Primitive, list[Any], tuple[Tensor, ...]]:
    primitive, constants, positions = ctx.kept
    flat = constants.copy()
    saved = ctx.saved_tensors
    for i, x in zip(positions, saved, strict=False):
        flat[i] = x
    return primitive, flat, saved[len(positions) :]


def _none_arrived(grads: Sequence[Tensor | None]) -> bool:
    for g in grads:  # noqa: SIM110, see Primitive.__call__
        if g is not None:
            return False
    return True


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, primitive: Primitive, *flat: Any) -> tuple[Tensor, ...]:
        outputs = primitive.forward(*primitive.nested(flat))
        _save(ctx, primitive, flat, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        if _none_arrived(grads):
            return (None,) * len(ctx.needs_input_grad)
        primitive, flat, outputs = _restore(ctx)
        needs = ctx.needs_input_grad[1:]
        # create_graph=True: the result must know that it cannot be differentiated again.
        if torch.is_grad_enabled():
            counts = (len(flat), len(outputs))
            return (
                None,
                *_spread(needs, _Backward.apply(primitive, needs, *counts, *flat, *outputs, *grads)),
            )
        return (None, *primitive.backward(needs, flat, outputs, _contiguous(grads)))


class _Transformable(torch.autograd.Function):
    @staticmethod
    def forward(primitive: Primitive, *flat: Any) -> tuple[Tensor, ...]:
        return primitive.forward(*primitive.nested([_dense(x) for x in flat]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _save(ctx, inputs[0], inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        needs = ctx.needs_input_grad[1:]
        if _none_arrived(grads) or not any(needs):
            return (None,) * (1 + len(needs))
        primitive, flat, outputs = _restore(ctx)
        result = _Backward.apply(primitive, needs, len(flat), len(outputs), *flat, *outputs, *grads)
        return (None, *_spread(needs, result))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], primitive: Primitive, *flat: Any) -> Any:
        return _one_by_one(info.batch_size, in_dims[1:], flat, lambda *one: primitive(*primitive.nested(one)))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            f"rastergrad.{ctx.kept[0].name}: forward-mode differentiation is not available. "
            "Use reverse mode (`backward()`, `torch.func.grad`, `torch.func.vjp`)."
        )


class _Backward(torch.autograd.Function):
    """The backward pass as an operation of its own, so that functorch can map it and a second derivative is
    refused.
    """

    @staticmethod
    def forward(
        primitive: Primitive, needs: Sequence[bool], inputs: int, outputs: int, *rest: Any
    ) -> tuple[Tensor, ...]:
        flat = [_dense(x) for x in rest[:inputs]]
        results = primitive.backward(
            needs, flat, rest[inputs : inputs + outputs], _contiguous(rest[inputs + outputs :])
        )
        return tuple(_compact(needs, flat, results))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.primitive = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            f"rastergrad.{ctx.primitive.name}: a second derivative is not available. "
            "Leave `create_graph=True` away, or detach what needs no second derivative."
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        primitive: Primitive,
        needs: Sequence[bool],
        inputs: int,
        outputs: int,
        *rest: Any,
    ) -> Any:
        return _one_by_one(
            info.batch_size,
            in_dims[4:],
            rest,
            lambda *one: _Backward.apply(primitive, needs, inputs, outputs, *one),
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            f"rastergrad.{ctx.primitive.name}: forward-mode differentiation of a gradient is not available."
        )


def _compact(needs: Sequence[bool], flat: Sequence[Any], results: Sequence[Tensor | None]) -> list[Tensor]:
    """The wanted gradients only; where the operation has none, as a nearest lookup for its coordinates,
    zeros.
    """
    wanted = (i for i, needed in enumerate(needs) if needed)
    return [torch.zeros_like(flat[i]) if (g := results[i]) is None else g for i in wanted]


def _spread(needs: Sequence[bool], compact: Sequence[Tensor]) -> list[Tensor | None]:
    rest = iter(compact)
    return [next(rest) if needed else None for needed in needs]


def _contiguous(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [_dense(g) for g in grads]


def _dense(x: Any) -> Any:
    return x.contiguous() if isinstance(x, Tensor) else x


def _one_by_one(
    size: int, in_dims: Sequence[Any], args: Sequence[Any], run: Callable[..., tuple[Tensor, ...]]
) -> Any:
    """The vmap rule of every primitive: one call per sample. Kernels are parallel inside; the loop costs
    microseconds.
    """
    results = []
    for k in range(size):
        sample = (
            x.movedim(d, 0)[k].contiguous() if isinstance(x, Tensor) and isinstance(d, int) else x
            for x, d in zip(args, in_dims, strict=True)
        )
        results.append(run(*sample))
    stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


def _register(primitive: Primitive, inputs: str, shapes: Forward) -> Callable[..., Any]:
    """The torch.library operator and the one for its backward pass; returns the former."""
    name = primitive.name
    returned = ", ".join(["Tensor"] * primitive.outputs)
    _LIBRARY.define(f"{name}({inputs}) -> ({returned})")
    _LIBRARY.define(f"{name}_backward({inputs}, Tensor[] outputs, Tensor?[] grads, bool[] needs) -> Tensor[]")
    operator = getattr(torch.ops.rastergrad, name).default
    backward_operator = getattr(torch.ops.rastergrad, f"{name}_backward").default

    def dense(args: Sequence[Any]) -> list[Any]:
        return [[_dense(t) for t in x] if isinstance(x, list) else _dense(x) for x in args]

    def flattened(args: Sequence[Any]) -> list[Any]:
        return [*args[:-1], *args[-1]] if primitive.has_list else list(args)

    def bare(result: tuple[Tensor, ...]) -> Any:
        """An operator with one output returns it without a tuple."""
        return result[0] if primitive.outputs == 1 else result

    def run(*args: Any) -> Any:
        return bare(primitive.forward(*dense(args)))

    def run_backward(*args: Any) -> list[Tensor]:
        *rest, outputs, grads, needs = args
        flat = flattened(dense(rest))
        return _compact(needs, flat, primitive.backward(needs, flat, outputs, _contiguous(grads)))

    def fake_backward(*args: Any) -> list[Tensor]:
        *rest, _, _, needs = args
        flat = flattened(rest)
        return [
            torch.empty_like(x, memory_format=torch.contiguous_format)
            for x, n in zip(flat, needs, strict=True)
            if n
        ]

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _save(ctx, primitive, flattened(inputs), (output,) if primitive.outputs == 1 else output)

    def differentiate(ctx: Any, *grads: Tensor | None) -> Any:
        _, flat, outputs = _restore(ctx)
        needs = [isinstance(x, Tensor) and x.requires_grad for x in flat]
        wanted = _needs(ctx, primitive, needs)
        if _none_arrived(grads) or not any(wanted):
            return _regroup(primitive, [None] * len(flat))
        results = backward_operator(*primitive.nested(flat), list(outputs), list(grads), wanted)
        return _regroup(primitive, _spread(wanted, results))

    def mapped(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        results, dims = _one_by_one(info.batch_size, in_dims, args, lambda *one: primitive(*one))
        return bare(results), bare(dims)

    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    _LIBRARY.impl(f"{name}_backward", run_backward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"rastergrad::{name}", lambda *args: bare(shapes(*args)), lib=_LIBRARY)
    torch.library.register_fake(f"rastergrad::{name}_backward", fake_backward, lib=_LIBRARY)
    torch.library.register_autograd(f"rastergrad::{name}", differentiate, setup_context=setup, lib=_LIBRARY)
    torch.library.register_vmap(f"rastergrad::{name}", mapped, lib=_LIBRARY)
    return operator


def _needs(ctx: Any, primitive: Primitive, requires: Sequence[bool]) -> list[bool]:
    flags = list(ctx.needs_input_grad)
    if primitive.has_list:
        flags = [*flags[: primitive.fixed], *requires[primitive.fixed :]]
    return [bool(f) for f in flags]


def _regroup(primitive: Primitive, flat: Sequence[Tensor | None]) -> Any:
    if primitive.has_list:
        return (*flat[: primitive.fixed], list(flat[primitive.fixed :]))
    return tuple(flat)
