"""Names of axes through ops that move, split, join or sum them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinygrad_llm.autograd.trace.records import OpRecord

Axes = tuple[str, ...]
Shape = tuple[int, ...]
# What a channel axis consists of, and what batch and position are in one: (parts, whole).
_JOINED = (
    (("q, k, v", "head", "channel"), "channel"),
    (("head", "channel"), "channel"),
    (("batch", "position"), "batch × position"),
)


def unknown(shape: Shape) -> Axes:
    """As many axes without a name."""
    return ("",) * len(shape)


def aligned(given: Sequence[Axes], shapes: Sequence[Shape], shape: Shape) -> Axes:
    """Names of a result's axes by those of inputs that were broadcast to it, from the right."""
    names = list(unknown(shape))
    for axes, of in zip(given, shapes, strict=True):
        if len(of) > len(shape) or any(
            n not in (1, m) for n, m in zip(of[::-1], shape[::-1], strict=False)
        ):
            continue
        for place in range(1, len(of) + 1):
            if of[-place] == shape[-place] and not names[-place]:
                names[-place] = axes[-place]
    return tuple(names)


def ending(axes: Axes, of: Shape, shape: Shape) -> Axes:
    """Names of an array's axes by those of the result to which it is broadcast."""
    skipped = len(of) - len(shape)
    if skipped < 0:
        return unknown(shape)
    pairs = zip(axes[skipped:], of[skipped:], shape, strict=True)
    return tuple(name if n == m else "" for name, n, m in pairs)


def _numbers(value: object, n: int) -> list[int]:
    """Axes as numbers 0 .. n - 1, of an argument that is a number, several, or None for all."""
    if value is None:
        return list(range(n))
    several = value if isinstance(value, tuple | list) else (value,)
    return [int(str(axis)) % n for axis in several] if n else []


def _reduced(op: OpRecord, axes: Axes, shape: Shape) -> Axes:
    if len(shape) == len(axes):
        return axes
    gone = _numbers(op.options.get("axis"), len(axes))
    return tuple(name for k, name in enumerate(axes) if k not in gone)


def _transposed(op: OpRecord, axes: Axes, shape: Shape) -> Axes:
    order = op.options.get("axes")
    moved = _numbers(order, len(axes))
    return tuple(axes[k] for k in (moved if order is not None else moved[::-1]))


def _swapped(op: OpRecord, axes: Axes, shape: Shape) -> Axes:
    one, other = (_numbers(op.options[k], len(axes))[0] for k in ("axis1", "axis2"))
    names = list(axes)
    names[one], names[other] = names[other], names[one]
    return tuple(names)


def _indexed(op: OpRecord, axes: Axes, shape: Shape) -> Axes:
    return axes[1:] if isinstance(op.options.get("index"), int) else unknown(shape)


def _reshaped(op: OpRecord, axes: Axes, shape: Shape) -> Axes:
    """Axes that keep their size at both ends keep their names; one between may split or join."""
    before = op.inputs[0].shape
    head = _same(before, shape)
    tail = _same(before[head:][::-1], shape[head:][::-1])
    old = axes[head : len(axes) - tail]
    n_new = len(shape) - head - tail
    between = _split_or_joined(old, n_new)
    return (*axes[:head], *between, *axes[len(axes) - tail :])


def _same(a: Shape, b: Shape) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def _split_or_joined(old: Axes, n_new: int) -> Axes:
    for parts, whole in _JOINED:
        if old == (whole,) and n_new == len(parts):
            return parts
        if old == parts and n_new == 1:
            return (whole,)
    return ("",) * n_new


SHAPE_RULES: dict[str, Callable[[OpRecord, Axes, Shape], Axes]] = {
    **dict.fromkeys(("sum", "mean", "var", "std", "max", "min", "logsumexp", "prod"), _reduced),
    "transpose": _transposed,
    "swapaxes": _swapped,
    "getitem": _indexed,
    "reshape": _reshaped,
}
