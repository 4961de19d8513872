"""The methods that choose elements: by a condition, by an index, by their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, overload

from tinygrad_llm.autograd.arrays import TensorLike, array_of, as_array
from tinygrad_llm.autograd.keywords import methods_take_both_names
from tinygrad_llm.autograd.operators import Operators
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.errors import ShapeError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.tensor import Tensor
    from tinygrad_llm.backend.random import Generator


class Chosen(NamedTuple):
    """Elements and where they stood along the axis."""

    values: Tensor
    indices: Tensor


@methods_take_both_names
class Selection(Operators):
    """Base of Tensor: conditions, indices, order."""

    __slots__ = ()

    def masked_fill(self, mask: TensorLike, value: float) -> Tensor:
        """``value`` where the boolean ``mask`` is true, the elements elsewhere."""
        return OPS["masked_fill"](self, mask=mask, value=value)

    def where(self, condition: TensorLike, other: TensorLike) -> Tensor:
        """The elements where the condition is true, those of ``other`` elsewhere."""
        return OPS["where"](array_of("where", condition), self, other)

    def maximum(self, other: TensorLike) -> Tensor:
        """The larger of two elements; equal ones share the gradient."""
        return OPS["maximum"](self, other)

    def minimum(self, other: TensorLike) -> Tensor:
        """The smaller of two elements; equal ones share the gradient."""
        return OPS["minimum"](self, other)

    def tril(self, diagonal: int = 0) -> Tensor:
        """0 above the diagonal of the last two axes; ``diagonal`` moves it to the right."""
        return self.masked_fill(~_below("tril", self, diagonal), 0)

    def triu(self, diagonal: int = 0) -> Tensor:
        """0 below the diagonal of the last two axes; ``diagonal`` moves it to the right."""
        return self.masked_fill(_below("triu", self, diagonal - 1), 0)

    # ---- by index ----------------------------------------------------------------------------

    def gather(self, axis: int, index: TensorLike) -> Tensor:
        """The element that ``index`` names along ``axis``, at each place of ``index``."""
        return OPS["gather"](self, axis=axis, index=index)

    def scatter(self, axis: int, index: TensorLike, src: TensorLike) -> Tensor:
        """The elements, with those of ``src`` at the places that ``index`` names along ``axis``."""
        return OPS["scatter"](self, src, axis=axis, index=index)

    def scatter_add(self, axis: int, index: TensorLike, src: TensorLike) -> Tensor:
        """As `scatter`, with ``src`` added to what is there."""
        return OPS["scatter_add"](self, src, axis=axis, index=index)

    def index_select(self, axis: int, index: TensorLike) -> Tensor:
        """The slices along ``axis`` that the integers ``index`` (N,) name."""
        return OPS["index_select"](self, axis=axis, index=index)

    @overload
    def nonzero(self, as_tuple: Literal[False] = False) -> Tensor: ...

    @overload
    def nonzero(self, as_tuple: Literal[True]) -> tuple[Tensor, ...]: ...

    def nonzero(self, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Places of the elements that are not 0, one row (ndim,) each; no gradient.

        With ``as_tuple=True`` an index of each axis, as ``x[...]`` takes them.
        """
        places = OPS["nonzero"](self)
        return tuple(places.unbind(1)) if as_tuple else places

    # ---- by order ----------------------------------------------------------------------------

    def sort(self, axis: int = -1, descending: bool = False) -> Chosen:
        """(values, indices) in rising order along ``axis``; equal ones keep theirs."""
        return OPS["sort"](self, axis=axis, descending=descending)

    def argsort(self, axis: int = -1, descending: bool = False) -> Tensor:
        """The indices that put the elements along ``axis`` in order; no gradient."""
        return OPS["argsort"](self, axis=axis, descending=descending)

    def topk(self, k: int, axis: int = -1, largest: bool = True) -> Chosen:
        """(values, indices) of the ``k`` largest elements along ``axis``, the largest first."""
        return OPS["topk"](self, k=k, axis=axis, largest=largest)

    def multinomial(
        self, num_samples: int, replacement: bool = False, generator: Generator | None = None
    ) -> Tensor:
        """Indices drawn with the probabilities in each row, (..., num_samples); no gradient."""
        return OPS["multinomial"](
            self, num_samples=num_samples, replacement=replacement, generator=generator
        )

    # ---- comparison of all elements ----------------------------------------------------------

    def equal(self, other: TensorLike) -> bool:
        """Whether shapes and all elements are equal. Element by element: ``a == b``."""
        other = _array_beside(self, other)
        return self.shape == other.shape and bool((self == other).data.all())

    def allclose(
        self, other: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> bool:
        """Whether |a - b| <= atol + rtol |b| for all elements."""
        other = _array_beside(self, other)
        close = array_module(self.data).allclose
        return bool(close(self.data, other, rtol=rtol, atol=atol, equal_nan=equal_nan))


def _below(op: str, x: TensorBase, diagonal: int) -> Array:
    """True on the diagonal of the last two axes and below it."""
    if x.ndim < 2:
        raise ShapeError(f"{op}: expected two axes or more, got shape {x.shape}.")
    return array_module(x.data).tri(*x.shape[-2:], diagonal, dtype=bool)


def _array_beside(x: TensorBase, other: TensorLike) -> Array:
    """``other`` as an array where ``x`` is; numbers and lists too."""
    return array_module(x.data).asarray(as_array(other))
