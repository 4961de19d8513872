"""Anomaly mode: find the first op that made a NaN or an infinity, and overwritten saved arrays."""

from __future__ import annotations

import traceback
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import numpy as np

from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.backend import Array, is_array, to_numpy
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import GraphError, NumericsError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.engine import Arrived, Gradients, Node
    from tinygrad_llm.autograd.function import Function, Result

_PACKAGE = str(Path(__file__).resolve().parents[1])
_MAKES_INFINITY_ON_PURPOSE = ("masked_fill", "where")


class detect_anomaly(Observer):
    """``with tg.detect_anomaly(): ...`` checks every result and every gradient of every op.

    The first op that turns finite numbers into a NaN or an infinity raises `NumericsError` with
    its name, the line that called it, and the ranges of its inputs. Arrays that an op saved are
    checksummed, so that writing into ``tensor.data`` with plain NumPy is noticed, too. Slow.
    """

    def __init__(self) -> None:
        self._calls: WeakKeyDictionary[Node, _Call] = WeakKeyDictionary()

    def after_forward(self, node: Function, arrays: tuple[object, ...], out: Result) -> None:
        """Checks the result; remembers where the op was called and what it saved."""
        call = _Call(_user_line(), [])
        for y in out if isinstance(out, tuple) else (out,):
            if _is_bad(y) and not any(_is_bad(a) for a in arrays):
                if node.name in _MAKES_INFINITY_ON_PURPOSE and not _has_nan(y):
                    continue
                raise NumericsError(_report(node, call.line, "forward", y, arrays))
        if node.requires_grad:
            call.checksums.extend(_checksum(a) for a in node.saved)
            self._calls[node] = call

    def before_backward(self, node: Node, dy: Arrived) -> None:
        """Compares the saved arrays with what they were."""
        call = self._calls.get(node)
        if call is not None and call.checksums != [_checksum(a) for a in node.saved]:
            raise GraphError(
                f"backward: op {node.name!r} (called at {call.line}) saved an array that was "
                "overwritten before its gradient was computed. Write into a copy of it."
            )

    def after_backward(self, node: Node, dy: Arrived, grads: Gradients) -> None:
        """Checks the gradients that leave the op."""
        arrived = dy if isinstance(dy, list) else [dy]
        for grad in grads:
            if _is_bad(grad) and not any(_is_bad(d) for d in arrived):
                call = self._calls.get(node)
                line = "unknown" if call is None else call.line
                raise NumericsError(_report(node, line, "backward", grad, (*arrived, *node.saved)))


class _Call(NamedTuple):
    """Where an op was called, and checksums of the arrays that it saved."""

    line: str
    checksums: list[int]


def _is_bad(x: object) -> TypeGuard[Array]:
    return is_array(x) and is_float(x.dtype) and not bool(np.isfinite(to_numpy(x)).all())


def _has_nan(x: Array) -> bool:
    return bool(np.isnan(to_numpy(x)).any())


def _checksum(x: object) -> int:
    return zlib.adler32(np.ascontiguousarray(to_numpy(x)).tobytes()) if is_array(x) else 0


def _user_line() -> str:
    """File and line of the nearest caller outside this package."""
    for frame in reversed(traceback.extract_stack(limit=40)):
        if not frame.filename.startswith(_PACKAGE):
            return f"{frame.filename}:{frame.lineno}"
    return "unknown"


def _range(x: object) -> str:
    if not is_array(x) or not x.size or not is_float(x.dtype):
        return f"{x!r:.40}" if not is_array(x) else f"{x.dtype} of shape {x.shape}"
    values = to_numpy(x).astype(np.float64)
    finite = values[np.isfinite(values)]
    span = f"[{finite.min():.4g}, {finite.max():.4g}]" if finite.size else "no finite element"
    return f"{x.dtype} of shape {x.shape}, range {span}"


def _report(
    node: Node, line: str, direction: str, result: Array, inputs: tuple[object, ...]
) -> str:
    values = to_numpy(result)
    where = f" in module {node.scope}" if node.scope else ""
    ranges = "; ".join(_range(a) for a in inputs)
    return (
        f"{direction} of op {node.name!r}{where} made {int(np.isnan(values).sum())} NaN and "
        f"{int(np.isinf(values).sum())} infinite of {values.size} elements from finite inputs. "
        f"Called at {line}. Inputs: {ranges}. Look for a "
        "division by 0, a logarithm of 0, an overflow of exp, or a learning rate that is too high."
    )
