"""Float64 references of the kernels, written from the formulas, sharing no code with them."""

from __future__ import annotations

import math

import numpy as np


def double(*arrays):
    return tuple(None if a is None else np.asarray(a).astype(np.float64) for a in arrays)


def softmax(x):
    (x,) = double(x)
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)


def softmax_backward(dy, y):
    dy, y = double(dy, y)
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def layer_norm(x, weight, bias, eps=1e-5):
    x, weight, bias = double(x, weight, bias)
    xhat = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    y = xhat if weight is None else xhat * weight
    return y if bias is None else y + bias


def layer_norm_backward(dy, x, weight, eps=1e-5):
    """Through the Jacobian of each row, not through the closed formula."""
    dy, x, weight = double(dy, x, weight)
    rows, n = x.reshape(-1, x.shape[-1]), x.shape[-1]
    dys = dy.reshape(-1, n)
    w = np.ones(n) if weight is None else weight
    dx, xhats = np.empty_like(rows), np.empty_like(rows)
    for i, row in enumerate(rows):
        centered, std = row - row.mean(), math.sqrt(row.var() + eps)
        jacobian = (np.eye(n) - 1 / n) / std - np.outer(centered, centered) / (n * std**3)
        dx[i] = (dys[i] * w) @ jacobian
        xhats[i] = centered / std
    return dx.reshape(x.shape), (dys * xhats).sum(0), dys.sum(0)


def gelu(x, bias, approximate):
    """y and dy/dz; the derivative by central differences, not by the formula of the kernel."""
    x, bias = double(x, bias)
    z = x if bias is None else x + bias

    def value(z):
        if approximate == "tanh":
            return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        return 0.5 * z * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))

    step = 1e-5
    return value(z), (value(z + step) - value(z - step)) / (2 * step)


def random_bits(key, counters):
    """The generator of INTERFACES, in Python integers without any array arithmetic."""

    def mix(x):
        x ^= x >> 16
        x = x * 0x7FEB352D & 0xFFFFFFFF
        x ^= x >> 15
        x = x * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    bits = [mix(mix(int(c) & 0xFFFFFFFF ^ key[0]) + key[1] & 0xFFFFFFFF) for c in counters]
    return np.array(bits, np.uint64)


def keep(key, counters, p):
    counters = np.asarray(counters)
    bits = random_bits(key, counters.ravel()).reshape(counters.shape)
    return bits >= min(round(p * 2**32), 2**32 - 1)


def cross_entropy(logits, targets, ignore_index=-100):
    """(losses, d losses / d logits), row by row."""
    (logits,) = double(logits)
    v = logits.shape[-1]
    rows, flat = logits.reshape(-1, v), np.asarray(targets).ravel()
    losses, dx = np.zeros(len(rows)), np.zeros_like(rows)
    for i, (row, target) in enumerate(zip(rows, flat, strict=True)):
        if target != ignore_index:
            losses[i] = row.max() + math.log(np.exp(row - row.max()).sum()) - row[target]
            dx[i] = softmax(row)
            dx[i, target] -= 1
    return losses, dx.reshape(logits.shape)


def adamw(p, g, m, v, lr, step, betas, eps, weight_decay, decays):
    """One step in float64; `decays` says for each element whether it decays."""
    p, g, m, v = double(p, g, m, v)
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    update = (m / (1 - betas[0] ** step)) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
    return p - lr * (update + weight_decay * decays * p), m, v


def attention(q, k, v, do, causal=False, scale=None, keep=None, p=0.0):
    """(o, dq, dk, dv, lse) with whole matrices; keep (B, H, T, S) is the dropout mask."""
    q, k, v, do = double(q, k, v, do)
    t, s, d = q.shape[2], k.shape[2], q.shape[3]
    scale = d**-0.5 if scale is None else scale
    scores = scale * q @ k.swapaxes(-1, -2)
    if causal:
        scores = np.where(np.arange(s) <= np.arange(t)[:, None] + s - t, scores, -np.inf)
    highest = scores.max(-1, keepdims=True, initial=-1e300)
    e = np.exp(scores - highest)
    total = e.sum(-1, keepdims=True)
    probability = e / np.where(total == 0, 1, total)
    factor = 1.0 if keep is None else keep / (1 - p)
    o = (probability * factor) @ v
    dv = (probability * factor).swapaxes(-1, -2) @ do
    dp = do @ v.swapaxes(-1, -2) * factor
    ds = probability * (dp - (dp * probability).sum(-1, keepdims=True))
    with np.errstate(divide="ignore"):
        lse = np.where(total == 0, -np.inf, highest + np.log(total))[..., 0]
    return o, scale * ds @ k, scale * ds.swapaxes(-1, -2) @ q, dv, lse
