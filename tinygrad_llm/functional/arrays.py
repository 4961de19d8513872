"""Products, and elements put together, taken apart and chosen."""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.autograd.keywords import both_names
from tinygrad_llm.autograd.tensor import Tensor, tensor_of
from tinygrad_llm.ops import compare
from tinygrad_llm.ops.einsum import Einsum
from tinygrad_llm.ops.matmul import MatMul
from tinygrad_llm.ops.select import MaskedFill, Where
from tinygrad_llm.ops.shape import Concatenate, Stack


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """Matrix product over the last two axes."""
    return MatMul.apply(tensor_of(a), tensor_of(b))


def einsum(equation: str, *operands: TensorLike) -> Tensor:
    """Sum of products over named axes: ``einsum("ij,jk->ik", a, b)`` is the matrix product."""
    return Einsum.apply(*[tensor_of(x) for x in operands], equation=equation)


@both_names
def concatenate(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors one behind the other along ``axis``."""
    return Concatenate.apply(*[tensor_of(t) for t in tensors], axis=axis)


@both_names
def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    return Stack.apply(*[tensor_of(t) for t in tensors], axis=axis)


def split(
    x: TensorLike, sections: int | Sequence[int], axis: int | None = None, *, dim: int | None = None
) -> tuple[Tensor, ...]:
    """``sections`` equal parts with ``axis=``; parts of a length or of lengths with ``dim=``."""
    return tensor_of(x).split(sections, axis, dim=dim)


def where(condition: TensorLike, a: TensorLike, b: TensorLike) -> Tensor:
    """``a`` where the condition is true, ``b`` elsewhere."""
    mask = array_of("where", condition)
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = Tensor(a)
    return Where.apply(mask, a, b)


def masked_fill(x: TensorLike, mask: TensorLike, value: float) -> Tensor:
    """``value`` where ``mask`` is true, ``x`` elsewhere."""
    return MaskedFill.apply(tensor_of(x), mask=mask, value=value)


def one_hot(ids: TensorLike, num_classes: int = -1) -> Tensor:
    """1 at the id, 0 elsewhere: integers (...) -> (..., V); V by default the largest id + 1."""
    return compare.one_hot(ids, num_classes)
