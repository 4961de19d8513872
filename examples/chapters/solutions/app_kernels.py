# %% [markdown]
# # Solutions: Kernels

# %%
from __future__ import annotations

import sys

import numpy as np

import tinygrad_llm as tg

kernels = tg.kernels
here = np.zeros(1, np.float32)
if kernels.why_not(here):
    print(f"Kernels do not run here: {kernels.why_not(here)}")
    sys.exit(0)
import triton
import triton.language as tl

# %% [markdown]
# ## 1. Two halves of a softmax (easy)
#
# Let each half have its maximum m and its sum s of e^(x - m). With M the larger of the two maxima,
#
#     s = s_1 e^(m_1 - M) + s_2 e^(m_2 - M)
#
# since e^(x - M) = e^(x - m) e^(m - M). No exponent is positive, so nothing overflows, and the
# order in which parts are joined does not matter: a row can be cut into blocks, and the blocks can
# be given to different programs.

# %%
Part = tuple[float, float]  # maximum, sum


def part_of(x: np.ndarray) -> Part:
    """Of one block."""
    return float(x.max()), float(np.exp(x - x.max()).sum())


def join(a: Part, b: Part) -> Part:
    """Of two blocks together."""
    top = max(a[0], b[0])
    return top, a[1] * np.exp(a[0] - top) + b[1] * np.exp(b[0] - top)


x = tg.Generator(0).normal((90,)).astype(np.float64) * 3 + 1000  # e^1000 would overflow
blocks = [part_of(x[i : i + 30]) for i in (0, 30, 60)]
forwards, backwards = join(join(*blocks[:2]), blocks[2]), join(blocks[0], join(*blocks[1:]))
whole = part_of(x)
print(f"-> joined {forwards[1]:.12f}, in one go {whole[1]:.12f}")
assert np.allclose(forwards, whole)
assert np.allclose(backwards, whole)

# %% [markdown]
# ## 2. What fusing saves (medium)
#
# For h = gelu(x W^T + b) after the matrix product, N numbers each way:
#
#     add b      reads N, writes N
#     gelu       reads N, writes N
#
# Fused: 2 N in place of 4 N, and the same arithmetic. Fused with the matrix product itself, whose
# result is still in registers: no extra reading at all, N written once. With the product's own
# traffic of M K + N K + M N numbers the whole is memory bound only while K is small: its 2 M N K
# operations per number moved grow with K.

# %%
M, K, N = 8192, 768, 3072
product, result = M * K + N * K, M * N
ways = {"three ops": result + 4 * result, "bias and gelu fused": result + 2 * result}
ways["all in one"] = result
operations = 2 * M * N * K
for name, moved in ways.items():
    per_byte = operations / (4 * (product + moved))
    print(f"-> {name}: {4 * (product + moved) / 2**20:.0f} MiB, {per_byte:.0f} operations per byte")
assert ways["three ops"] / ways["all in one"] == 5

x, w, b = (tg.Generator(i).normal(s) for i, s in enumerate(((32, 16), (64, 16), (64,))))
fused = kernels.bias_gelu(x @ w.T, b)
fused = fused[0] if isinstance(fused, tuple) else fused
apart = tg.functional.gelu(x @ w.T + b).data
print(f"-> bias and gelu fused and apart differ by {np.abs(fused - apart).max():.1e}")
assert np.abs(fused - apart).max() < 1e-4

# %% [markdown]
# ## 3. A kernel of your own (hard)
#
# Squared ReLU, y = max(x, 0)^2, has dx = 2 max(x, 0) dy. Each program takes one block; the mask
# keeps the last one inside. Both passes read what they need once and write once. `kernels.launch`
# runs it here in Triton's interpreter, on a GPU compiled.


# %%
@triton.jit
def squared_relu_kernel(X, Y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.maximum(tl.load(X + i, mask=i < n, other=0.0), 0.0)
    tl.store(Y + i, x * x, mask=i < n)


@triton.jit
def squared_relu_backward_kernel(DY, X, DX, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.maximum(tl.load(X + i, mask=i < n, other=0.0), 0.0)
    tl.store(DX + i, 2 * x * tl.load(DY + i, mask=i < n, other=0.0), mask=i < n)


x, dy = tg.Generator(5).normal((2, 1000))
y, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)  # NaN: everything must be written
grid = (triton.cdiv(x.size, 256),)
kernels.launch(squared_relu_kernel, grid, x, y, x.size, BLOCK=256)
kernels.launch(squared_relu_backward_kernel, grid, dy, x, dx, x.size, BLOCK=256)

t = tg.tensor(x, requires_grad=True)
reference = tg.functional.relu(t) ** 2
reference.backward(dy)
error = max(np.abs(y - reference.data).max(), np.abs(dx - t.grad).max())
print(f"-> kernel and ops differ by {error:.1e}, forward and backward")
assert error < 1e-5
