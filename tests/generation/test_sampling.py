"""Filters and draws, against their definitions written out with full sorts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm import errors
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.generation.sampling import (
    Sampling,
    candidates,
    choose,
    largest,
    log_softmax,
    penalize,
)

LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=40).map(np.array)


def probabilities(logits, how):
    """Probabilities (V,) as `candidates` gives them."""
    ids, p = candidates(logits, how)
    full = np.zeros(logits.size)
    full[np.arange(logits.size) if ids is None else ids] = p
    return full / full.sum()


def by_definition(logits, how):
    """Each filter over the whole, sorted vocabulary."""
    p = np.exp(log_softmax(logits / how.temperature))
    order = np.argsort(-p, kind="stable")
    keep = np.ones(p.size, bool)
    if how.top_k is not None:
        keep[order[how.top_k :]] = False
    p = np.where(keep, p, 0)
    if how.top_p is not None and how.top_p < 1:
        before = np.cumsum(p[order]) - p[order]
        keep[order[before >= how.top_p * p.sum()]] = False
        p = np.where(keep, p, 0)
    if how.min_p is not None:
        p = np.where(p >= how.min_p * p.max(), p, 0)
    return p / p.sum()


@given(
    LOGITS,
    st.floats(0.1, 5),
    st.none() | st.integers(1, 50),
    st.none() | st.floats(0.01, 0.99),
    st.none() | st.floats(0, 1),
)
def test_filters_are_those_of_the_definition(logits, temperature, k, top_p, min_p):
    how = Sampling(temperature, k, top_p, min_p)
    wanted = by_definition(logits, how)
    got = probabilities(logits, how)
    if ((wanted > 0) == (got > 0)).all():
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
    else:
        assert is_rounding(logits, how, wanted, got)


def is_rounding(logits, how, wanted, got):
    """Whether one token more or less is a sum or a ratio that met a limit up to rounding."""
    if abs(int((wanted > 0).sum()) - int((got > 0).sum())) != 1:
        return False
    p = probabilities(logits, Sampling(how.temperature, how.top_k))
    sums = np.cumsum(np.sort(p)[::-1])
    meets_sum = how.top_p is not None and (np.abs(sums - how.top_p) < 1e-12).any()
    return meets_sum or (how.min_p and (np.abs(p / p.max() / how.min_p - 1) < 1e-12).any())


DISTINCT = np.log(np.array([0.1, 0.4, 0.05, 0.2, 0.25]))


@pytest.mark.parametrize(
    ("kept", "settings"),
    [
        ([1], {"top_k": 1}),
        ([1, 4], {"top_k": 2}),
        ([1, 3, 4], {"top_k": 3}),
        ([0, 1, 2, 3, 4], {"top_k": 5}),
        ([0, 1, 2, 3, 4], {"top_k": 6}),
        ([1], {"top_p": 0.39}),
        ([1, 4], {"top_p": 0.41}),
        ([1, 4], {"top_p": 0.64}),
        ([1, 3, 4], {"top_p": 0.66}),
        ([0, 1, 2, 3, 4], {"top_p": 1.0}),
        ([1], {"min_p": 1.0}),
        ([1, 4], {"min_p": 0.6}),
        ([1, 3, 4], {"min_p": 0.499}),
        ([0, 1, 2, 3, 4], {"min_p": 0.0}),
        ([1, 4], {"top_k": 3, "top_p": 0.7}),  # of the three that are left, 0.7 of 0.85
        ([1, 4], {"top_k": 4, "top_p": 0.9, "min_p": 0.6}),
    ],
    ids=str,
)
def test_which_tokens_are_kept(kept, settings):
    assert np.flatnonzero(probabilities(DISTINCT, Sampling(**settings))).tolist() == kept


def test_a_token_of_just_min_p_times_the_highest_is_kept():
    p = probabilities(np.log2([2.0, 1.0, 2.0]) * np.log(2), Sampling(min_p=1.0))
    assert p.tolist() == [0.5, 0, 0.5]
    scores = np.array([0.0, -1.0])
    assert (probabilities(scores, Sampling(min_p=float(np.exp(-1.0)))) > 0).all()
    assert (probabilities(scores, Sampling(min_p=0.37)) > 0).tolist() == [True, False]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(1, 70))
def test_largest_is_a_stable_sort(values, k):
    x = np.array(values, float)
    assert largest(x, k).tolist() == np.argsort(-x, kind="stable")[:k].tolist()


def test_nucleus_that_needs_more_than_the_first_candidates():
    how = Sampling(top_p=0.9)
    assert (probabilities(np.zeros(1000), how) > 0).sum() == 900


def test_draws_follow_the_probabilities():
    logits = np.log(np.array([0.5, 0.3, 0.2]))
    random = Generator(0)
    drawn = [choose(logits, Sampling(), [], random) for _ in range(20000)]
    np.testing.assert_allclose(np.bincount(drawn) / 20000, [0.5, 0.3, 0.2], atol=0.015)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("how", [{}, {"temperature": 0}, {"top_k": 2}, {"top_p": 0.5}])
def test_scores_that_are_not_finite_are_refused(bad, how):
    with pytest.raises(errors.NumericsError, match="finite"):
        choose(np.array([1.0, bad, -np.inf]), Sampling(**how), [], Generator(0))
    assert choose(np.array([1.0, -np.inf]), Sampling(**how), [], Generator(0)) == 0


def test_greedy_draws_nothing():
    random = Generator(0)
    before = random.state()
    assert choose(np.array([1.0, 3.0, 3.0]), Sampling(temperature=0), [], random) == 1
    assert choose(np.array([1.0, 3.0, 2.0]), Sampling(top_k=1), [], random) == 1
    assert random.state() == before


def test_impossible_tokens_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf])
    random = Generator(1)
    assert {choose(logits, Sampling(), [], random) for _ in range(200)} == {1}


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_interval_hit_no_token_of_probability_zero(uniform):
    class Fixed:
        def uniform(self):
            return uniform

    for weights in ([0, 1, 0], [0, 0.3, 0.4, 0.7, 0], [0, 1 / 3, 0]):
        with np.errstate(divide="ignore"):
            logits = np.log(np.array(weights, float))
        chosen = choose(logits, Sampling(), [], Fixed())
        assert weights[chosen] > 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_penalties_and_temperatures_of_any_size_choose_a_token(dtype):
    logits = np.array([2.0, -2.0, 1.0, -np.inf, 0.0], dtype)
    for extreme in (1e-320, 1e-30, 1e30, 1e308):
        random = Generator(0)
        penal = Sampling(repetition_penalty=extreme)
        assert choose(logits, penal, [0, 1, 3, 4], random) != 3
        assert choose(logits, Sampling(extreme), [], random) != 3
    assert choose(logits, Sampling(1e-320), [], random) == 0


def test_repetition_penalty_lowers_what_occurred():
    logits = np.array([2.0, -2.0, 1.0])
    assert penalize(logits, [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 1.0]
    assert logits.tolist() == [2.0, -2.0, 1.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("top_k", 0),
        ("top_k", 2.5),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 2),
        ("repetition_penalty", 0),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(errors.GenerationError, match=name):
        Sampling(**{name: value})
