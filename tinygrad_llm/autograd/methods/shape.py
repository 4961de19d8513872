"""The methods that move elements without changing them."""

from __future__ import annotations

import math
from operator import index as as_int
from typing import TYPE_CHECKING

from tinygrad_llm.autograd.axes import Lengths, flat, lengths, normalize_axis
from tinygrad_llm.autograd.keywords import methods_take_both_names
from tinygrad_llm.autograd.operators import Operators
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.versions import memory_range
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.tensor import Tensor


@methods_take_both_names
class Shape(Operators):
    """Base of Tensor: other shapes, other orders, repetitions and parts."""

    __slots__ = ()

    def reshape(self, *shape: Lengths) -> Tensor:
        """The same elements in another shape; one length may be -1."""
        return OPS["reshape"](self, shape=flat(shape))

    def view(self, *shape: Lengths) -> Tensor:
        """As `reshape`, in the same memory: a write into the result is a write into this tensor.

        Raises:
            ShapeError: the elements' order in memory does not allow it.
        """
        out = self.reshape(*shape)
        if out.data.size and not _share_memory(out.data, self.data):
            raise ShapeError(
                f"view: a tensor of shape {self.shape} whose elements do not lie in order has no "
                f"view of shape {flat(shape)}. Use .reshape(...), or .contiguous().view(...): "
                "both copy."
            )
        return out

    def view_as(self, other: Tensor) -> Tensor:
        """`view` with the shape of ``other``."""
        return self.view(*other.shape)

    # ---- order of the axes -------------------------------------------------------------------

    def transpose(self, *axes: Lengths) -> Tensor:
        """Two axes exchanged, ``x.transpose(1, 2)``, or all in a new order.

        Two numbers exchange these two axes, as in PyTorch. A tuple, or as many numbers as there are
        axes, is a permutation, as in NumPy; without any the order is reversed. For a matrix
        ``transpose(0, 1)`` and ``transpose(1, 0)`` both exchange: who names two axes wants to.

        Raises:
            ShapeError: an axis that does not exist, or no permutation.
        """
        if len(axes) == 2:
            return OPS["swapaxes"](self, axis1=axes[0], axis2=axes[1])
        return OPS["transpose"](self, axes=flat(axes) or None)

    def permute(self, *axes: Lengths) -> Tensor:
        """The axes in the order given: axis i of the result is axis axes[i]."""
        return OPS["transpose"](self, axes=flat(axes))

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged."""
        return OPS["swapaxes"](self, axis1=axis1, axis2=axis2)

    def t(self) -> Tensor:
        """The transpose of a matrix; a vector stays.

        Raises:
            ShapeError: more than two axes.
        """
        if self.ndim > 2:
            raise ShapeError(
                f"t: expected at most two axes, got shape {self.shape}. Use .transpose(i, j)."
            )
        return OPS["transpose"](self, axes=None)

    @property
    def T(self) -> Tensor:
        """All axes in reverse order."""
        return OPS["transpose"](self, axes=None)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return self.swapaxes(-1, -2)

    # ---- axes that come and go ---------------------------------------------------------------

    def unsqueeze(self, axis: int) -> Tensor:
        """A new axis of length 1 at ``axis``.

        Raises:
            ShapeError: the result has no such axis.
        """
        place = normalize_axis("unsqueeze: the result", axis, self.ndim + 1)
        return self.reshape(*self.shape[:place], 1, *self.shape[place:])

    def squeeze(self, axis: int | None = None) -> Tensor:
        """Without the axis ``axis``, whose length must be 1; without all such axes by default.

        Raises:
            ShapeError: there is no such axis, or it is longer.
        """
        if axis is None:
            return self.reshape([n for n in self.shape if n != 1])
        place = normalize_axis("squeeze", axis, self.ndim)
        if self.shape[place] != 1:
            raise ShapeError(f"squeeze: axis {axis} of shape {self.shape} has not length 1.")
        return self.reshape([*self.shape[:place], *self.shape[place + 1 :]])

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """The axes from ``start_dim`` to ``end_dim`` as one; all by default."""
        n = max(self.ndim, 1)
        first, last = normalize_axis("flatten", start_dim, n), normalize_axis("flatten", end_dim, n)
        if first > last:
            raise ShapeError(
                f"flatten: start_dim {start_dim} comes behind end_dim {end_dim} in shape "
                f"{self.shape}."
            )
        length = math.prod(self.shape[first : last + 1])
        return self.reshape(*self.shape[:first], length, *self.shape[last + 1 :])

    def unflatten(self, axis: int, sizes: Lengths) -> Tensor:
        """The axis ``axis`` as several, of lengths ``sizes``; one may be -1."""
        place = normalize_axis("unflatten", axis, self.ndim)
        wanted = list(flat((sizes,)))
        known = math.prod(lengths("unflatten", [n for n in wanted if n != -1]))
        if wanted.count(-1) == 1 and known:
            wanted[wanted.index(-1)] = self.shape[place] // known
        if math.prod(wanted) != self.shape[place]:
            raise ShapeError(
                f"unflatten: axis {axis} of shape {self.shape} has length {self.shape[place]}, "
                f"which the lengths {tuple(wanted)} do not multiply to."
            )
        return self.reshape(*self.shape[:place], *wanted, *self.shape[place + 1 :])

    # ---- repetitions -------------------------------------------------------------------------

    def broadcast_to(self, *shape: Lengths) -> Tensor:
        """Repeated, without a copy, to a larger shape."""
        return OPS["broadcast_to"](self, shape=flat(shape))

    def expand(self, *shape: Lengths) -> Tensor:
        """As `broadcast_to`, where -1 keeps the length of an axis."""
        wanted = flat(shape)
        own = (-1,) * (len(wanted) - self.ndim) + self.shape
        if len(wanted) < self.ndim or any(a == b == -1 for a, b in zip(wanted, own, strict=True)):
            raise ShapeError(
                f"expand: shape {wanted} must have each axis of shape {self.shape}, and a length "
                "for each new one; -1 keeps a length where there is one."
            )
        return self.broadcast_to([m if n == -1 else n for n, m in zip(wanted, own, strict=True)])

    def expand_as(self, other: Tensor) -> Tensor:
        """Repeated, without a copy, to the shape of ``other``."""
        return self.broadcast_to(other.shape)

    def repeat(self, *times: Lengths) -> Tensor:
        """The whole tensor ``times[i]`` times along axis i (NumPy's tile); new axes come first.

        Raises:
            ShapeError: fewer numbers than axes.
        """
        counts = lengths("repeat", flat(times))
        extra = len(counts) - self.ndim
        if extra < 0:
            raise ShapeError(
                f"repeat: expected a number for each axis of shape {self.shape}, got {counts}. To "
                "repeat each element use repeat_interleave."
            )
        shape = (1,) * extra + self.shape
        apart = [m for n in shape for m in (1, n)]  # (1, n0, 1, n1, ...)
        copies = [m for n, k in zip(shape, counts, strict=True) for m in (k, n)]
        whole = [n * k for n, k in zip(shape, counts, strict=True)]
        return self.reshape(apart).broadcast_to(copies).reshape(whole)

    def repeat_interleave(self, repeats: int, axis: int | None = None) -> Tensor:
        """Each element ``repeats`` times, one copy behind the other, along ``axis``.

        Without an axis the tensor is flattened first.

        Raises:
            ShapeError: there is no such axis.
            ConfigError: ``repeats`` is not one number of copies.
        """
        if axis is None:
            return self.flatten().repeat_interleave(repeats, 0)
        if not hasattr(repeats, "__index__") or repeats < 0:
            raise ConfigError(
                f"repeat_interleave: expected one number of copies, got {repeats!r:.60}. For a "
                "number per element index with them: x[np.repeat(np.arange(len(x)), numbers)]."
            )
        place = normalize_axis("repeat_interleave", axis, self.ndim)
        before, after = self.shape[: place + 1], self.shape[place + 1 :]
        copies = self.unsqueeze(place + 1).broadcast_to(*before, as_int(repeats), *after)
        return copies.reshape(*before[:-1], before[-1] * as_int(repeats), *after)

    # ---- parts -------------------------------------------------------------------------------

    def split(
        self, sections: Lengths, axis: int | None = None, *, dim: int | None = None
    ) -> tuple[Tensor, ...]:
        """Parts along an axis: ``sections`` equal ones with ``axis=``, PyTorch's with ``dim=``.

        With ``dim=`` the number is the length of each part (the last may be shorter), or a list of
        all lengths.

        Raises:
            ConfigError: neither name: ``x.split(3)`` could mean 3 parts or parts of length 3.
            ShapeError: the axis cannot be divided so.
        """
        if dim is not None:
            return _by_length(self, "split", sections, dim)
        if axis is None:
            raise ConfigError(
                f"split: {sections!r:.40} could mean two things. Write split(n, axis=...) for n "
                "equal parts, or split(length, dim=...) for parts of one length as in PyTorch."
            )
        return OPS["split"](self, sections=sections, axis=axis)

    def chunk(self, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
        """``chunks`` parts along ``axis``; where it is not divisible the last ones are shorter.

        Raises:
            ShapeError: no such axis, or less than one part.
        """
        length = self.shape[normalize_axis("chunk", axis, self.ndim)]
        (chunks,) = lengths("chunk", [chunks])
        if not chunks:
            raise ShapeError("chunk: expected 1 part or more, got 0.")
        return _by_length(self, "chunk", max(1, -(-length // chunks)), axis)

    def unbind(self, axis: int = 0) -> tuple[Tensor, ...]:
        """The slices along ``axis``, without it."""
        place = normalize_axis("unbind", axis, self.ndim)
        return tuple(self[(slice(None),) * place + (i,)] for i in range(self.shape[place]))


def _share_memory(a: Array, b: Array) -> bool:
    (low, high), (start, end) = memory_range(a), memory_range(b)
    return low < end and start < high


def _by_length(x: Operators, op: str, parts: Lengths, axis: int) -> tuple[Tensor, ...]:
    """Parts of x along ``axis`` of the lengths given, or all of one length."""
    place = normalize_axis(op, axis, x.ndim)
    total = x.shape[place]
    if hasattr(parts, "__index__"):
        step = as_int(parts)
        if step < 1:
            raise ShapeError(f"{op}: expected parts of length 1 or more, got {step}.")
        parts = [min(step, total - start) for start in range(0, total, step)] or [0]
    parts = lengths(op, parts)
    if sum(parts) != total:
        raise ShapeError(
            f"{op}: axis {axis} of shape {x.shape} has length {total}; the parts {list(parts)} "
            f"add up to {sum(parts)}."
        )
    starts = [sum(parts[:i]) for i in range(len(parts))]
    before = (slice(None),) * place
    return tuple(
        x[(*before, slice(start, start + n))] for start, n in zip(starts, parts, strict=True)
    )
