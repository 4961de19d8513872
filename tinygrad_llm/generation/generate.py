"""Generation: prompts in, one more token at a time out.

A pass over the prompts fills a cache of keys and values ("prefill"); then each step computes only
the newest token of every row. When a row outgrows the model's context, its window slides: the
oldest tokens are left out and the rest gets new positions, so the cache must be filled again. With
``slide=1`` the window is always the last ``context_length`` tokens, at the price of a full pass
per token; a larger number drops that many at once and so needs a pass only every ``slide`` tokens.

What a row becomes does not depend on the rows beside it: each has its own random stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import to_numpy
from tinygrad_llm.backend.random import Generator, default_generator
from tinygrad_llm.errors import CacheIgnoredError, GenerationError
from tinygrad_llm.generation.finite_scores import first_cause
from tinygrad_llm.generation.next_scores import (
    context_of,
    last_scores,
    new_cache,
    say_that_cache_is_ignored,
)
from tinygrad_llm.generation.prompts import Prompts, as_prompts
from tinygrad_llm.generation.sampling import Sampling, choose, log_softmax
from tinygrad_llm.nn import KVCache, Module, left_pad
from tinygrad_llm.nn.prepared import Prepared

PREFILL_ROWS = 256  # positions of all prompts read at a time: bounds the memory beside the cache
_STREAM_DISTANCE = 0x9E3779B97F4A7C15  # odd, so that rows' seeds differ; row 0 has the seed itself


@dataclass(frozen=True)
class Step:
    """One step of generation, for the rows that have not ended.

    Attributes:
        rows: their numbers in the batch, (n,).
        tokens: the new token of each, (n,).
        logits: the scores that they were chosen by, before any filter, (n, V); of ids below
            ``vocab_size`` alone, if that was given.
    """

    rows: np.ndarray
    tokens: np.ndarray
    logits: np.ndarray

    def logprobs(self) -> np.ndarray:
        """The log-probability that the model gave each new token, (n,)."""
        return np.take_along_axis(log_softmax(self.logits), self.tokens[:, None], axis=-1)[:, 0]


def generate(
    model: Module,
    ids: TensorLike,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop_ids: Sequence[int] = (),
    use_cache: bool = True,
    *,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    slide: int = 1,
    vocab_size: int | None = None,
    return_logprobs: bool = False,
) -> Any:
    """Continue prompts.

    Args:
        model: a GPT, or one of your own with ``config.context_length``, which takes ids (B, T) and
            returns logits (B, T, V); it is put into evaluation mode meanwhile.
        ids: integers (B, T), or (T,) for one prompt: array, nested list or Tensor; or a list of
            prompts of different lengths.
        max_new_tokens: how many tokens to add at most.
        temperature, top_k, top_p, min_p, repetition_penalty: see `Sampling`.
        seed: of the random choices; by default the one of `tg.manual_seed` goes on.
        stop_ids: a row ends with the first of these that it generates.
        use_cache: False computes the whole text anew at each step; the result is the same.
        slide: how many tokens to drop at once when the context is full.
        vocab_size: that of the tokenizer, where the model has more rows (often a round number):
            only ids below it are chosen. None for all of the model's.
        return_logprobs: also return the log-probability that the model gave each new token.

    Returns:
        The prompts with their continuations, as integers: an array (B, T + n), or (T + n,) for
        one prompt, in which a row that ended early is filled up with its last token; a list of
        arrays without filling for prompts of different lengths. With ``return_logprobs`` a pair
        of this and a list of arrays (new tokens of the row,), or one such array for one prompt.

    Raises:
        GenerationError: no prompt, an empty one, or a setting out of its range.
        IndexRangeError: a token id is not in the model's vocabulary.
        NumericsError: the model's scores are NaN or infinite; says where that begins.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    prompts = as_prompts(ids)
    texts = [list(row) for row in prompts.rows]
    logprobs: list[list[float]] = [[] for _ in texts]
    steps = stream(
        model, ids, max_new_tokens, sampling, seed, stop_ids, use_cache, slide, vocab_size
    )
    for step in steps:
        for row, token in zip(step.rows, step.tokens.tolist(), strict=True):
            texts[row].append(token)
        if return_logprobs:
            for row, value in zip(step.rows, step.logprobs(), strict=True):
                logprobs[row].append(value)
    out = prompts.arrange(texts)
    if not return_logprobs:
        return out
    arrays = [np.array(values) for values in logprobs]
    return out, arrays[0] if prompts.single else arrays


def stream(
    model: Module,
    ids: TensorLike,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    seed: int | None = None,
    stop_ids: Sequence[int] = (),
    use_cache: bool = True,
    slide: int = 1,
    vocab_size: int | None = None,
) -> Iterator[Step]:
    """Continue prompts, and hand out every new token at once.

    Args:
        sampling: how tokens are chosen.
        model, ids, max_new_tokens, seed, stop_ids, use_cache, slide, vocab_size: as in `generate`.

    Yields:
        a `Step` for each position, until all rows have ended.

    Raises:
        GenerationError, IndexRangeError, NumericsError: as `generate`.
    """
    if max_new_tokens < 0 or slide < 1:
        raise GenerationError(
            f"generate: expected max_new_tokens of at least 0 and slide of at least 1, got "
            f"{max_new_tokens} and {slide}."
        )
    if vocab_size is not None and vocab_size < 1:
        raise GenerationError(f"generate: vocab_size must be at least 1, got {vocab_size}.")
    prompts: Prompts = as_prompts(ids)
    slide = min(slide, context_of(model))
    texts = [list(row) for row in prompts.rows]
    random = row_generators(len(texts), seed)
    return _steps(
        _Reader(model, texts, max_new_tokens, use_cache, slide, vocab_size),
        max_new_tokens,
        sampling or Sampling(),
        random,
        frozenset(int(i) for i in stop_ids),
    )


