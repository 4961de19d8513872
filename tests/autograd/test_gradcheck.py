"""The judge is judged: right gradients pass, wrong ones fail, and unfair questions are refused."""

import numpy as np
import pytest

import tinygrad_llm as tg


def test_report_names_the_worst_element():
    class Wrong(tg.Function):
        def forward(ctx, x):
            ctx.save(x)
            return x * x

        def backward(ctx, dy):
            (x,) = ctx.saved
            dx = 2 * x * dy
            dx[1, 2] *= 1.01
            return dx

    with pytest.raises(tg.errors.GradientError, match=r"WRONG at \(1, 2\)"):
        tg.gradcheck(Wrong.apply, [np.ones((2, 3))])


def test_large_arrays_are_checked_in_directions_too():
    w = np.random.default_rng(0).normal(size=(40, 40))
    report = tg.gradcheck(lambda x: (x @ x).tanh(), [w / 40], max_elements=50)
    assert report.entries[0].checked == 58
    assert report.passed


def test_complex_step_reaches_machine_precision():
    x = np.random.default_rng(0).uniform(0.5, 1.0, (3, 3))
    report = tg.gradcheck(
        lambda a: ((a @ a).exp() / a.sin()).sqrt(), [x], method="complex", rtol=1e-13
    )
    assert report.error < 1e-13


def test_missing_gradient_is_an_error():
    with pytest.raises(tg.errors.GradientError):
        tg.gradcheck(lambda x, y: x * y.detach(), [np.ones(2), np.ones(2)])


def test_random_functions_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(tg.errors.GradientError, match="differ"):
        tg.gradcheck(lambda x: x * rng.normal(), [np.ones(2)])


def test_report_without_raising():
    report = tg.gradcheck(lambda x, y: x * y.detach(), [np.ones(2), np.ones(2)], raise_error=False)
    assert not report
    assert [e.passed for e in report.entries] == [True, False]
    assert "WRONG" in str(report)
