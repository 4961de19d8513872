"""Switches that change what an op does besides computing: record the graph, watch, measure."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tinygrad_llm.autograd.scoped import Scoped
from tinygrad_llm.errors import ConfigError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.engine import Arrived, Gradients, Node
    from tinygrad_llm.autograd.function import Function, Result

KERNEL_MODES = ("auto", "off", "force")


class _State(threading.local):
    """Per thread: is the graph recorded, and who watches the ops (anomaly mode, trace)."""

    grad_enabled = True
    observer: Observer | None = None
    kernels = os.environ.get("TINYGRAD_LLM_KERNELS", "auto")  # see use_kernels
    deterministic = os.environ.get("TINYGRAD_LLM_DETERMINISTIC", "0") not in {"", "0"}
    composed: Mapping[str, Callable[..., object]] = {}  # ops that run as simpler ones: see forms
    scopes: tuple[str, ...] = ()  # names of the modules being called; kept only while observed


current = _State()


class _Mode(Scoped):
    """Base of the settings that stand in `current`."""

    place = current


class no_grad(_Mode):
    """Inside, ops record no graph: ``with tg.no_grad(): ...``, or ``@tg.no_grad`` on a function."""

    setting = "grad_enabled"

    def inside(self, outside: bool) -> bool:
        return False


class enable_grad(_Mode):
    """Inside, ops record the graph again, even within `no_grad`."""

    setting = "grad_enabled"

    def inside(self, outside: bool) -> bool:
        return True


def is_grad_enabled() -> bool:
    """True where ops record the graph."""
    return current.grad_enabled


class use_kernels(_Mode):
    """Choose between Triton kernels and array code: ``with tg.use_kernels("off"): ...``

    Args:
        mode: ``"auto"``: a kernel where the arrays are on a GPU and the kernel takes them;
            ``"off"``: array code everywhere; ``"force"``: a kernel wherever an op has one, on
            NumPy arrays in Triton's interpreter, and an error where it cannot run. The environment
            variable TINYGRAD_LLM_KERNELS sets the mode at the start.

    Raises:
        ConfigError: another mode.
    """

    setting = "kernels"

    def __init__(self, mode: str) -> None:
        if mode not in KERNEL_MODES:
            raise ConfigError(f"use_kernels: expected one of {KERNEL_MODES}, got {mode!r}.")
        self.mode = mode

    def inside(self, outside: str) -> str:
        return self.mode


class deterministic(_Mode):
    """Ask for the same bits in every run on a GPU: ``with tg.deterministic(): ...``

    The gradients of attention and of a table of embeddings are sums over many programs. By default
    the kernels add them up as they come, which is meant to be faster; inside, in a fixed order.
    Each backward pass looks when it runs; a captured step keeps what it was recorded with. Array
    code on a GPU adds up embeddings in any order either way.

    Args:
        on: False goes back to sums in any order. The environment variable
            TINYGRAD_LLM_DETERMINISTIC=1 asks for all of a program.
    """

    setting = "deterministic"

    def __init__(self, on: bool = True) -> None:
        self.on = on

    def inside(self, outside: bool) -> bool:
        return self.on


class Observer(_Mode):
    """Base of what can watch every op: override one or more of the four methods.

    Used as a context manager. Several may be nested; each then sees every op, once. When none is
    active an op pays for one attribute look-up.

    Attributes:
        as_written: modules shall take the steps of their formulas one by one, also where one op
            could take several at once: for a reader. The numbers are the same.
    """

    setting = "observer"
    as_written: bool = False

    def before_forward(
        self, node: Function, arrays: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        """Called with the op's node and raw arguments."""

    def after_forward(self, node: Function, arrays: tuple[object, ...], out: Result) -> None:
        """Called with the raw result: an array, or a tuple of arrays."""

    def before_backward(self, node: Node, dy: Arrived) -> None:
        """Called with the gradient that arrived at the node."""

    def after_backward(self, node: Node, dy: Arrived, grads: Gradients) -> None:
        """Called with the gradients that the node sends to its inputs."""

    def inside(self, outside: Observer | None) -> Observer:
        if outside is None:
            return self
        return outside if outside.includes(self) else _Both(outside, self)

    def includes(self, other: Observer) -> bool:
        """Whether ``other`` sees what this one sees."""
        return self is other


class _Both(Observer):
    """Two observers, asked one after the other."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self.first, self.second = first, second
        self.as_written = first.as_written or second.as_written

    def includes(self, other: Observer) -> bool:
        return self.first.includes(other) or self.second.includes(other)

    def before_forward(
        self, node: Function, arrays: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        self.first.before_forward(node, arrays, kwargs)
        self.second.before_forward(node, arrays, kwargs)

    def after_forward(self, node: Function, arrays: tuple[object, ...], out: Result) -> None:
        self.second.after_forward(node, arrays, out)
        self.first.after_forward(node, arrays, out)

    def before_backward(self, node: Node, dy: Arrived) -> None:
        self.first.before_backward(node, dy)
        self.second.before_backward(node, dy)

    def after_backward(self, node: Node, dy: Arrived, grads: Gradients) -> None:
        self.second.after_backward(node, dy, grads)
        self.first.after_backward(node, dy, grads)


def watched_as_written() -> bool:
    """Whether somebody reads along who wants every step of a formula as an op of its own."""
    return current.observer is not None and current.observer.as_written
