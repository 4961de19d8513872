# %% [markdown]
# # Appendix: Kernels
#
# On a GPU arithmetic is nearly free, and reading and writing memory is what takes time. A chain of
# array operations writes every result to memory and reads it back for the next. A **fused kernel**
# reads once, does all of it, and writes once. The kernels here are written in Triton: a Python
# function that says what one program does to one block of elements.
#
# No GPU is needed for this appendix: on NumPy arrays the same source runs in Triton's interpreter.
# That proves that the numbers are right. How fast it is must be measured on a GPU:
# `python benchmarks/bench_kernels.py`.
#
# **Expect**: kernels and array code agree to six digits, forward and backward; the compiler, which
# needs no GPU either, says how many registers each takes on an H100. Half a minute on one core.

# %%
from __future__ import annotations

import sys

import numpy as np

import tinygrad_llm as tg

F, kernels = tg.functional, tg.kernels
here = np.zeros(1, np.float32)
if kernels.why_not(here):
    print(f"Kernels do not run here: {kernels.why_not(here)}")
    sys.exit(0)
random = tg.Generator(0)

# %% [markdown]
# ## Softmax, step by step and fused
#
# Array code makes five passes over memory: the maximum, the difference, the exponential, the sum,
# the quotient. The kernel keeps a row in registers from the first to the last.

# %%
x = random.normal((64, 100))


def softmax_in_steps(x: np.ndarray) -> tuple[np.ndarray, int]:
    """The result, and how many numbers were read or written."""
    largest = x.max(axis=1, keepdims=True)  # reads N
    shifted = x - largest  # reads N, writes N
    exponential = np.exp(shifted)  # reads N, writes N
    total = exponential.sum(axis=1, keepdims=True)  # reads N
    return exponential / total, (1 + 2 + 2 + 1 + 2) * x.size  # the quotient reads N, writes N


in_steps, moved = softmax_in_steps(x)
difference = np.abs(kernels.softmax(x) - in_steps).max()
print(
    f"-> softmax: kernel and steps differ by {difference:.1e}; numbers moved {moved:,} in steps, "
    f"{2 * x.size:,} fused ({moved / (2 * x.size):.0f} times fewer)"
)
assert difference < 1e-6

# %% [markdown]
# ## Kernels and ops
#
# Each kernel has the array code of an op beside it, and must agree with it, gradients included.

# %%
weight, bias = random.normal((100,)), random.normal((100,))
inputs = [tg.tensor(a, requires_grad=True) for a in (x, weight, bias)]
reference = F.layer_norm(*inputs)
dy = random.normal(x.shape)
reference.backward(dy)
y, mean, rstd = kernels.layer_norm(x, weight, bias)
gradients = kernels.layer_norm_backward(dy, x, weight, mean, rstd)
forward = np.abs(y - reference.data).max()
backward = max(
    np.abs(ours - tensor.grad).max() for ours, tensor in zip(gradients, inputs, strict=True)
)
print(f"-> layer norm: kernel and op differ by {forward:.1e} forward, {backward:.1e} backward")
assert forward < 1e-5
assert backward < 1e-4

# %% [markdown]
# ## Attention without the matrix of weights
#
# For T positions there are T x T weights, too many to write to memory. The kernel goes through the
# keys in blocks and keeps, per query, a running maximum, a running sum and a running result, which
# it rescales when a larger maximum comes along ("online softmax").
#
# Source: Dao et al., "FlashAttention", 2022.

# %%
q, k, v = (random.normal((1, 2, 40, 16)) for _ in range(3))  # (B, H, T, D)


def online(q: np.ndarray, k: np.ndarray, v: np.ndarray, block: int = 16) -> np.ndarray:
    """The same recurrence in NumPy, for one head: q, k, v (T, D)."""
    t, d = q.shape
    largest, total, result = np.full((t, 1), -np.inf), np.zeros((t, 1)), np.zeros((t, d))
    for start in range(0, t, block):
        s = q @ k[start : start + block].T / np.sqrt(d)  # (T, block)
        later = np.arange(start, start + s.shape[1])[None, :] > np.arange(t)[:, None]
        s[later] = -np.inf
        new = np.maximum(largest, s.max(axis=1, keepdims=True))
        rescale, p = np.exp(largest - new), np.exp(s - new)
        total = total * rescale + p.sum(axis=1, keepdims=True)
        result = result * rescale + p @ v[start : start + block]
        largest = new
    return result / total


plain = F.scaled_dot_product_attention(q, k, v, causal=True).data
fused = kernels.attention(q, k, v, causal=True)
fused = fused[0] if isinstance(fused, tuple) else fused
by_recurrence = online(q[0, 0], k[0, 0], v[0, 0])
print(
    f"-> attention: kernel and op differ by {np.abs(fused - plain).max():.1e}, "
    f"recurrence and op by {np.abs(by_recurrence - plain[0, 0]).max():.1e}"
)
assert np.abs(fused - plain).max() < 1e-4
assert np.abs(by_recurrence - plain[0, 0]).max() < 1e-5

