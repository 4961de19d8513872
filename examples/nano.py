"""A GPT and the engine that trains it, on NumPy alone, to be read from top to bottom.

    python examples/nano.py [FILE]       # learns from a text for about a minute, then writes

An op is a formula and its derivative: a function that computes y from x, and inside it another,
`backward`, that turns dy, the gradient of the loss with respect to y, into that for x, dx.

Letters: B sequences of T positions, each C numbers wide; H heads of D = C / H; V characters.
"""

from __future__ import annotations

import sys
from heapq import heappop, heappush
from pathlib import Path
from pydoc_data.topics import topics  # the Python manual, which comes with Python
from typing import Any

import numpy as np
from numpy import ndarray as Array


# ---- the engine ------------------------------------------------------------------------------
class Tensor:
    """An array, the inputs it was computed from, the rule that turns its gradient into theirs."""

    clock = 0

    def __init__(self, data: Array, inputs: tuple[Tensor, ...] = (), rule: Any = None) -> None:
        Tensor.clock += 1
        self.time, self.data, self.inputs, self.rule = Tensor.clock, data, inputs, rule
        self.grad: Any = None

    def backward(self) -> None:
        """Walk back from this number, youngest first: what used a tensor is younger than it."""
        self.grad, heap = np.ones_like(self.data), [(-self.time, self)]
        while heap:
            y = heappop(heap)[1]  # no user of y is left: y.grad is complete
            for x, dx in zip(y.inputs, y.rule(y.grad), strict=True):
                if x.inputs and x.grad is None:
                    heappush(heap, (-x.time, x))
                x.grad = dx if x.grad is None else x.grad + dx


# ---- the ops ---------------------------------------------------------------------------------
def add(a: Tensor, b: Tensor) -> Tensor:
    """y = a + b       da = dy       db = dy, summed over the axes along which b was repeated"""
    repeated = tuple(range(a.data.ndim - b.data.ndim))
    return Tensor(a.data + b.data, (a, b), lambda dy: (dy, dy.sum(axis=repeated)))  # (B, T, C)


def embedding(ids: Array, w: Tensor) -> Tensor:
    """y[n] = w[ids[n]]       dw[v] = the sum of dy[n] over all n with ids[n] = v"""

    def backward(dy: Array) -> tuple[Array, ...]:
        dw = np.zeros_like(w.data)  # (V, C)
        np.add.at(dw, ids, dy)
        return (dw,)

    return Tensor(w.data[ids], (w,), backward)  # (B, T, C)


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """y = x w^T + b       dx = dy w       dw = dy^T x, summed over all positions"""
    both = ((0, 1), (0, 1))  # the axes B and T, of dy (B, T, O) and of x (B, T, I)
    y = Tensor(x.data @ w.data.T, (x, w), lambda dy: (dy @ w.data, np.tensordot(dy, x.data, both)))
    return y if b is None else add(y, b)  # (B, T, O)


def layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """y = n w + b,       n = (x - mean x) r,       r = 1 / sqrt(var x + eps)

    dn = dy w       dx = r (dn - mean dn - n mean(dn n))       dw = sum dy n       db = sum dy
    """
    r = 1 / np.sqrt(x.data.var(axis=-1, keepdims=True) + 1e-5)  # (B, T, 1)
    n = (x.data - x.data.mean(axis=-1, keepdims=True)) * r  # (B, T, C)

    def backward(dy: Array) -> tuple[Array, ...]:
        dn = dy * w.data  # (B, T, C)
        m1, m2 = dn.mean(axis=-1, keepdims=True), (dn * n).mean(axis=-1, keepdims=True)
        return r * (dn - m1 - n * m2), (dy * n).sum(axis=(0, 1)), dy.sum(axis=(0, 1))

    return Tensor(n * w.data + b.data, (x, w, b), backward)  # (B, T, C)


