"""Copying a state_dict into parameters: all of it, or, when anything does not fit, nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.versions import note_write
from tinygrad_llm.backend import Array, is_array, to_device, to_numpy
from tinygrad_llm.errors import CheckpointError

_SHOWN = 12  # names listed per kind of mistake; the rest is counted


def load_arrays(
    owner: str,
    parameters: Mapping[str, Tensor],
    values: Mapping[str, TensorLike],
    strict: bool,
    assign: bool,
) -> tuple[list[str], list[str]]:
    """Check every name, shape and type first; then write. See `Module.load_state_dict`."""
    if not isinstance(values, Mapping):
        raise CheckpointError(
            f"{owner}.load_state_dict: expected what state_dict() returned, values by name; got "
            f"{type(values).__name__}."
        )
    arrays = {name: _raw(value) for name, value in values.items() if name in parameters}
    missing = [name for name in parameters if name not in values]
    unexpected = [name for name in values if name not in parameters]
    unfit = [
        f"{name}: expected {parameters[name].shape}, got {_describe(array)}"
        for name, array in arrays.items()
        if array.shape != parameters[name].shape or not _is_numeric(array)
    ]
    if unfit or (strict and (missing or unexpected)):
        raise CheckpointError(_report(owner, missing, unexpected, unfit, strict))
    for name, array in arrays.items():
        _write(parameters[name], array, assign)
    return missing, unexpected


def _raw(value: TensorLike) -> Array:
    if isinstance(value, Tensor):
        return value.data
    return value if is_array(value) else np.asarray(value)


def _is_numeric(array: Array) -> bool:
    return array.dtype.kind in "fiub" or array.dtype.name == "bfloat16"


def _describe(array: Array) -> str:
    return f"{array.shape}" if _is_numeric(array) else f"{array.shape} of type {array.dtype}"


def _write(parameter: Tensor, array: Array, assign: bool) -> None:
    target = parameter.data
    if assign and array.dtype == target.dtype and type(array) is type(target):
        parameter.data, parameter.grad, parameter.gradient_sink = array, None, None
        return
    if isinstance(target, np.ndarray):
        target[...] = to_numpy(array)  # NumPy converts while it copies
    else:
        target[...] = to_device(array, parameter.device).astype(target.dtype, copy=False)
    note_write(target)


def _report(
    owner: str, missing: list[str], unexpected: list[str], unfit: list[str], strict: bool
) -> str:
    lines = [f"{owner}.load_state_dict: the values do not fit this model; nothing was loaded."]
    kinds = [("wrong shape or type", unfit)]
    if strict:
        kinds += [("missing", missing), ("unexpected", unexpected)]
    for kind, names in kinds:
        if names:
            more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"  {kind} ({len(names)}): {'; '.join(names[:_SHOWN])}{more}")
    lines.append(
        "  Build the model with the configuration it was saved with"
        + (", or pass strict=False to load only the names that agree." if strict else ".")
    )
    return "\n".join(lines)
