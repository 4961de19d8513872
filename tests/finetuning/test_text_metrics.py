from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.errors import DataError
from tinygrad_llm.finetuning.text_metrics import (
    exact_match,
    format_problems,
    longest_common_subsequence,
    rouge_l,
    score_answers,
    token_f1,
)

words = st.lists(st.sampled_from("abcd"), max_size=7)


@given(words, words)
def test_longest_common_subsequence_equals_trying_all(a, b):
    common = {s for n in range(len(a) + 1) for s in combinations(a, n)} & {
        s for n in range(len(b) + 1) for s in combinations(b, n)
    }
    assert longest_common_subsequence(a, b) == max(len(s) for s in common)


def test_exact_match_overlooks_case_punctuation_and_articles():
    assert exact_match("The capital is  Paris.", "capital is paris")
    assert not exact_match("The capital is Paris.", "The capital is Rome.")


def test_token_f1_counted_by_hand():
    # "cat sat on mat" against "cat is on mat": 3 words in common of 4 and 4.
    assert token_f1("The cat sat on the mat", "A cat is on the mat") == pytest.approx(0.75)
    assert token_f1("same words again", "again words same") == 1.0
    assert token_f1("word word word", "word") == pytest.approx(0.5)


def test_rouge_l_minds_the_order():
    # Lin 2004, section 3.1: the same bigrams, but only the first keeps the order.
    reference = "police killed the gunman"
    assert rouge_l("police kill the gunman", reference) == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", reference) == pytest.approx(2 / 4)


@given(st.text(max_size=30), st.text(max_size=30))
def test_scores_are_symmetric_and_from_0_to_1(a, b):
    for metric in (token_f1, rouge_l):
        assert metric(a, b) == metric(b, a)
        assert 0 <= metric(a, b) <= 1
        assert metric(a, a) == 1


@pytest.mark.parametrize(
    ("answer", "finished", "problem"),
    [
        ("Rome.", True, None),
        ("  ", True, "empty"),
        ("Rome", False, "cut off"),
        ("it is so " * 4, True, "repeats itself"),
        ("oh nooooooooooooo", True, "repeats itself"),
        ("Rome.\n\n### Instruction:\nNow", True, "template in answer"),
        ("caf\ufffd", True, "broken characters"),
    ],
)
def test_format_problems_are_named(answer, finished, problem):
    found = format_problems(answer, finished, ["### Instruction:"])
    assert found == ([] if problem is None else [problem])


def test_mean_scores():
    s = score_answers(["Rome", "a b c d"], ["Rome", "x y"], [True, False])
    assert (s.count, s.exact_match, s.well_formed) == (2, 0.5, 0.5)
    assert s.length_ratio == pytest.approx(5 / 3)


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="at least one answer"):
        score_answers([], [], [])
    with pytest.raises(DataError, match="2 answers, 1 references"):
        score_answers(["a", "b"], ["a"], [True, True])
