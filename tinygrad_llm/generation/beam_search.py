"""Beam search: the most probable continuation, looked for among several at a time.

Greedy choice takes the best token at each step and may miss a text whose first token is second
best. Beam search goes on with the ``n_beams`` best texts so far:

    every beam x every token -> the n_beams best by log-probability

A text that generates a stop token is put aside. In the end texts of different lengths are compared
by the sum of their log-probabilities over length**length_penalty, since each token can only lower
the sum.

Source: Wu et al., "Google's neural machine translation system", 2016, section 7 (whose length
penalty has another form; this one is that of most libraries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import to_numpy
from tinygrad_llm.errors import CacheIgnoredError, GenerationError
from tinygrad_llm.generation.finite_scores import check_scores, first_cause
from tinygrad_llm.generation.next_scores import (
    context_of,
    last_scores,
    new_cache,
    say_that_cache_is_ignored,
)
from tinygrad_llm.generation.prompts import as_prompts
from tinygrad_llm.generation.sampling import largest, log_softmax
from tinygrad_llm.nn import KVCache, Module
from tinygrad_llm.nn.prepared import Prepared


@dataclass(frozen=True)
class Beam:
    """One continuation.

    Attributes:
        ids: the prompt and the new tokens.
        logprob: the sum of the new tokens' log-probabilities.
        score: ``logprob / n_new**length_penalty``.
    """

    ids: np.ndarray
    logprob: float
    score: float


def beam_search(
    model: Module,
    ids: TensorLike,
    max_new_tokens: int,
    n_beams: int = 4,
    length_penalty: float = 1.0,
    stop_ids: Sequence[int] = (),
    vocab_size: int | None = None,
) -> list[Beam]:
    """The best continuations of one prompt, the best first.

    Args:
        model: as for `generate`; it is put into evaluation mode meanwhile.
        ids: one prompt, integers (T,) or (1, T).
        max_new_tokens: length at most.
        n_beams: how many texts are followed; 1 is greedy.
        length_penalty: 0 compares sums of log-probabilities (short texts win), 1 their means.
        stop_ids: a text ends with the first of these.
        vocab_size: as for `generate`.

    Returns:
        at most ``n_beams`` texts.

    Raises:
        GenerationError: not one prompt, prompt and continuation exceed the context, or a number
            is not positive.
        NumericsError: the model's scores are NaN or infinite; says where that begins.
    """
    prompts = as_prompts(ids)
    if len(prompts.rows) != 1 or n_beams < 1 or max_new_tokens < 1:
        raise GenerationError(
            f"beam_search: expected one prompt, and n_beams and max_new_tokens of at least 1, "
            f"got {len(prompts.rows)} prompts, n_beams={n_beams}, max_new_tokens={max_new_tokens}."
        )
    prompt = prompts.rows[0]
    longest, limit = len(prompt) + max_new_tokens, context_of(model)
    if longest > limit:
        raise GenerationError(
            f"beam_search: {len(prompt)} tokens and {max_new_tokens} new ones exceed the model's "
            f"context_length={limit}. Shorten the prompt or lower max_new_tokens."
        )
    with model.evaluating(), Prepared(model), no_grad():
        stops = {int(i) for i in stop_ids}
        return _search(model, prompt, max_new_tokens, n_beams, length_penalty, stops, vocab_size)


def _search(
    model: Module,
    prompt: list[int],
    max_new_tokens: int,
    n_beams: int,
    penalty: float,
    stop_ids: set[int],
    vocab_size: int | None,
) -> list[Beam]:
    cache = new_cache(model, 1, len(prompt) + max_new_tokens)
    texts, sums = [prompt], np.zeros(1)  # of the beams that go on
    done: list[Beam] = []
    for n_new in range(1, max_new_tokens + 1):
        logits, cache = _scores(model, texts, cache)
        logits = logits[:, :vocab_size]  # (n, V)
        check_scores("beam_search", logits, partial(first_cause, model, texts[0]))
        totals = (sums[:, None] + log_softmax(logits)).ravel()  # (n V,)
        best = largest(totals, n_beams * (len(stop_ids) + 1))  # enough of them do not stop
        going_on: list[tuple[int, int, float]] = []
        for place in best.tolist():
            row, token = divmod(place, logits.shape[1])
            if token in stop_ids or n_new == max_new_tokens:
                total = float(totals[place])
                done.append(Beam(np.array([*texts[row], token]), total, total / n_new**penalty))
            elif len(going_on) < n_beams:
                going_on.append((row, token, totals[place]))
        done = sorted(done, key=lambda beam: -beam.score)[:n_beams]
        if not going_on or _decided(done, going_on, n_beams, n_new, max_new_tokens, penalty):
            break
        rows = [row for row, _, _ in going_on]
        texts = [[*texts[row], token] for row, token, _ in going_on]
        sums = np.array([total for _, _, total in going_on])
        cache = None if cache is None else cache.select_rows(rows)
    return done


def _scores(
    model: Module, texts: list[list[int]], cache: KVCache | None
) -> tuple[np.ndarray, KVCache | None]:
    """Scores (n, V) after texts of one length, and the cache, None where the model ignores it."""
    if cache is not None:
        newest = np.array(texts)[:, cache.length :]  # (n, 1), at first (1, T)
        try:
            return to_numpy(last_scores(model, newest, cache).data), cache
        except CacheIgnoredError as error:
            say_that_cache_is_ignored(error)
    return to_numpy(last_scores(model, texts).data), None


def _decided(
    done: list[Beam],
    going_on: list[tuple[int, int, float]],
    n_beams: int,
    n_new: int,
    longest: int,
    penalty: float,
) -> bool:
    """Whether no beam that goes on can still overtake the worst finished one."""
    if len(done) < n_beams:
        return False
    most = going_on[0][2] / (longest if penalty > 0 else n_new) ** penalty
    return bool(done[-1].score >= most)
