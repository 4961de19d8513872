"""Planted mistakes are what a student could write, and no right gradient with a number before it.

A gradient check finds any number that differs, so a mistake of that kind shows only that the check
looks at all. Whether a mistake is the one that its name says, a test cannot tell; it can tell that
the wrong gradient has another form than the right one, or that its name says what is lost.
"""

import warnings

import numpy as np
import pytest

import tinygrad_llm.ops  # noqa: F401
from tinygrad_llm.autograd import REGISTRY, Tensor
from tinygrad_llm.autograd.registry import planted
from tinygrad_llm.errors import GradientError
from tinygrad_llm.explain.proof import differentiable_call

SAID = ("sign", "factor", "twice", "constant", "scale", "forgotten", "detach", "0")
VISIBLE = 0.01  # of the largest element
MISTAKES = [
    pytest.param(op, name, id=f"{op.name}-{name.replace(' ', '_')}")
    for op in REGISTRY.values()
    for name in op.wrong
]


def gradients(function, s):
    """What each differentiable argument of a sample gets; None where a backward is refused."""
    run, inputs = differentiable_call(function.apply, s)
    tensors = [Tensor(x.copy(), requires_grad=True) for x in inputs]
    outs = run(*tensors)
    outs = [o for o in (outs if isinstance(outs, tuple) else (outs,)) if o.requires_grad]
    rng = np.random.default_rng(5)
    try:
        sum((o * rng.uniform(0.5, 1.5, o.shape)).sum() for o in outs).backward()
    except GradientError:
        return None
    return [np.zeros(x.shape) if x.grad is None else x.grad for x in tensors]


def pairs_of_gradients(op, wrong):
    """For each sample in which both can be had: the wrong gradients, the right ones."""
    samples = op.samples(np.random.default_rng(7))
    for s in samples:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a mistake may divide by 0
            found = gradients(planted(op.function, wrong), s)
        if found is not None:
            yield found, gradients(op.function, s)


def multiple(pairs):
    """c, if each wrong gradient is c times the right one for all samples; None otherwise."""
    wrong, right = (np.concatenate([g.ravel() for g in side]) for side in zip(*pairs, strict=True))
    c = (wrong @ right) / (right @ right)
    return c if np.abs(wrong - c * right).max() <= 1e-9 * np.abs(right).max() else None


def is_only_scaled(pairs):
    """Whether each argument's wrong gradient is the right one times a number."""
    by_argument = {}
    for found, expected in pairs:
        for i, pair in enumerate(zip(found, expected, strict=True)):
            by_argument.setdefault(i, []).append(pair)
    return all(multiple(pairs) is not None for pairs in by_argument.values())


def is_visible(found, expected):
    """Whether a gradient is off by more than a hundredth of the largest number; a NaN is."""
    limit = VISIBLE * max(np.abs(e).max(initial=0.0) for e in expected)
    near = (np.abs(f - e) <= limit for f, e in zip(found, expected, strict=True))
    return not all(each.all() for each in near)


@pytest.mark.parametrize(("op", "name"), MISTAKES)
def test_a_mistake_has_a_form_of_its_own_or_says_what_is_lost(op, name):
    pairs = list(pairs_of_gradients(op, op.wrong[name]))
    if pairs and not any(word in name for word in SAID):
        assert not is_only_scaled(pairs)


@pytest.mark.parametrize(("op", "name"), MISTAKES)
def test_a_mistake_is_visible(op, name):
    pairs = list(pairs_of_gradients(op, op.wrong[name]))
    assert not pairs or any(is_visible(*pair) for pair in pairs)


def test_scaled_gradients_are_told_from_others():
    right = [[np.array([1.0, 2.0]), np.array([3.0])], [np.array([4.0]), np.array([0.5])]]
    scaled = [[1.5 * a, -1.0 * b] for a, b in right]
    assert is_only_scaled(list(zip(scaled, right, strict=True)))
    per_sample = [[a / a.size, b] for a, b in right]
    assert not is_only_scaled(list(zip(per_sample, right, strict=True)))
