"""What generating and judging text ask of a model: its context, and scores of the next token.

A model of one's own needs ``config.context_length`` and ``forward(ids)``, ids (B, T) -> logits
(B, T, V). Two things more make it faster, and a GPT has them:

    hidden, logits    forward in two halves: the output layer then sees the last position alone
    new_cache         a `KVCache`, which forward takes as ``cache=``: a step reads one new token

A GPT whose ``forward`` is one's own is read by that, and its parts are left alone.
"""

from __future__ import annotations

import warnings

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import CacheIgnoredError, ConfigError
from tinygrad_llm.nn import GPT, KVCache, Module
from tinygrad_llm.nn.own_parts import check_growth, words_for


def context_of(model: Module) -> int:
    """The most tokens that a model sees at once.

    Raises:
        ConfigError: it does not say so.
    """
    length = getattr(getattr(model, "config", None), "context_length", None)
    if not isinstance(length, int) or length < 1:
        raise ConfigError(
            f"{type(model).__name__}: expected a model with config.context_length, the most tokens "
            f"it sees at once, got {length!r}. Set self.config = tg.nn.GPTConfig(...), or a "
            "dataclass of your own with context_length and vocab_size, in its __init__."
        )
    return length


def vocab_size_of(model: Module) -> int:
    """The number of tokens of a model.

    Raises:
        ConfigError: it does not say so.
    """
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if not isinstance(size, int) or size < 1:
        raise ConfigError(
            f"{type(model).__name__}: expected a model with config.vocab_size, got {size!r}."
        )
    return size


def all_scores(model: Module, ids: TensorLike, cache: KVCache | None = None) -> Tensor:
    """Logits (B, T, V) after each of the tokens ids (B, T); with a cache ids are the new ones.

    Raises:
        ConfigError: the model returns something else.
        CacheIgnoredError, GenerationError: it does not use the cache, or not rightly.
    """
    before = 0 if cache is None else cache.length
    logits = model(ids, **words_for(model, None, cache))
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        got = logits.shape if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"{type(model).__name__}: forward(ids) must return the logits, a Tensor of shape "
            f"(B, T, V), got {got}."
        )
    if cache is not None:
        check_growth("", model, cache, before, logits.shape[1])
    return logits


def last_scores(model: Module, ids: TensorLike, cache: KVCache | None = None) -> Tensor:
    """Logits (B, V) after the last of the tokens; arguments as for `all_scores`."""
    if isinstance(model, GPT) and is_read_in_halves(model):
        return model.logits(model.hidden(ids, cache=cache)[:, -1])  # (B, V)
    return all_scores(model, ids, cache)[:, -1]  # (B, V)


def is_read_in_halves(model: Module) -> bool:
    """Whether ``forward`` is that of `GPT`: logits(hidden(ids))."""
    return isinstance(model, GPT) and type(model).forward is GPT.forward


def new_cache(
    model: Module, batch: int, max_length: int, padding: Array | None = None
) -> KVCache | None:
    """A cache for the model; None for one that knows of no caches."""
    make = getattr(model, "new_cache", None)
    return None if make is None else make(batch, max_length, padding)


def say_that_cache_is_ignored(error: CacheIgnoredError) -> None:
    """A warning, once for each model: the text is right, but each token reads all of it.

    Warns:
        UserWarning: always.
    """
    warnings.warn(f"{error} Generating without a cache, which is slower.", stacklevel=2)
