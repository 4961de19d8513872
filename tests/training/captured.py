"""A tiny trainer whose steps can be captured on the stand-in GPU."""

from __future__ import annotations

import numpy as np

import tinygrad_llm as tg
from tests.replayed_gpu import Replay
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.steps.captured import CapturedStep
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.trainer import Trainer

STEPS = 2


class Batches:
    """Ids of the shape (2, 4), other ones each time."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def next_batch(self):
        inputs, targets = self.rng.integers(0, 17, (2, 2, 4))
        targets[0, :3] = -100  # so micro-batches are weighted
        return inputs, targets

    def state(self):
        return {"rng": self.rng.bit_generator.state}

    def set_state(self, state):
        self.rng.bit_generator.state = state["rng"]


def make_trainer(
    kind,
    device="cuda",
    dtype="float32",
    frozen=(),
    accumulate=1,
    recompute=False,
    record=Replay,
    **more,
):
    tg.manual_seed(0)
    model = tg.nn.GPT(tg.nn.GPTConfig(17, 4, n_layer=1, n_head=1, n_embd=8, **more))
    model = model.to(device).to(dtype)
    model.checkpoint_blocks = recompute
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=1e-2)
    settings = LoopSettings(STEPS, accumulate=accumulate, clip=0.5, eval_every=0)
    schedule = tg.optim.CosineSchedule(optimizer, STEPS, 1, 1e-3)
    stepper = EagerStep() if kind is EagerStep else CapturedStep(record)
    return Trainer(model, optimizer, Batches(), settings, schedule, stepper=stepper)
