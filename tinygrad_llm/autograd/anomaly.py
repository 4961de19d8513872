"""Anomaly mode: find the first op that made a NaN or an infinity, and overwritten saved arrays."""

from __future__ import annotations

import traceback
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.backend import Array, is_array, to_numpy
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import GraphError, NumericsError

_PACKAGE = str(Path(__file__).resolve().parents[1])
_MAKES_INFINITY_ON_PURPOSE = ("masked_fill", "where")


class detect_anomaly(Observer):
    """``with tg.detect_anomaly(): ...`` checks every result and every gradient of every op.

    The first op that turns finite numbers into a NaN or an infinity raises `NumericsError` with
    its name, the line that called it, and the ranges of its inputs. Arrays that an op saved are
    checksummed, so that writing into ``tensor.data`` with plain NumPy is noticed, too. Slow.
    """

    def __init__(self) -> None:
        self._sums: dict[int, list[int]] = {}

    def after_forward(self, node: Any, arrays: tuple[Any, ...], out: Any) -> None:
        """Checks the result; remembers where the op was called and what it saved."""
        node.called_at = _user_line()
        for y in out if type(out) is tuple else (out,):
            if _is_bad(y) and not any(_is_bad(a) for a in arrays):
                if node.name in _MAKES_INFINITY_ON_PURPOSE and not _has_nan(y):
                    continue
                raise NumericsError(_report(node, "forward", y, arrays))
        if node.requires_grad:
            node.checksums = [_checksum(a) for a in node.saved]

    def before_backward(self, node: Any, dy: Any) -> None:
        """Compares the saved arrays with what they were."""
        sums = getattr(node, "checksums", None)
        if sums is not None and sums != [_checksum(a) for a in node.saved]:
            raise GraphError(
                f"backward: op {node.name!r} (called at {node.called_at}) saved an array that was "
                "overwritten before its gradient was computed. Write into a copy of it."
            )

    def after_backward(self, node: Any, dy: Any, grads: tuple[Any, ...]) -> None:
        """Checks the gradients that leave the op."""
        arrived = dy if isinstance(dy, list) else [dy]
        for grad in grads:
            if _is_bad(grad) and not any(_is_bad(d) for d in arrived):
                saved = (*arrived, *node.saved)
                raise NumericsError(_report(node, "backward", grad, saved))


def _is_bad(x: Any) -> bool:
    return is_array(x) and is_float(x.dtype) and not bool(np.isfinite(to_numpy(x)).all())


def _has_nan(x: Array) -> bool:
    return bool(np.isnan(to_numpy(x)).any())


def _checksum(x: Any) -> int:
    return zlib.adler32(np.ascontiguousarray(to_numpy(x)).tobytes()) if is_array(x) else 0


def _user_line() -> str:
    """File and line of the nearest caller outside this package."""
    for frame in reversed(traceback.extract_stack(limit=40)):
        if not frame.filename.startswith(_PACKAGE):
            return f"{frame.filename}:{frame.lineno}"
    return "unknown"


def _range(x: Any) -> str:
    if not is_array(x) or not x.size or not is_float(x.dtype):
        return f"{x!r:.40}" if not is_array(x) else f"{x.dtype} of shape {x.shape}"
    values = to_numpy(x).astype(np.float64)
    finite = values[np.isfinite(values)]
    span = f"[{finite.min():.4g}, {finite.max():.4g}]" if finite.size else "no finite element"
    return f"{x.dtype} of shape {x.shape}, range {span}"


def _report(node: Any, direction: str, result: Array, inputs: tuple[Any, ...]) -> str:
    values = to_numpy(result)
    where = f" in module {node.scope}" if node.scope else ""
    ranges = "; ".join(_range(a) for a in inputs)
    return (
        f"{direction} of op {node.name!r}{where} made {int(np.isnan(values).sum())} NaN and "
        f"{int(np.isinf(values).sum())} infinite of {values.size} elements from finite inputs. "
        f"Called at {getattr(node, 'called_at', 'unknown')}. Inputs: {ranges}. Look for a "
        "division by 0, a logarithm of 0, an overflow of exp, or a learning rate that is too high."
    )
