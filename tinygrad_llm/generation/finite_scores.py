"""The error for a model's scores that are NaN or infinite, which says where they began."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.autograd.anomaly import detect_anomaly
from tinygrad_llm.backend import to_numpy
from tinygrad_llm.errors import NumericsError
from tinygrad_llm.generation.next_scores import context_of
from tinygrad_llm.nn import Module

Cause = Callable[[], str]


def check_scores(owner: str, logits: np.ndarray, cause: Cause | None = None) -> None:
    """Make sure that a token, or a class, can be chosen by the scores (..., V) of every row.

    Args:
        owner: for the message.
        logits: finite numbers, and -inf for what shall never be chosen.
        cause: says where other scores come from; asked only where there are any.

    Raises:
        NumericsError: a score is NaN or +inf, or all of a row are -inf.
    """
    top = logits.max(axis=-1)  # NaN if any score is
    if np.isfinite(top).all():
        return
    n_nan, n_infinite = int(np.isnan(logits).sum()), int((logits == np.inf).sum())
    found = f"{n_nan} NaN and {n_infinite} infinite of {logits.size}"
    where = f" {cause()}" if cause is not None else ""
    raise NumericsError(
        f"{owner}: the scores of a model must be finite, got "
        f"{found if n_nan or n_infinite else 'a row of -inf alone'}.{where} Load an earlier "
        "checkpoint, or try float32."
    )


def first_cause(model: Module, ids: Iterable[int]) -> str:
    """Where the first number that is not finite stands: in a weight, or behind an op.

    Args:
        model: that gave such scores.
        ids: the text (T,) that it gave them for; only its end is in the context.
    """
    for name, p in model.named_parameters():
        values = to_numpy(p.data)
        if not np.isfinite(values).all():
            return (
                f"It began in training or in the file: the weight {name!r} has "
                f"{int(np.isnan(values).sum())} NaN and {int(np.isinf(values).sum())} infinite of "
                f"{values.size} elements."
            )
    window = list(ids)[-context_of(model) :]
    try:
        with model.evaluating(), no_grad(), detect_anomaly():
            model([window])
    except NumericsError as error:
        return f"All weights are finite. It began here: {error}"
    return "All weights are finite, and so is a pass over the text without a cache."
