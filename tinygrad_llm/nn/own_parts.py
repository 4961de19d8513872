"""What a part of a GPT must take and give, so that one's own can stand in its place.

`TransformerBlock` and `GPT` call their parts by `call`: a norm, an attention, a feed-forward
network or a whole block is handed x and, where there are any, a mask and a cache, and must give
back a Tensor of x's shape and type. docs/own_parts.md is the guide.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.errors import (
    CacheIgnoredError,
    ConfigError,
    DTypeError,
    GenerationError,
    ShapeError,
)
from tinygrad_llm.nn.attention import MultiHeadAttention
from tinygrad_llm.nn.feed_forward import FeedForward
from tinygrad_llm.nn.kv_cache import KVCache, LayerCache
from tinygrad_llm.nn.layer_norm import LayerNorm
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.residual import ResidualSum

_OURS = frozenset({LayerNorm, MultiHeadAttention, FeedForward})  # need no check
_EVERY = "**"  # stands for a parameter like **kwargs, which takes any name


def call(
    part: Callable[..., Any],
    x: Tensor,
    mask: TensorLike | None = None,
    cache: LayerCache | None = None,
) -> Tensor:
    """y = part(x), with a mask and a cache where there are any; of the shape and type of x.

    Args:
        part: a module, or a function.
        x: (B, T, C).
        mask, cache: handed on where they are not None, so that a part whose ``forward`` takes x
            alone will do where there is neither.

    Returns:
        (B, T, C)

    Raises:
        CacheIgnoredError: there is a cache, and ``forward`` takes none.
        ConfigError: there is a mask, and ``forward`` takes none; or the result is no Tensor.
        ShapeError, DTypeError: the result has another shape or type than x.
    """
    if mask is None and cache is None:
        y = part(x)
    else:
        y = part(x, **words_for(part, mask, cache))
    if type(part) not in _OURS and type(y) is not ResidualSum:  # a look would add that up
        _check_result(part, y, x)
    return y


def _check_result(part: Callable[..., Any], y: object, x: Tensor) -> None:
    if not isinstance(y, Tensor):
        raise ConfigError(
            f"{name_of(part)}: forward must return a Tensor, got {type(y).__name__}. Compute with "
            "Tensors (x * 2, tg.nn.functional), not with their arrays (x.data): a gradient goes "
            "through Tensors only."
        )
    got, given = y.data, x.data
    if got.shape != given.shape:
        raise ShapeError(
            f"{name_of(part)}: forward must return the shape that it was given, {x.shape}, got "
            f"{y.shape}. Its result is added to the residual stream, or normalizes it."
        )
    if got.dtype != given.dtype and _keeps_type(part, x):
        raise DTypeError(
            f"{name_of(part)}: forward must return the type that it was given, {x.dtype}, got "
            f"{y.dtype}. Make constants and parameters of the type of x: "
            "tg.tensor(values, dtype=x.dtype)."
        )


def name_of(part: Callable[..., Any]) -> str:
    """How an error calls a part: "attention (MyAttention)"."""
    if not isinstance(part, Module):
        return str(getattr(part, "__name__", part))
    kind = type(part).__name__
    return f"{part._label} ({kind})" if part._label else kind


def check_stream(x: object, ids_shape: tuple[int, ...], n_embd: int) -> None:
    """Raise a ShapeError unless the embeddings have given the residual stream (B, T, C)."""
    if isinstance(x, Tensor) and x.shape == (*ids_shape, n_embd):
        return
    got = x.shape if isinstance(x, Tensor) else type(x).__name__
    raise ShapeError(
        f"GPT: token_embedding(ids) + position_embedding(positions) must be a Tensor of shape "
        f"(B, T, n_embd), {(*ids_shape, n_embd)}, got {got}. An embedding of your own takes "
        "integers (...) and returns (..., n_embd)."
    )


def check_logits(head: Module, logits: object, hidden: Tensor) -> None:
    """Raise a ShapeError unless a head has given scores (..., V) for hidden (..., C)."""
    if isinstance(logits, Tensor) and logits.shape[:-1] == hidden.shape[:-1]:
        return
    got = logits.shape if isinstance(logits, Tensor) else type(logits).__name__
    raise ShapeError(
        f"{name_of(head)}: forward must return scores of shape (..., V), "
        f"({', '.join(map(str, hidden.shape[:-1]))}, V), for {hidden.shape}, got {got}."
    )


def tied_weight(embedding: Module) -> Tensor:
    """The table (V, C) of an embedding, which a GPT without a head of its own ends with.

    Raises:
        ConfigError: it has none.
    """
    weight = getattr(embedding, "weight", None)
    if not isinstance(weight, Tensor):
        raise ConfigError(
            f"GPT: the output layer is tied to the embedding, and {name_of(embedding)} has no "
            "weight (V, C). Give it one, or set model.head to a module (..., C) -> (..., V)."
        )
    return weight


def check_growth(
    path: str, block: Module, cache: LayerCache | KVCache, before: int, n_new: int
) -> None:
    """Make sure that a block has put the keys and values of each new position into its cache.

    Without this, an attention that forgets earlier positions would write other text, in silence.

    Args:
        path: of the block, such as "blocks.0"; "" for a whole model.
        block: that was called with the cache.
        cache: of this layer, or of the model.
        before: its length before the call.
        n_new: number of new positions.

    Raises:
        CacheIgnoredError: nothing was added.
        GenerationError: too little or too much was.
    """
    if cache.length == before + n_new:
        return
    attention = getattr(block, "attention", None)
    if not path:
        who = name_of(block)
    elif isinstance(attention, Module):
        who = f"{path}.attention ({type(attention).__name__})"
    else:
        who = f"{path} ({type(block).__name__})"
    if cache.length == before:
        raise CacheIgnoredError(
            f"{who}: takes a cache and adds nothing to it. Call k, v = cache.append(k, v) in "
            "forward and attend to what it returns, or leave `cache` out of forward's arguments."
        )
    raise GenerationError(
        f"{who}: after this call the cache must hold {before + n_new} positions, and holds "
        f"{cache.length}. Call cache.append(k, v) exactly once, with k and v of all the positions "
        "of x: (B, H, T, D)."
    )


def words_for(
    part: Callable[..., Any], mask: TensorLike | None, cache: LayerCache | KVCache | None
) -> dict[str, object]:
    """Those of the two that are not None, as keyword arguments, all of which the part must take.

    Raises:
        CacheIgnoredError, ConfigError: its ``forward`` does not; as `call`.
    """
    taken = _keywords(type(part).forward if isinstance(part, Module) else part)
    given: dict[str, object] = {} if cache is None else {"cache": cache}
    if cache is not None and "cache" not in taken and _EVERY not in taken:
        raise CacheIgnoredError(
            f"{name_of(part)}: forward takes no cache. With forward(x, mask=None, cache=None), "
            "which calls cache.append(k, v), a new token costs one position, not the whole text."
        )
    if mask is not None:
        given["mask"] = mask
        if "mask" not in taken and _EVERY not in taken:
            raise ConfigError(
                f"{name_of(part)}: there is a mask (texts of different lengths in one batch), and "
                "forward takes none. Write forward(self, x, mask=None, cache=None); the mask is "
                "boolean, (B, H, T, S) or broadcast to it, and False hides a key."
            )
    return given


@lru_cache(maxsize=256)
def _keywords(function: Callable[..., Any]) -> frozenset[str]:
    """The names by which a function can be given arguments."""
    found = set()
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found.add(_EVERY)
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            found.add(name)
    return frozenset(found)


def _keeps_type(part: object, x: Tensor) -> bool:
    """Whether x has the type of the part's own numbers; of two types the wider one comes out."""
    first = next(part.parameters(), None) if isinstance(part, Module) else None
    return first is None or first.dtype == x.dtype
