"""Data types: their names, which are floating point, and in which one sums are kept.

bfloat16 has float32's range with 8 bits of precision. NumPy has no such type of its own; the
package ``ml_dtypes`` registers one, and it is imported only when somebody asks for bfloat16.
"""

from __future__ import annotations

import numpy as np

from tinygrad_llm.errors import DTypeError, MissingDependencyError
from tinygrad_llm.hints import install

FLOAT_NAMES = ("float16", "bfloat16", "float32", "float64")
FLOAT32 = np.dtype(np.float32)
DTypeLike = str | type | np.dtype | None


def as_dtype(dtype: DTypeLike) -> np.dtype:
    """Turn ``"float32"``, ``np.float32``, ``float`` or ``"bfloat16"`` into a NumPy dtype.

    Raises:
        DTypeError: the name is unknown, or the type holds no numbers that ops compute with.
        MissingDependencyError: bfloat16 is asked for and ``ml_dtypes`` is not installed.
    """
    if isinstance(dtype, np.dtype):
        return check_dtype("dtype", dtype)
    if dtype in ("bfloat16", "bf16"):
        return _bfloat16()
    try:
        return check_dtype("dtype", np.dtype(dtype))
    except TypeError:
        raise unknown_dtype("dtype", dtype) from None


def check_dtype(owner: str, dtype: np.dtype) -> np.dtype:
    """The type in this machine's byte order.

    Raises:
        DTypeError: text, objects, dates, records, complex or longer numbers.
    """
    if dtype.kind in "biu" or dtype.name in FLOAT_NAMES:
        return dtype if dtype.isnative else dtype.newbyteorder("=")
    raise unknown_dtype(owner, dtype)


def unknown_dtype(owner: str, dtype: DTypeLike) -> DTypeError:
    """The error for a type that is none of ours."""
    return DTypeError(
        f"{owner}: expected one of {', '.join(FLOAT_NAMES)} or an integer or bool type, "
        f"got {dtype!s:.60}."
    )


def _bfloat16() -> np.dtype:
    try:
        import ml_dtypes
    except ImportError:
        raise MissingDependencyError(
            f"dtype bfloat16 needs the package ml_dtypes: {install('bfloat16')}"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def is_float(dtype: np.dtype) -> bool:
    """True for float16, bfloat16, float32 and float64."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_integer(dtype: np.dtype) -> bool:
    """True for integers of all widths and for bool."""
    return dtype.kind in "biu"


def default_float() -> np.dtype:
    """The type of a tensor made from Python floats: float32, as in PyTorch."""
    return FLOAT32


def accumulate_dtype(dtype: np.dtype) -> np.dtype:
    """The type in which sums and statistics over ``dtype`` are kept.

    Half precision loses a sum after a few hundred terms (an ulp at 2048 is 2 in float16), so its
    statistics are float32; wider types keep their own.
    """
    return FLOAT32 if dtype.itemsize == 2 and is_float(dtype) else dtype