# %% [markdown]
# ## The loss without the logits
#
# GPT-2's logits for a batch of 8 x 1024 tokens are 412 million numbers. Matrix product and
# cross-entropy in one go never hold them all.

# %%
hidden, table = random.normal((20, 16)), random.normal((300, 16))
targets = random.integers(0, 300, (20,))
whole = F.cross_entropy(F.linear(hidden, tg.tensor(table)), targets).item()
in_parts = F.linear_cross_entropy(hidden, tg.tensor(table), targets, chunk_rows=4).item()
print(
    f"-> loss {whole:.6f} with all logits, {in_parts:.6f} in parts; "
    f"8 x 1024 x 50257 logits take {8 * 1024 * 50257 * 4 / 2**30:.2f} GiB"
)
assert abs(whole - in_parts) < 1e-5

# %% [markdown]
# ## What limits a kernel
#
# The operations per byte that a kernel moves decide what it waits for. Below the ridge of this
# "roofline" it is the memory, above it the arithmetic units. The roof is drawn from the data sheet
# of an H100 (3.35 TB/s, 67 TFLOP/s in float32 without tensor cores); the kernels are placed by
# counting, not by measuring.
#
# Source: Williams, Waterman & Patterson, "Roofline", 2009.

# %%
BYTES, FLOPS = 3.35e12, 67e12
T, D = 1024, 64  # one head
work = {  # operations, numbers moved
    "softmax in steps": (5 * x.size, 8 * x.size),
    "softmax fused": (5 * x.size, 2 * x.size),
    "attention, weights written": (4 * T * T * D + 5 * T * T, 4 * T * D + 4 * T * T),
    "attention fused": (4 * T * T * D + 5 * T * T, 4 * T * D),
}
intensity = {name: flops / (4 * numbers) for name, (flops, numbers) in work.items()}
for name, per_byte in intensity.items():
    limit = "memory" if per_byte < FLOPS / BYTES else "arithmetic"
    print(f"-> {name}: {per_byte:.2f} operations per byte, limited by {limit}")
assert intensity["softmax fused"] < FLOPS / BYTES < intensity["attention fused"]


def roofline(figure) -> None:
    """The roof, and where the kernels stand below it."""
    axes = figure.subplots()
    per_byte = np.logspace(-2, 3, 100)
    axes.loglog(per_byte, np.minimum(BYTES * per_byte, FLOPS) / 1e12, "0.4")
    for name, value in intensity.items():
        top = min(BYTES * value, FLOPS) / 1e12
        axes.plot([value, value], [0.02, top], "o-", markevery=[1], label=name)
    axes.set(xlabel="operations per byte", ylabel="at most TFLOP/s", ylim=(0.02, 200))
    axes.legend(loc="lower right")


tg.explain.pictures.show(
    roofline,
    "A roof that rises with the operations per byte and is flat from 20 on: both softmaxes stand "
    "far down the slope, the fused one higher; fused attention stands under the flat part.",
)

# %% [markdown]
# ## Compiled for a chip that is not here
#
# Triton brings NVIDIA's assembler with it, so the machine code for an H100 can be made anywhere.
# Registers per thread decide how many programs share a multiprocessor; stack bytes are registers
# that did not fit.

# %%
with kernels.compile_only(90) as compiled:
    kernels.layer_norm(x, weight, bias)
for kernel in compiled:
    r = kernels.resources(kernel)
    print(f"-> {r.name} on sm_{r.chip}: {r.registers} registers, {r.stack} bytes of stack")
    assert r.registers <= 255
    assert r.stack == 0

# %% [markdown]
# To write one yourself, from an empty file to a timed kernel: docs/write_your_own_kernel.md.

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/app_kernels.py`.
#
#
# ### 1. Two halves of a softmax (easy)
#
# Each of two programs has read one half of a row and knows its maximum and the sum of e^(x -
# maximum). Derive both for the whole row. Does the order matter in which three parts are joined?
# Can anything overflow? Check with numbers around 1000.
#
# ### 2. What fusing saves (medium)
#
# After the product x W^T of GPT-2's feed-forward network (8192 x 768 by 768 x 3072) come the bias
# and GELU. Count the numbers that are read and written by three separate ops, with bias and GELU
# fused, and with everything in one kernel. How many operations per byte are that?
#
# ### 3. A kernel of your own (hard)
#
# Write squared ReLU, y = max(x, 0)^2, as a Triton kernel with its backward, for a size that is no
# multiple of the block, run both with `kernels.launch`, and compare them with ops.
