"""Scores of a classifier: what it gets right, and what its mistakes cost.

On a set where 87 % of the messages are no spam, always answering "no spam" is 87 % accurate and
useless. So beside accuracy stand the two questions that matter of the positive class (spam):

    precision = TP / (TP + FP)      of the messages called spam, how many are
    recall    = TP / (TP + FN)      of the spam messages, how many were found
    F1        = 2 P R / (P + R)     their harmonic mean: high only when both are

with TP true positives, FP false alarms, FN missed ones. Where a denominator is 0 the score is 0.

Source: van Rijsbergen, "Information retrieval", 1979, chapter 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinygrad_llm.errors import DataError


@dataclass(frozen=True)
class Scores:
    """The scores of one set of predictions; fractions from 0 to 1.

    Attributes:
        count: number of examples.
        accuracy: right answers / all answers.
        balanced_accuracy: mean over the classes of the share of each class that was found.
        precision, recall, f1: of the positive class.
    """

    count: int
    accuracy: float
    balanced_accuracy: float
    precision: float
    recall: float
    f1: float

    def to_dict(self) -> dict[str, Any]:
        """The scores in JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision and recall when everything that scores at least ``thresholds[i]`` is positive.

    Attributes:
        thresholds: (N,), rising.
        precision, recall, f1: (N,), of the positive class at that threshold.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    def best(self, tolerance: float = 0.005) -> float:
        """A threshold with the highest F1; choose it on the validation set, never on the test.

        A small validation set cannot tell thresholds apart whose F1 hardly differ, so among those
        within ``tolerance`` of the highest the one nearest to 0.5 is taken. The result lies midway
        between the last score that is called positive and the next lower one, so that new messages
        with nearly the same score fall on the same side.
        """
        lower = np.concatenate([self.thresholds[:1], self.thresholds[:-1]])
        middle = (self.thresholds + lower) / 2
        good = np.flatnonzero(self.f1 >= self.f1.max() - tolerance)
        return float(middle[good[np.argmin(np.abs(middle[good] - 0.5))]])


def confusion_matrix(
    labels: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray, n_classes: int
) -> np.ndarray:
    """Counts (n_classes, n_classes): row = what it is, column = what it was called.

    Raises:
        DataError: no examples, different lengths, or a class outside ``0 .. n_classes - 1``.
    """
    truth, called = _pair("confusion_matrix", labels, predictions)
    for name, classes in (("labels", truth), ("predictions", called)):
        if classes.min() < 0 or classes.max() >= n_classes:
            raise DataError(
                f"confusion_matrix: {name} must lie in 0 .. {n_classes - 1}, got "
                f"{classes.min()} .. {classes.max()}."
            )
    counts = np.bincount(truth * n_classes + called, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes)


def score(
    labels: Sequence[int] | np.ndarray,
    predictions: Sequence[int] | np.ndarray,
    n_classes: int = 2,
    positive: int = 1,
) -> Scores:
    """All scores of a set of predictions.

    Args:
        labels, predictions: class numbers (N,).
        n_classes: number of classes.
        positive: the class of which precision, recall and F1 are computed.

    Raises:
        DataError: as `confusion_matrix`.
    """
    counts = confusion_matrix(labels, predictions, n_classes)
    right = counts[positive, positive]
    precision = _ratio(right, counts[:, positive].sum())
    recall = _ratio(right, counts[positive].sum())
    present = counts.sum(axis=1) > 0
    found = counts.diagonal()[present] / counts.sum(axis=1)[present]
    return Scores(
        count=int(counts.sum()),
        accuracy=_ratio(counts.trace(), counts.sum()),
        balanced_accuracy=float(found.mean()),
        precision=precision,
        recall=recall,
        f1=_ratio(2 * precision * recall, precision + recall),
    )


def threshold_curve(
    labels: Sequence[int] | np.ndarray, probabilities: Sequence[float] | np.ndarray
) -> ThresholdCurve:
    """Precision and recall of a two-class classifier at every threshold that makes a difference.

    Args:
        labels: 0 or 1, (N,).
        probabilities: of class 1, (N,).

    Raises:
        DataError: no examples, different lengths, only one class, or probabilities not finite.
    """
    chance = np.asarray(probabilities, dtype=np.float64)
    if not np.isfinite(chance).all():
        raise DataError("threshold_curve: probabilities must be finite; some are NaN or infinite.")
    truth, _ = _pair("threshold_curve", labels, chance)
    n_positive = int((truth == 1).sum())
    if n_positive in (0, len(truth)):
        raise DataError(
            f"threshold_curve: needs both classes, got {n_positive} positive of {len(truth)}."
        )
    thresholds = np.unique(chance)
    order = np.argsort(chance)
    positive_below = np.concatenate([[0], np.cumsum(truth[order] == 1)])
    n_below = np.searchsorted(chance[order], thresholds, side="left")  # examples called negative
    hits = n_positive - positive_below[n_below]
    called = len(truth) - n_below
    precision, recall = hits / called, hits / n_positive
    f1 = 2 * hits / (called + n_positive)
    return ThresholdCurve(thresholds, precision, recall, f1)


def format_confusion(counts: np.ndarray, names: Sequence[str]) -> str:
    """The confusion matrix as text: a row per true class, a column per predicted one."""
    width = max(7, *(len(name) for name in names))
    head = " " * width + "  predicted " + "  ".join(f"{name:>{width}}" for name in names)
    rows = [
        f"{name:>{width}}            " + "  ".join(f"{n:{width}d}" for n in row)
        for name, row in zip(names, counts, strict=True)
    ]
    return "\n".join([head, *rows])


def score_table(rows: Sequence[tuple[str, Scores]]) -> str:
    """One line per model: its scores in percent."""
    width = max(len(name) for name, _ in rows)
    head = f"{'':{width}}  accuracy  balanced  precision  recall      F1"
    lines = [
        f"{name:{width}}  {100 * s.accuracy:7.2f}%  {100 * s.balanced_accuracy:7.2f}%  "
        f"{100 * s.precision:8.2f}%  {100 * s.recall:5.1f}%  {s.f1:6.4f}"
        for name, s in rows
    ]
    return "\n".join([head, "-" * len(head), *lines])


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0


def _pair(name: str, labels: Any, others: Any) -> tuple[np.ndarray, np.ndarray]:
    truth, called = np.asarray(labels), np.asarray(others)
    if truth.ndim != 1 or truth.shape != called.shape or not truth.size:
        raise DataError(
            f"{name}: expected two equally long lists of at least one example, got shapes "
            f"{truth.shape} and {called.shape}."
        )
    return truth.astype(np.int64), called.astype(np.int64)
