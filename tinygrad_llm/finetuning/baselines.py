"""What a classifier has to beat: no thought at all, and counting words.

A GPT that does not beat the bag of words by anything has learned nothing that word counts do not
say. On short messages such as SMS the bag of words is a hard opponent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tinygrad_llm.errors import DataError

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]", re.UNICODE)


class MajorityBaseline:
    """Answers with the most frequent class of the training set, whatever the message."""

    def fit(self, texts: Sequence[str], labels: Sequence[int]) -> MajorityBaseline:
        """Count the classes; returns itself.

        Raises:
            DataError: no examples.
        """
        _check(texts, labels)
        self.share = float(np.mean(np.asarray(labels)))
        return self

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Share of class 1 in the training set, for each text: (N,)."""
        return np.full(len(texts), self.share)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Class 0 or 1 of each text: (N,)."""
        return np.full(len(texts), int(self.share > 0.5))


class BagOfWordsBaseline:
    """Logistic regression on the words that occur in a message.

        p(spam | x) = sigmoid(x w + b)              x_j = 1 where word j occurs, scaled to length 1
        L = -mean(y log p + (1 - y) log(1 - p)) + l2/2 |w|^2
        dL/dw = x^T (p - y) / N + l2 w              dL/db = mean(p - y)

    Full-batch gradient descent with Nesterov's momentum; the loss is convex, so it finds the only
    minimum.

    Args:
        max_words: the most frequent words that are kept.
        l2: strength of the penalty on w.
        steps: number of gradient steps.
        learning_rate: step size.

    Source: Bishop, "Pattern recognition and machine learning", 2006, section 4.3.2.
    """

    def __init__(
        self, max_words: int = 5000, l2: float = 1e-5, steps: int = 400, learning_rate: float = 8.0
    ) -> None:
        self.max_words, self.l2 = max_words, l2
        self.steps, self.learning_rate = steps, learning_rate

    def fit(self, texts: Sequence[str], labels: Sequence[int]) -> BagOfWordsBaseline:
        """Learn the words' weights; returns itself.

        Raises:
            DataError: no examples, or only one class.
        """
        _check(texts, labels)
        y = np.asarray(labels, dtype=np.float32)
        if y.min() == y.max():
            raise DataError("bag of words: the training set has one class only; it needs both.")
        counts = Counter(word for text in texts for word in set(split_words(text)))
        frequent = counts.most_common(self.max_words)
        self.columns = {word: i for i, (word, _) in enumerate(frequent)}
        self._descend(self.features(texts), y)
        return self

    def _descend(self, x: np.ndarray, y: np.ndarray) -> None:
        """Minimize L for features x (N, words) and classes y (N,)."""
        w: np.ndarray = np.zeros(x.shape[1], np.float32)
        b, w_step, b_step = 0.0, np.zeros_like(w), 0.0
        for step in range(self.steps):
            momentum = step / (step + 3)
            w_ahead, b_ahead = w + momentum * w_step, b + momentum * b_step
            error = _sigmoid(x @ w_ahead + b_ahead) - y  # (N,)
            dw = x.T @ error / len(y) + self.l2 * w_ahead
            db = float(error.mean())
            w_new, b_new = w_ahead - self.learning_rate * dw, b_ahead - self.learning_rate * db
            w_step, b_step, w, b = w_new - w, b_new - b, w_new, b_new
        self.weight, self.bias = w, b

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """Which words occur in each text, rows of length 1: (N, words)."""
        x = np.zeros((len(texts), len(self.columns)), np.float32)
        for row, text in zip(x, texts, strict=True):
            known = [self.columns[w] for w in set(split_words(text)) if w in self.columns]
            row[known] = 1 / np.sqrt(max(len(known), 1))
        return x

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """p(class 1) of each text: (N,)."""
        return _sigmoid(self.features(texts) @ self.weight + self.bias)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Class 0 or 1 of each text: (N,)."""
        return (self.probabilities(texts) >= 0.5).astype(np.int64)


def split_words(text: str) -> list[str]:
    """Lower-case words, numbers (only their length is kept: "07" -> "#2") and punctuation."""
    words = _WORD.findall(text.lower())
    return [f"#{len(word)}" if word.isdigit() else word for word in words]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _check(texts: Sequence[str], labels: Sequence[int]) -> None:
    if not len(texts) or len(texts) != len(labels):
        raise DataError(
            f"baseline: expected as many labels as texts and at least one, got {len(texts)} texts "
            f"and {len(labels)} labels."
        )
