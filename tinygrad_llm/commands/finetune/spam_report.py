"""What ``finetune spam`` shows of a filter: baselines, mistakes, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygrad_llm.control_characters import one_line
from tinygrad_llm.data import spam
from tinygrad_llm.errors import MissingDependencyError
from tinygrad_llm.finetuning import plots
from tinygrad_llm.finetuning.baselines import BagOfWordsBaseline, MajorityBaseline
from tinygrad_llm.finetuning.classifier_folder import Classifier
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.metrics import Scores, score, threshold_curve
from tinygrad_llm.terminal import say

MAX_WRONG = 15
Parts = tuple[list[spam.Message], list[spam.Message], list[spam.Message]]  # train, validate, test


def baseline_rows(parts: Parts) -> list[tuple[str, Scores]]:
    """The scores of always answering the same, and of counting words."""
    train, _, test = parts
    labels = spam.class_ids(test)
    rows = []
    models = (("majority", MajorityBaseline()), ("bag of words", BagOfWordsBaseline()))
    for name, model in models:
        model.fit([m.text for m in train], spam.class_ids(train).tolist())
        rows.append((name, score(labels, model.predict([m.text for m in test]))))
    return rows


def draw(
    folder: Path,
    name: str,
    counts: np.ndarray,
    classifier: Classifier,
    history: History,
    labels: np.ndarray,
    p_spam: np.ndarray,
) -> None:
    """The three pictures, if matplotlib is there."""
    try:
        plots.draw_confusion(counts, spam.LABELS, folder / "confusion.png", f"{name}, test set")
        plots.draw_history(history, folder / "training.png", name, ("loss", "f1", "accuracy"))
        curve = threshold_curve(labels, p_spam)
        title = f"{name}, validation set"
        plots.draw_thresholds(curve, classifier.threshold, folder / "thresholds.png", title)
    except MissingDependencyError as error:
        say(f"(no pictures: {error})")


def wrong_messages(test: Sequence[spam.Message], p_spam: np.ndarray, called: np.ndarray) -> str:
    """The messages that were classified wrongly, the most confident mistakes first."""
    wrong = np.flatnonzero(called != spam.class_ids(test))
    wrong = wrong[np.argsort(-np.abs(p_spam[wrong] - 0.5))]
    lines = [
        f"  is {test[i].label:4}  p(spam) {p_spam[i]:.3f}  {one_line(test[i].text[:110])}"
        for i in wrong[:MAX_WRONG]
    ]
    if len(wrong) > MAX_WRONG:
        lines.append(f"  ... and {len(wrong) - MAX_WRONG} more")
    return "\n".join([f"{len(wrong)} wrong:", *lines])
