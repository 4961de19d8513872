"""Writing down what every op of a step did: shapes, time, memory, edges and, if asked, all values.

    with tg.trace() as t:
        loss = model.loss(ids, targets)
        loss.backward()
    print(t.table())

A trace is an `Observer`: an op that runs without one pays a single attribute look-up. It holds the
nodes of the graph weakly, so tracing a step keeps no more of it alive than not tracing it does
(``values=True`` excepted, which copies every array that passes by).
"""

from __future__ import annotations

import inspect
import time
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Protocol

from tinygrad_llm.autograd.engine import Arrived, Gradients, Node
from tinygrad_llm.autograd.function import Function, Output, Result
from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.autograd.trace.memory import HeldArrays, Producers
from tinygrad_llm.autograd.trace.records import ArrayInfo, Contribution, Input, LeafRecord, OpRecord
from tinygrad_llm.autograd.trace.table import table
from tinygrad_llm.autograd.trace.values import Copy, ValueRecorder
from tinygrad_llm.backend import Array, is_array


class HasParameters(Protocol):
    """A module: what knows its parameters by name."""

    def named_parameters(self) -> Iterable[tuple[str, TensorBase]]: ...


class Trace(Observer):
    """What the ops inside a ``with tg.trace() as t:`` block did.

    Attributes:
        ops: one `OpRecord` per call, in order.
        leaves: the parameters and other leaves that the ops used.
        events: ("forward", i) and ("backward", i) with i an index into ``ops``, as they happened.
        peak_saved_bytes: the largest sum of what the nodes kept for their backward at one time.
    """

    def __init__(self, values: bool = False) -> None:
        self.ops: list[OpRecord] = []
        self.leaves: list[LeafRecord] = []
        self.events: list[tuple[str, int]] = []
        self._records: weakref.WeakKeyDictionary[Node, OpRecord] = weakref.WeakKeyDictionary()
        self._leaf_index: dict[int, int] = {}
        self._resolved: set[int] = set()
        self._producers = Producers()
        self._held = HeldArrays()
        self._timer = _Timer()
        self._values = ValueRecorder() if values else None
        self.as_written = values  # a reader of numbers wants the formula's steps

    @property
    def keeps_values(self) -> bool:
        """True where the arrays themselves were recorded."""
        return self._values is not None

    @property
    def peak_saved_bytes(self) -> int:
        """Largest number of bytes that the nodes kept for their backward at one time."""
        return self._held.peak

    def table(self, by: str = "op", limit: int | None = None) -> str:
        """Time and saved bytes as text, the slowest rows first.

        Args:
            by: ``"op"`` (one row per kind of op), ``"scope"`` (per module) or ``"call"``.
            limit: show only so many rows.

        Raises:
            ConfigError: ``by`` is something else.
        """
        return table(self.ops, self.peak_saved_bytes, by, limit)

    def __str__(self) -> str:
        return self.table()

    # ---- the four moments of an op ----------------------------------------------------------

    def before_forward(
        self, node: Function, arrays: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        """Start the clock."""
        self._kwargs = kwargs
        self._timer.start(arrays)

    def after_forward(self, node: Function, arrays: tuple[object, ...], out: Result) -> None:
        """Write the op down."""
        seconds = self._timer.stop(out)
        outs = out if isinstance(out, tuple) else (out,)
        names = argument_names(type(node).forward)
        inputs, options = self._inputs(names, arrays)
        saved = [a for a in node.saved if is_array(a)]
        record = OpRecord(
            index=len(self.ops),
            name=node.name,
            scope=node.scope,
            inputs=inputs,
            outputs=[_info(o) for o in outs],
            options={**options, **self._kwargs},
            saved=[_info(a) for a in saved],
            saved_bytes=self._held.hold(saved),
            requires_grad=node.requires_grad,
            seconds_forward=seconds,
            forward_step=len(self.events),
            ran=str(getattr(node, "ran", "") or ""),
        )
        for i, o in enumerate(outs):
            self._producers.note(o, record.index, i)
        if self._values is not None:
            passed = [x for i in inputs if is_array(x := arrays[i.position])]
            record.values = self._values.forward(passed, outs)
        self.ops.append(record)
        self.events.append(("forward", record.index))
        self._records[node] = record
        _trace_of[node] = self

    def before_backward(self, node: Node, dy: Arrived) -> None:
        """Look up where the node's gradients will go, and start the clock."""
        record = self._records.get(node)
        if record is not None and record.backward_step is None:
            self._resolve(node, record)
            if self._values is not None:
                self._values.before_backward(node, dy, record.values)
        self._timer.start(dy)

    def after_backward(self, node: Node, dy: Arrived, grads: Gradients) -> None:
        """Write down which gradient went where; a second walk only adds to the time."""
        seconds = self._timer.stop(grads)
        record = self._records.get(node)
        if record is None:  # an `Output`, or an op from before the trace
            return
        record.seconds_backward += seconds
        if record.backward_step is not None:
            return
        record.backward_step = len(self.events)
        record.ran = str(getattr(node, "ran", "") or record.ran)
        self.events.append(("backward", record.index))
        sent: list[Copy] = [None] * len(grads)
        if self._values is not None:
            sent = self._values.after_backward(node, grads)
        if record.values is not None:
            record.values.sent = [sent[i.position] for i in record.inputs]
        for i in record.inputs:
            if grads[i.position] is not None:
                self._deliver(record, i, sent[i.position])
        self._held.release([a for a in node.saved if is_array(a)])

    def alive(self) -> list[tuple[Node, OpRecord]]:
        """The recorded nodes whose graph is still there, with what is known of them."""
        return list(self._records.items())

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        for node, record in self.alive():
            if node.edges and record.index not in self._resolved:
                self._resolve(node, record)

    # ---- edges ------------------------------------------------------------------------------

    def _inputs(
        self, names: tuple[str, ...], arrays: tuple[object, ...]
    ) -> tuple[list[Input], dict[str, object]]:
        """The array arguments, linked to their makers, and the other arguments by name."""
        inputs, options = [], {}
        for position, x in enumerate(arrays):
            last = position >= len(names) - 1 and bool(names) and names[-1].startswith("*")
            name = f"{names[-1][1:]}[{position - len(names) + 1}]" if last else names[position]
            if not is_array(x):
                options[name] = x
                continue
            source, output = self._producers.find(x)
            if source is None:
                self._held.note_outside(x)
            inputs.append(Input(*_fields(x), name, position, source, output))
        return inputs, options

    def _resolve(self, node: Node, record: OpRecord) -> None:
        """Replace the guess by array identity with the node's own edges."""
        self._resolved.add(record.index)
        for i in record.inputs:
            edge = node.edges[i.position]
            if edge is None:
                continue
            if edge.is_leaf_edge:
                i.source, i.leaf = None, self._leaf(edge, record, i.name)
                continue
            made_by: Node | None = edge
            if isinstance(edge, Output):
                i.output, made_by = edge.result_index, edge.parent
            found = None if made_by is None else self._records.get(made_by)
            i.source = None if found is None else found.index

    def _leaf(self, leaf: TensorBase, record: OpRecord, argument: str) -> int:
        """Number of a leaf. The first op that used it names it, unless the model does."""
        index = self._leaf_index.setdefault(id(leaf), len(self.leaves))
        if index == len(self.leaves):
            value = None if self._values is None else self._values.copy(leaf.data)
            shape, dtype, _ = _fields(leaf.data)
            self.leaves.append(LeafRecord(index, "", shape, dtype, leaf, value=value))
        entry = self.leaves[index]
        if record.index <= entry.named_by:
            entry.name = f"{record.scope}.{argument}" if record.scope else argument
            entry.named_by = record.index
        return index

    def name_leaves(self, model: HasParameters) -> None:
        """Call the leaves what ``model.named_parameters()`` calls them."""
        names = {id(p): name for name, p in model.named_parameters()}
        for leaf in self.leaves:
            leaf.name = names.get(id(leaf.tensor), leaf.name)

    def _deliver(self, record: OpRecord, i: Input, gradient: Copy) -> None:
        contribution = Contribution(record.index, i.name, i.output, gradient)
        if i.leaf is not None:
            self.leaves[i.leaf].arrived.append(contribution)
        elif i.source is not None:
            self.ops[i.source].arrived.append(contribution)


def trace(values: bool = False) -> Trace:
    """Record every op, forward and backward, inside a ``with`` block (see `Trace`).

    Args:
        values: keep copies of all arrays too, for ``tg.explore``. Meant for small models.
    """
    return Trace(values)


_trace_of: weakref.WeakKeyDictionary[Node, Trace] = weakref.WeakKeyDictionary()


def trace_of(tensor: TensorBase) -> Trace | None:
    """The trace under which ``tensor`` was computed, or None."""
    node = tensor._node
    if isinstance(node, Output):
        node = node.parent
    return None if node is None else _trace_of.get(node)


@cache
def argument_names(forward: Callable[..., object]) -> tuple[str, ...]:
    """Names of an op's positional arguments; a last one ``*xs`` stands for any number."""
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    return tuple(
        f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY, p.VAR_POSITIONAL)
    )


class _Timer:
    """Wall time of each op without that of ops which ran inside it (as in a checkpoint)."""

    def __init__(self) -> None:
        self._stack: list[list[float]] = []  # [start, seconds of the ops inside]

    def start(self, arrays: object) -> None:
        _wait_for_gpu(arrays)
        self._stack.append([time.perf_counter(), 0.0])

    def stop(self, arrays: object) -> float:
        _wait_for_gpu(arrays)
        start, inside = self._stack.pop()
        total = time.perf_counter() - start
        if self._stack:
            self._stack[-1][1] += total
        return total - inside


def _wait_for_gpu(arrays: object) -> None:
    """A launch returns before the kernel is done; a time needs the end."""
    group = arrays if isinstance(arrays, (tuple, list)) else (arrays,)
    for x in group:
        device = getattr(x, "device", None)
        if device is not None and hasattr(device, "synchronize"):
            device.synchronize()
            return


def _fields(x: Array) -> tuple[tuple[int, ...], str, int]:
    return tuple(x.shape), str(x.dtype), int(x.nbytes)


def _info(x: Array) -> ArrayInfo:
    return ArrayInfo(*_fields(x))
