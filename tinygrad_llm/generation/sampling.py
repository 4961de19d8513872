"""From the scores of all tokens to the one that comes next.

    logits -> repetition penalty -> temperature -> top-k -> top-p -> min-p -> draw

Each filter removes improbable tokens; a softmax over those that are left gives the probabilities
to draw from. At temperature 0 the most probable token is taken.

Only the candidates are ever sorted, not the vocabulary: a partial sort of GPT-2's 50,257 scores
takes a tenth of the time of a full one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import GenerationError
from tinygrad_llm.generation.finite_scores import Cause, check_scores

_FIRST_CANDIDATES = 64


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: the scores are divided by it; below 1 the likely tokens gain, 0 is greedy.
        top_k: keep the k most probable tokens; None keeps all.
        top_p: keep the smallest set of tokens whose probabilities reach p (nucleus sampling,
            Holtzman et al., "The curious case of neural text degeneration", 2020); None keeps all.
        min_p: keep tokens of at least min_p times the highest probability (Nguyen et al.,
            "Min-p sampling", 2024); None keeps all.
        repetition_penalty: positive scores of tokens that occurred are divided by it, negative
            ones multiplied (Keskar et al., "CTRL", 2019, section 4.1); 1 for none.

    Raises:
        GenerationError: a value is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0 <= self.temperature < np.inf, "at least 0")
        if self.top_k is not None:
            is_integer = isinstance(self.top_k, (int, np.integer))
            _require("top_k", self.top_k, is_integer and self.top_k >= 1, "an integer from 1")
        if self.top_p is not None:
            _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        if self.min_p is not None:
            _require("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1")
        penalty = self.repetition_penalty
        _require("repetition_penalty", penalty, 0 < penalty < np.inf, "above 0")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0 or self.top_k == 1


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise GenerationError(f"generate: {name} must be {expected}, got {value!r}.")


def choose(
    logits: np.ndarray,
    how: Sampling,
    seen: Iterable[int],
    random: Generator,
    cause: Cause | None = None,
) -> int:
    """The next token of one row.

    Args:
        logits: scores (V,).
        how: the settings.
        seen: the tokens so far, for the repetition penalty.
        random: where the draw comes from; greedy choices draw nothing.
        cause: says where scores come from that are no numbers; see `check_scores`.

    Raises:
        NumericsError: a score is NaN or infinite; -inf, which nothing draws, is none of these.
    """
    check_scores("generate", logits, cause)
    if how.repetition_penalty != 1:
        logits = penalize(logits, seen, how.repetition_penalty)
    if how.greedy:
        return int(logits.argmax())
    ids, p = candidates(logits, how)
    cumulative = np.cumsum(p)
    total = cumulative[-1]
    draw = min(random.uniform() * total, np.nextafter(total, 0))  # the product may round up
    place = np.searchsorted(cumulative, draw, side="right")  # the first sum above it
    return int(place if ids is None else ids[place])


def penalize(logits: np.ndarray, seen: Iterable[int], penalty: float) -> np.ndarray:
    """A copy of the scores (V,) in which every token of ``seen`` is less likely.

    Finite scores stay finite, whatever the penalty.
    """
    logits = logits.copy()
    ids = np.unique(np.fromiter(seen, np.int64))
    scores, most = logits[ids].astype(np.float64), np.finfo(logits.dtype).max
    with np.errstate(over="ignore"):
        changed = np.where(scores > 0, scores / penalty, scores * penalty)
    logits[ids] = np.where(np.isfinite(scores), changed.clip(-most, most), scores)
    return logits


def candidates(logits: np.ndarray, how: Sampling) -> tuple[np.ndarray | None, np.ndarray]:
    """The tokens that may be drawn, and numbers proportional to their probabilities.

    Returns:
        ids (n,), or None for all of the vocabulary; weights (n,) in float64, each positive or 0.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max()
    with np.errstate(over="ignore"):  # far below the best: -inf, which nothing draws
        scores /= how.temperature
    p = np.exp(scores)  # (V,)
    ids = None
    if how.top_k is not None and how.top_k < p.size:
        ids = largest(p, how.top_k)
        p = p[ids]
    if how.top_p is not None and how.top_p < 1:
        nucleus = _nucleus(p, how.top_p)
        ids, p = (nucleus if ids is None else ids[nucleus]), p[nucleus]
    if how.min_p:
        p = np.where(p >= how.min_p * p.max(), p, 0.0)
    return ids, p


def largest(x: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest numbers of x (n,) stand, from the largest down; ties by position."""
    k = min(k, x.size)
    if k < x.size:
        threshold = np.partition(x, x.size - k)[x.size - k]
        above, equal = np.flatnonzero(x > threshold), np.flatnonzero(x == threshold)
        found = np.concatenate([above, equal[: k - above.size]])
    else:
        found = np.arange(x.size)
    return found[np.argsort(-x[found], kind="stable")]


def _nucleus(p: np.ndarray, top_p: float) -> np.ndarray:
    """Where the most probable entries stand that together reach ``top_p``; at least one."""
    wanted = top_p * p.sum()
    k = _FIRST_CANDIDATES
    while True:
        order = largest(p, k)
        reached = np.cumsum(p[order])
        if reached[-1] >= wanted or k >= p.size:
            return order[: int(np.searchsorted(reached, wanted)) + 1]
        k *= 8


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (..., V) from scores, in float64."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
