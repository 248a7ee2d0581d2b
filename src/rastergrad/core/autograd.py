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
# backward(needs, inputs, outputs, grads) -> one gradient or None per tensor among the inputs; so are `needs`
Backward = Callable[
    [Sequence[bool], Sequence[Any], Sequence[Tensor], Sequence[Tensor | None]], Sequence[Tensor | None]
]


def plain_call() -> bool:
    """Whether nobody listens to this call: no compiler traces it, no transform of functorch, no forward mode."""
    return not (torch.compiler.is_compiling() or _transforms() or forward_ad._current_level >= 0)


class Primitive:
    """A differentiable operation given by its kernels.

    Args:
        name: of the torch.library operator.
        inputs: its schema, e.g. "Tensor a, Tensor? b, int n, Tensor[] rest": tensors come first; a `Tensor[]`
            may only come last.
        forward: takes the inputs, returns a tuple of `outputs` tensors, contiguous and never an alias of an
            input.
        backward: see `Backward`; gradients are contiguous, of the shape of their input. `grads` may hold
            None: no gradient arrived.
        shapes: takes the inputs (fake ones), returns what forward would, uncomputed.
        outputs: how many tensors forward returns.
        constant_outputs: positions of outputs without gradient.
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
        constant_outputs: Sequence[int] = (),
        saves_outputs: bool = False,
    ) -> None:
        self.name = name
        self.forward = forward
        self.backward = backward
        self.constant_outputs = constant_outputs
        self.saves_outputs = saves_outputs
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
        if _transforms() or forward_ad._current_level >= 0:
            return _Transformable.apply(self, *self.flat(inputs))
        if self._wants_gradient(inputs):
            return _Eager.apply((self, inputs), *self.tensors(self.flat(inputs)))
        return self.forward(*inputs)

    def eager(self, *inputs: Any) -> tuple[Tensor, ...]:
        """The same where `plain_call()` holds and the inputs are ordinary tensors, in less time."""
        if self._wants_gradient(inputs):
            return _apply((self, inputs), *inputs[: self.leading])
        return self.forward(*inputs)

    def _wants_gradient(self, inputs: Sequence[Any]) -> bool:
        if torch.is_grad_enabled():
            # Plain loops here and below: a generator inside `any` or `all` takes a microsecond more.
            for x in inputs[: self.leading]:
                if x is not None and x.requires_grad:
                    return True
            if self.has_list:
                for x in inputs[-1]:
                    if x.requires_grad:
                        return True
        return False

    def flat(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs with those of the list one by one, as a Function takes them."""
        return (*inputs[:-1], *inputs[-1]) if self.has_list else tuple(inputs)

    def nested(self, flat: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs as forward takes them, from a flat sequence."""
        return (*flat[: self.fixed], list(flat[self.fixed :])) if self.has_list else tuple(flat)

    def tensors(self, flat: Sequence[Any]) -> tuple[Any, ...]:
        """What belongs to tensors in a flat sequence."""
        return (*flat[: self.leading], *flat[self.fixed :])

    def per_input(self, of_tensors: Sequence[Any]) -> tuple[Any, ...]:
        """A flat sequence with None for what is no tensor: the reverse of `tensors`."""
        constants = (None,) * (self.fixed - self.leading)
        return (*of_tensors[: self.leading], *constants, *of_tensors[self.leading :])


def _save(
    ctx: Any,
    primitive: Primitive,
    constants: Sequence[Any],
    tensors: Sequence[Tensor | None],
    outputs: tuple[Tensor, ...],
) -> None:
    if primitive.constant_outputs:
        ctx.mark_non_differentiable(*[outputs[i] for i in primitive.constant_outputs])
    ctx.set_materialize_grads(False)
    ctx.kept = primitive, constants
    if primitive.saves_outputs:
        ctx.save_for_backward(*tensors, *outputs)
    else:
        ctx.save_for_backward(*tensors)


def _restore(ctx: Any) -> tuple[Primitive, Sequence[Any], Sequence[Tensor]]:
    primitive, constants = ctx.kept
    saved = ctx.saved_tensors
    outputs: Sequence[Tensor] = ()
    if primitive.saves_outputs:
        saved, outputs = saved[: -primitive.outputs], saved[-primitive.outputs :]
    leading = primitive.leading
    return primitive, (*saved[:leading], *constants, *saved[leading:]), outputs


def _none_arrived(grads: Sequence[Tensor | None]) -> bool:
    for g in grads:  # noqa: SIM110, see Primitive._wants_gradient
        if g is not None:
            return False
    return True


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: tuple[Primitive, Sequence[Any]], *tensors: Any) -> tuple[Tensor, ...]:
        primitive, inputs = call
        outputs = primitive.forward(*inputs)
        _save(ctx, primitive, inputs[primitive.leading : primitive.fixed], tensors, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        _, *needs = ctx.needs_input_grad
        if _none_arrived(grads):
            return (None,) * (1 + len(needs))
        primitive, flat, outputs = _restore(ctx)
        # create_graph=True: the result must know that it cannot be differentiated again.
        if torch.is_grad_enabled():
            counts = (len(flat), len(outputs))
            return (
                None,
                *_spread(needs, _Backward.apply(primitive, needs, *counts, *flat, *outputs, *grads)),
            )
        return (None, *primitive.backward(needs, flat, outputs, _contiguous(grads)))


# Less what `Function.apply` asks in Python, 1.3 us: `Primitive.eager` is for where that is known.
_apply: Callable[..., tuple[Tensor, ...]] = super(torch.autograd.Function, _Eager).apply


class _Transformable(torch.autograd.Function):
    @staticmethod
    def forward(primitive: Primitive, *flat: Any) -> tuple[Tensor, ...]:
        return primitive.forward(*primitive.nested([_dense(x) for x in flat]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        primitive, *flat = inputs
        _save(ctx, primitive, flat[primitive.leading : primitive.fixed], primitive.tensors(flat), output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        needs = ctx.needs_input_grad[1:]
        if _none_arrived(grads) or not any(needs):
            return (None,) * (1 + len(needs))
        primitive, flat, outputs = _restore(ctx)
        needs = primitive.tensors(needs)
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
        return tuple(_compact(needs, primitive.tensors(flat), results))

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


def _compact(
    needs: Sequence[bool], tensors: Sequence[Any], results: Sequence[Tensor | None]
) -> list[Tensor]:
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
        flat, needs = primitive.flat(dense(rest)), primitive.tensors(wanted)
        results = primitive.backward(needs, flat, outputs, _contiguous(grads))
        return _compact(needs, primitive.tensors(flat), results)

    def fake_backward(*args: Any) -> list[Tensor]:
        *rest, _, _, needs = args
        flat = primitive.flat(rest)
        return [
            torch.empty_like(x, memory_format=torch.contiguous_format)
            for x, n in zip(flat, needs, strict=True)
            if n
        ]

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        flat = primitive.flat(inputs)
        outputs = (output,) if primitive.outputs == 1 else output
        _save(ctx, primitive, flat[primitive.leading : primitive.fixed], primitive.tensors(flat), outputs)

    def differentiate(ctx: Any, *grads: Tensor | None) -> Any:
        _, flat, outputs = _restore(ctx)
        # Of a list, torch tells only whether any of it needs a gradient.
        needs = [bool(n) for n in ctx.needs_input_grad[: primitive.fixed]]
        needs += [x.requires_grad for x in flat[primitive.fixed :]]
        if _none_arrived(grads) or not any(needs):
            return primitive.nested([None] * len(flat))
        results = backward_operator(*primitive.nested(flat), list(outputs), list(grads), needs)
        return primitive.nested(_spread(needs, results))

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
