"""The backward walk.

Nodes carry the clock time of their creation. An op's inputs exist before the op, so going through
the nodes from the youngest to the oldest meets each node only after everything that used its
result: a topological order, without searching for one, and without recursion. (Visiting nodes in
plain depth-first order does not do: in ``b = a + a; c = b + b`` it would pass on b's gradient
before the second contribution to it has arrived.)

    pending[node] = sum of the gradients that have arrived at the node's result so far

    while a node is pending:
        take the youngest; dy = pending[node] is complete
        for each argument x, and its gradient, of node.backward(dy):
            x is a leaf:     add the gradient to x.grad
            an op made x:    add it to pending[that op's node]
        release what the node had saved

`run_backward` is that loop. Beside the sum it looks whether each gradient has the shape and type of
its argument (`returned`), and waits with a leaf that has hooks, or an op with several results,
until all their gradients are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from tinygrad_llm.autograd.gradient_sink import accumulate
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.returned import from_hook, gradient_of, one_per_argument
from tinygrad_llm.autograd.tensor_base import Hook, TensorBase
from tinygrad_llm.autograd.versions import clock, was_overwritten
from tinygrad_llm.backend import Array, is_array, may_write
from tinygrad_llm.errors import GraphError, OutOfMemoryError

FREED: tuple[object, ...] = ("freed",)  # in place of a node's saved arrays after the walk


class Node(Protocol):
    """What the walk meets: an op (`Function`), one of its several results, a leaf with hooks.

    Attributes:
        name: of the op.
        time: when it was made; what it was made from is older.
        edges: for each argument, the node or leaf to which its gradient goes, or None.
        saved: the arrays that `backward` needs.
        hooks: called with the gradient of the result before `backward` is.
        fresh: `backward` returns arrays that nobody else holds.
        n_outputs: how many results the op has.
        result_index: of an op's several results, which one this node stands for.
        result_shape, result_dtype: of the result, and so of its gradient.
        scope: path of the module that called the op; filled in only while traced.
    """

    is_leaf_edge: ClassVar[Literal[False]]
    time: int
    edges: tuple[Edge, ...]
    saved: tuple[object, ...]
    hooks: list[Hook] | None
    n_outputs: int
    result_index: int
    result_shape: tuple[int, ...]
    result_dtype: np.dtype
    scope: str

    @property
    def name(self) -> str: ...

    @property
    def fresh(self) -> bool: ...

    @property
    def backward(self) -> Callable[..., object]:
        """From the gradient of the result to one gradient per argument."""

    def release(self) -> None:
        """Forget what was saved."""


Edge = Node | TensorBase | None
Arrived = Array | list[Array | None]  # the gradient at a node; a list for several results
Gradients = tuple[Array | None, ...]  # one for each argument; None where there is none


def run_backward(root: Node, dy: Array, retain_graph: bool = False) -> None:
    """Send the gradient ``dy`` from node ``root`` down to all leaves.

    Args:
        root: the node that made the tensor to differentiate.
        dy: gradient with respect to that tensor, of its shape.
        retain_graph: keep what the nodes saved, so that the walk can be repeated.

    Raises:
        GraphError: the graph was freed by an earlier walk, or a saved array was overwritten.
        GradientError: an op returned too many or too few gradients, or one of the wrong shape
            or type.
    """
    pending: dict[Node, Any] = {root: dy}  # an array, or a list for an op with several results
    owned: set[Node] = set()  # nodes whose pending gradient is an array nobody else holds
    heap: list[tuple[int, Any]] = [(-root.time, root)]  # smallest first, so the youngest node
    while heap:
        node: Node = heappop(heap)[1]
        dy = pending.pop(node)
        owned.discard(node)
        grads, kind = _node_backward(node, dy), type(dy)
        for edge, grad in zip(node.edges, grads, strict=True):
            if edge is None or grad is None:
                continue
            if edge.is_leaf_edge:
                x = edge.data
                if type(grad) is not kind or grad.shape != x.shape or grad.dtype is not x.dtype:
                    grad = gradient_of(edge, grad, node)  # looks closer, or raises
                if edge._hooks is None:
                    accumulate(edge, grad, node.fresh)
                    continue
                source: Node = _LeafNode(edge)  # hooks want the whole gradient: collect it first
            elif edge.n_outputs > 1:  # node is one Output of it
                _keep_beside(pending, heap, edge, node.result_index, grad)
                continue
            else:
                if (
                    type(grad) is not kind
                    or grad.shape != edge.result_shape
                    or grad.dtype is not edge.result_dtype
                ):
                    grad = gradient_of(edge, grad, node)
                source = edge
            seen = pending.get(source)
            if seen is None:
                pending[source] = grad
                heappush(heap, (-source.time, source))
            else:
                pending[source] = _add(seen, grad, source in owned, node.fresh)
                owned.add(source)
        if not retain_graph:
            node.release()


def _node_backward(node: Node, dy: Arrived) -> Gradients:
    """The node's hooks and its own ``backward``, with the checks that make a misuse visible."""
    if node.hooks and not isinstance(dy, list):
        dy = _run_hooks(node.hooks, dy)
    if node.saved is FREED:
        raise GraphError(
            f"backward: the graph at op {node.name!r} was already walked and freed. Call "
            "backward(retain_graph=True) the first time, or compute the loss anew."
        )
    if node.time < clock.last_write:
        _check_saved(node)
    observer = current.observer
    if observer is not None:
        observer.before_backward(node, dy)
    try:
        grads = node.backward(dy) if node.n_outputs == 1 else node.backward(*dy)
    except MemoryError as error:
        raise out_of_memory(node.name, "backward", error) from error
    if type(grads) is not tuple or len(grads) != len(node.edges):
        grads = one_per_argument(node, grads)
    if observer is not None:
        observer.after_backward(node, dy, grads)
    return grads


