"""Proof that a derivative is the derivative: compare it with finite differences.

The slope along direction v is estimated from four function values,

    D(h) = [f(x + h v) - f(x - h v)] / (2 h)          error of order h^2
    (4 D(h) - D(2 h)) / 3                             error of order h^4

(Richardson's extrapolation), in float64, where at h = 1e-4 both the truncation and the rounding
error are near 1e-11. The direction is one element after the other for small arrays; for large
ones a sample of elements and some random directions, each of which weighs all elements at once.

A slope along v is a sum over grad * v, which broadcasts: a gradient of a wrong shape may well have
the right slopes. So before any slope each ``backward`` must return one gradient per argument, of
the argument's shape and type (autograd/returned.py, in every walk), and the same gradient must be
found where an optimizer provides the array for it, and where the results of a function are used
one by one (autograd/gradcheck/walks.py).

A function with array results is reduced to a number by fixed random weights, so that one check
covers every output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_llm.autograd.gradcheck.report import Comparison, Report
from tinygrad_llm.autograd.gradcheck.walks import Named, fault_of_walks
from tinygrad_llm.autograd.modes import no_grad
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.backend import Array, is_array, to_device, to_numpy
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.errors import GradientError

Call = Callable[..., Tensor | Sequence[Tensor]]
EPS, RTOL, ATOL = 1e-4, 1e-6, 1e-9
MAX_ELEMENTS, DIRECTIONS = 256, 8


def gradcheck(
    fn: Call,
    inputs: Sequence[object],
    *,
    eps: float = EPS,
    rtol: float = RTOL,
    atol: float = ATOL,
    max_elements: int = MAX_ELEMENTS,
    raise_error: bool = True,
    method: str = "difference",
) -> Report:
    """Check the gradients of ``fn`` with respect to its inputs and, for a Module, its parameters.

    Float inputs are copied to float64, on the device they are on; a Module's parameters are
    changed to float64 during the check and restored. The default generator is put back before
    each call, so dropout draws the same mask every time.

    Args:
        fn: a function of Tensors returning a Tensor or a tuple of them, or a Module.
        inputs: its arguments; float arrays and Tensors are checked, others passed on.
        eps: step h of the differences.
        rtol: relative error that is allowed.
        atol: error that is allowed whatever the size of the slope.
        max_elements: arrays with more elements are checked by sample and by random directions.
        raise_error: False returns a failed report in place of raising.
        method: ``"difference"``, or ``"complex"`` for the complex-step derivative
            Im f(x + ih) / h, which loses nothing to cancellation but needs an analytic function
            made of ops that take complex arrays (Squire and Trapp, SIAM Review 40, 1998).

    Returns:
        the report; ``print(report)`` shows a table.

    Raises:
        GradientError: a gradient is wrong, missing, has another shape or type than what it
            belongs to, or the function is not deterministic.
    """
    fn_inputs, variables, restore = _prepare(fn, inputs)
    try:
        report = _check(fn, fn_inputs, variables, (eps, rtol, atol), max_elements, method)
    finally:
        restore()
    if raise_error and not report.passed:
        raise GradientError(
            "gradcheck: the derivative is not the slope of the function.", *str(report).split("\n")
        )
    return report


def _prepare(fn: Call, inputs: Sequence[object]) -> tuple[list[object], Named, Callable[[], None]]:
    """Inputs in float64, everything to check by name, and what undoes the changes."""
    if isinstance(inputs, Tensor) or is_array(inputs):
        inputs = [inputs]
    fn_inputs = [_float64(x) for x in inputs]
    variables = [
        (f"input {i}", x)
        for i, x in enumerate(fn_inputs)
        if isinstance(x, Tensor) and x.requires_grad
    ]
    parameters = [
        (name, p)
        for name, p in (fn.named_parameters() if hasattr(fn, "named_parameters") else ())
        if p.requires_grad
    ]
    before = [(p, p.data, p.grad, p.gradient_sink) for _, p in parameters]
    for _, p in parameters:
        p.data, p.grad, p.gradient_sink = p.data.astype(np.float64), None, None

    def restore() -> None:
        for p, data, grad, sink in before:
            p.data, p.grad, p.gradient_sink = data, grad, sink

    return fn_inputs, variables + parameters, restore


def _float64(x: object) -> object:
    array = x.data if isinstance(x, Tensor) else x
    if is_array(array) and is_float(array.dtype):
        return Tensor(array.astype(np.float64), requires_grad=True)
    return x


def _check(
    fn: Call,
    inputs: list[object],
    variables: Named,
    limits: tuple[float, float, float],
    max_elements: int,
    method: str,
) -> Report:
    evaluate = _Reduced(fn, inputs)
    if evaluate() != evaluate():
        raise GradientError(
            "gradcheck: two calls with the same inputs differ. Random numbers must come from the "
            "default generator (tg.manual_seed), or be switched off."
        )
    try:
        evaluate.backward()
        fault = fault_of_walks(evaluate.backward, len(evaluate.weights or []), variables)
    except GradientError as error:
        fault = str(error)
    if fault:
        return Report(fault=fault)
    rng = np.random.default_rng(0)
    report = Report()
    for name, x in variables:
        grad = np.zeros(x.shape) if x.grad is None else to_numpy(x.grad).copy()
        x.grad = None
        slope = _complex_slope if method == "complex" else _slope
        report.entries.append(_compare(name, x, grad, evaluate, slope, limits, max_elements, rng))
    return report


class _Reduced:
    """``fn`` as a number: its results times fixed random weights, summed."""

    def __init__(self, fn: Call, inputs: list[object]) -> None:
        self.fn, self.inputs = fn, inputs
        self.random_state = default_generator().state()
        self.weights: list[Array] | None = None

    def outputs(self) -> list[Tensor]:
        default_generator().set_state(self.random_state)
        out = self.fn(*self.inputs)
        outs = [out] if isinstance(out, Tensor) else list(out)
        if self.weights is None:
            rng = np.random.default_rng(1)
            self.weights = [
                to_device(rng.uniform(0.5, 1.5, o.shape) * rng.choice([-1, 1], o.shape), o.device)
                for o in outs
            ]
        return outs

    def __call__(self) -> Any:
        with no_grad():
            outs = self.outputs()
        return sum((o.data * w).sum() for o, w in zip(outs, self.weights or [], strict=True))

    def backward(self, only: int | None = None) -> None:
        """Send the gradient back; of result number ``only`` alone, if it is given."""
        outs = self.outputs()
        terms = [
            (o * make_result(w, None)).sum()
            for k, (o, w) in enumerate(zip(outs, self.weights or [], strict=True))
            if only in (None, k)
        ]
        total: Any = sum(terms[1:], terms[0])
        if only is None or total.requires_grad:
            total.backward()


def _slope(evaluate: _Reduced, x: Tensor, v: np.ndarray, eps: float) -> float:
    """Richardson's estimate of the slope along v; leaves x as it was."""
    home, along = x.data, to_device(v, x.device)

    def at(step: float) -> float:
        x.data = _array(home + step * along)
        return float(evaluate())

    near = (at(eps) - at(-eps)) / (2 * eps)
    far = (at(2 * eps) - at(-2 * eps)) / (4 * eps)
    x.data = home
    return (4 * near - far) / 3