def _steps(
    reader: _Reader,
    max_new_tokens: int,
    sampling: Sampling,
    random: list[Generator],
    stop_ids: frozenset[int],
) -> Iterator[Step]:
    active = np.arange(len(reader.texts))
    for _ in range(max_new_tokens):
        logits = reader.next_logits(active)  # (n, V)
        tokens = np.empty(len(active), np.int64)
        for i, row in enumerate(active):
            text = reader.texts[row]
            cause = partial(first_cause, reader.model, text)
            tokens[i] = choose(logits[i], sampling, text, random[row], cause)
            text.append(int(tokens[i]))
        yield Step(active, tokens, logits)
        active = active[[token not in stop_ids for token in tokens.tolist()]]
        if not active.size:
            return


class _Reader:
    """Computes the scores of the next token of each row, from a cache where that is possible."""

    def __init__(
        self,
        model: Module,
        texts: list[list[int]],
        max_new_tokens: int,
        use_cache: bool,
        slide: int,
        vocab_size: int | None,
    ) -> None:
        self.model, self.texts, self.slide, self._vocab_size = model, texts, slide, vocab_size
        self._evaluating, self._prepared = model.evaluating(), Prepared(model)
        self._context = context_of(model)
        longest = max(len(text) for text in texts) + max_new_tokens - 1
        self._room = min(self._context, max(longest, 1))
        self._use_cache = use_cache
        self._takes_cache = True  # until the model says that it does not
        self._cache: KVCache | None = None
        self._rows = np.arange(0)  # of the cache

    def next_logits(self, rows: np.ndarray) -> np.ndarray:
        """Scores (n, V) of the token after the given rows' texts."""
        with self._evaluating, self._prepared, no_grad():
            if self._keep(rows):
                newest = np.array([[self.texts[r][-1]] for r in rows])  # (n, 1)
                logits = to_numpy(last_scores(self.model, newest, self._cache).data)
            else:
                logits = self._read_all(rows)
        return logits[:, : self._vocab_size]

    def _keep(self, rows: np.ndarray) -> bool:
        """Cut the cache down to the given rows; False if there is no room for another column.

        Then some window must move; or the padding of the rows that are left, made for a longer
        row that has ended, takes up columns that a new cache need not have.
        """
        cache = self._cache
        if cache is None or cache.length == cache.max_length:
            return False
        if len(rows) != len(self._rows):
            self._cache = cache.select_rows(np.flatnonzero(np.isin(self._rows, rows)))
            self._rows = rows
        return True

    def _read_all(self, rows: np.ndarray) -> np.ndarray:
        """Read the window of each row from its beginning; scores (n, V)."""
        texts = [self.texts[r] for r in rows]
        starts = [window_start(len(text), self._context, self.slide) for text in texts]
        windows = [text[start:] for text, start in zip(texts, starts, strict=True)]
        ids, padding = left_pad(windows)
        cache = None
        if self._takes_cache and (self._use_cache or padding.any()):  # which hides the padding
            cache = new_cache(self.model, len(rows), self._room, padding if padding.any() else None)
        if cache is not None:
            try:
                return self._fill(cache, ids, rows)
            except CacheIgnoredError as error:
                self._takes_cache = False
                if self._use_cache:
                    say_that_cache_is_ignored(error)
        batches = [[window] for window in windows] if padding.any() else [windows]
        return np.concatenate([to_numpy(last_scores(self.model, b).data) for b in batches])

    def _fill(self, cache: KVCache, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Read the windows into an empty cache, some columns at a time; scores (n, V)."""
        step = max(1, PREFILL_ROWS // len(rows))
        for start in range(0, ids.shape[1], step):
            logits = last_scores(self.model, ids[:, start : start + step], cache)  # (n, V)
        if self._use_cache:
            self._cache, self._rows = cache, rows
        return to_numpy(logits.data)


def window_start(length: int, context: int, slide: int) -> int:
    """The first token that the model sees of a text: 0, or a multiple of ``slide``.

    At most ``context`` tokens are left after it, and more than ``context - slide``.
    """
    return max(0, -(-(length - context) // slide) * slide)


def row_generators(n_rows: int, seed: int | None) -> list[Generator]:
    """A random stream for each row; the first row's is the one of the seed itself."""
    if seed is None:
        seed = int(default_generator().integers(0, 2**63))
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise GenerationError(f"generate: seed must be from 0 to 2**64 - 1, got {seed!r}.")
    return [Generator((int(seed) + row * _STREAM_DISTANCE) % 2**64) for row in range(n_rows)]
