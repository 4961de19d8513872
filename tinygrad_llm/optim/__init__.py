"""Optimizers over flat arrays, clipping, and learning-rate schedules."""

from typing import TYPE_CHECKING

from tinygrad_llm.errors import missing_name
from tinygrad_llm.optim import lr_scheduler
from tinygrad_llm.optim.adam import Adam
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
    "SGD",
    "Adam",
    "AdamW",
    "ConstantSchedule",
    "CosineSchedule",
    "LinearSchedule",
    "Optimizer",
    "Schedule",
    "WarmupSchedule",
    "clip_grad_norm",
    "decay_groups",
    "gradient_norm",
    "lr_scheduler",
]
_ADAPTIVE = "AdamW, or a subclass of tg.optim.Optimizer with an update() of your own"
_LEFT_OUT = {
    name: _ADAPTIVE
    for name in (
        "ASGD",
        "Adadelta",
        "Adafactor",
        "Adagrad",
        "Adamax",
        "LBFGS",
        "Muon",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
        "SparseAdam",
    )
}


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        raise missing_name("tg.optim", name, _LEFT_OUT, __all__)
