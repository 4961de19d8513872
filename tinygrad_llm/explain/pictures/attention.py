"""What each attention head looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.autograd.trace import trace
from tinygrad_llm.backend import to_numpy
from tinygrad_llm.errors import ConfigError, ShapeError
from tinygrad_llm.explain.pictures._labels import MOST_LABELS, printable
from tinygrad_llm.explain.small_ops import small_ops
from tinygrad_llm.figure import new_figure
from tinygrad_llm.nn import GPT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_ATTENTION = ("attention_qkv", "scaled_dot_product_attention")


def attention_weights(model: GPT, ids: TensorLike) -> list[np.ndarray]:
    """The probabilities with which each position looks at each other one.

    They are the model's own: its attention runs taken apart into small ops, and the results of
    its softmax are recorded. Dropout is off.

    Args:
        model: a GPT.
        ids: integers (B, T).

    Returns:
        for each layer an array (B, H, T, T); row i holds where position i looks.
    """
    keep = [op.name for op in REGISTRY.values() if op.composed and op.name not in _ATTENTION]
    with model.evaluating(), no_grad(), small_ops(keep), trace(values=True) as t:
        model.hidden(ids)
    return [op.values.outputs[0] for op in t.ops if op.name == "softmax" and op.values]


def attention_maps(
    model: GPT, ids: TensorLike, labels: Sequence[str] | None = None, layer: int | None = None
) -> Figure:
    """A picture per head: rows are positions that look, columns positions that are looked at.

    Args:
        model: a GPT.
        ids: integers (T,) or (1, T): one sequence.
        labels: texts of the T tokens.
        layer: only this layer; otherwise one row of pictures per layer.

    Returns:
        a matplotlib figure.

    Raises:
        ShapeError: more than one sequence, or labels of another number.
        ConfigError: there is no such layer.
        MissingDependencyError: matplotlib is not installed.
    """
    one = np.atleast_2d(to_numpy(array_of("attention_maps", ids)))
    if len(one) != 1:
        raise ShapeError(f"attention_maps: ids must be one sequence, got shape {one.shape}.")
    if labels is not None and len(labels) != one.shape[1]:
        raise ShapeError(
            f"attention_maps: expected {one.shape[1]} labels, one per token, got {len(labels)}."
        )
    weights = attention_weights(model, one)
    chosen = range(len(weights)) if layer is None else [layer]
    if layer is not None and layer not in range(len(weights)):
        raise ConfigError(f"attention_maps: layer must be in 0 .. {len(weights) - 1}, got {layer}.")
    heads = weights[0].shape[1]
    figure = new_figure(2.4 * heads + 1.6, 2.5 * len(chosen) + 0.9)
    axes = figure.subplots(len(chosen), heads, squeeze=False)
    for row, number in enumerate(chosen):
        for head in range(heads):
            title = f"layer {number} head {head}"
            image = _draw(axes[row, head], weights[number][0, head], labels, title)
    figure.supxlabel("position that is looked at (grey: later ones, which are masked)", fontsize=9)
    figure.supylabel("position that looks", fontsize=9)
    figure.colorbar(image, ax=axes, label="attention weight; a row sums to 1", shrink=0.8)
    return figure


def _draw(axis: Axes, weights: np.ndarray, labels: Sequence[str] | None, title: str) -> AxesImage:
    later = np.triu(np.ones(weights.shape, bool), 1)  # (T, T), what a causal model masks
    axis.set_facecolor("0.85")  # shows where there is no weight
    image = axis.imshow(np.ma.array(weights, mask=later), vmin=0, vmax=1, cmap="Blues")
    axis.set_title(title, fontsize=9)
    if labels is None or len(labels) > MOST_LABELS:
        axis.tick_params(labelsize=7)
        return image
    places, texts = range(len(labels)), printable(labels)
    axis.set_xticks(places, texts, fontsize=6, rotation=90)
    axis.set_yticks(places, texts, fontsize=6)
    return image
