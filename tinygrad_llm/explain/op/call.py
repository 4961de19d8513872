"""Calling an op on its registered samples: a worked example and the live gradient check."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.gradcheck import gradcheck
from tinygrad_llm.autograd.registry import Op, Sample
from tinygrad_llm.autograd.trace import argument_names
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.proof import (
    Call,
    differentiable,
    differentiable_call,
    is_caught,
    results_of,
)

MOST_NUMBERS = 80  # in the arguments of an example


def worked_example(op: Op, number: int | None = None) -> str:
    """One call with numbers: arguments, result, arriving and leaving gradients, one slope.

    Raises:
        ConfigError: the op has no sample of that number.
    """
    samples = op.samples(np.random.default_rng(0))
    if number is None:
        number = 1 + _readable(samples)
    if not 1 <= number <= len(samples):
        raise ConfigError(f"{op.name} has the samples 1 to {len(samples)}, got {number}.")
    return f"{_choice(samples, number)}{_example(op, _rounded(samples[number - 1]))}"


def _choice(samples: Sequence[Sample], number: int) -> str:
    """Which sample is shown, and how to see another one."""
    if len(samples) == 1:
        return ""
    others = [f"{i} {s.label}".rstrip() for i, s in enumerate(samples, 1) if i != number]
    said = f"Sample {number} of {len(samples)}; --sample shows another: {', '.join(others)}."
    return textwrap.fill(said, 80) + "\n\n"


def _example(op: Op, sample: Sample) -> str:
    run, inputs = differentiable_call(op.function.apply, sample)
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    outs = results_of(run, tensors)
    names = [_argument(op, i) for i in range(len(sample.args))]
    lines = [_show(n, a) for n, a in zip(names, sample.args, strict=True)]
    call = ", ".join([*names, *[f"{k}={v!r}" for k, v in sample.kwargs.items()]])
    results = ["y"] if len(outs) == 1 else [f"y{i}" for i in range(len(outs))]
    lines += [f"\n{', '.join(results)} = {op.name}({call})"]
    lines += [_show(n, o.data) for n, o in zip(results, outs, strict=True)]
    if not any(o.requires_grad for o in outs):
        return "\n".join([*lines, "\nNo gradient: the result is a constant for backward."])
    dys = _arriving(outs)
    _walk(outs, dys)
    lines += ["\narriving:"] + [_show(f"d{n}", dy) for n, dy in zip(results, dys, strict=True)]
    lines += ["\nleaving:"]
    places = differentiable(sample)
    lines += [_show(f"d{names[i]}", t.grad) for i, t in zip(places, tensors, strict=True)]
    return "\n".join([*lines, "", _one_slope(run, tensors, dys, f"d{names[min(places)]}")])


def _readable(samples: Sequence[Sample]) -> int:
    """Place of the first sample, which is the plainest, unless it is too large to follow."""

    def size(sample: Sample) -> int:
        return sum(a.size if isinstance(a, np.ndarray) else 1 for a in sample.args)

    if size(samples[0]) <= MOST_NUMBERS:
        return 0
    sizes = [size(s) if size(s) >= 6 else MOST_NUMBERS**2 for s in samples]
    return sizes.index(min(sizes))


def _rounded(sample: Sample) -> Sample:
    """The sample with two decimals, to be followed by hand."""
    args = tuple(
        np.round(a, 2) if isinstance(a, np.ndarray) and is_float(a.dtype) else a
        for a in sample.args
    )
    return Sample(args, sample.kwargs, sample.label, sample.constant)


def _argument(op: Op, position: int) -> str:
    names = argument_names(op.function.forward)
    if names and names[-1].startswith("*") and position >= len(names) - 1:
        return f"{names[-1][1:]}{position - len(names) + 1}"
    return names[position]


def _show(name: str, value: object) -> str:
    if not isinstance(value, np.ndarray):
        return f"{name} = {value!r}"
    text = np.array2string(
        value, precision=4, suppress_small=True, threshold=64, edgeitems=2, separator=", "
    )
    return f"{name} {value.shape} =\n{text}" if value.ndim else f"{name} = {text}"


def _arriving(outs: tuple[Tensor, ...]) -> list[np.ndarray]:
    """A gradient for each result: 1 for a loss, numbers with one decimal otherwise."""
    rng = np.random.default_rng(1)
    drawn = [np.round(rng.uniform(-1, 1, o.shape), 1) + 0.0 for o in outs]
    return [np.asarray(d) if d.ndim else np.ones(()) for d in map(np.asarray, drawn)]


def _walk(outs: tuple[Tensor, ...], dys: list[np.ndarray]) -> None:
    """One backward walk with ``dys`` arriving at the results."""
    pairs = [(out, dy) for out, dy in zip(outs, dys, strict=True) if out.requires_grad]
    terms = [(out * Tensor(dy.astype(out.dtype))).sum() for out, dy in pairs]
    sum(terms[1:], terms[0]).backward()


def _one_slope(run: Call, tensors: list[Tensor], dys: list[np.ndarray], name: str) -> str:
    """The gradient's largest element next to the slope that the function really has there."""
    x = tensors[0]
    where = np.unravel_index(int(np.abs(x.numpy() * 0 + x.grad).argmax()), x.shape)
    home, h = x.data, 1e-5

    def total(step: float) -> float:
        x.data = home.copy()
        x.data[where] += step
        outs = results_of(run, tensors)
        return float(sum((o.data * dy).sum() for o, dy in zip(outs, dys, strict=True)))

    slope = (total(h) - total(-h)) / (2 * h)
    x.data = home
    index = "".join(f"[{int(i)}]" for i in where)
    gradient = float(np.asarray(x.grad)[where])
    return (
        f"By hand, L = sum(dy y), and {name[1:]}{index} alone is moved by h = {h:g}:\n"
        f"[L(x + h) - L(x - h)] / 2h = {slope:.8f}     {name}{index} = {gradient:.8f}"
    )


def live_check(op: Op) -> str:
    """Finite differences on every sample, and whether each planted mistake is noticed."""
    lines = ["worst relative error against finite differences in float64:"]
    samples = op.samples(np.random.default_rng(7))
    width = max(22, *(len(sample.label) for sample in samples))
    for i, sample in enumerate(samples, 1):
        run, inputs = differentiable_call(op.function.apply, sample)
        shapes = ", ".join(str(x.shape) for x in inputs)
        report = gradcheck(run, inputs, raise_error=False)
        error = f"{report.error:8.1e}  {'ok' if report.passed else 'WRONG'}"
        label = sample.label or f"sample {i}"
        lines.append(f"  {label:<{width}} {error:<15} {shapes}")
    lines.append("planted mistakes (the check must catch each):")
    for name, wrong in op.wrong.items():
        lines.append(f"  {name:<34} {'caught' if is_caught(op, wrong) else 'MISSED'}")
    return "\n".join(lines)