def gelu(x: Tensor) -> Tensor:
    """y = x h,       h = (1 + tanh u) / 2,       u = c (x + a x^3)

    dx = dy (h + x dh/dx),       dh/dx = 2 h (1 - h) du/dx,       du/dx = c (1 + 3 a x^2)
    """
    c, a, x2 = (2 / np.pi) ** 0.5, 0.044715, x.data * x.data
    h = (1 + np.tanh(c * x.data * (1 + a * x2))) / 2
    slope = h + x.data * 2 * h * (1 - h) * c * (1 + 3 * a * x2)
    return Tensor(x.data * h, (x,), lambda dy: (dy * slope,))  # (B, T, 4C)


def attention(qkv: Tensor, n_head: int) -> Tensor:
    """y = p v,       p = softmax z, row by row,       z = s q k^T, -inf for the future

    dv = p^T dy       dp = dy v^T       dz = p (dp - sum dp p)       dq = s dz k       dk = s dz^T q
    """
    B, T, C3 = qkv.data.shape
    q, k, v = qkv.data.reshape(B, T, 3, n_head, -1).transpose(2, 0, 3, 1, 4)  # each (B, H, T, D)
    s = q.shape[-1] ** -0.5  # 1 / sqrt D
    z = np.where(np.tri(T, dtype=bool), s * q @ k.swapaxes(-1, -2), -np.inf)
    p = softmax(z)  # (B, H, T, T): how much each position, a row, takes from those before

    def backward(dy: Array) -> tuple[Array, ...]:
        dy = dy.reshape(B, T, n_head, -1).swapaxes(1, 2)  # (B, H, T, D)
        dp = dy @ v.swapaxes(-1, -2)  # (B, H, T, T)
        dz = p * (dp - (dp * p).sum(axis=-1, keepdims=True))
        dq, dk, dv = s * dz @ k, s * dz.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy
        return (np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(B, T, C3),)  # (B, T, 3C)

    return Tensor((p @ v).swapaxes(1, 2).reshape(B, T, -1), (qkv,), backward)  # (B, T, C)


def cross_entropy(z: Tensor, targets: Array) -> Tensor:
    """loss = mean of -log p[target],       p = softmax z       dz = (p - onehot(target)) / N"""
    p = softmax(z.data)  # (B, T, V)
    onehot = np.eye(p.shape[-1], dtype=p.dtype)[targets]  # (B, T, V)
    loss = -np.log((p * onehot).sum(axis=-1)).mean()
    return Tensor(loss, (z,), lambda dy: (dy * (p - onehot) / targets.size,))


