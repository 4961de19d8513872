# %% [markdown]
# # Solutions: Backpropagation

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg


class Value:
    """A number with a gradient, as in the chapter; ``overwrite`` is the mistake of exercise 2."""

    overwrite = False

    def __init__(self, data: float, parts: tuple[tuple[Value, float], ...] = ()) -> None:
        self.data, self.parts, self.grad = data, parts, 0.0

    def __add__(self, other: Value) -> Value:
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: Value) -> Value:
        return Value(self.data * other.data, ((self, other.data), (other, self.data)))

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
        for value in reversed(order):
            for part, slope in value.parts:
                part.grad = slope * value.grad + (0.0 if self.overwrite else part.grad)


# %% [markdown]
# ## 1. Two more operations (easy)
#
# The slope of e^x is e^x, which is the result itself. The slopes of a / b are 1 / b for a and
# - a / b^2 for b. Nothing else has to be changed: `backward` knows no operation, only slopes.


# %%
class More(Value):
    """With exp and division."""

    def exp(self) -> More:
        """Slope: the result."""
        y = math.exp(self.data)
        return More(y, ((self, y),))

    def __truediv__(self, other: Value) -> More:
        a, b = self.data, other.data
        return More(a / b, ((self, 1 / b), (other, -a / b**2)))


a, b = More(0.7), More(-1.3)
y = a.exp() / b
y.backward()
ta, tb = (tg.tensor(v, requires_grad=True, dtype="float64") for v in (0.7, -1.3))
(ta.exp() / tb).backward()
h = 1e-6
measured = (math.exp(0.7) / (-1.3 + h) - math.exp(0.7) / (-1.3 - h)) / (2 * h)
print(f"-> dy/da {a.grad:.6f}, dy/db {b.grad:.6f}, measured {measured:.6f}")
assert abs(a.grad - float(ta.grad)) < 1e-12
assert abs(b.grad - float(tb.grad)) < 1e-12
assert abs(b.grad - measured) < 1e-6

# %% [markdown]
# ## 2. The forgotten plus (medium)
#
# With `=` the last way that is walked wins. An expression in which every value is used once, such
# as x * y + z, still gets the right gradients, which is why tests on simple chains do not find the
# mistake. As soon as a value is used twice, all ways but one are lost: of y = x * x + x, with dy/dx
# = 2x + 1, only one of the three terms x, x, 1 is left. In a GPT every shortcut and every shared
# table is such a value.

# %%
for overwrite in (False, True):
    Value.overwrite = overwrite
    x, y, z = Value(3.0), Value(4.0), Value(5.0)
    (x * y + z).backward()
    twice = Value(3.0)
    (twice * twice + twice).backward()
    print(
        f"-> {'=' if overwrite else '+='}: used once {x.grad, y.grad, z.grad}, "
        f"used thrice {twice.grad} (2x + 1 = 7)"
    )
    assert (x.grad, y.grad, z.grad) == (4.0, 3.0, 1.0)
    assert (twice.grad == 7.0) == (not overwrite)
Value.overwrite = False

# %% [markdown]
# ## 3. The derivative of a derivative (hard)
#
# The gradient of f = log(sum over j of e^(x_j)) is p = softmax(x). Its own derivative is
#
#     dp_i/dx_j = p_i (delta_ij - p_j)
#
# the matrix diag(p) - p p^T. Its rows sum to 0, since adding a constant to x changes nothing. No
# second-order engine is needed to check it: measure how the *gradient* changes when one x_j does.

# %%
x = tg.Generator(0).normal((5,)).astype(np.float64)


def gradient(x: np.ndarray) -> np.ndarray:
    """Of log-sum-exp at x, by the engine."""
    t = tg.tensor(x, requires_grad=True)
    t.exp().sum().log().backward()
    return t.grad


h = 1e-5
steps = h * np.eye(5)
measured = np.stack([(gradient(x + s) - gradient(x - s)) / (2 * h) for s in steps], axis=1)
p = np.exp(x) / np.exp(x).sum()
derived = np.diag(p) - np.outer(p, p)
print(
    f"-> derived and measured second derivatives differ by {np.abs(derived - measured).max():.1e}"
)
assert np.allclose(derived, measured, atol=1e-9)
assert np.allclose(derived.sum(axis=1), 0)
assert np.linalg.eigvalsh(derived).min() > -1e-12  # convex: one minimum