def _keep_beside(
    pending: dict[Node, Any], heap: list[tuple[int, Any]], op: Node, index: int, dy: Array
) -> None:
    """Put the gradient of one result of ``op`` beside those of its other results."""
    if op not in pending:
        pending[op] = [None] * op.n_outputs
        heappush(heap, (-op.time, op))
    pending[op][index] = dy


def out_of_memory(op: str, direction: str, error: MemoryError) -> OutOfMemoryError:
    """What the allocator said (how much was asked for), with the op's name and a way out."""
    return OutOfMemoryError(
        f"{direction} of op {op!r}: {str(error).rstrip('.')}. Lower batch_size or context_length "
        "(and raise accumulate to learn from as many tokens), or compute activations again in the "
        "backward pass (recompute)."
    )


def _check_saved(node: Node) -> None:
    for array in node.saved:
        if is_array(array) and was_overwritten(array, node.time):
            raise GraphError(
                f"backward: op {node.name!r} saved an array of shape {array.shape} that was "
                "overwritten before its gradient was computed. Write into a copy, or after "
                "backward()."
            )


def _add(seen: Array, grad: Array, seen_is_ours: bool, grad_is_ours: bool) -> Array:
    """The sum of two contributions, into whichever array nobody else can see."""
    if seen_is_ours and seen.dtype == grad.dtype:
        seen += grad
        return seen
    if grad_is_ours and seen.dtype == grad.dtype and may_write(grad):
        grad += seen
        return grad
    return seen + grad


class _LeafNode:
    """Stands for a leaf with hooks: older than every op, so its gradient is complete when met."""

    __slots__ = ("leaf", "result_shape", "result_dtype", "__weakref__")
    is_leaf_edge: ClassVar[Literal[False]] = False
    name, fresh, scope = "leaf", False, ""
    time, n_outputs, result_index = 0, 1, 0
    hooks: list[Hook] | None = None
    edges: tuple[Edge, ...] = ()
    saved: tuple[object, ...] = ()

    def __init__(self, leaf: TensorBase) -> None:
        self.leaf = leaf
        self.result_shape, self.result_dtype = leaf.shape, leaf.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LeafNode) and other.leaf is self.leaf

    def __hash__(self) -> int:
        return id(self.leaf)

    def __lt__(self, other: object) -> bool:
        return False  # equal times in the heap: any order will do

    def backward(self, dy: Array) -> tuple[()]:
        reach_leaf(self.leaf, dy)
        return ()

    def release(self) -> None:
        pass


def reach_leaf(leaf: TensorBase, dy: Array) -> None:
    """Hand a leaf its whole gradient, through its hooks."""
    accumulate(leaf, _run_hooks(leaf._hooks or [], dy), fresh=False)


def _run_hooks(hooks: Sequence[Hook], dy: Array) -> Array:
    for hook in list(hooks):
        dy = from_hook(dy, hook(dy))
    return dy


def ones_like(x: Array) -> Array:
    """The gradient of a scalar with respect to itself: 1, in the array module of ``x``."""
    return np.ones((), x.dtype) if isinstance(x, np.ndarray) else x * 0 + 1
