"""Integer arguments of ops: token ids and classes, brought to one form and checked."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.backend import Array, ArrayModule, is_array
from tinygrad_llm.errors import DTypeError, IndexRangeError


def as_ids(
    op: str, xp: ArrayModule, ids: TensorLike, limit: int, ignore: int | None = None
) -> Array:
    """``ids`` (array, nested list or Tensor) as an integer array of module ``xp``.

    Ids that come from the host are checked. Those already on a GPU are not: reading them back
    would stop the queue of kernels at every step.

    Args:
        op: name for messages.
        xp: the array module of the other arguments.
        ids: integers from 0 to ``limit - 1``.
        limit: the size of the vocabulary, or the number of classes.
        ignore: one more value that is allowed.

    Raises:
        DTypeError: not integers.
        IndexRangeError: one is out of range; names it and its position.
    """
    given = array_of(op, ids)
    array = given if is_array(given) else np.asarray(given)
    if array.dtype.kind not in "iu":
        if array.size or array.dtype != np.float64:  # an empty list is float64 to NumPy
            raise DTypeError(
                f"{op}: ids must be integers, got {array.dtype}. Pass what a tokenizer's encode() "
                "returns, or use .astype('int64')."
            )
        array = array.astype(np.int64)
    if isinstance(array, np.ndarray):
        _check_range(op, array, limit, ignore)
        return array if xp is np else xp.asarray(array)
    return array


def _check_range(op: str, ids: np.ndarray, limit: int, ignore: int | None) -> None:
    if not ids.size or (ids.min() >= 0 and ids.max() < limit):
        return
    wrong = (ids < 0) | (ids >= limit)
    if ignore is not None:
        wrong &= ids != ignore
    if not wrong.any():
        return
    position = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise IndexRangeError(
        f"{op}: id {int(ids[position])} at position {position[0] if ids.ndim == 1 else position} "
        f"is out of range: expected 0 .. {limit - 1} (vocabulary of {limit}). Was the text "
        "encoded with another tokenizer than the model's?"
    )
