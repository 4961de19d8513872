"""What all kernel versions share: taking a call or leaving it to the array code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.kernels import FLOAT64, decide
from tinygrad_llm.backend import Array, is_array
from tinygrad_llm.backend.dtypes import is_float

V = TypeVar("V", bound="type[KernelVersion]")


class KernelVersion:
    """An op by its kernel: comes before the op among the bases of a class.

    The class has the arguments of the op. The op's own file stays the readable one, and what the
    kernel version is tested against. A kernel is asked once whether it takes the arguments
    (`refusal`); forward and backward then call it ``unchecked``.

    Attributes:
        name: of the op.
        ran: what a note of the decision says ran.
        parameters: names of the op's arguments, in order.
    """

    name: ClassVar[str]
    ran: ClassVar[str] = "triton"
    parameters: ClassVar[tuple[str, ...]]
    forward: Callable[..., Any]

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        """Why the kernel cannot take these arguments, by name, or None."""
        for array in filter(is_array, given.values()):
            if array.dtype.name == "float64":
                return FLOAT64
            if not array.size and is_float(array.dtype):
                return "an array is empty; there is nothing to launch"
            if not array.ndim:
                return "an array has no axes; kernels work along the last one"
        return None

    @classmethod
    def place(cls, given: Mapping[str, Any]) -> Array:
        """The argument that says where the op runs: the first array."""
        return next(filter(is_array, given.values()))

    @classmethod
    def choose(
        cls, plain: type[Function], arrays: list[Any], kwargs: dict[str, Any]
    ) -> type[Function]:
        """This class, or ``plain`` where array code must do.

        Raises:
            KernelError: mode "force", and the kernel cannot run.
        """
        given = {**dict(zip(cls.parameters, arrays, strict=False)), **kwargs}
        taken = decide(cls.name, cls.place(given), lambda: cls.refusal(given), cls.ran)
        return plain.kernel_version if taken else plain


def kernel_version_of(plain: type[Function]) -> Callable[[V], V]:
    """Class decorator: make a class the kernel version of an op."""

    def attach(version: V) -> V:
        version.name = plain.name
        version.parameters = tuple(inspect.signature(version.forward).parameters)[1:]
        plain.kernel_version, plain.has_forms = version, True
        return version

    return attach
