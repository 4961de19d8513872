"""Parts as a reader would write them: plain modules, right ones and wrong ones."""

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import nn

F = nn.functional


class RMSNorm(nn.Module):
    def __init__(self, size):
        self.weight = nn.Parameter(np.ones(size, np.float32))

    def forward(self, x):
        return x / ((x * x).mean(axis=-1, keepdims=True) + 1e-5).sqrt() * self.weight


class GatedFeedForward(nn.Module):
    def __init__(self, size):
        self.gate, self.up = nn.Linear(size, 2 * size), nn.Linear(size, 2 * size)
        self.down = nn.Linear(2 * size, size)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class RotaryAttention(nn.Module):
    """Rotary positions; uses mask and cache."""

    def __init__(self, size, n_head):
        self.n_head = n_head
        self.qkv = nn.Linear(size, 3 * size)
        self.projection = nn.Linear(size, size)

    def turned(self, x, first):
        half = x.shape[-1] // 2
        angles = np.arange(first, first + x.shape[2])[:, None] / 100.0 ** (np.arange(half) / half)
        c, s = (tg.tensor(f(angles), dtype=x.dtype) for f in (np.cos, np.sin))
        a, b = x[..., :half], x[..., half:]
        return F.concatenate([a * c - b * s, a * s + b * c], axis=-1)

    def heads(self, x):
        n, t, _ = x.shape
        parts = self.qkv(x).reshape(n, t, 3, self.n_head, -1).transpose(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def merged(self, y):
        n, _, t, _ = y.shape
        return self.projection(y.transpose(0, 2, 1, 3).reshape(n, t, -1))

    def forward(self, x, mask=None, cache=None):
        q, k, v = self.heads(x)
        first = 0 if cache is None else cache.length
        q, k = self.turned(q, first), self.turned(k, first)
        if cache is not None:
            k, v = self.keep(cache, k, v)
        return self.merged(F.scaled_dot_product_attention(q, k, v, causal=True, mask=mask))

    def keep(self, cache, k, v):
        return cache.append(k, v)


class IgnoresCache(RotaryAttention):
    """Has the argument, and does nothing with it."""

    def keep(self, cache, k, v):
        return k, v


class TakesXAlone(RotaryAttention):
    def forward(self, x):
        return super().forward(x)


class AppendsTwice(RotaryAttention):
    def keep(self, cache, k, v):
        cache.append(k, v)
        return cache.append(k, v)


class AppendsTheLastOnly(RotaryAttention):
    def keep(self, cache, k, v):
        cache.append(k[:, :, -1:], v[:, :, -1:])
        return k, v


class OneKeyHead(nn.Module):
    """All heads share one head of keys and values: the cache is smaller than the model's."""

    def __init__(self, size, n_head):
        self.n_head = n_head
        self.query, self.key = nn.Linear(size, size), nn.Linear(size, 2 * size // n_head)
        self.projection = nn.Linear(size, size)

    def forward(self, x, mask=None, cache=None):
        n, t, c = x.shape
        q = self.query(x).reshape(n, t, self.n_head, -1).transpose(0, 2, 1, 3)
        kv = self.key(x).reshape(n, t, 2, 1, -1).transpose(2, 0, 3, 1, 4)
        k, v = kv[0], kv[1]  # (B, 1, T, D)
        if cache is not None:
            k, v = cache.append(k, v)
        k, v = (F.concatenate([part] * self.n_head, axis=1) for part in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, causal=True, mask=mask)
        return self.projection(y.transpose(0, 2, 1, 3).reshape(n, t, c))


class ParallelBlock(nn.Module):
    """Attention and feed-forward side by side (GPT-J)."""

    def __init__(self, size, n_head):
        self.norm = nn.LayerNorm(size)
        self.attention = nn.MultiHeadAttention(size, n_head)
        self.feed_forward = nn.FeedForward(size)

    def forward(self, x, mask=None, cache=None):
        h = self.norm(x)
        return x + self.attention(h, mask=mask, cache=cache) + self.feed_forward(h)


def own_gpt(dtype="float64", attention=RotaryAttention, **parts):
    """A GPT of two blocks with RMSNorm, a gated feed-forward network and an attention."""
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(31, 24, n_layer=2, n_head=2, n_embd=8, dropout=0.1))
    model.position_embedding = None
    for block in model.blocks:
        block.norm1, block.norm2 = RMSNorm(8), RMSNorm(8)
        block.attention, block.feed_forward = attention(8, 2), GatedFeedForward(8)
        for name, make in parts.items():
            setattr(block, name, make())
    model.final_norm = RMSNorm(8)
    for p in model.parameters():
        p.data *= 2
    return model.to(dtype)
