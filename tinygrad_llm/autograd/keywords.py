"""One argument, two names: NumPy's ``axis=``, ``keepdims=``, PyTorch's ``dim=``, ``keepdim=``.

The functions of this package are written with NumPy's names. `both_names` lets a function be called
with either, so that what was learned with PyTorch works as written. The same wrapper gives
``dtype=`` to the functions that name it: it costs nothing where it is not given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from tinygrad_llm.autograd.arrays import as_array, is_tensor
from tinygrad_llm.backend.dtypes import as_dtype, is_float
from tinygrad_llm.errors import ConfigError, DTypeError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.tensor import Tensor

PYTORCH_NAMES = {"dim": "axis", "keepdim": "keepdims"}
ATTENTION_NAMES = {"is_causal": "causal", "attn_mask": "mask"}

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


def both_names(function: F, names: Mapping[str, str] = PYTORCH_NAMES) -> F:
    """Decorator: ``function`` takes PyTorch's name of an argument beside ours.

    A function that has a parameter of PyTorch's name itself keeps it; one without any such argument
    is returned as it is. A parameter ``dtype`` is served here, see `_computed_in`: the function's
    own body never sees another than None.

    Raises:
        ConfigError: at the call, where one argument is given under both names.
        DTypeError: at the call, where ``dtype`` is no type, or cannot hold the result.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    ours_of = {
        theirs: ours
        for theirs, ours in names.items()
        if ours in parameters and theirs not in parameters
    }
    served = frozenset(ours_of) | ({"dtype"} & parameters.keys())
    if not served:
        return function

    @wraps(function)
    def called(*args: object, **kwargs: object) -> object:
        if kwargs and not served.isdisjoint(kwargs):
            owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
            kwargs = _renamed(owner, ours_of, kwargs)
            if kwargs.get("dtype") is not None and "dtype" in served:
                return _computed_in(owner, function, signature.bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return called  # type: ignore[return-value]


def attention_names(function: F) -> F:
    """`both_names` for attention: ``is_causal=`` and ``attn_mask=``."""
    return both_names(function, ATTENTION_NAMES)


def _renamed(name: str, ours_of: dict[str, str], kwargs: dict[str, object]) -> dict[str, object]:
    for theirs in ours_of.keys() & kwargs.keys():
        if ours_of[theirs] in kwargs:
            raise ConfigError(
                f"{name}: {theirs}= is another name of {ours_of[theirs]}=; give one of the two."
            )
    return {ours_of.get(key, key): value for key, value in kwargs.items()}


def _computed_in(owner: str, function: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
    """The call with its first argument as the type ``dtype``, which is that of the result, too.

    The cast is an op, so the gradient comes back in the type that the argument had.
    """
    dtype, first = as_dtype(given.pop("dtype")), next(iter(given))
    x = given.pop(first)
    result = function(x.astype(dtype) if is_tensor(x) else as_array(x, dtype), **given)
    if is_float(result.dtype) and not is_float(dtype):
        raise DTypeError(f"{owner}: dtype must be a floating-point type, got {dtype}.")
    return result.astype(dtype)  # sums of narrow integers are int64


def methods_take_both_names(cls: C) -> C:
    """Class decorator: `both_names` for each method of the class."""
    for name, member in list(vars(cls).items()):
        if inspect.isfunction(member):
            setattr(cls, name, both_names(member))
    return cls
