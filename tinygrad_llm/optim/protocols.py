"""What an optimizer asks of a module and of a parameter: little, so it need not know either."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeGuard, runtime_checkable

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array


class HasParameters(Protocol):
    """Anything that names its parameters, as an `nn.Module` does."""

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]:
        """(name, parameter) pairs."""


def has_parameters(found: object) -> TypeGuard[HasParameters]:
    """Whether something names its parameters; a class does not, only its instances do."""
    return hasattr(found, "named_parameters") and not isinstance(found, type)


@runtime_checkable
class Movable(Protocol):
    """A leaf that takes others along when it moves, as an `nn.Parameter` does its constants."""

    def move_to(self, place: Array) -> None:
        """Copy the values to the array ``place`` and let them lie there from now on."""
