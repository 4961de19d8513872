"""One op: its forward and backward, and the node it leaves in the graph.

An instance of a `Function` *is* the node of the graph; in the methods it is called ``ctx``.

    class Tanh(Function):
        def forward(ctx, x):          # arrays in, array out; ctx.xp is numpy or cupy
            y = ctx.xp.tanh(x)
            ctx.save(y)
            return y

        def backward(ctx, dy):        # the gradient of the output comes in as an argument ...
            (y,) = ctx.saved
            return dy * (1 - y * y)   # ... and one gradient per positional argument goes out

A node points to the nodes that made its inputs, never the other way and never to its own output:
no reference cycles, so a graph is gone the moment its last tensor is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np

from tinygrad_llm.autograd import gradient_sink
from tinygrad_llm.autograd.engine import FREED, Edge, out_of_memory
from tinygrad_llm.autograd.forms import chosen_form, run_composed
from tinygrad_llm.autograd.modes import Observer, current
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.autograd.tensor_base import Hook
from tinygrad_llm.autograd.versions import clock
from tinygrad_llm.backend import Array, ArrayModule, array_module, device_of, plain_array
from tinygrad_llm.errors import DeviceError, GraphError

Result = Array | tuple[Array, ...]  # what ``forward`` returns
STEPS = "biu"  # kinds of dtypes that are bool or integers: no gradient goes through them


def _no_backward(ctx: Function, *dy: Array) -> NoReturn:
    raise GraphError(
        f"backward: op {ctx.name!r} has no backward, so no gradient can pass through it. Define "
        "backward(ctx, dy) in its class, or take its result as a constant with .detach()."
    )


class Function:
    """Base of all ops: override ``forward`` and ``backward``, call ``apply``.

    Attributes:
        xp: the array module of the arguments.
        needs: for each positional argument, whether its gradient is wanted.
        requires_grad: whether any is; if not, nothing need be saved.
        saved: what ``save`` was given.
        edges: for each positional argument, where its gradient goes.
        result_shape, result_dtype: what the gradient that arrives must have; set when recorded.
        ran: class attribute: what computes it, "array code" or the name of a kernel.
        kernel_version: class attribute: the same op by a Triton kernel, if there is one.
        has_forms: class attribute: whether there is another form than the array code (`forms`).
        is_leaf_edge: class attribute; whether an edge that ends here ends at a leaf: True for a
            Tensor, False for a node.
        time: when the node was made, by the clock of the engine.
        fresh: class attribute; True promises that ``backward`` returns new arrays that nobody
            else holds, so that the engine may add into them instead of copying.
    """

    name: ClassVar[str] = ""
    fresh: ClassVar[bool] = False
    is_leaf_edge: ClassVar[Literal[False]] = False
    ran: ClassVar[str] = "array code"
    kernel_version: ClassVar[Any] = None
    has_forms: ClassVar[bool] = False

    xp: ArrayModule
    needs: tuple[bool, ...]
    requires_grad: bool = False
    saved: tuple[Any, ...] = ()
    edges: tuple[Edge, ...] = ()
    result_shape: tuple[int, ...]
    result_dtype: np.dtype
    time: int = 0
    n_outputs: int = 1
    result_index: int = 0  # of an op with several results, which one: see Output
    hooks: list[Hook] | None = None
    scope: str = ""  # path of the module that called the op; filled in only while traced

    forward: Callable[..., Result]
    backward: Callable[..., object] = _no_backward

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.name or "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()

    def save(self, *arrays: object) -> None:
        """Keep arrays (or scalars) for ``backward``; they are released after it."""
        self.saved = arrays

    def release(self) -> None:
        """Forget what was saved; called after the node's ``backward``."""
        self.saved = FREED
        self.edges = ()

    def gradient_target(self, index: int) -> tuple[Array | None, bool]:
        """Where ``backward`` may put the gradient of argument ``index`` directly.

        Parameters of an optimizer own a slice of one flat array for their gradient. An op that
        writes there saves an allocation and a copy; it then returns the very same array.

        Returns:
            (array, accumulate): write into ``array``, or add to it where ``accumulate``.
            ``(None, False)`` where there is no such array, where somebody holds a gradient of
            an earlier pass that lies there (`gradient_sink`), or where the parameter is another
            argument too, whose gradient would meet this one there.
        """
        return gradient_sink.target(self.edges, index)

    def empty_target(self, index: int) -> Array | None:
        """`gradient_target` for an op that overwrites: None where there is something to add to.

        The op then returns an array of its own, and the engine adds it.
        """
        return gradient_sink.empty_target(self.edges, index)

    def early_target(self, index: int, dtype: np.dtype | str) -> Array | None:
        """Where ``forward`` may already write the gradient of argument ``index``, if of ``dtype``.

        An op at the end of the network may know its gradients before the backward pass begins.
        As long as it holds the array (`save`), nobody else writes there.
        """
        return gradient_sink.early_target(self.edges, index, dtype)

    def gradient_dtype(self, index: int) -> np.dtype | None:
        """Type in which an optimizer sums the gradients of argument ``index``; None without one.

        It is float32 for a parameter of 16 bits, whose sum over all rows would lose by rounding.
        """
        return gradient_sink.summed_dtype(self.edges, index)

    @classmethod
    def apply(cls, *args: object, **kwargs: object) -> Any:
        """Run the op on Tensors (or arrays and scalars, taken as constants).

        Returns:
            A Tensor, or a tuple of Tensors where ``forward`` returns a tuple.

        Raises:
            DeviceError: the tensors live on different devices.
            GraphError: a tensor that requires a gradient is given by keyword.
            OutOfMemoryError: the device has no room for the result.
        """
        # 1. Tensors become arrays. For each argument: is its gradient wanted, and where does it go?
        #    To the node that made the tensor, or to the tensor itself if it is a leaf.
        arrays: list[object] = []
        needs, edges, first = [], [], None
        recording = current.grad_enabled
        for arg in args:
            if isinstance(arg, Tensor):
                data = arg.data
                arrays.append(data)
                need = recording and arg._requires_grad
                needs.append(need)
                edges.append((arg._node or arg) if need else None)
                if first is None:  # where the first tensor lies is where the op runs
                    first = data
                elif type(data) is not type(first):
                    raise _device_error(cls.name, first, data)
            else:
                arrays.append(arg if type(arg) in _PLAIN else _constant(cls.name, arg))
                needs.append(False)
                edges.append(None)
        if kwargs and recording:
            _refuse_gradients_by_keyword(cls.name, kwargs)
        # 2. The node is of this class, unless another form of the op runs.
        form = chosen_form(cls, first, arrays, kwargs) if cls.has_forms else cls
        if form is None:
            return run_composed(cls, args, kwargs)
        ctx = form()
        ctx.xp = np if type(first) is np.ndarray else array_module(first)
        ctx.needs, ctx.requires_grad = tuple(needs), True in needs
        if ctx.requires_grad:
            ctx.edges = tuple(edges)
        # 3. The formula.
        try:
            observer = current.observer
            run = ctx.forward if observer is None else partial(_observed, ctx, observer)
            out = run(*arrays, **kwargs)
        except MemoryError as error:
            raise out_of_memory(cls.name, "forward", error) from error
        # 4. The result points to the node, if a gradient is wanted.
        if ctx.requires_grad:
            return ctx._attach(out)
        return _tensors(out) if isinstance(out, tuple) else make_result(out, None)

    def _attach(self, out: Result) -> Tensor | tuple[Tensor, ...]:
        """Enter the node into the graph: its time, and the tensors it made."""
        self.time = clock.next()
        if not isinstance(out, tuple):
            self.result_shape, self.result_dtype = out.shape, out.dtype
            return make_result(out, None if out.dtype.kind in STEPS else self)
        self.n_outputs = len(out)
        return tuple(
            make_result(o, None if o.dtype.kind in STEPS else Output(self, i, o))
            for i, o in enumerate(out)
        )


