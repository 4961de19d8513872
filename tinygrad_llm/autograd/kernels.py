"""Which calls a kernel takes, and why not others.

`Function.apply` asks an op's kernel version (``ops/by_kernel/``) when the arrays are on a GPU, or
when ``tg.use_kernels("force")`` runs the kernels in Triton's interpreter; the optimizers and the
captured step ask for themselves.
"""

from __future__ import annotations

from collections.abc import Callable

from tinygrad_llm.autograd.modes import current
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.kernels import kernels as kernels
from tinygrad_llm.errors import KernelError

FLOAT64 = "kernels compute in float32; float64 arrays take the array code"


def decide(op: str, array: Array, refusal: Callable[[], str | None], ran: str = "triton") -> bool:
    """Whether a kernel takes a call; leaves a note of the decision.

    Args:
        op: its name, for the note.
        array: one of the arguments: where it lies is where the kernel would run.
        refusal: says why the kernel cannot take the arguments, or None.
        ran: what the note says ran.

    Raises:
        KernelError: mode "force", and the kernel cannot run.
    """
    if current.kernels == "off":
        return False
    package = kernels()
    reason = package.why_not(array) or refusal()
    package.note_dispatch(op, "array code" if reason else ran, reason or "")
    if reason and current.kernels == "force":
        raise KernelError(f"{op}: a kernel was demanded and cannot run: {reason}")
    return reason is None
