"""Optimizers over flat arrays, clipping, and learning-rate schedules."""

from tinygrad_llm.optim.adamw import AdamW
from tinygrad_llm.optim.clip import clip_grad_norm, gradient_norm
from tinygrad_llm.optim.groups import decay_groups
from tinygrad_llm.optim.optimizer import Optimizer
from tinygrad_llm.optim.schedule import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
    WarmupSchedule,
)
from tinygrad_llm.optim.sgd import SGD

__all__ = [
    "SGD", "AdamW", "ConstantSchedule", "CosineSchedule", "LinearSchedule", "Optimizer", "Schedule",
    "WarmupSchedule", "clip_grad_norm", "decay_groups", "gradient_norm",
]  # fmt: skip
