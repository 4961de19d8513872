"""The list of all ops, by name.

`Tensor.__add__` needs ops, and ops need `Tensor`. The circle is cut here: ops register themselves,
and Tensor's operators look the name up in `OPS` when they are called. So ``autograd/`` never
imports ``ops/``.

An entry also carries what proves and explains the op: samples of its arguments, and a wrong
derivative that the gradient check has to catch. ``python -m tinygrad_llm gradcheck`` and
``explain`` walk this list, as do the tests, so an op without them cannot be registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tinygrad_llm.errors import ConfigError

F = TypeVar("F", bound=type)


@dataclass(frozen=True)
class Sample:
    """One call of an op: float64 arrays become Tensors that are differentiated, the rest stays.

    Attributes:
        args: the positional arguments of the op's ``forward``.
        kwargs: its keyword arguments.
        label: what is special about this call, for the tables ("repeated ids").
        constant: positions of float arrays that are no subject of differentiation.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    constant: tuple[int, ...] = ()


def sample(*args: Any, label: str = "", constant: tuple[int, ...] = (), **kwargs: Any) -> Sample:
    """Write ``Sample`` as one writes the call: ``sample(x, axis=1, label="rows")``."""
    return Sample(args, kwargs, label, constant)


@dataclass(frozen=True)
class Op:
    """An entry of the registry.

    Attributes:
        name: the public name, such as ``"layer_norm"``.
        family: the heading under which lists show it, such as ``"normalization"``.
        function: the class with ``forward`` and ``backward``.
        samples: makes argument lists for checks from a NumPy generator.
        wrong: typical mistakes: name -> a ``backward(ctx, dy)`` with that mistake, each of which
            the check must catch. It runs on a subclass of the op; `true_gradient` gives the
            right gradient.
        composed: the same function written with simpler Tensor ops, for reading and comparison.
        one_variable: a scalar function of one variable, which `explain` can plot.
        kernel: name of the Triton kernel's module under ``tinygrad_llm.kernels``, if there is one.
    """

    name: str
    family: str
    function: type
    samples: Callable[[np.random.Generator], Sequence[Sample]]
    wrong: dict[str, Callable[..., Any]]
    composed: Callable[..., Any] | None = None
    one_variable: bool = False
    kernel: str | None = None

    @property
    def doc(self) -> str:
        """The docstring with formula, derivation, shapes and source."""
        return inspect.getdoc(self.function) or ""


REGISTRY: dict[str, Op] = {}
OPS: dict[str, Callable[..., Any]] = {}  # name -> Function.apply, for Tensor's operators
EXTENSIONS: dict[str, Callable[..., Any]] = {}  # methods that a later layer gives to Tensor


def register(
    name: str,
    *,
    family: str,
    samples: Callable[[np.random.Generator], Sequence[Sample]],
    wrong: dict[str, Callable[..., Any]],
    composed: Callable[..., Any] | None = None,
    one_variable: bool = False,
    kernel: str | None = None,
) -> Callable[[F], F]:
    """Class decorator: enter a `Function` into the registry (see `Op` for the arguments).

    Raises:
        ConfigError: the name is taken, the class has no docstring, or ``wrong`` is empty.
    """

    def decorate(function: F) -> F:
        _check(name, function, wrong)
        REGISTRY[name] = Op(name, family, function, samples, wrong, composed, one_variable, kernel)
        function.name = name  # type: ignore[attr-defined]
        OPS[name] = function.apply  # type: ignore[attr-defined]
        return function

    return decorate


def _check(name: str, function: type, wrong: dict[str, Callable[..., Any]]) -> None:
    if name in REGISTRY and REGISTRY[name].function.__qualname__ != function.__qualname__:
        raise ConfigError(f"register: the name {name!r} is taken by {REGISTRY[name].function}.")
    if not (function.__doc__ or "").strip():
        raise ConfigError(f"register({name!r}): the class needs a docstring with the derivation.")
    if not wrong:
        raise ConfigError(
            f"register({name!r}): give at least one wrong backward that the gradient check must "
            "catch; a check that never fails proves nothing."
        )


def true_gradient(ctx: Any, *dy: Any) -> Any:
    """The right ``backward``, for use inside a planted wrong one."""
    return type(ctx).__base__.backward(ctx, *dy)  # type: ignore[union-attr]


def get_op(name: str) -> Op:
    """The entry called ``name``.

    Raises:
        ConfigError: there is none; the message lists the nearest names.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    import difflib

    near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.4)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"op: there is no op called {name!r}.{hint} All: {', '.join(REGISTRY)}.")
