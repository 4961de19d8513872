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
# The graph of y, with the number in each node and the gradient that came back to it. And why h is
# 1e-6: with a large h the curve bends between the two points, with a tiny one their difference
# drowns in rounding.


# %%
def graph_and_steps(figure) -> None:
    """The nodes and their gradients; the error of a measured slope for each h."""
    nodes, errors = figure.subplots(1, 2, width_ratios=[3, 2])
    product, inner, tanh = Value(w.data * x.data), y.parts[0][0].parts[0][0], y.parts[0][0]
    product.grad = inner.grad  # a sum hands its gradient on as it is
    places = {
        "w": (w, 0, 2), "x": (x, 0, 1), "b": (b, 0, 0), "w x": (product, 1, 1.5),
        "w x + b": (inner, 2, 0.8), "tanh": (tanh, 3, 1.2), "y": (y, 4, 2),
    }  # fmt: skip
    ways = "w>w x", "x>w x", "w x>w x + b", "b>w x + b", "w x + b>tanh", "tanh>y", "w>y"
    for start, end in (way.split(">") for way in ways):
        arrow = {"arrowstyle": "->", "color": "0.6", "shrinkA": 24, "shrinkB": 24}
        nodes.annotate("", places[end][1:], places[start][1:], arrowprops=arrow)
    for name, (value, column, row) in places.items():
        text = f"{name}\n{value.data:.2f}\ngrad {value.grad:.2f}"
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": "C0"}
        nodes.text(column, row, text, ha="center", va="center", size=8, bbox=box)
    nodes.set(xlim=(-0.6, 4.6), ylim=(-0.6, 2.6))
    nodes.axis("off")
    h = np.logspace(-12, 0, 49)
    slopes = [np.tanh((-1.5 + e) * 0.5 + 0.25) * (-1.5 + e) for e in (h, -h)]
    errors.loglog(h, np.abs((slopes[0] - slopes[1]) / (2 * h) - w.grad) + 1e-17)
    errors.set(xlabel="h", ylabel="error of the measured slope")


tg.explain.pictures.show(
    graph_and_steps,
    "A graph of seven nodes from w, x and b to y, each with its value and gradient. Beside it the "
    "error of a measured slope: it falls with h, is least near 1e-5, and rises again.",
    size=(9, 3.4),
)

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

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/app_backprop.py`.
#
#
# ### 1. Two more operations (easy)
#
# Give `Value` an `exp` and a division. Compute the gradients of e^a / b, compare them with
# `tg.Tensor` and one of them with a measured slope. What has to be changed in `backward`?
#
# ### 2. The forgotten plus (medium)
#
# In `backward`, replace `+=` by `=`. For which expressions are the gradients still right, and what
# is the gradient of x * x + x at x = 3? Predict the possible values, then run it. Where in a GPT
# would this mistake strike?
#
# ### 3. The derivative of a derivative (hard)
#
# The gradient of log(sum over j of e^(x_j)) is softmax(x). Derive the matrix of its second
# derivatives, and check it with an engine that has first derivatives only.
