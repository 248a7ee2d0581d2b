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
# backward(needs, inputs, outputs, grads) -> one gradient or None per differentiable input; so are `needs`
Backward = Callable[
    [Sequence[bool], Sequence[Any], Sequence[Tensor], Sequence[Tensor | None]], Sequence[Tensor | None]
]


def plain_call() -> bool:
    """Whether nobody listens: no compiler traces this call, no functorch, no forward mode."""
    return not (torch.compiler.is_compiling() or _transforms() or forward_ad._current_level >= 0)


class Primitive:
    """A differentiable operation given by its kernels.

    Args:
        name: of the torch.library operator.
        inputs: its schema, e.g. "Tensor a, Tensor? b, Tensor c, int n, Tensor[] rest": tensors come first,
            those with a gradient before the others; a `Tensor[]`, which has gradients, may only come last.
        forward: takes the inputs, returns a tuple of `outputs` tensors, contiguous and never an alias of an
            input.
        backward: see `Backward`; gradients are contiguous, of the shape of their input. `outputs` are those
            saved. `grads` may hold None: no gradient arrived.
        shapes: takes the inputs (fake ones), returns what forward would, uncomputed.
        outputs: how many tensors forward returns.
        differentiable: how many of the tensors at the beginning have a gradient.
        constant_outputs: positions of outputs without gradient.
        saved_outputs: positions of those that backward looks at; also of some that a call does not return.
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
        differentiable: int,
        constant_outputs: Sequence[int] = (),
        saved_outputs: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.forward = forward
        self.backward = backward
        self.differentiable = differentiable
        self.constant_outputs = constant_outputs
        self.saved_outputs = saved_outputs
        self.outputs = outputs
        kinds = [part.split()[0] for part in inputs.split(", ")]
        self.has_list = kinds[-1] == "Tensor[]"
        self.fixed = len(kinds) - self.has_list
        self.leading = sum(kind in ("Tensor", "Tensor?") for kind in kinds)
        if any("Tensor" in kind for kind in kinds[self.leading : self.fixed]):
            raise ValueError(f"{name}: tensors must come first in {inputs!r}")
        self._operator = _register(self, inputs, shapes)

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            result = self._operator(*inputs)
            return (result,) if self.outputs == 1 else result
        flat = self.flat(inputs)
        if _transforms() or forward_ad._current_level >= 0:
            return _Transformable.apply(self, *flat)
        if torch.is_grad_enabled():
            # Results depend on all tensors that require a gradient, also on those that will get none.
            others = [x for x in flat[self.differentiable : self.leading] if _wants_gradient(x)]
            wanted = self.wanted(flat)
            if others or any(_wants_gradient(x) for x in wanted):
                return _Eager.apply((self, inputs, self.outputs), *wanted, *others)
        return self.forward(*inputs)

    def eager(self, outputs: int, *inputs: Any) -> tuple[Tensor, ...]:
        """The first outputs of the same, in less time, where `plain_call()` holds, the tensors are ordinary
        and a list is empty.
        """
        if torch.is_grad_enabled():
            # A plain loop, here and below: a generator inside `any` or `all` takes a microsecond more.
            for x in inputs[: self.leading]:
                if x is not None and x.requires_grad:
                    break
            else:
                return self.forward(*inputs)[:outputs]
            for x in inputs[: self.differentiable]:
                if x is not None and x.requires_grad:
                    return _apply((self, inputs, outputs), *inputs[: self.differentiable])
            return self(*inputs)[:outputs]
        return self.forward(*inputs)[:outputs]

    def flat(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs with those of the list one by one, as a Function takes them."""
        return (*inputs[:-1], *inputs[-1]) if self.has_list else tuple(inputs)

    def nested(self, flat: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs as forward takes them, from a flat sequence."""
        return (*flat[: self.fixed], list(flat[self.fixed :])) if self.has_list else tuple(flat)

    def wanted(self, flat: Sequence[Any]) -> tuple[Any, ...]:
        """What belongs to the differentiable inputs in a flat sequence."""
        return (*flat[: self.differentiable], *flat[self.fixed :])

    def per_input(self, wanted: Sequence[Any]) -> tuple[Any, ...]:
        """A flat sequence with None for inputs that are not differentiable: the reverse of `wanted`."""
        d = self.differentiable
        return (*wanted[:d], *[None] * (self.fixed - d), *wanted[d:])


def _wants_gradient(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _save(
    ctx: Any, primitive: Primitive, flat: Sequence[Any], outputs: tuple[Tensor, ...], returned: int
) -> None:
    if primitive.constant_outputs:
        ctx.mark_non_differentiable(*[outputs[i] for i in primitive.constant_outputs if i < returned])
    ctx.set_materialize_grads(False)
    leading, fixed = primitive.leading, primitive.fixed
    ctx.kept = primitive, flat[leading:fixed]
    ctx.save_for_backward(*flat[:leading], *flat[fixed:], *[outputs[i] for i in primitive.saved_outputs])


def _restore(ctx: Any) -> tuple[Primitive, Sequence[Any], Sequence[Tensor]]:
    primitive, constants = ctx.kept
    saved = ctx.saved_tensors
    leading, inputs = primitive.leading, len(saved) - len(primitive.saved_outputs)
    return primitive, (*saved[:leading], *constants, *saved[leading:inputs]), saved[inputs:]


def _none_arrived(grads: Sequence[Tensor | None]) -> bool:
    for g in grads:  # noqa: SIM110, see Primitive.eager
        if g is not None:
            return False
    return True


class _Eager(torch.autograd.Function):
    """Takes the call, and apart from that the tensors that the graph has to know."""

    @staticmethod
    def forward(
        ctx: Any, call: tuple[Primitive, Sequence[Any], int], *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        primitive, inputs, count = call
        outputs = primitive.forward(*inputs)
        _save(ctx, primitive, primitive.flat(inputs) if primitive.has_list else inputs, outputs, count)
        return outputs[:count]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        needs = ctx.needs_input_grad[1:]
        if _none_arrived(grads):
            return (None,) * (1 + len(needs))
        primitive, flat, outputs = _restore(ctx)
        wanted = primitive.differentiable + len(flat) - primitive.fixed
        others = (None,) * (len(needs) - wanted)
        # create_graph=True: the result must know that it cannot be differentiated again.
        if torch.is_grad_enabled():
            counts = (len(flat), len(outputs))
            found = _Backward.apply(primitive, needs[:wanted], *counts, *flat, *outputs, *grads)
            return (None, *_spread(needs[:wanted], found), *others)
        return (None, *primitive.backward(needs[:wanted], flat, outputs, _contiguous(grads)), *others)


# Less what `Function.apply` asks in Python, 1.3 us: `Primitive.eager` is for where that is known.
_base: Any = super(torch.autograd.Function, _Eager)
_apply: Callable[..., tuple[Tensor, ...]] = _base.apply
# The same on the way back, 0.7 us: a node of the graph looks up in Python which function it is to call.
_node: Any = getattr(_Eager, "_backward_cls", None)
if _node is not None:
    _node.apply = _Eager.backward


class _Transformable(torch.autograd.Function):
    @staticmethod
    def forward(primitive: Primitive, *flat: Any) -> tuple[Tensor, ...]:
        return primitive.forward(*primitive.nested([_dense(x) for x in flat]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        primitive, *flat = inputs
        _save(ctx, primitive, flat, output, primitive.outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        needs = ctx.needs_input_grad[1:]
        if _none_arrived(grads) or not any(needs):
            return (None,) * (1 + len(needs))
        primitive, flat, outputs = _restore(ctx)
        needs = primitive.wanted(needs)
        result = _Backward.apply(primitive, needs, len(flat), len(outputs), *flat, *outputs, *grads)
        return (None, *primitive.per_input(_spread(needs, result)))

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
        return tuple(_compact(needs, primitive.wanted(flat), results))

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


def _compact(needs: Sequence[bool], tensors: Sequence[Any], results: Sequence[Tensor | None]) -> list[Tensor]:
    """The wanted gradients only; where the operation has none, as a nearest lookup for its coordinates,
    zeros.
    """
    wanted = (i for i, needed in enumerate(needs) if needed)
    return [torch.zeros_like(tensors[i]) if (g := results[i]) is None else g for i in wanted]


def _spread(needs: Sequence[bool], compact: Sequence[Tensor]) -> list[Tensor | None]:
    rest = iter(compact)
    return [next(rest) if needed else None for needed in needs]


def _contiguous(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if g is None else g.contiguous() for g in grads]


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

    def bare(result: tuple[Tensor, ...]) -> Any:
        """An operator with one output returns it without a tuple."""
        return result[0] if primitive.outputs == 1 else result

    def run(*args: Any) -> Any:
        return bare(primitive.forward(*dense(args)))

    def run_backward(*args: Any) -> list[Tensor]:
        *rest, outputs, grads, wanted = args
        flat, needs = primitive.flat(dense(rest)), primitive.wanted(wanted)
        results = primitive.backward(needs, flat, outputs, _contiguous(grads))
        return _compact(needs, primitive.wanted(flat), results)

    def fake_backward(*args: Any) -> list[Tensor]:
        *rest, _, _, needs = args
        flat = primitive.flat(rest)
        return [
            torch.empty_like(x, memory_format=torch.contiguous_format)
            for x, n in zip(primitive.wanted(flat), primitive.wanted(needs), strict=True)
            if n
        ]

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = (output,) if primitive.outputs == 1 else output
        _save(ctx, primitive, primitive.flat(inputs), outputs, primitive.outputs)

    def differentiate(ctx: Any, *grads: Tensor | None) -> Any:
        _, flat, outputs = _restore(ctx)
        # Of a list, torch tells only whether any of it needs a gradient.
        needs = [bool(n) for n in ctx.needs_input_grad[: primitive.fixed]]
        needs += [x.requires_grad for x in flat[primitive.fixed :]]
        if _none_arrived(grads) or not any(needs):
            return primitive.nested([None] * len(flat))
        results = backward_operator(*primitive.nested(flat), list(outputs), list(grads), needs)
        return primitive.nested(primitive.per_input(_spread(primitive.wanted(needs), results)))

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