def _complex_slope(evaluate: _Reduced, x: Tensor, v: np.ndarray, eps: float) -> float:
    home, step = x.data, 1e-30
    x.data = _array(home + 1j * step * to_device(v, x.device))
    value = complex(evaluate()).imag / step
    x.data = home
    return value


def _array(x: Array | np.generic) -> Array:
    """NumPy's arithmetic makes scalars of arrays without axes; this makes arrays of them again."""
    return np.asarray(x) if isinstance(x, np.generic) else x


def _compare(
    name: str,
    x: Tensor,
    grad: np.ndarray,
    evaluate: _Reduced,
    slope: Callable[..., float],
    limits: tuple[float, float, float],
    max_elements: int,
    rng: np.random.Generator,
) -> Comparison:
    eps, rtol, atol = limits
    entry = Comparison(name, x.shape)
    for where, v in _directions(x.shape, max_elements, rng):
        analytic, numeric = float((grad * v).sum()), slope(evaluate, x, v, eps)
        scale = max(abs(analytic), abs(numeric), atol / rtol)
        error = abs(analytic - numeric) / scale
        entry.checked += 1
        if not error <= entry.error:  # also true for NaN
            entry.error, entry.where = error, where
            entry.analytic, entry.numeric = analytic, numeric
    entry.passed = entry.error <= rtol
    return entry


def _directions(
    shape: tuple[int, ...], max_elements: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """(label, v): unit vectors for the elements, then random ones where not all fit."""
    size = int(np.prod(shape, dtype=np.int64))
    chosen = range(size) if size <= max_elements else rng.choice(size, max_elements, replace=False)
    for i in chosen:
        v = np.zeros(size)
        v[i] = 1.0
        yield str(tuple(int(k) for k in np.unravel_index(i, shape))), v.reshape(shape)
    if size > max_elements:
        for k in range(DIRECTIONS):
            v = rng.normal(size=shape) / np.sqrt(size)
            yield f"direction {k}", v
