"""The list of all ops, by name.

`Tensor.__add__` needs ops, and ops need `Tensor`. The circle is cut here: ops register themselves,
and Tensor's operators look the name up in `OPS` when they are called. So ``autograd/`` never
imports ``ops/``.

An entry also carries what proves and explains the op: samples of its arguments, and a wrong
derivative that the gradient check has to catch. ``tinygrad-llm gradcheck`` and
``explain`` walk this list, as do the tests, and refuse an op without them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tinygrad_llm.errors import ConfigError, did_you_mean
from tinygrad_llm.hints import command

if TYPE_CHECKING:
    from tinygrad_llm.autograd.function import Function

F = TypeVar("F", bound="type[Function]")


@dataclass(frozen=True)
class Sample:
    """One call of an op: float64 arrays become Tensors that are differentiated, the rest stays.

    Attributes:
        args: the positional arguments of the op's ``forward``.
        kwargs: its keyword arguments.
        label: what is special about this call, for the tables ("repeated ids").
        constant: positions of float arrays that are no subject of differentiation.
    """

    args: tuple[object, ...]
    kwargs: dict[str, object] = field(default_factory=dict)
    label: str = ""
    constant: tuple[int, ...] = ()


def sample(
    *args: object, label: str = "", constant: tuple[int, ...] = (), **kwargs: object
) -> Sample:
    """Write ``Sample`` as one writes the call: ``sample(x, axis=1, label="rows")``."""
    return Sample(args, kwargs, label, constant)


Samples = Callable[[np.random.Generator], Sequence[Sample]]
Mistakes = dict[str, Callable[..., object]]


@dataclass(frozen=True)
class Proof:
    """What shows that an op's gradient is right, and that the check of it can fail.

    Attributes:
        samples: makes argument lists for checks from a NumPy generator.
        wrong: typical mistakes: name -> a ``backward(ctx, dy)`` with that mistake, each of which
            the check must catch. It runs on a subclass of the op; `true_gradient` gives the
            right gradient.
        composed: the same function written with simpler Tensor ops, for reading and comparison.
    """

    samples: Samples
    wrong: Mistakes
    composed: Callable[..., object] | None = None


@dataclass(frozen=True)
class Op:
    """An entry of the registry.

    Attributes:
        name: the public name, such as ``"layer_norm"``.
        family: the heading under which lists show it, such as ``"normalization"``.
        function: the class with ``forward`` and ``backward``.
        proof: its samples and planted mistakes; None until `prove` has said them.
        one_variable: a scalar function of one variable, which `explain` can plot.
        kernel: name of the Triton kernel's module under ``tinygrad_llm.kernels``, if there is one.
        method: whether it is a method of Tensor as well, ``x.name(...)``.
    """

    name: str
    family: str
    function: type[Function]
    proof: Proof | None = None
    one_variable: bool = False
    kernel: str | None = None
    method: bool = False

    @property
    def doc(self) -> str:
        """The docstring with formula, derivation, shapes and source."""
        return inspect.getdoc(self.function) or ""

    @property
    def samples(self) -> Samples:
        """The samples of its proof; ConfigError where there is no proof."""
        return self._proven().samples

    @property
    def wrong(self) -> Mistakes:
        """The planted mistakes of its proof; ConfigError where there is no proof."""
        return self._proven().wrong

    @property
    def composed(self) -> Callable[..., object] | None:
        """The same function in simpler ops, if its proof has one."""
        return None if self.proof is None else self.proof.composed

    def _proven(self) -> Proof:
        if self.proof is None:
            raise ConfigError(
                f"op {self.name!r} has no proof: nothing shows that its gradient is right. Write "
                f"prove({self.name!r}, samples=lambda rng: [sample(...)], wrong={{'what is wrong': "
                "lambda ctx, dy: ...}) below its class; docs/write_your_own_op.md shows one."
            )
        return self.proof


REGISTRY: dict[str, Op] = {}
OPS: dict[str, Callable[..., Any]] = {}  # name -> Function.apply, for Tensor's operators
TENSOR_NAMES: set[str] = set()  # Tensor's own attributes, which no op may hide


def register(
    name: str,
    *,
    family: str,
    kernel: str | None = None,
    one_variable: bool = False,
    method: bool = False,
    samples: Samples | None = None,
    wrong: Mistakes | None = None,
    composed: Callable[..., object] | None = None,
) -> Callable[[F], F]:
    """Class decorator: enter a `Function` into the registry (see `Op` for the arguments).

    The proof is given here, as ``samples`` and ``wrong``, or further down with `prove`.

    From then on ``tg.functional`` has the op by its name, and with ``method=True`` every Tensor.

    Raises:
        ConfigError: the name is taken, the class has no docstring, or the proof is incomplete.
    """

    def decorate(function: F) -> F:
        _check(name, function, method)
        proof = None
        if samples is not None or wrong is not None or composed is not None:
            proof = _proof("register", name, samples, wrong, composed)
        function.name = name
        function.has_forms = function.has_forms or composed is not None
        REGISTRY[name] = Op(name, family, function, proof, one_variable, kernel, method)
        OPS[name] = function.apply
        return function

    return decorate


def prove(
    name: str, *, samples: Samples, wrong: Mistakes, composed: Callable[..., object] | None = None
) -> None:
    """Give the registered op ``name`` its samples and planted mistakes (see `Proof`).

    It stands at the end of a file whose class, with derivation, forward and backward, fills a
    screen of its own.

    Raises:
        ConfigError: there is no op of that name, or ``samples`` or ``wrong`` is missing or empty.
    """
    op = replace(get_op(name), proof=_proof("prove", name, samples, wrong, composed))
    op.function.has_forms = op.function.has_forms or composed is not None
    REGISTRY[name] = op


def refuse_unproven() -> None:
    """ConfigError if any op of the registry has no proof; the message says what to write."""
    for op in REGISTRY.values():
        op._proven()


def _proof(
    call: str,
    name: str,
    samples: Samples | None,
    wrong: Mistakes | None,
    composed: Callable[..., object] | None,
) -> Proof:
    if samples is None or not wrong:
        raise ConfigError(
            f"{call}({name!r}): give samples, and at least one wrong backward that the gradient "
            "check must catch; a check that never fails proves nothing."
        )
    return Proof(samples, wrong, composed)


def _check(name: str, function: type[Function], method: bool) -> None:
    if not name.isidentifier():
        raise ConfigError(f"register: an op's name is one word, such as 'rms_norm', got {name!r}.")
    if name in REGISTRY and _place(REGISTRY[name].function) != _place(function):
        raise ConfigError(
            f"register: the name {name!r} is taken by {_place(REGISTRY[name].function)}. Choose "
            f"another, or change that class; only a class of the same name and module, as in a "
            "notebook's cell that is run again, replaces it."
        )
    if method and name in TENSOR_NAMES:
        raise ConfigError(
            f"register: Tensor has a {name!r} of its own, so the op cannot be a method of that "
            "name. Leave method=True out, or choose another name."
        )
    if not (function.__doc__ or "").strip() and sys.flags.optimize < 2:  # -OO strips them all
        raise ConfigError(f"register({name!r}): the class needs a docstring with the derivation.")


def _place(function: type[Function]) -> str:
    """Where a class is written; the same again when a notebook's cell is run a second time."""
    return f"{function.__module__}.{function.__qualname__}"


