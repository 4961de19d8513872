"""Losses as modules; formula and derivative stand in the op's file under ``ops/``."""

from __future__ import annotations

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.nn.module import Module


class CrossEntropyLoss(Module):
    """-log softmax(logits)[target], averaged.

    Args:
        weight: of each class; left out, the message says how to weight the rows.
        ignore_index: rows with this target do not count.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per row.
        label_smoothing: share of a target that is spread over all classes.
    """

    def __init__(
        self,
        weight: None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self.weight = weight
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, logits: TensorLike, targets: TensorLike) -> Tensor:
        """Logits (..., V), the classes last, and integer targets (...) -> a scalar, or (...).

        Raises:
            ShapeError: not one target for each row.
            IndexRangeError: a target is no class.
            ConfigError: a setting makes no sense.
        """
        return F.cross_entropy(
            logits,
            targets,
            self.ignore_index,
            self.reduction,
            self.label_smoothing,
            weight=self.weight,
        )


class MSELoss(Module):
    """(x - target)^2, averaged.

    Args:
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per element.
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, x: TensorLike, target: TensorLike) -> Tensor:
        """x and target (...) of one shape -> a scalar, or (...).

        Raises:
            ShapeError: the shapes differ.
            ConfigError: the reduction is unknown.
        """
        return F.mse_loss(x, target, self.reduction)


def loss_of(model: Module, ids: TensorLike, targets: TensorLike) -> Tensor:
    """``model.loss(ids, targets)``; of a model without that, the cross-entropy of its logits.

    Args:
        model: takes ids (B, T) and returns logits (B, T, V).
        ids, targets: integers (B, T).

    Returns:
        scalar
    """
    own = getattr(model, "loss", None)
    return own(ids, targets) if own is not None else F.cross_entropy(model(ids), targets)
