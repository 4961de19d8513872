"""Which form of an op runs: its array code, its kernel version, or simpler ops."""

import threading

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.explain.small_ops import small_ops


@pytest.mark.parametrize("op", REGISTRY.values(), ids=lambda op: op.name)
def test_an_op_with_another_form_says_so(op):
    """Else `Function.apply` would not ask for it."""
    other = op.composed is not None or op.function.kernel_version is not None
    assert op.function.has_forms == other


def ops_of(function):
    with tg.trace() as t:
        function()
    return {op.name for op in t.ops}


def test_a_class_runs_as_simpler_ops_whoever_calls_it():
    x = tg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    softmax = REGISTRY["softmax"].function
    ways = (x.softmax, lambda: tg.functional.softmax(x), lambda: softmax.apply(x))
    for call in ways:
        assert ops_of(call) == {"softmax"}
        with small_ops():
            assert "softmax" not in ops_of(call)
            assert "exp" in ops_of(call)
        with small_ops(keep=["softmax"]):
            assert ops_of(call) == {"softmax"}


def test_another_thread_keeps_its_form():
    x, seen = tg.tensor([1.0, 2.0]), []
    with small_ops():
        thread = threading.Thread(target=lambda: seen.append(ops_of(x.softmax)))
        thread.start()
        thread.join()
    assert seen == [{"softmax"}]