def planted(function: type[Function], wrong: Callable[..., object]) -> type[Function]:
    """A subclass of the op ``function`` whose ``backward`` is the mistake ``wrong``."""
    signature = inspect.signature(function.forward)

    def forward(ctx: Any, *args: object, **kwargs: object) -> object:
        call = signature.bind(ctx, *args, **kwargs)
        call.apply_defaults()
        ctx.arguments = dict(list(call.arguments.items())[1:])  # all but ctx
        return function.forward(ctx, *args, **kwargs)

    right, name = function.backward, function.name
    methods = {"forward": forward, "backward": wrong, "right": right, "name": name}
    return type("Planted", (function,), methods)


def arguments_of(ctx: Any) -> dict[str, Any]:
    """Name -> argument of the op's call, inside a planted mistake.

    A mistake may need what the right rule does not: GELU's saves a slope, and one who forgets a
    part of that slope computes the rest from x.
    """
    return ctx.arguments


def true_gradient(ctx: Any, *dy: Any) -> Any:
    """The right ``backward``, for use inside a planted wrong one."""
    return ctx.right(*dy)


def get_op(name: str) -> Op:
    """The entry called ``name``.

    Raises:
        ConfigError: there is none; the message lists the nearest names.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    hint = did_you_mean(name, REGISTRY, most=3)
    raise ConfigError(f"there is no op called {name!r}.{hint} All: {command('explain')}")
