"""What weights tell about themselves where no checksum vouches for them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tinygrad_llm.control_characters import one_line, readable

_LARGEST = 1e10  # trained weights are below 100; a flipped bit of an exponent gives 1e19 or 1e38


def is_plausible(array: np.ndarray) -> bool:
    """Whether all numbers are finite, and of a size that training could give them."""
    if not array.size or array.dtype.kind != "f":
        return True
    return float(array.min()) >= -_LARGEST and float(array.max()) <= _LARGEST  # a NaN is neither


def warn_of(path: Path, implausible: Iterable[str]) -> None:
    """Warn of the named weights, if there are any.

    Warns:
        UserWarning: says which file and which weights.
    """
    names = list(implausible)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        shown = readable(one_line(", ".join(names[:3]))) + more
        warnings.warn(
            f"{path}: numbers that are not finite, or beyond {_LARGEST:.0e}, in {shown}. The files "
            "are damaged, or the training diverged: fetch them again, or take an earlier "
            "checkpoint.",
            stacklevel=3,
        )
