"""What a training step of GPT-2 124M must cost on a GPU: bytes, operations and floors, op by op.

    python benchmarks/train_gpu.py model [BATCH]  # needs no GPU: counted from a real, short step

An op's floor is the longer of two times: its bytes (each input read once, each output written
once) over the memory's bandwidth, its operations over the rate of the matrix units. The rates are
measured ones (a copy of 1 GiB, a product of 8192 cubed). What an op moves grows evenly with the
rows B T, so two short steps on the CPU tell it for any batch. On a GPU the same counts stand
beside the times of the breakdown.

What the GPU's step spares is counted too: `CHANGES` names each way of sparing passes over memory,
and the step is counted with and without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from train_sizes import Size

from tinygrad_llm.autograd.engine import Arrived, Edge, Gradients, Node
from tinygrad_llm.autograd.function import Function, Result
from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.autograd.tensor import Tensor
from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.backend import Array, is_array
from tinygrad_llm.nn import GPT, Module
from tinygrad_llm.nn.block import TransformerBlock
from tinygrad_llm.nn.feed_forward import FeedForward
from tinygrad_llm.optim import layout
from tinygrad_llm.training.report import utilization as chips

CHIPS = chips.MEASURED  # GB/s and TFLOP/s in bfloat16
# What has been reached of those rates by good kernels: memory, products, attention (head size 64)
REACHED = {"memory": 0.85, "product": 0.75, "attention forward": 0.37, "attention backward": 0.28}
CHANGES = {
    "residual": "the next norm adds the residual sum, and its backward the gradients",
    "gelu": "GELU is computed within the product before it (op feed_forward)",
    "head": "the head's dW grows in the optimizer's float32 array, scaled by nothing",
    "rows": "table and logits have rows for products of even extents",
    "one pass": "attention backward: 5 products in place of 7, dQ summed in float32",
}
LOGIT_PASSES = 6  # the product writes, lse reads, softmax reads and writes, two products read
SHORT = 64  # tokens of the two steps that are counted


@dataclass
class Work:
    """Calls, bytes and floating-point operations of one op."""

    calls: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0

    def add(self, calls: float, n_bytes: float, flops: float) -> None:
        self.calls, self.bytes, self.flops = (
            self.calls + calls,
            self.bytes + n_bytes,
            self.flops + flops,
        )


class Traffic(Observer):
    """Counts what each op must move and compute.

    Args:
        context: tokens per row that attention sees.
        half: count float32 activations as 16-bit ones, as on a GPU.
        without: which of CHANGES to leave out.
    """

    def __init__(self, context: int, half: bool, without: Collection[str] = ()) -> None:
        self.context, self.half, self.without = context, half, without
        self.work: dict[str, Work] = {}
        self._arrived: set[Edge] = set()  # nodes that a gradient has reached

    def after_forward(self, node: Function, arrays: tuple[object, ...], out: Result) -> None:
        inputs = _as_arrays(arrays)
        moved = self._bytes(inputs) + self._bytes(out if isinstance(out, tuple) else (out,))
        if node.name == "linear_cross_entropy":
            x, weight = inputs[:2]
            rows, columns = x.size // x.shape[-1], self._columns(weight)
            moved += LOGIT_PASSES * self._width(x) * rows * columns
            moved += self._bytes((x,)) + 4 * columns * weight.shape[1]  # dx and dW are made here
        if node.name == "feed_forward":
            moved += 3 * self._inner_bytes(inputs)  # z is written; a is written and read
        self._note(f"{node.name} forward", moved, self._flops(node, inputs))

    def after_backward(self, node: Node, dy: Arrived, grads: Gradients) -> None:
        if node.name == "output":
            return
        pairs = [
            (e, g)
            for e, g in zip(node.edges, grads, strict=False)
            if e is not None and g is not None
        ]
        self._count_sums(pairs)
        if node.name == "add":
            return  # hands its gradient on
        if node.name == "linear_cross_entropy":
            self._note_head(*(g for _, g in pairs[:2]))
            return
        leaves = [g for e, g in pairs if e.is_leaf_edge]
        inner = {id(g): g for e, g in pairs if not e.is_leaf_edge}  # two may share one array
        arrived = _as_arrays(dy if isinstance(dy, list) else (dy,))
        saved = _as_arrays(node.saved)
        moved = self._bytes((*inner.values(), *saved, *arrived))
        moved += sum(4 * g.size for g in leaves)  # the optimizer's gradients are float32
        if node.name == "feed_forward":
            hidden = self._inner_bytes(saved)
            moved += 2 * hidden  # the gradient of a is written, that of z read
            self._note("gelu backward", 3 * hidden, 0.0)  # reads it and z, writes dz, sums its bias
        if node.name == "attention_qkv" and "one pass" not in self.without:
            # dQ is zeroed (4 bytes each), added to in the cache, read and rounded; qkv holds three
            self._note("dQ in float32", 8 * saved[0].size / 3, 0.0)
        if node.name in ("linear", "feed_forward"):
            self._note("bias gradients", self._bytes(arrived), 0.0)  # a pass over dy
        self._note(f"{node.name} backward", moved, self._flops(node, saved, backward=True))

    def _count_sums(self, pairs: list[tuple[Node | TensorBase, Array]]) -> None:
        """The engine adds a second gradient that arrives at a node to the first: three passes."""
        for edge, grad in pairs:
            if edge.is_leaf_edge or edge.n_outputs > 1:  # added by ops, or kept side by side
                continue
            if edge in self._arrived:
                self._note("sums of gradients", 3 * self._bytes((grad,)), 0.0)
            self._arrived.add(edge)

    def _note_head(self, dx: Array, dw: Array) -> None:
        """The gradients are there since the forward pass, and the loss's own gradient is 1.

        Otherwise dW is zeroed (4 bytes each), rounded to 16 bits (4 + 2), multiplied and written
        as float32 (2 + 4); and dx is read and written.
        """
        moved = 16 * dw.size + 2 * self._bytes((dx,)) if "head" in self.without else 0.0
        self._note("linear_cross_entropy backward", moved, 0.0)

    def _columns(self, table: Array) -> int:
        """Rows of the vocabulary's table on a GPU, and columns of the logits (optim/layout.py)."""
        extra = -len(table) % layout.ROWS
        padded = "rows" not in self.without and extra <= layout.MOST_PADDING * len(table)
        return len(table) + extra * padded

    def _note(self, name: str, n_bytes: float, flops: float) -> None:
        self.work.setdefault(name, Work()).add(1, n_bytes, flops)

    def _inner_bytes(self, arrays: Sequence[Array]) -> float:
        """Bytes of z of a feed-forward network, as large as a and dz, from (x, W1, _, W2, ...)."""
        x, w1 = arrays[:2]
        return self._width(x) * x.size / x.shape[-1] * len(w1)

    def _flops(self, node: Node, arrays: Sequence[Array], backward: bool = False) -> float:
        if node.name == "linear":
            x, weight = arrays[0], arrays[1]
            return (4 if backward else 2) * (x.size // x.shape[-1]) * weight.size
        if node.name == "feed_forward":
            x, w1, _, w2, *_ = arrays
            return (4 if backward else 2) * (x.size // x.shape[-1]) * (w1.size + w2.size)
        if node.name == "linear_cross_entropy":
            x, weight = arrays[0], arrays[1]
            return 6 * x.size * self._columns(weight)
        if node.name == "attention_qkv":  # half of each (T, T) product is hidden
            products = (7 if "one pass" in self.without else 5) if backward else 2
            return products * arrays[0].size / 3 * self.context
        return 0.0

    def _width(self, array: Array) -> int:
        return 2 if self.half and array.dtype.name == "float32" else array.itemsize

    def _bytes(self, arrays: Iterable[Array]) -> float:
        return float(sum(a.size * self._width(a) for a in arrays))


def _as_arrays(values: Iterable[object]) -> list[Array]:
    """Each value in its place; what is no array, such as a bias that is None, as an empty one."""
    return [value if is_array(value) else np.empty(0) for value in values]


def count(size: Size, batch: int, without: Collection[str] = ()) -> dict[str, Work]:
    """Work of one step of the model with any batch, from two short steps on the CPU.

    Args:
        without: which of CHANGES to leave out.
    """
    found = [_short_step(size, rows, without) for rows in (1, 2)]
    n = batch * size.context / SHORT - 1
    total = {
        name: Work(a.calls, a.bytes + n * (b.bytes - a.bytes), a.flops + n * (b.flops - a.flops))
        for (name, a), b in zip(found[0].items(), found[1].values(), strict=True)
    }
    weights = 12 * size.n_layer * size.n_embd**2 + (size.vocabulary + size.context) * size.n_embd
    total["norm of the gradient"] = Work(1, 4.0 * weights)
    total["adamw"] = Work(1, 30.0 * weights)  # reads p, g, m, v; writes p, m, v and 16-bit weights
    return total


@lru_cache(maxsize=1)
def _model(size: Size) -> GPT:
    import tinygrad_llm as tg

    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    return tg.nn.GPT(config)


def _short_step(size: Size, batch: int, without: Collection[str]) -> dict[str, Work]:
    model, removers = _model(size), []
    one_op = "gelu" not in without  # as on a GPU
    for module in model.modules():
        if isinstance(module, FeedForward):
            module._is_one_op = lambda x: one_op  # type: ignore[method-assign]
        if isinstance(module, TransformerBlock) and "residual" in without:
            removers.append(module.register_forward_hook(_read))
    model.zero_grad()
    inputs, targets = replace(size, context=SHORT, batch=batch).batches(1)[0]
    with Traffic(size.context, half=True, without=without) as traffic:
        model.loss(inputs, targets).backward()
    for remove in removers:
        remove()
    return traffic.work


def _read(block: Module, arguments: tuple[object, ...], output: Tensor) -> None:
    """A hook that reads a residual sum, which is then added up at once."""
    _ = output.data


def floor_ms(work: Work, chip: str) -> float:
    """Milliseconds that its bytes or its operations take at least, whichever is longer."""
    bandwidth, rate = CHIPS[chip]
    return max(work.bytes / bandwidth / 1e6, work.flops / rate / 1e9)


def expected_ms(name: str, work: Work, chip: str) -> float:
    """Milliseconds at the rates that good kernels have reached, REACHED."""
    bandwidth, rate = CHIPS[chip]
    op, _, direction = name.partition(" ")
    kind = f"attention {direction}" if op == "attention_qkv" else "product"
    moving = work.bytes / bandwidth / 1e6 / REACHED["memory"]
    computing = work.flops / rate / 1e9 / REACHED[kind] if work.flops else 0.0
    if op == "linear_cross_entropy":  # products and the softmax between them take turns
        return moving + computing
    return max(moving, computing)


def print_model(size: Size, batch: int) -> None:
    """The table, its sums, the speeds that follow, and what each of CHANGES spares."""
    steps = [tuple(CHANGES)[i:] for i in range(len(CHANGES) + 1)]  # without all, ..., without none
    counts = [count(size, batch, without) for without in steps]
    print(f"\n{replace(size, batch=batch).title}: one step")
    print(f"  {'':32}{'calls':>6}{'GB':>8}{'TFLOP':>8}{'floor ms H100':>15}{'H200':>7}")
    rows = sorted(counts[-1].items(), key=lambda item: -floor_ms(item[1], "H200"))
    for name, work in rows:
        print(
            f"  {name:32}{work.calls:6.0f}{work.bytes / 1e9:8.2f}{work.flops / 1e12:8.2f}"
            f"{floor_ms(work, 'H100'):15.2f}{floor_ms(work, 'H200'):7.2f}"
        )
    tokens = batch * size.context
    for chip in CHIPS:
        floor = sum(floor_ms(work, chip) for _, work in rows)
        for what, ms in (("floor", floor), ("with good kernels", _expected(counts[-1], chip))):
            print(f"  {chip}, {what}: {ms:.1f} ms, {tokens / ms:,.0f} thousand tokens/s")
    _print_changes(counts)


def _print_changes(counts: list[dict[str, Work]]) -> None:
    """A line for each change: what it spares after those above it."""
    print(f"\n  {'with good kernels':72}{'GB':>8}{'ms H100':>9}{'H200':>7}")
    figures = [
        (sum(work.bytes for work in total.values()) / 1e9, *(_expected(total, c) for c in CHIPS))
        for total in counts
    ]
    print(_figures("without the following", figures[0]))
    for what, before, after in zip(CHANGES.values(), figures, figures[1:], strict=False):
        print(_figures(what, [a - b for a, b in zip(after, before, strict=True)]))
    print(_figures("with them", figures[-1]))


def _figures(what: str, figures: Sequence[float]) -> str:
    n_bytes, *ms = figures
    return f"  {what:72}{n_bytes:8.2f}{ms[0]:9.2f}{ms[1]:7.2f}"


def _expected(total: dict[str, Work], chip: str) -> float:
    return sum(expected_ms(name, work, chip) for name, work in total.items())
