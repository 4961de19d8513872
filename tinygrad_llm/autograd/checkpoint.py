"""Trade time for memory: forget what a stretch of the network saved, compute it again backwards.

Source: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tinygrad_llm.autograd.engine import Gradients
from tinygrad_llm.autograd.function import Function, Result
from tinygrad_llm.autograd.modes import current, enable_grad, no_grad
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.autograd.versions import clock, was_overwritten
from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.backend.draws import Draws
from tinygrad_llm.errors import GraphError

T = TypeVar("T")
_CPU = np.zeros(())


def checkpoint(function: Callable[..., T], *args: object) -> T:
    """``function(*args)``, of which only the arguments are kept for the backward pass.

    The backward pass calls the function again, with the random numbers of the first call, so that
    dropout drops the same elements. Parameters that the function uses get their gradients too.

    Args:
        function: takes the arguments, returns a Tensor or a tuple of Tensors.
        args: Tensors and anything else.

    Returns:
        what the function returns.

    Raises:
        GraphError: the function returns something else, or writes into an argument.
    """
    if not current.grad_enabled:
        return function(*args)
    # A scalar that requires a gradient makes the walk come by, for the parameters used inside.
    like = next((a.data for a in args if isinstance(a, Tensor)), _CPU)
    trigger = Tensor(array_module(like).zeros(()), requires_grad=True)
    return _Checkpoint.apply(_Call(function, args), trigger, *args)


class _Call:
    """What is needed to call the function a second time just as the first."""

    def __init__(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self.function = function
        self.is_tensor = [isinstance(a, Tensor) for a in args]
        self.draws = Draws()


class _Checkpoint(Function):
    """y = f(x), saving only x; see `checkpoint`."""

    name = "checkpoint"

    def forward(ctx, call: _Call, trigger: Array, *args: Any) -> Result:
        ctx.call, ctx.args = call, args
        ctx.save(*[a for a, is_tensor in zip(args, call.is_tensor, strict=True) if is_tensor])
        inputs = [
            make_result(a, None) if t else a for a, t in zip(args, call.is_tensor, strict=True)
        ]
        began = clock.next()
        with no_grad(), call.draws.noted():
            out = call.function(*inputs)
        if any(was_overwritten(array, began) for array in ctx.saved):
            raise GraphError(
                "checkpoint: the function writes into its argument, which the second pass would "
                "find changed. Write x = x + y in place of x += y, or into a copy: x.clone()."
            )
        return _arrays_of(out)

    def backward(ctx, *dys: Array | None) -> Gradients:
        inputs = [
            Tensor(a, requires_grad=need) if t else a
            for a, t, need in zip(ctx.args, ctx.call.is_tensor, ctx.needs[2:], strict=True)
        ]
        with enable_grad(), ctx.call.draws.repeated():
            out = ctx.call.function(*inputs)
        _backward_all(out if isinstance(out, tuple) else (out,), dys)
        return (None, None, *(x.grad if isinstance(x, Tensor) else None for x in inputs))

    def release(ctx) -> None:
        super().release()
        ctx.args = ()


def _arrays_of(out: object) -> Result:
    outs = out if isinstance(out, tuple) else (out,)
    if not all(isinstance(o, Tensor) for o in outs):
        kinds = ", ".join(type(o).__name__ for o in outs)
        raise GraphError(
            f"checkpoint: the function must return a Tensor or a tuple of Tensors, got {kinds}."
        )
    return tuple(o.data for o in outs) if isinstance(out, tuple) else outs[0].data


def _backward_all(outs: tuple[Tensor, ...], dys: tuple[Array | None, ...]) -> None:
    """One walk from several results: the gradient of sum_k <y_k, dy_k> arrives at y_k as dy_k."""
    pairs = [(o, dy) for o, dy in zip(outs, dys, strict=True) if dy is not None and o.requires_grad]
    if len(pairs) == 1:
        pairs[0][0].backward(pairs[0][1])
    elif pairs:
        terms = [(o * make_result(dy, None)).sum() for o, dy in pairs]
        sum(terms[1:], terms[0]).backward()
