"""Embeddings: a map in two dimensions, nearest neighbours, and analogies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import Array, to_numpy
from tinygrad_llm.errors import IndexRangeError, ShapeError
from tinygrad_llm.explain.pictures._labels import printable
from tinygrad_llm.figure import new_figure
from tinygrad_llm.nn import GPT, Embedding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Embeddings = GPT | Embedding | Tensor | Array


def _vectors(source: Embeddings) -> np.ndarray:
    """(V, C) of a GPT, an Embedding, a Tensor or an array."""
    if isinstance(source, GPT):
        source = source.token_embedding
    if isinstance(source, Embedding):
        source = source.weight
    return to_numpy(source.data if isinstance(source, Tensor) else source).astype(np.float64)


def principal_components(x: np.ndarray, n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along the directions of largest variance.

    Args:
        x: (N, C), one row per point.
        n: number of directions, at most min(N, C).

    Returns:
        (coordinates (N, n), share of the variance along each (n,)). Each direction points to the
        side of its largest coordinate, so that the result is the same on every machine.

    Source: Pearson, "On lines and planes of closest fit", 1901; here by the singular values of the
    centred data.
    """
    if x.ndim != 2 or n > min(x.shape):
        raise ShapeError(
            f"principal_components: expected (N, C) with N and C at least {n}, got {x.shape}."
        )
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    signs = np.sign(u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])])
    share = s**2 / max(float((s**2).sum()), 1e-300)
    return (u * s * signs)[:, :n], share[:n]


def neighbours(source: Embeddings, token: int, k: int = 5) -> list[tuple[int, float]]:
    """The k other tokens whose embeddings point in the most similar direction.

    Args:
        source: a GPT, an Embedding, a Tensor or an array (V, C).
        token: id of the token.
        k: how many.

    Returns:
        (id, cosine of the angle), the nearest first.

    Raises:
        IndexRangeError: there is no such token.
    """
    return _nearest(_unit(_vectors(source)), [token], [], k)


def analogy(
    source: Embeddings, positive: Sequence[int], negative: Sequence[int], k: int = 5
) -> list[tuple[int, float]]:
    """The tokens nearest to a sum of some embeddings less some others.

    ``analogy(model, [king, woman], [man])`` asks what is to woman as king is to man.

    Args:
        source: a GPT, an Embedding, a Tensor or an array (V, C).
        positive, negative: ids of tokens; they are no answers themselves.
        k: how many.

    Returns:
        (id, cosine), the nearest first.

    Raises:
        IndexRangeError: there is no such token.

    Source: Mikolov, Yih & Zweig, "Linguistic regularities in continuous space word
    representations", 2013.
    """
    return _nearest(_unit(_vectors(source)), list(positive), list(negative), k)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)


def _nearest(
    unit: np.ndarray, positive: list[int], negative: list[int], k: int
) -> list[tuple[int, float]]:
    given = positive + negative
    for token in given:
        if not 0 <= token < len(unit):
            raise IndexRangeError(f"embeddings: token id {token} is not in 0 .. {len(unit) - 1}.")
    target = unit[positive].sum(axis=0) - unit[negative].sum(axis=0)
    cosine = unit @ (target / max(float(np.linalg.norm(target)), 1e-300))
    cosine[given] = -np.inf
    best = np.argsort(-cosine, kind="stable")[: min(k, len(unit) - len(set(given)))]
    return [(int(i), float(cosine[i])) for i in best]


def embedding_map(
    source: Embeddings, labels: Sequence[str], ids: Sequence[int] | None = None, n_lines: int = 1
) -> Figure:
    """Tokens on the plane of the two largest principal components, joined to their neighbours.

    Args:
        source: a GPT, an Embedding, a Tensor or an array (V, C).
        labels: text of each token that is shown.
        ids: ids of those tokens; by default all, in order.
        n_lines: draw a line from each token to so many nearest ones (in all dimensions).

    Returns:
        a matplotlib figure.

    Raises:
        ShapeError: labels of another number than tokens.
        MissingDependencyError: matplotlib is not installed.
    """
    vectors = _vectors(source)
    chosen = list(range(len(vectors))) if ids is None else [int(i) for i in ids]
    if len(labels) != len(chosen):
        raise ShapeError(
            f"embedding_map: expected {len(chosen)} labels, one per token, got {len(labels)}."
        )
    figure = new_figure(7.5, 6.5)
    shown = vectors[chosen]
    places, share = principal_components(shown)
    axis = figure.subplots()
    unit = _unit(shown)
    for i in range(len(shown)):
        for j, _ in _nearest(unit, [i], [], n_lines):
            axis.plot(*places[[i, j]].T, color="0.8", lw=0.8, zorder=1)
    axis.scatter(places[:, 0], places[:, 1], s=8, zorder=2)
    for (x, y), text in zip(places, printable(labels), strict=True):
        axis.annotate(text, (x, y), fontsize=8, xytext=(3, 2), textcoords="offset points")
    axis.set_xlabel(f"component 1: {share[0]:.0%} of the variance")
    axis.set_ylabel(f"component 2: {share[1]:.0%}")
    axis.set_title("lines lead to the nearest token in all dimensions", fontsize=9)
    return figure
