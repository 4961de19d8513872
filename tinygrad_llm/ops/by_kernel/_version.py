"""What all kernel versions share: taking a call or leaving it to the array code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.kernels import FLOAT64, decide
from tinygrad_llm.backend import is_array
from tinygrad_llm.backend.dtypes import is_float

F = TypeVar("F", bound=type)


class KernelVersion:
    """An op by its kernel: comes before the op among the bases of a class.

    The class has the arguments of the op. The op's own file stays the readable one, and what the
    kernel version is tested against.
    """

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


def kernel_version_of(plain: type[Function]) -> Callable[[F], F]:
    """Class decorator: make a class the kernel version of an op."""

    def attach(version: F) -> F:
        version.name = plain.name  # type: ignore[attr-defined]
        plain.kernel_version, plain.has_forms = version, True
        return version

    return attach


def why_not(refusal: str | None) -> str | None:
    """A refusal without the kernel's name in front, which the caller adds."""
    return refusal and refusal.partition(": ")[2] or refusal
