"""Array code or kernel? The decision, its reason, and the only door to ``tinygrad_llm.kernels``.

An op whose hot path has a Triton kernel gets a *twin*: a subclass with the same arguments that
calls the kernel (``ops/on_gpu/``). The op's own file stays the readable one, and what the twin is
tested against. `Function.apply` asks the twin's ``choose`` when the arrays are on a GPU, or when
``tg.use_kernels("force")`` runs the kernels in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.modes import state
from tinygrad_llm.backend import is_array
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import KernelError

F = TypeVar("F", bound=type)
FLOAT64 = "kernels compute in float32; float64 arrays take the array code"


def kernels() -> Any:
    """The package of kernels, imported when the first one is wanted."""
    import tinygrad_llm.kernels as package

    return package


def decide(name: str, array: Any, refusal: Callable[[], str | None], ran: str = "triton") -> bool:
    """Whether a kernel takes a call; leaves a note of the decision.

    Args:
        name: of the op, for the note.
        array: one of the arguments: where it lies is where the kernel would run.
        refusal: says why the kernel cannot take the arguments, or None.
        ran: what the note says ran.

    Raises:
        KernelError: mode "force", and the kernel cannot run.
    """
    if state.kernels == "off":
        return False
    package = kernels()
    reason = package.why_not(array) or refusal()
    package.note_dispatch(name, "array code" if reason else ran, reason or "")
    if reason and state.kernels == "force":
        raise KernelError(f"{name}: a kernel was demanded and cannot run: {reason}")
    return reason is None


class KernelTwin:
    """Mixin of the twins: says whether the kernel takes a call, and leaves a note of it."""

    ran: ClassVar[str] = "triton"

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        """Why the kernel cannot take these arguments, or None."""
        return _out_of_reach(arrays)

    @classmethod
    def choose(cls, plain: type[Function], arrays: list[Any], kwargs: dict[str, Any]) -> Any:
        """This class, or ``plain`` where array code must do.

        Raises:
            KernelError: mode "force", and the kernel cannot run.
        """
        first = next(a for a in arrays if is_array(a))
        taken = decide(plain.name, first, lambda: cls.refusal(arrays, kwargs), cls.ran)
        return cls if taken else plain


def _out_of_reach(arrays: list[Any]) -> str | None:
    for array in filter(is_array, arrays):
        if array.dtype.name == "float64":
            return FLOAT64
        if not array.size and is_float(array.dtype):
            return "an array is empty; there is nothing to launch"
        if not array.ndim:
            return "an array has no axes; kernels work along the last one"
    return None


def twin_of(plain: type[Function]) -> Callable[[F], F]:
    """Class decorator: make a class the kernel twin of an op."""

    def attach(twin: F) -> F:
        twin.name = plain.name  # type: ignore[attr-defined]
        plain.kernel_twin = twin
        return twin

    return attach


def why_not(refusal: str | None) -> str | None:
    """A refusal without the kernel's name in front, which the caller adds."""
    return refusal and refusal.partition(": ")[2] or refusal
