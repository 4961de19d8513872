"""What a training step of GPT-2 124M must cost on a GPU: bytes, operations and floors, op by op.

    python benchmarks/train_gpu.py model [BATCH]      needs no GPU: counted from a real, short step

An op's floor is the longer of two times: its bytes (each input read once, each output written
once) over the memory's bandwidth, its operations over the rate of the matrix units. The rates are
measured ones (a copy of 1 GiB, a product of 8192 cubed). What an op moves grows evenly with the
rows B T, so two short steps on the CPU tell it for any batch. On a GPU the same counts stand
beside the times of the breakdown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from train_sizes import BETAS, LR, MAX_NORM, WEIGHT_DECAY, Size

from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.backend import is_array

# GB/s and TFLOP/s in bfloat16, measured on one machine each
CHIPS = {"H100": (3000.0, 790.0), "H200": (4300.0, 790.0)}
# What has been reached of those rates by good kernels: memory, products, attention (head size 64)
REACHED = {"memory": 0.85, "product": 0.75, "attention forward": 0.37, "attention backward": 0.28}
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
            self.calls + calls, self.bytes + n_bytes, self.flops + flops
        )  # fmt: skip


class Traffic(Observer):
    """Counts what each op must move and compute.

    Args:
        context: tokens per row that attention sees.
        half: count float32 activations as 16-bit ones, as on a GPU.
    """

    def __init__(self, context: int, half: bool) -> None:
        self.context, self.half = context, half
        self.work: dict[str, Work] = {}

    def after_forward(self, node: Any, arrays: tuple[Any, ...], out: Any) -> None:
        moved = self._bytes(arrays) + self._bytes(out if isinstance(out, tuple) else (out,))
        if node.name == "linear_cross_entropy":
            x, weight = arrays[0], arrays[1]
            rows = x.size // x.shape[-1]
            moved += LOGIT_PASSES * self._width(x) * rows * len(weight)
            moved += self._bytes((x,)) + 4 * weight.size  # dx and dW are made here too
        self._note(f"{node.name} forward", moved, self._flops(node, arrays))

    def after_backward(self, node: Any, dy: Any, grads: tuple[Any, ...]) -> None:
        if node.name == "output":
            return
        pairs = list(zip(node.edges, grads, strict=False))
        leaves = [g for e, g in pairs if g is not None and e is not None and e.is_leaf_edge]
        inner = [g for e, g in pairs if g is not None and e is not None and not e.is_leaf_edge]
        moved = self._bytes({id(g): g for g in inner}.values()) + sum(4 * g.size for g in leaves)
        saved = () if node.name in ("linear_cross_entropy", "add") else node.saved
        moved += self._bytes(saved) + self._bytes(dy if isinstance(dy, (list, tuple)) else (dy,))
        if node.name == "add":
            moved = 0  # hands its gradient on; what sums do with it counts with their own ops
        self._note(f"{node.name} backward", moved, self._flops(node, node.saved, backward=True))

    def _note(self, name: str, n_bytes: float, flops: float) -> None:
        self.work.setdefault(name, Work()).add(1, n_bytes, flops)

    def _flops(self, node: Any, arrays: Any, backward: bool = False) -> float:
        if node.name == "linear":
            x, weight = arrays[0], arrays[1]
            return (4 if backward else 2) * (x.size // x.shape[-1]) * weight.size
        if node.name == "linear_cross_entropy":
            x, weight = arrays[0], arrays[1]
            return 0.0 if backward else 6 * (x.size // x.shape[-1]) * weight.size
        if node.name == "attention_qkv":  # half of each (T, T) product is hidden
            return (5 if backward else 2) * arrays[0].size / 3 * self.context
        return 0.0

    def _width(self, array: Any) -> int:
        return 2 if self.half and array.dtype.name == "float32" else array.itemsize

    def _bytes(self, arrays: Any) -> float:
        return float(sum(a.size * self._width(a) for a in arrays if is_array(a)))


def count(size: Size, batch: int) -> dict[str, Work]:
    """Work of one step of the model with any batch, from two short steps on the CPU."""
    found = [_short_step(size, rows) for rows in (1, 2)]
    n = batch * size.context / SHORT - 1
    total = {
        name: Work(a.calls, a.bytes + n * (b.bytes - a.bytes), a.flops + n * (b.flops - a.flops))
        for (name, a), b in zip(found[0].items(), found[1].values(), strict=True)
    }
    weights = 12 * size.n_layer * size.n_embd**2 + (size.vocabulary + size.context) * size.n_embd
    total["norm of the gradient"] = Work(1, 4.0 * weights)
    total["adamw"] = Work(1, 30.0 * weights)  # reads p, g, m, v; writes p, m, v and 16-bit weights
    return total


def _short_step(size: Size, batch: int) -> dict[str, Work]:
    import tinygrad_llm as tg

    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    model = tg.nn.GPT(config)
    optimizer = tg.optim.AdamW(model, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
    inputs, targets = replace(size, context=SHORT, batch=batch).batches(1)[0]
    with Traffic(size.context, half=True) as traffic:
        model.loss(inputs, targets).backward()
    tg.optim.clip_grad_norm(optimizer, MAX_NORM)
    return traffic.work


def floor_ms(work: Work, chip: str) -> float:
    """No version runs faster than this."""
    bandwidth, rate = CHIPS[chip]
    return max(work.bytes / bandwidth / 1e6, work.flops / rate / 1e9)


def expected_ms(name: str, work: Work, chip: str) -> float:
    """With what good kernels have reached."""
    bandwidth, rate = CHIPS[chip]
    op, _, direction = name.partition(" ")
    kind = f"attention {direction}" if op == "attention_qkv" else "product"
    moving = work.bytes / bandwidth / 1e6 / REACHED["memory"]
    computing = work.flops / rate / 1e9 / REACHED[kind] if work.flops else 0.0
    if op == "linear_cross_entropy":  # products and the softmax between them take turns
        return moving + computing
    return max(moving, computing)


def print_model(size: Size, batch: int) -> None:
    """The table, its sums, and the speeds that follow."""
    total = count(size, batch)
    print(f"\n{replace(size, batch=batch).title}: one step")
    print(f"  {'':32}{'calls':>6}{'GB':>8}{'TFLOP':>8}{'floor ms H100':>15}{'H200':>7}")
    for name, work in sorted(total.items(), key=lambda item: -floor_ms(item[1], "H200")):
        print(
            f"  {name:32}{work.calls:6.0f}{work.bytes / 1e9:8.2f}{work.flops / 1e12:8.2f}"
            f"{floor_ms(work, 'H100'):15.2f}{floor_ms(work, 'H200'):7.2f}"
        )
    tokens = batch * size.context
    for chip in CHIPS:
        for what, time_of in (("floor", _floor), ("with good kernels", expected_ms)):
            ms = sum(time_of(name, work, chip) for name, work in total.items())
            print(f"  {chip}, {what}: {ms:.1f} ms, {tokens / ms:,.0f} thousand tokens/s")


def _floor(name: str, work: Work, chip: str) -> float:
    return floor_ms(work, chip)


