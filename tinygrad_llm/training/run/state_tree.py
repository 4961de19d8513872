"""The state of a run as two files: arrays in safetensors, everything else in JSON.

{"step": 3, "m": array}   ->   {"step": 3, "m": {"array": "m"}}   and   {"m": array}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array, is_array
from tinygrad_llm.errors import CheckpointError

_MARK = "array"


def split_arrays(tree: object, path: str = "") -> tuple[Any, dict[str, Array]]:
    """A nested table without its arrays, and the arrays by their path in it.

    Raises:
        CheckpointError: something that is neither an array nor one of JSON's types.
    """
    arrays: dict[str, Array] = {}
    plain = _without_arrays(tree, path, arrays)
    return plain, arrays


def _without_arrays(value: object, path: str, arrays: dict[str, Array]) -> object:
    if isinstance(value, Tensor):
        value = value.data
    if is_array(value):
        arrays[path] = value
        return {_MARK: path}
    if isinstance(value, Mapping):
        return {str(k): _without_arrays(v, _join(path, k), arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, _join(path, i), arrays) for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(f"state {path!r}: cannot be saved, it is a {type(value).__name__}.")


def join_arrays(plain: object, arrays: Mapping[str, Array]) -> Any:
    """The nested table that `split_arrays` took apart.

    Raises:
        CheckpointError: an array is missing.
    """
    if isinstance(plain, Mapping):
        if set(plain) == {_MARK}:
            name = plain[_MARK]
            if name not in arrays:
                raise CheckpointError(f"training state: the array {name!r} is missing.")
            return arrays[name]
        return {k: join_arrays(v, arrays) for k, v in plain.items()}
    if isinstance(plain, list):
        return [join_arrays(v, arrays) for v in plain]
    return plain


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
