"""Switches that change what an op does besides computing: record the graph, watch, measure."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from tinygrad_llm.errors import ConfigError

KERNEL_MODES = ("auto", "off", "force")

F = TypeVar("F", bound=Callable[..., Any])


class _State(threading.local):
    """Per thread: is the graph recorded, and who watches the ops (anomaly mode, trace)."""

    grad_enabled = True
    observer: Any = None
    kernels = os.environ.get("TINYGRAD_LLM_KERNELS", "auto")  # see use_kernels
    deterministic = os.environ.get("TINYGRAD_LLM_DETERMINISTIC", "0") not in {"", "0"}
    scopes: tuple[str, ...] = ()  # names of the modules being called; kept only while observed


state = _State()


class _GradMode:
    """Sets ``grad_enabled`` inside a ``with`` block or a decorated function."""

    enabled: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(state.grad_enabled)
        state.grad_enabled = self.enabled

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        state.grad_enabled = self._before.pop()

    def __call__(self, function: F) -> F:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Inside, ops record no graph: ``with tg.no_grad(): ...`` or ``@tg.no_grad()``."""

    enabled = False


class enable_grad(_GradMode):
    """Inside, ops record the graph again, even within `no_grad`."""

    enabled = True


def is_grad_enabled() -> bool:
    """True where ops record the graph."""
    return state.grad_enabled


class use_kernels:
    """Choose between Triton kernels and array code: ``with tg.use_kernels("off"): ...``

    Args:
        mode: ``"auto"``: a kernel where the arrays are on a GPU and the kernel takes them;
            ``"off"``: array code everywhere; ``"force"``: a kernel wherever an op has one, on
            NumPy arrays in Triton's interpreter, and an error where it cannot run. The environment
            variable TINYGRAD_LLM_KERNELS sets the mode at the start.

    Raises:
        ConfigError: another mode.
    """

    def __init__(self, mode: str) -> None:
        if mode not in KERNEL_MODES:
            raise ConfigError(f"use_kernels: expected one of {KERNEL_MODES}, got {mode!r}.")
        self.mode = mode

    def __enter__(self) -> None:
        self._before = state.kernels
        state.kernels = self.mode

    def __exit__(self, *exc_info: object) -> None:
        state.kernels = self._before


class deterministic:
    """Ask for the same bits in every run on a GPU: ``with tg.deterministic(): ...``

    The gradients of attention and of a table of embeddings are sums over many programs. By default
    the kernels add them up as they come, which is meant to be faster; inside, in a fixed order.
    Each backward pass looks when it runs; a captured step keeps what it was recorded with. Array
    code on a GPU adds up embeddings in any order either way.

    Args:
        on: False goes back to sums in any order. The environment variable
            TINYGRAD_LLM_DETERMINISTIC=1 asks for all of a program.
    """

    def __init__(self, on: bool = True) -> None:
        self.on = on

    def __enter__(self) -> None:
        self._before = state.deterministic
        state.deterministic = self.on

    def __exit__(self, *exc_info: object) -> None:
        state.deterministic = self._before


class Observer:
    """Base of what can watch every op: override one or more of the four methods.

    Used as a context manager. Several may be nested; each then sees every op. When none is
    active an op pays for one attribute look-up.

    Attributes:
        as_written: modules shall take the steps of their formulas one by one, also where one op
            could take several at once: for a reader. The numbers are the same.
    """

    as_written: bool = False

    def before_forward(self, node: Any, arrays: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called with the op's node and raw arguments."""

    def after_forward(self, node: Any, arrays: tuple[Any, ...], out: Any) -> None:
        """Called with the raw result: an array, or a tuple of arrays."""

    def before_backward(self, node: Any, dy: Any) -> None:
        """Called with the gradient that arrived at the node."""

    def after_backward(self, node: Any, dy: Any, grads: tuple[Any, ...]) -> None:
        """Called with the gradients that the node sends to its inputs."""

    def __enter__(self) -> Any:
        self._outer = state.observer
        state.observer = self if self._outer is None else _Both(self._outer, self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        state.observer = self._outer


class _Both(Observer):
    """Two observers, asked one after the other."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self.first, self.second = first, second
        self.as_written = first.as_written or second.as_written

    def before_forward(self, node: Any, arrays: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.first.before_forward(node, arrays, kwargs)
        self.second.before_forward(node, arrays, kwargs)

    def after_forward(self, node: Any, arrays: tuple[Any, ...], out: Any) -> None:
        self.second.after_forward(node, arrays, out)
        self.first.after_forward(node, arrays, out)

    def before_backward(self, node: Any, dy: Any) -> None:
        self.first.before_backward(node, dy)
        self.second.before_backward(node, dy)

    def after_backward(self, node: Any, dy: Any, grads: tuple[Any, ...]) -> None:
        self.second.after_backward(node, dy, grads)
        self.first.after_backward(node, dy, grads)


def watched_as_written() -> bool:
    """Whether somebody reads along who wants every step of a formula as an op of its own."""
    return state.observer is not None and state.observer.as_written