def softmax(z: Array) -> Array:
    """e^z / sum e^z in each row. Less its largest z a row gives the same, and e^z stays small."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# ---- the model -------------------------------------------------------------------------------
def new_parameters(V: int, T: int, C: int, n_layer: int) -> dict[str, list[Tensor]]:
    """Weight and bias of every layer: small random matrices, norms that change nothing yet."""
    shapes = {"token_embedding": (V, C), "position_embedding": (T, C), "final_norm": (C,)}
    block = {"norm1": (C,), "attention.qkv": (3 * C, C), "attention.projection": (C, C)}
    block |= {"norm2": (C,), "feed_forward.expand": (4 * C, C), "feed_forward.project": (C, 4 * C)}
    shapes |= {f"blocks.{i}.{name}": block[name] for i in range(n_layer) for name in block}
    rng, p = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        weight = np.ones(shape) if len(shape) == 1 else rng.normal(0, 0.02, shape)
        bias = [] if "embedding" in name else [np.zeros(shape[0])]
        p[name] = [Tensor(a.astype(np.float32)) for a in (weight, *bias)]
    return p


def gpt(p: dict[str, list[Tensor]], ids: Array, n_head: int) -> Tensor:
    """Scores (B, T, V) of every character as the next one, after each of ids (B, T)."""
    x = embedding(ids, *p["token_embedding"])  # (B, T, C)
    x = add(x, embedding(np.arange(ids.shape[1]), *p["position_embedding"]))
    for i in range(sum("norm1" in name for name in p)):
        y = layer_norm(x, *p[f"blocks.{i}.norm1"])
        y = attention(linear(y, *p[f"blocks.{i}.attention.qkv"]), n_head)  # (B, T, 3C) -> (B, T, C)
        x = add(x, linear(y, *p[f"blocks.{i}.attention.projection"]))
        y = layer_norm(x, *p[f"blocks.{i}.norm2"])
        y = gelu(linear(y, *p[f"blocks.{i}.feed_forward.expand"]))  # (B, T, 4C)
        x = add(x, linear(y, *p[f"blocks.{i}.feed_forward.project"]))
    return linear(layer_norm(x, *p["final_norm"]), *p["token_embedding"])  # the head: (B, T, V)


# ---- the program -----------------------------------------------------------------------------
def adamw(w: Tensor, m: Array, v: Array, t: int, lr: float) -> None:
    """w -= lr (m / sqrt v + decay w),   m and v: running means of the gradient and its square"""
    m += 0.1 * (w.grad - m)
    v += 0.01 * (w.grad * w.grad - v)
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)  # both means began at 0
    w.data -= lr * (step + (0.1 * w.data if w.data.ndim == 2 else 0))  # matrices alone decay
    w.grad = None


def gradient_error() -> float:
    """How far gradients of a tiny GPT are from (loss(w + h d) - loss(w - h d)) / 2h, at worst."""
    p, rng, h, worst = new_parameters(5, 4, 8, 1), np.random.default_rng(0), 1e-5, 0.0
    parameters, (ids, targets) = sum(p.values(), []), rng.integers(5, size=(2, 2, 4))
    for w in parameters:
        w.data = rng.normal(size=w.data.shape)  # float64
    cross_entropy(gpt(p, ids, 2), targets).backward()
    for w in parameters:
        start, d, loss = w.data, rng.normal(size=w.data.shape), []
        for move in (h, -h, 0):
            w.data = start + move * d
            loss.append(cross_entropy(gpt(p, ids, 2), targets).data)
        worst = max(worst, abs((w.grad * d).sum() - (loss[0] - loss[1]) / (2 * h)))
    return worst


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if file and not file.is_file():
        sys.exit(f"nano.py: there is no file {file}. Name a text file, or none.")
    words = (word for word in " ".join(topics.values()).split() if word.strip("(.,:)").isalpha())
    text = file.read_text(encoding="utf-8", errors="replace") if file else " ".join(words)
    chars, ids = np.unique(list(text), return_inverse=True)
    V, T, C, n_layer, n_head, B, steps = len(chars), 64, 96, 2, 4, 16, 1200
    if len(ids) < 20 * T:
        sys.exit(f"nano.py: the text has {len(ids)} characters, and needs {20 * T} or more.")
    n, share = len(ids) * 9 // 10, np.bincount(ids) / len(ids)  # n to learn from, the rest held out
    print(f"{len(ids):,} characters, {V} kinds; gradients right up to {gradient_error():.0e}")
    print(f"log V {np.log(V):.3f}, unigram entropy {-(share * np.log(share)).sum():.3f}")
    p, rng = new_parameters(V, T, C, n_layer), np.random.default_rng(0)
    state = [(w, np.zeros_like(w.data), np.zeros_like(w.data)) for w in sum(p.values(), [])]
    for t in range(1, steps + 1):
        at = rng.integers(n - T, size=(B, 1)) + np.arange(T)  # (B, T)
        loss = cross_entropy(gpt(p, ids[at], n_head), ids[at + 1])
        loss.backward()
        for w, m, v in state:
            adamw(w, m, v, t, lr=3e-3 * min(t / 50, 1, 2 * (1 - t / steps)))
        if t % 100 == 0 or t == 1:
            at = np.arange(n, len(ids) - T, T)[:64, None] + np.arange(T)  # (64, T)
            held = cross_entropy(gpt(p, ids[at], n_head), ids[at + 1])
            print(f"step {t}: loss {loss.data:.3f}, of held-out text {held.data:.3f}", flush=True)
    out = ids[:1]
    for _ in range(500):
        z = gpt(p, out[None, -T:], n_head).data[0, -1].astype(np.float64)  # (V,)
        out = np.append(out, rng.choice(V, p=softmax(z / 0.8)))
    print("".join(chars[out]))


if __name__ == "__main__":
    main()
