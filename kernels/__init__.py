"""Triton kernels as functions on NumPy and CuPy arrays, without PyTorch.

    from tinygrad_llm import kernels
    y, mean, rstd = kernels.layer_norm(x, weight, bias)      # x: a NumPy or a CuPy array

On CuPy arrays a kernel is compiled and launched on CuPy's current stream. On NumPy arrays the same
source runs in Triton's interpreter: slow, meant for tests and for reading along in a debugger.

To choose between a kernel and array code:

    kernels.why_not(array)                   why no kernel can run on arrays like this one, or None
    kernels.available(array)                 the same as a truth value
    kernels.layer_norm.supports(x, w, b)     why this kernel cannot take these arguments, or None;
                                             takes what the kernel takes and launches nothing
    kernels.layer_norm.unchecked(x, w, b)    the kernel for a caller that has asked: no second check
    kernels.note_dispatch(op, ran, reason)   remembers a decision for kernels.explain_dispatch()

A refusal is a KernelError: the kernel's name and the reason. Importing this package imports neither
Triton nor CuPy; the first use of a kernel imports what it needs.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

from ._types import Array
from .errors import KernelError

_HOME = {
    "softmax_kernel": ("softmax", "softmax_backward"),
    "layer_norm_kernel": ("layer_norm", "add_layer_norm", "layer_norm_backward"),
    "gelu_kernel": ("bias_gelu", "bias_gelu_backward"),
    "dropout_kernel": ("dropout", "dropout_backward"),
    "cross_entropy_kernel": ("cross_entropy", "cross_entropy_backward",
                             "cross_entropy_with_gradient"),
    "linear_cross_entropy_kernel": ("linear_cross_entropy",),
    "embedding_kernel": ("embedding", "embedding_backward"),
    "attention_kernel.forward": ("attention", "attention_qkv"),
    "attention_kernel.gradients": ("attention_backward", "attention_qkv_backward"),
    "attention_kernel.decode": ("attention_decode",),
    "adamw_kernel": ("adamw",),
    "grad_norm_kernel": ("grad_norm", "clip_factor", "scale_in_place"),
    "products.matmul": ("matmul",),
    "products.linear": ("linear", "linear_gelu", "linear_gelu_backward",
                        "linear_backward_weight"),
    "_common": ("column_sum",),
    "catalog": ("resource_table",),
    "compiling": ("compile_only", "resources", "table"),
    "machine_code": ("read_machine_code",),
    "tuning": ("do_bench",),
    "graph": ("capture",),
    "_runtime": ("launch",),
    "_descriptors": ("Descriptor", "why_no_descriptor"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["KernelError", "available", "explain_dispatch", "note_dispatch", "why_not",
           *_MODULE_OF]

_decisions: Counter[tuple[str, str, str]] = Counter()


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise KernelError(f"{name}: {why_not()}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def why_not(array: Array | None = None) -> str | None:
    """Why kernels cannot run on arrays of the kind of `array` (a GPU's if None), or None."""
    from . import _missing, _runtime
    return _missing.why_no_interpreter() if _runtime.is_host(array) else _runtime.why_no_gpu()


def available(array: Array | None = None) -> bool:
    """Whether kernels can run on arrays of the kind of `array` (a GPU's if None)."""
    return why_not(array) is None


def note_dispatch(op: str, ran: str, reason: str = "") -> None:
    """Remember that `op` ran as `ran` ("kernel" or "array code") and why."""
    _decisions[op, ran, reason] += 1


def explain_dispatch() -> str:
    """A table of what ran for each op so far and why: calls, op, what ran, reason."""
    if not _decisions:
        return "no op has chosen between kernel and array code yet"
    lines = [f"{'calls':>8s}  {'op':28s} {'ran':12s} why"]
    for (op, ran, reason), calls in sorted(_decisions.items()):
        lines.append(f"{calls:8d}  {op:28s} {ran:12s} {reason}")
    return "\n".join(lines)