class Output(Function):
    """One of several results of an op: hands its gradient to its place among the op's ``dy``."""

    def __init__(self, parent: Function, index: int, out: Array) -> None:
        self.result_index, self.result_shape, self.result_dtype = index, out.shape, out.dtype
        self.edges = (parent,)
        self.needs = (True,)
        self.time = clock.next()
        self.scope = parent.scope

    @property
    def parent(self) -> Function | None:
        """The op; None where the graph was freed."""
        op = self.edges[0] if self.edges else None
        return op if isinstance(op, Function) else None

    def backward(self, dy: Array) -> Array:
        return dy


def _tensors(arrays: tuple[Array, ...]) -> tuple[Tensor, ...]:
    return tuple(make_result(x, None) for x in arrays)


def _observed(ctx: Function, observer: Observer, *arrays: object, **kwargs: object) -> Result:
    """``ctx.forward``, of which the observer is told before and after."""
    ctx.scope = ".".join(current.scopes)
    observer.before_forward(ctx, arrays, kwargs)
    out = ctx.forward(*arrays, **kwargs)
    observer.after_forward(ctx, arrays, out)
    return out


_PLAIN = {np.ndarray, float, int, bool}  # constants that ops take as they are


def _constant(name: str, x: object) -> object:
    """An argument that is no Tensor as ops take it: NumPy's numbers as Python's."""
    return x.item() if isinstance(x, np.generic) else plain_array(name, x)


def _refuse_gradients_by_keyword(name: str, kwargs: dict[str, object]) -> None:
    for keyword, value in kwargs.items():
        if isinstance(value, Tensor) and value.requires_grad:
            raise GraphError(
                f"{name}: {keyword}= is a tensor that requires a gradient, and gradients go to "
                f"positional arguments only. Give it by position where the op differentiates it, "
                f"or pass {keyword}={keyword}.detach(), a constant."
            )


def _device_error(name: str, a: Array, b: Array) -> DeviceError:
    if device_of(a) == device_of(b):
        return DeviceError(
            f"{name}: all tensors must hold arrays of one class, got {type(a).__name__} and "
            f"{type(b).__name__} in .data. Make new tensors of them: tg.Tensor(x.data)."
        )
    return DeviceError(
        f"{name}: all tensors must be on one device, got {device_of(a)} and {device_of(b)}. "
        "Move one with .to(device)."
    )
