"""A few steps of a tiny GPT on the stand-in GPU, by any parts of a step that are asked for."""

from __future__ import annotations

import numpy as np

import tinygrad_llm as tg
from tests.replayed_gpu import Replay
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.steps.captured import CapturedStep
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.loss_scale import LossScale
from tinygrad_llm.training.steps.precision import Precision, ScaledLoss
from tinygrad_llm.training.steps.ranks import Ranks
from tinygrad_llm.training.steps.world import OneProcess
from tinygrad_llm.training.trainer import Trainer

STEPS = 3
FITS, TOO_LARGE = 2.0**10, 2.0**18  # scales of the loss; at the second, float16 overflows here


class Rows:
    """Batches of 4 rows of 4 tokens, of which a rank gets every ``size``-th row."""

    def __init__(self, rank=0, size=1):
        self.rng, self.mine = np.random.default_rng(0), slice(rank, None, size)

    def next_batch(self):
        inputs, targets = self.rng.integers(0, 17, (2, 4, 4))
        targets[0, :3] = -100  # so rows, and with them ranks and micro-batches, weigh unlike
        return inputs[self.mine], targets[self.mine]

    def state(self):
        return {}

    def set_state(self, state):
        pass


def make_trainer(
    captured, dtype, communicator=None, shard=False, accumulate=1, loader=None, scale=FITS
):
    """A trainer of these parts; two calls with the same numbers begin with the same weights."""
    tg.manual_seed(0)
    # The gradient of the keys' bias is 0 but for rounding, of which Adam makes whole updates.
    model = tg.nn.GPT(tg.nn.GPTConfig(17, 4, n_layer=1, n_head=1, n_embd=8, qkv_bias=False))
    model = model.to("cuda").to(dtype)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=1e-2)
    rank, size = (0, 1) if communicator is None else (communicator.rank, communicator.size)
    return Trainer(
        model,
        optimizer,
        loader or Rows(rank, size),
        LoopSettings(STEPS, accumulate=accumulate, clip=0.5, eval_every=0),
        tg.optim.CosineSchedule(optimizer, STEPS, 1, 1e-3),
        stepper=CapturedStep(Replay) if captured else EagerStep(),
        precision=ScaledLoss(LossScale(scale)) if dtype == "float16" else Precision(),
        world=OneProcess() if communicator is None else Ranks(communicator, shard),
    )


def run(*parts, **more):
    """What `assert_same_run` compares: reports of all steps, weights, moments, scale."""
    trainer = make_trainer(*parts, **more)
    with np.errstate(over="ignore", invalid="ignore"):
        reports = [trainer.train_step() for _ in range(STEPS)]
    weights = [p.numpy().astype(np.float32) for p in trainer.model.parameters()]
    with trainer.world.whole_state():
        state = trainer.optimizer.state_dict()
        moments = {name: a.get().astype(np.float32) for name, a in state["arrays"].items()}
    return reports, weights, moments, trainer.precision.scale, state["settings"]["steps"]


def assert_same_run(one, other, rtol):
    """Equal up to rounding; with ``rtol`` 0 to the last bit."""
    for a, b in zip(one[0], other[0], strict=True):
        assert (a.tokens, a.learning_rate, a.skipped) == (b.tokens, b.learning_rate, b.skipped)
        np.testing.assert_allclose(a.loss, b.loss, rtol)
        if not a.skipped:
            np.testing.assert_allclose(a.gradient_norm, b.gradient_norm, rtol)
    for a, b in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(a, b, rtol, atol=0.1 * rtol)
    for name, a in one[2].items():
        np.testing.assert_allclose(a, other[2][name], rtol, atol=0.1 * rtol, err_msg=name)
    assert one[3:] == other[3:]  # the scale of the loss, and each parameter's updates
