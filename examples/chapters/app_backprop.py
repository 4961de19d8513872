# %% [markdown]
# # Appendix: Backpropagation, from one number to a GPT
#
# Backpropagation is the chain rule, applied from the end. It is done here three times: for single
# numbers, with an engine of thirty lines; for arrays, where each op hands its gradient on; and for
# a whole GPT, checked against what a derivative *is*: change a weight a little, see what the loss
# does.
#
# **Expect**: the small engine and `tg.Tensor` agree to the last digit, and the gradient of every
# parameter of a GPT agrees with the measured slope to six digits or more. Some seconds.

# %%
from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinygrad_llm as tg

F = tg.functional

# %% [markdown]
# ## One number at a time
#
# A value remembers what it was made of, and how much each part acts on it (the local slope). Going
# from the result back to the beginning, each value's gradient, times the local slope, is added to
# that of its parts.


# %%
class Value:
    """A number with a gradient."""

    def __init__(self, data: float, parts: tuple[tuple[Value, float], ...] = ()) -> None:
        self.data, self.parts, self.grad = data, parts, 0.0

    def __add__(self, other: Value) -> Value:
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: Value) -> Value:
        return Value(self.data * other.data, ((self, other.data), (other, self.data)))

    def tanh(self) -> Value:
        """Slope: 1 - tanh^2."""
        y = float(np.tanh(self.data))
        return Value(y, ((self, 1 - y * y),))

    def backward(self) -> None:
        """Gradients of everything this number depends on."""
        order: list[Value] = []

        def visit(value: Value) -> None:
            if value not in order:
                for part, _ in value.parts:
                    visit(part)
                order.append(value)

        visit(self)
        self.grad = 1.0
        for value in reversed(order):  # each after all that depend on it
            for part, slope in value.parts:
                part.grad += slope * value.grad


# %% [markdown]
# A neuron: y = tanh(w x + b) times w again, so that w acts on the result in two ways. Both ways
# arrive at w, and are summed.

# %%
x, w, b = Value(0.5), Value(-1.5), Value(0.25)
y = (w * x + b).tanh() * w
y.backward()

tx, tw, tb = (tg.tensor(v, requires_grad=True, dtype="float64") for v in (0.5, -1.5, 0.25))
ty = (tw * tx + tb).tanh() * tw
ty.backward()
for name, small, tensor in (("x", x, tx), ("w", w, tw), ("b", b, tb)):
    print(f"dy/d{name}: {small.grad:.12f} and {float(tensor.grad):.12f}")
print(f"-> y {y.data:.6f}, dy/dw {w.grad:.6f}")
assert abs(w.grad - float(tw.grad)) < 1e-12
assert abs(x.grad - float(tx.grad)) < 1e-12

# %% [markdown]
# The same by measuring: how much does y change when w does?

# %%
h = 1e-6
ahead = np.tanh((-1.5 + h) * 0.5 + 0.25) * (-1.5 + h)
behind = np.tanh((-1.5 - h) * 0.5 + 0.25) * (-1.5 - h)
print(f"-> measured slope {(ahead - behind) / (2 * h):.6f}")
assert abs((ahead - behind) / (2 * h) - w.grad) < 1e-8

# %% [markdown]
# ## Arrays
#
# Millions of single numbers would take forever, so a node of the graph is an op on whole arrays.
# For a Linear layer, y = x W^T + b, the gradients are again matrix products:
#
#     dx = dy W          dw = dy^T x          db = sum of dy over the rows

# %%
random = tg.Generator(0)
x_, w_, b_ = random.normal((4, 3)), random.normal((2, 3)), random.normal((2,))
inputs = [tg.tensor(a, requires_grad=True) for a in (x_, w_, b_)]
out = F.linear(*inputs)
dy = random.normal((4, 2))
out.backward(dy)
for tensor, by_hand in zip(inputs, (dy @ w_, dy.T @ x_, dy.sum(axis=0)), strict=True):
    assert np.allclose(tensor.grad, by_hand, atol=1e-6)
print(f"-> dw by hand and by the engine differ by {np.abs(inputs[1].grad - dy.T @ x_).max():.1e}")

# %% [markdown]
# A softmax and its cross-entropy, which every language model ends in. The long way, through exp,
# sum and log, must give what the short formula says: probabilities minus one-hot.

# %%
logits = tg.tensor(random.normal((5, 7)), requires_grad=True)
targets = np.array([1, 0, 6, 3, 3])
probabilities = logits.exp() / logits.exp().sum(axis=1, keepdims=True)
(-probabilities.log()[np.arange(5), targets].mean()).backward()
long_way, logits.grad = logits.grad, None
F.cross_entropy(logits, targets).backward()
formula = (F.softmax(logits.data).data - np.eye(7)[targets]) / 5
print(f"-> the long way and the formula differ by {np.abs(long_way - formula).max():.1e}")
assert np.allclose(long_way, formula, atol=1e-6)
assert np.allclose(logits.grad, formula, atol=1e-6)

# %% [markdown]
# ## The graph
#
# `tg.graph(loss)` draws it, `tg.trace()` lists what was done, forward and backward, and what was
# kept for the way back. (`examples/study_backprop.py` makes a page of it to walk through.)

# %%
tg.manual_seed(0)
model = tg.nn.GPT(tg.nn.GPTConfig(13, context_length=6, n_layer=2, n_head=2, n_embd=8))
ids, targets = random.integers(0, 13, (2, 2, 6))
with tg.trace() as trace:
    loss = model.loss(ids, targets)
    loss.backward()
print(trace)
print(f"-> {len(trace.ops)} ops in a step of a GPT with two layers")

# %% [markdown]
# ## A GPT against its measured slopes
#
# The whole derivative of the loss, parameter by parameter, in float64.


# %%
class Loss(tg.nn.Module):
    """The loss of a GPT on one batch, as a module."""

    def __init__(self, model: tg.nn.GPT) -> None:
        self.model = model

    def forward(self) -> tg.Tensor:
        """A scalar."""
        return self.model.loss(ids, targets)


with tg.no_grad():  # GPT-2's small first values make slopes too small to compare well
    for _, p in model.named_parameters():
        p.copy_(p.data + random.normal(p.shape, 0.2))
report = tg.gradcheck(Loss(model), [], max_elements=64)
print(report)
print(f"-> largest error over {len(report.entries)} parameters: {report.error:.1e}")
assert report.error < 1e-6

# %% [markdown]
# A check that passes says something only if it can fail. So make a mistake: an op whose backward
# forgets a factor.


# %%
class Careless(tg.Function):
    """y = x^2, with a wrong derivative."""

    def forward(ctx, x):
        ctx.save(x)
        return x * x

    def backward(ctx, dy):
        return dy * ctx.saved[0]


def caught(function: Callable[..., tg.Tensor]) -> bool:
    """Whether the check notices."""
    try:
        tg.gradcheck(function, [random.normal((3,))])
    except tg.errors.GradientError:
        return True
    return False


print(f"-> the forgotten factor 2 is noticed: {caught(Careless.apply)}")
assert caught(Careless.apply)
assert not caught(lambda x: x * x)
