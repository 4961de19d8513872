"""The methods that go along axes: sums, extremes, and functions of whole rows.

With ``dtype=`` a function casts its tensor first, as PyTorch's do: `keywords` does that for all.

``max`` and ``min`` mean two things. NumPy's give the largest values, PyTorch's with ``dim`` a pair
of values and indices. The argument's name says which one is meant, so it must be written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinygrad_llm.autograd.axes import Axis
from tinygrad_llm.autograd.keywords import methods_take_both_names
from tinygrad_llm.autograd.operators import Operators
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.errors import ConfigError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.tensor import Tensor


@methods_take_both_names
class Reductions(Operators):
    """Base of Tensor: reductions over axes, and functions of rows."""

    __slots__ = ()

    def sum(self, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike = None) -> Tensor:
        """Sum over ``axis``: one, several, or all axes."""
        return OPS["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike = None) -> Tensor:
        """Arithmetic mean over ``axis``."""
        return OPS["mean"](self, axis=axis, keepdims=keepdims)

    def var(
        self,
        axis: Axis = None,
        keepdims: bool = False,
        correction: int = 1,
        unbiased: bool | None = None,
    ) -> Tensor:
        """Variance over ``axis``; divides by n - ``correction``, as PyTorch does.

        Args:
            unbiased: another way to say ``correction``: True is 1, False is 0.
        """
        correction = correction if unbiased is None else int(unbiased)
        return OPS["var"](self, axis=axis, keepdims=keepdims, correction=correction)

    def std(
        self,
        axis: Axis = None,
        keepdims: bool = False,
        correction: int = 1,
        unbiased: bool | None = None,
    ) -> Tensor:
        """Standard deviation over ``axis``: the square root of `var`."""
        correction = correction if unbiased is None else int(unbiased)
        return OPS["std"](self, axis=axis, keepdims=keepdims, correction=correction)

    def norm(self, p: float | str = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Euclidean length over ``axis``: the square root of the sum of the squares.

        Raises:
            ConfigError: another power ``p`` than 2.
        """
        if p not in (2, "fro"):
            raise ConfigError(
                f"norm: only p=2 is here, got {p!r}. Write (x.abs() ** p).sum(axis=...) ** (1/p), "
                "or x.abs().amax(axis=...) for the largest."
            )
        return OPS["norm"](self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike = None) -> Tensor:
        """Product over ``axis``."""
        return OPS["prod"](self, axis=axis, keepdims=keepdims)

    def logsumexp(self, axis: Axis, keepdims: bool = False) -> Tensor:
        """Logarithm of the sum of the exponentials over ``axis``."""
        return OPS["logsumexp"](self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int, *, dtype: DTypeLike = None) -> Tensor:
        """Each element plus all before it along ``axis``."""
        return OPS["cumsum"](self, axis=axis)

    def max(
        self,
        *other: object,
        axis: Axis = None,
        keepdims: bool = False,
        dim: int | None = None,
        keepdim: bool = False,
    ) -> Any:
        """Largest element, of all or over ``axis``; equal largest ones share the gradient.

        With ``dim=`` the pair (values, indices) of PyTorch: the gradient goes to the index named.

        Raises:
            ConfigError: an axis without its name: ``x.max(1)`` could mean either.
        """
        if dim is not None:
            return OPS["max_with_index"](self, axis=dim, keepdims=keepdim or keepdims)
        _refuse_unnamed("max", "maximum", other)
        return OPS["max"](self, axis=axis, keepdims=keepdims or keepdim)

    def min(
        self,
        *other: object,
        axis: Axis = None,
        keepdims: bool = False,
        dim: int | None = None,
        keepdim: bool = False,
    ) -> Any:
        """Smallest element, of all or over ``axis``; otherwise as `max`."""
        if dim is not None:
            return OPS["min_with_index"](self, axis=dim, keepdims=keepdim or keepdims)
        _refuse_unnamed("min", "minimum", other)
        return OPS["min"](self, axis=axis, keepdims=keepdims or keepdim)

    def amax(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Largest element over ``axis``, without its index."""
        return OPS["max"](self, axis=axis, keepdims=keepdims)

    def amin(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Smallest element over ``axis``, without its index."""
        return OPS["min"](self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Index of the largest element; no gradient."""
        return OPS["argmax"](self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Index of the smallest element; no gradient."""
        return OPS["argmin"](self, axis=axis, keepdims=keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """True where no element over ``axis`` is 0; no gradient."""
        return OPS["all"](self, axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """True where an element over ``axis`` is not 0; no gradient."""
        return OPS["any"](self, axis=axis, keepdims=keepdims)

    # ---- functions of rows -------------------------------------------------------------------

    def softmax(self, axis: int = -1, *, dtype: DTypeLike = None) -> Tensor:
        """Probabilities along ``axis``."""
        return OPS["softmax"](self, axis=axis)

    def log_softmax(self, axis: int = -1, *, dtype: DTypeLike = None) -> Tensor:
        """Logarithms of the probabilities along ``axis``."""
        return OPS["log_softmax"](self, axis=axis)


def _refuse_unnamed(name: str, pairwise: str, given: tuple[object, ...]) -> None:
    if given:
        raise ConfigError(
            f"{name}: {given[0]!r:.40} without a name could mean two things. Write "
            f"{name}(axis=...) for the values alone, {name}(dim=...) for (values, indices) as in "
            f"PyTorch, or tg.{pairwise}(a, b) for the {name} of two tensors."
        )
