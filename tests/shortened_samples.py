"""The registry's samples with an axis of length 0, and without axes: calls at the edge of an op."""

from dataclasses import replace

import numpy as np
import pytest

import tinygrad_llm.functional  # noqa: F401  (fills the registry)
from tinygrad_llm.autograd import REGISTRY


def _shortened(x, length):
    """x with every axis of that length cut to 0."""
    if not isinstance(x, np.ndarray):
        return x
    return x[tuple(slice(0, 0) if n == length else slice(None) for n in x.shape)]


def _with_an_empty_axis(s, length):
    kwargs = {name: _shortened(value, length) for name, value in s.kwargs.items()}
    return replace(s, args=tuple(_shortened(a, length) for a in s.args), kwargs=kwargs)


def _without_axes(s):
    def scalar(x):
        return np.array(x.flat[0]) if isinstance(x, np.ndarray) else x

    kwargs = {name: scalar(value) for name, value in s.kwargs.items()}
    if isinstance(kwargs.get("axis"), (int, tuple)):
        kwargs["axis"] = 0 if kwargs["axis"] == 1 else -1
    return replace(s, args=tuple(scalar(a) for a in s.args), kwargs=kwargs)


def _lengths(s):
    """Those of the sample's axes; an axis of length 1 is repeated, and cannot be cut alone."""
    return sorted({n for a in s.args if isinstance(a, np.ndarray) for n in a.shape} - {1})


def _samples():
    for op in REGISTRY.values():
        for i, s in enumerate(op.samples(np.random.default_rng(7))):
            yield op, s, f"{op.name}-{s.label or i}"


EMPTY = [
    pytest.param(op, _with_an_empty_axis(s, n), id=f"{name}-{n}")
    for op, s, name in _samples()
    for n in _lengths(s)
]
SCALAR = [pytest.param(op, _without_axes(s), id=name) for op, s, name in _samples()]
