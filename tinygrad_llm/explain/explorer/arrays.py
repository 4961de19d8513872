"""The arrays of a page: each stored once, as float32 in base64, large ones cut to a corner."""

from __future__ import annotations

import base64
import hashlib

import numpy as np

from tinygrad_llm.backend import ArrayLike
from tinygrad_llm.explain.explorer.shape_rules import Axes

Json = dict[str, object]  # what json.dumps writes
_LIMITS = tuple(4**n for n in range(12, 2, -1))  # elements kept per array, tried in this order
_BYTES_PER_ELEMENT = 16 / 3  # a float32 in base64
_BYTES_PER_ARRAY = 200  # shape and statistics


class ArrayStore:
    """Collects arrays and hands out their numbers; equal arrays of equal axes share one."""

    def __init__(self) -> None:
        self._arrays: list[tuple[np.ndarray, Axes]] = []
        self._known: dict[bytes, int] = {}

    def add(self, x: ArrayLike | None, axes: Axes = ()) -> int | None:
        """Number of ``x``, whose axes have these names; None for None."""
        if x is None:
            return None
        array = np.asarray(x)
        axes = axes if any(axes) and len(axes) == array.ndim else ()
        head = f"{array.dtype}{array.shape}{axes}".encode()
        key = hashlib.blake2b(head + np.ascontiguousarray(array).tobytes()).digest()
        if key not in self._known:
            self._known[key] = len(self._arrays)
            self._arrays.append((array, axes))
        return self._known[key]

    def encode(self, max_bytes: int) -> list[Json]:
        """All arrays, cut so that they stay near ``max_bytes`` together."""
        limit = next((n for n in _LIMITS if self._bytes(n) <= max_bytes), _LIMITS[-1])
        return [{**_encode(x, limit), "axes": list(axes)} for x, axes in self._arrays]

    def _bytes(self, limit: int) -> float:
        kept = sum(min(a.size, limit) for a, _ in self._arrays)
        return kept * _BYTES_PER_ELEMENT + len(self._arrays) * _BYTES_PER_ARRAY


def _encode(array: np.ndarray, limit: int) -> Json:
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    corner = numbers[tuple(slice(n) for n in corner_shape(array.shape, limit))]
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "kept": list(corner.shape),
        "low": float(finite.min()) if finite.size else None,
        "high": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean()) if finite.size else None,
        "norm": float(np.sqrt((finite * finite).sum())),
        "bad": int(array.size - finite.size),
        "hidden": int(np.isneginf(numbers).sum()),
        "data": base64.b64encode(_float32(corner).tobytes()).decode("ascii"),
    }


def _float32(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(x, dtype="<f4")


def corner_shape(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """A shape of at most ``limit`` elements, by halving the longest axis again and again."""
    kept = list(shape)
    while np.prod(kept, dtype=np.int64) > limit:
        longest = kept.index(max(kept))
        kept[longest] = (kept[longest] + 1) // 2
    return tuple(kept)
