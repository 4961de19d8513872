import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.errors import DataError
from tinygrad_llm.finetuning.metrics import (
    confusion_matrix,
    format_confusion,
    score,
    score_table,
    threshold_curve,
)

pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@given(pairs)
def test_confusion_matrix_counts_every_pair(rows):
    truth, called = zip(*rows, strict=True)
    counts = confusion_matrix(truth, called, 3)
    for i in range(3):
        for j in range(3):
            assert counts[i, j] == rows.count((i, j))


def test_scores_of_a_set_counted_by_hand():
    # 3 spam (2 found), 5 ham (1 false alarm).
    truth, called = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]
    s = score(truth, called)
    assert s.accuracy == 6 / 8
    assert s.precision == pytest.approx(2 / 3)
    assert s.recall == pytest.approx(2 / 3)
    assert s.f1 == pytest.approx(2 / 3)
    assert s.balanced_accuracy == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_the_positive_class_can_be_any():
    s = score([0, 0, 1], [0, 1, 1], positive=0)
    assert (s.precision, s.recall) == (1.0, 0.5)


def test_no_positive_prediction_scores_zero_and_does_not_divide_by_it():
    s = score([1, 0, 0], [0, 0, 0])
    assert (s.precision, s.recall, s.f1) == (0.0, 0.0, 0.0)
    assert s.accuracy == pytest.approx(2 / 3)


def test_a_class_that_does_not_occur_is_left_out_of_the_balanced_accuracy():
    assert score([0, 0], [0, 0]).balanced_accuracy == 1.0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.7])), min_size=2))
def test_threshold_curve_equals_scoring_at_each_threshold(rows):
    truth = np.array([int(t) for t, _ in rows])
    chance = np.array([p for _, p in rows])
    if truth.min() == truth.max():
        with pytest.raises(DataError, match="needs both classes"):
            threshold_curve(truth, chance)
        return
    curve = threshold_curve(truth, chance)
    assert curve.thresholds.tolist() == sorted(set(chance.tolist()))
    for i, threshold in enumerate(curve.thresholds):
        called = (chance >= threshold).astype(int)
        s = score(truth, called)
        np.testing.assert_allclose(
            [curve.precision[i], curve.recall[i], curve.f1[i]], [s.precision, s.recall, s.f1]
        )


def test_best_threshold_lies_between_the_classes_it_separates():
    curve = threshold_curve([0, 0, 1, 1], [0.1, 0.3, 0.7, 0.9])
    assert curve.best() == pytest.approx(0.5)


def test_among_equally_good_thresholds_the_one_nearest_to_one_half_is_taken():
    # From 0.2 on: all found, one false alarm, F1 40/41. From 0.6 on: one missed, F1 38/39.
    truth = [0] * 5 + [1] * 20
    chance = [0.01, 0.01, 0.01, 0.01, 0.3] + [0.2] + [0.6] * 19
    curve = threshold_curve(truth, chance)
    assert curve.best(tolerance=0.0) == pytest.approx(0.105)
    assert curve.best() == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("truth", "called", "message"),
    [
        ([], [], "at least one example"),
        ([0, 1], [0], "equally long"),
        ([0, 3], [0, 1], "labels must lie in 0 .. 1"),
        ([0, 1], [-1, 1], "predictions must lie in 0 .. 1"),
    ],
)
def test_unusable_predictions_are_refused(truth, called, message):
    with pytest.raises(DataError, match=message):
        score(truth, called)


def test_probabilities_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="finite"):
        threshold_curve([0, 1], [0.5, float("nan")])


def test_tables_show_names_and_counts():
    text = format_confusion(np.array([[12, 3], [0, 45]]), ["ham", "spam"])
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["ham", "12", "3"],
        ["spam", "0", "45"],
    ]
    table = score_table([("majority", score([0, 1], [0, 0])), ("GPT", score([0, 1], [0, 1]))])
    assert "100.00%" in table.splitlines()[3]
    assert "50.00%" in table.splitlines()[2]
