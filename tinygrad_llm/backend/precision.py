"""In which precision products of float32 matrices are computed on the CPU.

    "highest"   float32 operands, float32 sums
    "high"      the same (PyTorch has something in between on GPUs)
    "medium"    operands rounded to bfloat16, float32 sums

"medium" is mixed precision: weights, gradients, optimizer, norms, softmax and the residual stream
stay float32. It is taken where the processor has units for it (`matrix_units`), and has no effect
elsewhere.

Source: Micikevicius et al., "Mixed precision training", 2017, section 3.3 (products of 16-bit
numbers, summed in float32); Kalamkar et al., "A study of bfloat16 for deep learning training",
2019. The names are PyTorch's (``torch.set_float32_matmul_precision``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinygrad_llm.backend import matrix_units
from tinygrad_llm.errors import ConfigError

NAMES = ("highest", "high", "medium")
_precision = "highest"


def get_float32_matmul_precision() -> str:
    """``"highest"``, ``"high"`` or ``"medium"``; see the head of this file."""
    return _precision


def set_float32_matmul_precision(precision: str) -> None:
    """Compute the products of float32 matrices on the CPU in this precision from now on.

    Args:
        precision: ``"highest"`` or ``"high"`` (float32), or ``"medium"`` (operands in bfloat16,
            sums in float32; without effect where `tinygrad_llm.backend.matrix_units` finds none).

    Raises:
        ConfigError: another name.
    """
    global _precision
    if precision not in NAMES:
        raise ConfigError(
            f"set_float32_matmul_precision: expected one of {', '.join(NAMES)}, got {precision!r}."
        )
    _precision = precision


@contextmanager
def float32_matmul_precision(precision: str) -> Iterator[None]:
    """`set_float32_matmul_precision` for a while: ``with float32_matmul_precision("medium"):``.

    Raises:
        ConfigError: another name.
    """
    before = _precision
    set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        set_float32_matmul_precision(before)


def rounds_operands() -> bool:
    """Whether products of float32 matrices on the CPU are computed from bfloat16 numbers."""
    return _precision == "medium" and matrix_units.found().instructions is not None
