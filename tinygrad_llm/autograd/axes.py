"""Numbers of axes as users give them: from either end, one or several, of any integer type."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from tinygrad_llm.errors import ShapeError

Axis = int | tuple[int, ...] | None
Lengths = int | Sequence[int]  # of axes, each by itself or all in one tuple


def normalize_axis(op: str, axis: Any, ndim: int) -> int:
    """``axis`` counted from the front.

    Raises:
        ShapeError: there is no such axis, or it is no integer.
    """
    if not hasattr(axis, "__index__") or not -ndim <= axis < ndim:
        expected = f"expected {-ndim} .. {ndim - 1}" if ndim else "it has none"
        raise ShapeError(
            f"{op}: axis {axis!r} does not exist in a tensor of {ndim} axes; {expected}."
        )
    return index(axis) % ndim


def normalize_axes(op: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """One, several or all axes as a tuple counted from the front.

    A tensor without axes may be reduced along axis 0 or -1, as in PyTorch: that leaves it as it is.
    """
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(normalize_axis(op, a, max(ndim, 1)) for a in given)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axis {axis} names one axis twice.")
    return axes if ndim else ()


def lengths(op: str, numbers: object) -> tuple[int, ...]:
    """Lengths of axes, or numbers of copies, as integers.

    Raises:
        ShapeError: one is negative, or no integer.
    """
    if not isinstance(numbers, (tuple, list)) or not all(
        hasattr(n, "__index__") and n >= 0 for n in numbers
    ):
        raise ShapeError(f"{op}: expected integers, 0 or more each, got {numbers!r:.60}.")
    return tuple(index(n) for n in numbers)


def flat(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)):
        return tuple(numbers[0])
    return numbers
