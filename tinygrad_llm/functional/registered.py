"""The ops that have no function written out: by their names in the registry."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.autograd.tensor import Tensor, tensor_of

P = ParamSpec("P")  # what the method takes besides the tensor
R = TypeVar("R")


def function_of(name: str) -> Callable[..., object]:
    """An op of the registry as a function: Tensor's method where there is one, else the op."""
    method = getattr(Tensor, name, None)
    if method is not None:
        return as_function(method)
    op = REGISTRY[name]

    def function(x: TensorLike, *args: object, **kwargs: object) -> object:
        return op.function.apply(tensor_of(x), *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.doc
    return function


def as_function(
    method: Callable[Concatenate[Tensor, P], R],
) -> Callable[Concatenate[TensorLike, P], R]:
    """``x.method(...)`` as ``function(x, ...)``, where x may be an array or numbers, too."""

    @wraps(method)
    def function(x: TensorLike, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(tensor_of(x), *args, **kwargs)

    return function


def is_tensor(x: object) -> bool:
    """Whether x is a Tensor."""
    return isinstance(x, Tensor)
