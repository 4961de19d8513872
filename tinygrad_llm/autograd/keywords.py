"""One argument, two names: NumPy's ``axis=``, ``keepdims=``, PyTorch's ``dim=``, ``keepdim=``.

The functions of this package are written with NumPy's names. `both_names` lets a function be called
with either, so that what was learned with PyTorch works as written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from tinygrad_llm.errors import ConfigError

PYTORCH_NAMES = {"dim": "axis", "keepdim": "keepdims"}
ATTENTION_NAMES = {"is_causal": "causal", "attn_mask": "mask"}

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


def both_names(function: F, names: Mapping[str, str] = PYTORCH_NAMES) -> F:
    """Decorator: ``function`` takes PyTorch's name of an argument beside ours.

    A function that has a parameter of PyTorch's name itself keeps it; one without any such argument
    is returned as it is.

    Raises:
        ConfigError: at the call, where one argument is given under both names.
    """
    parameters = inspect.signature(function).parameters
    ours_of = {
        theirs: ours
        for theirs, ours in names.items()
        if ours in parameters and theirs not in parameters
    }
    if not ours_of:
        return function

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not ours_of.keys().isdisjoint(kwargs):
            owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
            kwargs = _renamed(owner, ours_of, kwargs)
        return function(*args, **kwargs)

    return called  # type: ignore[return-value]


def attention_names(function: F) -> F:
    """`both_names` for attention: ``is_causal=`` and ``attn_mask=``."""
    return both_names(function, ATTENTION_NAMES)


def _renamed(name: str, ours_of: dict[str, str], kwargs: dict[str, Any]) -> dict[str, Any]:
    for theirs in ours_of.keys() & kwargs.keys():
        if ours_of[theirs] in kwargs:
            raise ConfigError(
                f"{name}: {theirs}= is another name of {ours_of[theirs]}=; give one of the two."
            )
    return {ours_of.get(key, key): value for key, value in kwargs.items()}


def methods_take_both_names(cls: C) -> C:
    """Class decorator: `both_names` for each method of the class."""
    for name, member in list(vars(cls).items()):
        if inspect.isfunction(member):
            setattr(cls, name, both_names(member))
    return cls
