"""Losses: from predictions and targets to one number."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.tensor import Tensor, tensor_of
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.ops.cross_entropy import CrossEntropy
from tinygrad_llm.ops.linear_cross_entropy import LinearCrossEntropy
from tinygrad_llm.ops.mse_loss import MSELoss


def cross_entropy(
    logits: TensorLike,
    targets: TensorLike,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    weight: None = None,
) -> Tensor:
    """-log softmax(logits)[target], averaged. logits (..., V), integer targets (...).

    Args:
        ignore_index: rows with this target do not count.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per row.
        label_smoothing: share of a target that is spread over all classes.
        weight: of each class; left out, the message says how to weight the rows.

    Raises:
        ConfigError: a setting makes no sense, or ``weight`` is given.
    """
    if weight is not None or not isinstance(ignore_index, (int, np.integer)):
        raise ConfigError(
            "cross_entropy: weights of classes are left out. Weight the rows: "
            'w = weight[targets], (cross_entropy(logits, targets, reduction="none") * w).sum() / '
            f"w.sum(). And ignore_index must be an integer, got {type(ignore_index).__name__}."
        )
    return CrossEntropy.apply(
        tensor_of(logits),
        targets,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def linear_cross_entropy(
    x: TensorLike,
    weight: Tensor,
    targets: TensorLike,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    chunk_rows: int | None = None,
) -> Tensor:
    """cross_entropy(linear(x, weight, bias), targets) without ever holding all logits."""
    return LinearCrossEntropy.apply(
        tensor_of(x), weight, targets, bias, ignore_index=ignore_index, chunk_rows=chunk_rows
    )


def mse_loss(x: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """(x - target)^2, averaged; ``"sum"`` adds, ``"none"`` gives one loss per element."""
    return MSELoss.apply(tensor_of(x), tensor_of(target), reduction=reduction)
