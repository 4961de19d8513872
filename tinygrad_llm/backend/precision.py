"""In which precision products of float32 matrices are computed on the CPU.

    "highest"   float32 operands, float32 sums
    "high"      the same (PyTorch has something in between on GPUs)
    "medium"    operands rounded to bfloat16, float32 sums

"medium" is mixed precision: weights, gradients, optimizer, norms, softmax and the residual stream
stay float32. It is taken where the processor has units for it (`matrix_units`), and has no effect
elsewhere. It is also what the ``dtype`` of a run means on a CPU if it is bfloat16 (`computing_in`);
on a GPU the weights themselves are in bfloat16.

Source: Micikevicius et al., "Mixed precision training", 2017, section 3.3 (products of 16-bit
numbers, summed in float32); Kalamkar et al., "A study of bfloat16 for deep learning training",
2019. The names are PyTorch's (``torch.set_float32_matmul_precision``).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from tinygrad_llm.backend import matrix_units, parse_device
from tinygrad_llm.errors import ConfigError

NAMES = ("highest", "high", "medium")
RUN_TYPES = ("float32", "bfloat16", "float16", "float64")  # in which a run can compute, and what
RUN_TYPE_MEANS = (  # choosing one means
    "type of weights and activations; bfloat16 on a CPU: of the operands of matrix products, where "
    "the processor has units for it"
)
_precision = "highest"  # of threads that are in no scope
_told = False  # whether somebody has been told which instructions "medium" uses


class _Here(threading.local):
    scope: str | None = None  # a scope holds for the thread that entered it


_here = _Here()


def get_float32_matmul_precision() -> str:
    """``"highest"``, ``"high"`` or ``"medium"``, as it holds in this thread."""
    return _here.scope or _precision


def set_float32_matmul_precision(precision: str) -> None:
    """Compute the products of float32 matrices on the CPU in this precision from now on.

    Args:
        precision: ``"highest"`` or ``"high"`` (float32), or ``"medium"`` (operands in bfloat16,
            sums in float32; without effect where `tinygrad_llm.backend.matrix_units` finds none).

    Warns:
        UserWarning: ``"medium"`` has no effect here; why, once in a process.

    Raises:
        ConfigError: another name.
    """
    global _precision
    _check(precision, stacklevel=3)
    _precision = precision


@contextmanager
def float32_matmul_precision(precision: str) -> Iterator[None]:
    """The precision for a while, in this thread: ``with float32_matmul_precision("medium"):``.

    Warns:
        UserWarning: as there.

    Raises:
        ConfigError: another name.
    """
    _check(precision, stacklevel=4)  # above this function stands that of contextlib
    before, _here.scope = _here.scope, precision
    try:
        yield
    finally:
        _here.scope = before


def rounds_operands(few_rows: bool = False) -> bool:
    """Whether products of float32 matrices on the CPU are computed from bfloat16 numbers.

    Args:
        few_rows: of few rows, by a weight that is kept in bfloat16.
    """
    if get_float32_matmul_precision() != "medium":
        return False
    found = matrix_units.found()
    return (found.few_rows if few_rows else found.instructions) is not None


def is_mixed(dtype: str | None, device: str) -> bool:
    """Whether a run in this type is mixed precision: in bfloat16 on a CPU.

    Args:
        dtype: that was asked for; None for none.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        DeviceError: the device is unknown.
    """
    return dtype == "bfloat16" and parse_device(device)[0] == "cpu"


def weights_type(dtype: str, device: str) -> str:
    """The type of weights and activations where ``dtype`` was asked for; see `is_mixed`."""
    return "float32" if is_mixed(dtype, device) else dtype


def computing_in(dtype: str | None, device: str) -> AbstractContextManager[None]:
    """``with computing_in("bfloat16", "cpu"):`` products are computed as `is_mixed` says.

    With any other type, and on a GPU, the precision stays what it is.
    """
    return float32_matmul_precision("medium") if is_mixed(dtype, device) else nullcontext()


def how_computed(dtype: str | None, device: str) -> str:
    """A sentence: which instructions multiply bfloat16, or why none do; "" where it is not mixed.

    Nothing warns of the same afterwards.
    """
    global _told
    if not is_mixed(dtype, device):
        return ""
    _told = True
    instructions, why_not, few_rows = matrix_units.found()
    if instructions is None:
        effect = "little" if few_rows else "no"
        return f"bfloat16 has {effect} effect on this CPU. {why_not}"
    return (
        f"bfloat16 on the CPU: products by {instructions}, their operands rounded; weights and "
        "sums stay float32."
    )


def _check(precision: str, stacklevel: int) -> None:
    """Raise, or warn; ``stacklevel`` leads from here to who asked, as for `warnings.warn`."""
    global _told
    if precision not in NAMES:
        raise ConfigError(
            f"set_float32_matmul_precision: expected one of {', '.join(NAMES)}, got {precision!r}."
        )
    if precision == "medium" and not _told and matrix_units.found().few_rows is None:
        _told = True
        text = 'the precision "medium" of float32 products has no effect here.'
        warnings.warn(f"{text} {matrix_units.found().why_not}", stacklevel=stacklevel)
