"""Mutants thought up by hand: mistakes that a person might make, most of them in one symbol.

(file under tinygrad_llm, text there, what stands in its place)
"""

from __future__ import annotations

HAND_WRITTEN = [
    # ops: constants, factors and signs in the mathematics
    ("ops/gelu.py", "C1 = 0.044715", "C1 = 0.044751"),
    ("ops/gelu.py", "x2 *= 6 * C0 * C1", "x2 *= 3 * C0 * C1"),
    ("ops/gelu.py", "xp.exp(-0.5 * x * x)", "xp.exp(-x * x)"),
    (
        "ops/layer_norm.py",
        "xp.sqrt(center(xp, x, out=xhat) + eps)",
        "(xp.sqrt(center(xp, x, out=xhat)) + eps)",
    ),
    ("ops/layer_norm.py", "    dx -= mean\n", ""),
    (
        "ops/layer_norm.py",
        "dweight, dbias = sum_rows(xp, scratch), sum_rows(xp, dy)",
        "dweight, dbias = sum_rows(xp, scratch), sum_rows(xp, dxhat)",
    ),
    (
        "ops/softmax.py",
        "y * (dy - (y * dy).sum(axis=axis, keepdims=True))",
        "y * (dy - (y * dy).mean(axis=axis, keepdims=True))",
    ),
    ("ops/softmax.py", "return shifted - xp.log(", "return x - xp.log("),
    ("ops/matmul.py", "product(ctx.xp, dy, b2.swapaxes(-1, -2))", "product(ctx.xp, dy, b2)"),
    ("ops/linear.py", "y[rows, columns] += bias[columns]", "y[rows, columns] = bias[columns]"),
    ("ops/reduce.py", "ctx.degrees = ctx.count - correction if", "ctx.degrees = ctx.count if"),
    ("ops/dropout.py", "y *= x.dtype.type(1 / (1 - p))", "y *= x.dtype.type(1 / p)"),
    (
        "ops/dropout.py",
        "if not training or p == 0:\n        return x\n    mask",
        "if p == 0:\n        return x\n    mask",
    ),
    # ops: indices, blocks and what lies between two of them
    (
        "ops/_attention_blocks.py",
        "slice(0, stop + n_keys - n_queries if causal else n_keys)",
        "slice(0, stop if causal else n_keys)",
    ),
    ("ops/_attention_blocks.py", "counter = row[..., None] * n_keys", "counter = row[..., None]"),
    (
        "ops/_attention_blocks.py",
        "xp.arange(rows.start, rows.stop)",
        "xp.arange(rows.stop - rows.start)",
    ),
    ("ops/attention.py", "dq[..., rows, :] *= s.scale", "dq[..., rows, :] *= 1"),
    (
        "ops/attention.py",
        "logsum[..., rows] = (top + xp.log(total))[..., 0]",
        "logsum[..., rows] = (top + xp.log(total + 1e-6))[..., 0]",
    ),
    (
        "ops/attention_qkv.py",
        "return [parts[:, :, i].swapaxes(1, 2) for i in range(n_parts)]",
        "return [parts[:, :, -1 - i].swapaxes(1, 2) for i in range(n_parts)]",
    ),
    (
        "ops/cross_entropy.py",
        "dlogits[rows, targets] -= share",
        "dlogits[rows, targets] -= 1 / len(rows)",
    ),
    ("ops/cross_entropy.py", "xp.maximum(counted.sum(), 1)", "xp.maximum(counted.size, 1)"),
    ("ops/linear_cross_entropy.py", "add=start > 0", "add=False"),
    (
        "ops/linear_cross_entropy.py",
        "dbias += sum_rows(xp, dlogits)",
        "dbias = sum_rows(xp, dlogits)",
    ),
    ("ops/embedding.py", "dweight[ordered[first]] += sums", "dweight[ordered[first]] = sums"),
    ("ops/embedding.py", "            dweight.fill(0)\n", "            pass\n"),
    (
        "ops/shape.py",
        "ctx.inverse = tuple(axes.index(i) for i in range(x.ndim))",
        "ctx.inverse = axes",
    ),
    ("ops/gather.py", "add_at(ctx.xp, dx, ctx.saved, dy)", "dx[ctx.saved] = dy"),
    ("ops/indexing.py", "add_at(ctx.xp, dx, ctx.index, dy)", "dx[ctx.index] = dy"),
    # modules
    ("nn/init.py", "GPT2_STD / math.sqrt(2 * n_layer)", "GPT2_STD / math.sqrt(n_layer)"),
    ("nn/layer_norm.py", "eps: float = 1e-5", "eps: float = 1e-6"),
    (
        "nn/block.py",
        "ResidualSum(s, call(self.feed_forward, call(self.norm2, s)))",
        "ResidualSum(x, call(self.feed_forward, call(self.norm2, s)))",
    ),
    ("nn/block.py", "call(self.norm2, s)", "call(self.norm1, s)"),
    ("nn/gpt.py", "self.final_norm = LayerNorm(c)", "self.final_norm = LayerNorm(c, bias=False)"),
    (
        "nn/attention.py",
        "return self._attend(q, k, v, False, mask)",
        "return self._attend(q, k, v, self.causal, mask)",
    ),
    (
        "nn/kv_cache.py",
        "return self.keys[:, :, :end], self.values[:, :, :end]",
        "return self.keys[:, :, :end], self.values[:, :, start:end]",
    ),
    ("nn/kv_cache.py", "columns >= self.padding[:, None]", "columns > self.padding[:, None]"),
    (
        "nn/lora.py",
        "weight += (self.lora_b.data @ self.lora_a.data) * (self.alpha / self.rank)",
        "weight += (self.lora_b.data @ self.lora_a.data) * self.alpha",
    ),
    ("nn/dropout.py", "return self.training and self.p > 0", "return self.p > 0"),
    (
        "nn/residual.py",
        "self._summands is None or self._recorded != current.grad_enabled",
        "self._summands is None",
    ),
    # optimizers
    ("optim/adamw.py", "1 - beta1**step, 1 - beta2**step", "1 - beta1**step, 1 - beta2"),
    ("optim/adamw.py", 'scratch += settings["eps"] * root', 'scratch += settings["eps"]'),
    ("optim/adamw.py", "weight_decay: float = 0.01", "weight_decay: float = 0.0"),
    (
        "optim/sgd.py",
        'velocity *= settings["momentum"]\n        velocity += scratch',
        'velocity += scratch\n        velocity *= settings["momentum"]',
    ),
    (
        "optim/clip.py",
        "_scale(gradients, max_norm / (norm + 1e-6))",
        "_scale(gradients, max_norm / (norm + 1))",
    ),
    (
        "optim/schedule.py",
        "(step - self.warmup) / (self.max_steps - self.warmup)",
        "step / (self.max_steps - self.warmup)",
    ),
    ("optim/groups.py", "if p.ndim >= 2]", "if p.ndim >= 1]"),
    ("optim/flat.py", "slot.steps += slot.parameter.grad is not None", "slot.steps += 1"),
    ("optim/flat.py", "self.data[i:j] = self.master[i:j]", "self.data[: j - i] = self.master[i:j]"),
    # generation
    (
        "generation/sampling.py",
        "np.where(scores > 0, scores / penalty, scores * penalty)",
        "scores / penalty",
    ),
    ("generation/sampling.py", 'side="right")  # the first sum', 'side="left")  # the first sum'),
    ("generation/sampling.py", "wanted = top_p * p.sum()", "wanted = top_p"),
    ("generation/next_scores.py", "[:, -1])  # (B, V)", "[:, 0])  # (B, V)"),
    ("generation/generate.py", "row * _STREAM_DISTANCE", "0 * _STREAM_DISTANCE"),
    ("generation/beam_search.py", "total / n_new**penalty", "total / n_new"),
    ("generation/scoring.py", "start = max(0, end - context)", "start = max(0, end - context + 1)"),
]
