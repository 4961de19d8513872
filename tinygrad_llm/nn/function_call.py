"""A function as a module, so that it can stand in a chain of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.module import Module


class FunctionCall(Module):
    """y = function(x), as `Sequential` keeps a function such as ``tg.nn.functional.gelu``.

    It has no parameters, so `state_dict` says nothing of it. It is copied and pickled where the
    function is: one with a name is, a lambda is copied only.

    Args:
        function: takes one argument.

    Raises:
        ConfigError: it cannot be called, is a class, or is a method of a module, whose parameters
            nobody would find.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        if isinstance(function, type):
            raise ConfigError(
                f"nn.Sequential: expected a Module or a function, got the class "
                f"{function.__name__}. Write {function.__name__}(...)."
            )
        if not callable(function):
            raise ConfigError(
                f"nn.Sequential: expected a Module or a function, got {type(function).__name__}."
            )
        owner = getattr(function, "__self__", None)
        if isinstance(owner, Module):
            raise ConfigError(
                f"nn.Sequential: the parameters of {type(owner).__name__} are not found behind "
                "its method. Give the module itself."
            )
        self.function = function

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return str(getattr(self.function, "__name__", self.function))

    def forward(self, x: Any) -> Any:
        """The function's result."""
        return self.function(x)
