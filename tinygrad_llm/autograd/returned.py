"""What a ``backward`` must return: one gradient per argument, shaped and typed like the argument.

A gradient holds one slope for each element of its argument, so it has the argument's shape. The
classic slip is a broadcast operand whose gradient was not summed over the copies. It would go
unnoticed: NumPy broadcasts, so a sum over the wrong shape often comes out right, and an optimizer
writes whatever fits. So the engine compares each gradient with the place it goes to.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from tinygrad_llm.backend import Array, is_array
from tinygrad_llm.errors import GradientError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.engine import Node
    from tinygrad_llm.autograd.tensor_base import TensorBase


def one_per_argument(node: Node, returned: object) -> tuple[Array | None, ...]:
    """What ``node.backward`` returned as a tuple with one gradient for each argument.

    Raises:
        GradientError: there are more or fewer gradients than arguments.
    """
    grads = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
    if len(grads) != len(node.edges):
        raise GradientError(
            f"backward: op {node.name!r} returned {_count(len(grads), 'gradient')} for "
            f"{_count(len(node.edges), 'argument')}. Return one for each positional argument of "
            "forward, in their order, and None for an argument that needs no gradient."
        )
    return grads


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def gradient_of(edge: Node | TensorBase, grad: object, node: Node) -> Array:
    """Returns ``grad``, which ``node.backward`` returned, if it can be the gradient of ``edge``.

    Args:
        edge: the leaf, or the node that made the argument. Both know the argument's shape.
        grad: an array; or a scalar of NumPy, whose arithmetic makes them of arrays without axes.
        node: the op, for the message.

    Raises:
        GradientError: it is no array, or has another shape or type than the argument.
    """
    shape, dtypes = _expected(edge)
    if _has(grad, shape, dtypes):
        return grad
    place = [e is edge for e in node.edges].index(True)
    raise GradientError(
        f"backward: op {node.name!r} returned {_kind(grad)} as the gradient of argument {place}; "
        f"expected {dtypes[0]} of shape {shape}, as the argument has. {_advice(grad, shape)}"
    )


def from_hook(dy: Array, returned: object) -> Array:
    """The gradient that a hook returned in place of ``dy``; None leaves ``dy``.

    Raises:
        GradientError: it is no array, or has another shape or type than ``dy``.
    """
    if returned is None:
        return dy
    if not _has(returned, dy.shape, [dy.dtype]):
        raise GradientError(
            f"register_hook: the hook returned {_kind(returned)} for a gradient of {_kind(dy)}. "
            "Return an array of the same shape and dtype, or None to leave the gradient."
        )
    return returned


def _expected(edge: Node | TensorBase) -> tuple[tuple[int, ...], list[np.dtype]]:
    """Shape and types of what may arrive at ``edge``: an optimizer may sum in a wider type."""
    if not edge.is_leaf_edge:
        return edge.result_shape, [edge.result_dtype]
    return edge.data.shape, [x.dtype for x in (edge.data, edge.gradient_sink) if x is not None]


def _has(grad: object, shape: tuple[int, ...], dtypes: list[np.dtype]) -> TypeGuard[Array]:
    return _is_numeric(grad) and grad.shape == shape and grad.dtype in dtypes


def _is_numeric(grad: object) -> TypeGuard[Array]:
    return is_array(grad) or isinstance(grad, np.generic)


def _kind(grad: object) -> str:
    if _is_numeric(grad):
        return f"{grad.dtype} of shape {grad.shape}"
    return f"a {type(grad).__name__}"


def _advice(grad: object, shape: tuple[int, ...]) -> str:
    if not _is_numeric(grad):
        return "Compute an array with ctx.xp from dy and ctx.saved."
    if grad.shape == shape:
        return "Convert it with .astype(dtype) to the dtype of the argument."
    if grad.size > math.prod(shape):
        return "Where an argument was broadcast, sum the gradient over the axes it was repeated on."
    return "Undo in backward what forward did to the axes: each element of it gets one slope."
