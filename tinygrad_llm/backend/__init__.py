"""The only place that knows NumPy from CuPy.

Everything above works on "an array" and asks here for the module that belongs to it, usually
called ``xp``. CuPy is imported when the first CUDA array is asked for, never before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np

from tinygrad_llm.errors import DeviceError, DTypeError
from tinygrad_llm.hints import install

# CuPy's arrays are typed as NumPy's, too: they have the same interface and no types of their own.
# So a type checker knows an array from a Tensor, a number and a list, on either device.
Array = np.ndarray
ArrayModule = ModuleType  # numpy or cupy; what their functions return is not checked
# What users may pass for an array: one, a number of Python or NumPy, or lists of these.
ArrayLike = Array | np.generic | float | Sequence["ArrayLike"]


def array_module(x: object) -> ArrayModule:
    """The module whose functions take the array ``x``: ``numpy`` or ``cupy``.

    ``numpy`` for what is no array.
    """
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(x, cupy.ndarray):
        return cupy
    return _registered_module(x)


# A test registers a stand-in array class here, to prove that no op mixes NumPy into CUDA code.
_STAND_INS: dict[type, ArrayModule] = {}


def _registered_module(x: object) -> ArrayModule:
    return _STAND_INS.get(type(x), np)


def is_array(x: object) -> TypeGuard[Array]:
    """True for a NumPy or CuPy array (not for scalars, lists and Tensors)."""
    if isinstance(x, np.ndarray):
        return True
    cupy = sys.modules.get("cupy")
    return (cupy is not None and isinstance(x, cupy.ndarray)) or type(x) in _STAND_INS


def may_write(x: Array) -> bool:
    """Whether each element of ``x`` has memory of its own; CuPy does not mark broadcast views."""
    if isinstance(x, np.ndarray):
        return x.flags.writeable
    return all(stride or n <= 1 for stride, n in zip(x.strides, x.shape, strict=True))


def plain_array(owner: str, x: object) -> Any:
    """``x``, as a plain array of the same memory where its class derives from NumPy's.

    Args:
        owner: for the message.
        x: anything; what is no array passes through.

    Raises:
        DTypeError: a masked array or an np.matrix, whose arithmetic is another.
    """
    if type(x) is np.ndarray or not isinstance(x, np.ndarray):
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise DTypeError(
            f"{owner}: a masked array has elements without a value, which ops would not leave "
            "out. Pass x.filled(0), or choose with tg.functional.where(~x.mask, x.data, 0)."
        )
    if isinstance(x, np.matrix):
        raise DTypeError(
            f"{owner}: an np.matrix multiplies by rows and columns where an array multiplies "
            "element by element. Pass np.asarray(x)."
        )
    return x.view(np.ndarray)  # a memory map stays one: only what is read comes from the disk


def names_device(x: object) -> TypeGuard[str]:
    """Whether ``x`` is meant as a device and not as a dtype, where a call takes either.

    So are devices of other libraries, which `parse_device` then refuses.
    """
    kinds = ("cpu", "cuda", "gpu", "mps", "xpu", "tpu", "meta")
    return isinstance(x, str) and x.partition(":")[0] in kinds


def parse_device(device: str) -> tuple[str, int]:
    """``"cpu"`` -> ("cpu", 0); ``"cuda"`` -> ("cuda", current); ``"cuda:1"`` -> ("cuda", 1).

    Raises:
        DeviceError: the name is neither.
    """
    kind, _, index = str(device).partition(":")
    if kind == "cpu" and not index:
        return "cpu", 0
    if kind == "cuda" and (not index or index.isdigit()):
        return "cuda", int(index) if index else -1
    raise DeviceError(f'device: expected "cpu", "cuda" or "cuda:N", got {device!r}.')


def cuda_module() -> ArrayModule:
    """CuPy, checked to have a GPU.

    Raises:
        DeviceError: CuPy is not installed, or it finds no GPU; says what to install.
    """
    try:
        import cupy
    except ImportError:
        raise DeviceError(
            'device "cuda" needs CuPy, which is not installed. Install it with: '
            f"{install('cuda')} (for CUDA 13), or with: {install('cuda12')} (for CUDA 12)"
        ) from None
    if not cupy.cuda.is_available():
        raise DeviceError(
            'device "cuda": CuPy is installed but finds no usable GPU. Check `nvidia-smi`: the '
            "driver may be missing or older than CuPy's CUDA version. Use device='cpu' meanwhile."
        )
    return cupy


def module_for(device: str) -> ArrayModule:
    """The array module of a device name; checks that the device exists.

    Raises:
        DeviceError: the device is unknown or absent.
    """
    kind, index = parse_device(device)
    if kind == "cpu":
        return np
    cupy = cuda_module()
    present = 1 if index < 1 else cupy.cuda.runtime.getDeviceCount()
    if index >= present:
        raise DeviceError(
            f'device "cuda:{index}": there is no such GPU; the last of {present} is '
            f'"cuda:{present - 1}".'
        )
    return cupy


def device_of(x: Array) -> str:
    """``"cpu"``, or ``"cuda:N"`` for a CuPy array on GPU N."""
    if isinstance(x, (np.ndarray, np.generic)):
        return "cpu"
    number = getattr(getattr(x, "device", None), "id", None)
    return "cpu" if number is None else f"cuda:{number}"


def to_device(x: Array, device: str) -> Array:
    """``x`` on ``device``: itself when it is there already, otherwise a copy.

    Raises:
        DeviceError: the device is unknown or absent.
    """
    kind, index = parse_device(device)
    if kind == "cpu":
        return x if isinstance(x, np.ndarray) else to_numpy(x)
    cupy = module_for(device)
    if index < 0:
        return cupy.asarray(x)
    with cupy.cuda.Device(index):
        return cupy.asarray(x)


def to_numpy(x: Array | np.generic) -> np.ndarray:
    """A NumPy array with the values of ``x``; copies only from a GPU."""
    return x if isinstance(x, np.ndarray) else x.get() if hasattr(x, "get") else np.asarray(x)
