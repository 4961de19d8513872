"""The training loop.

    for each step:                                            `train_step`
        for each micro-batch: compute_loss, backward          `backward`, called by the stepper
        clip the gradient                                     `clip`
        optimizer.step(); set the learning rate               `update`
        log, evaluate, save, each when it is due              `_after_step`

Each part is a method, to be overridden in a subclass; callbacks are told of every event. How a step
is computed is composed of three parts (`steps`): Python or a CUDA graph, plain or scaled gradients,
one process or several. What happens between two steps is complete before the next begins, and the
state at that moment is all there is: a resumed run computes the same bits as one never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.backend import is_array
from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.nn import Module
from tinygrad_llm.nn.losses import loss_of
from tinygrad_llm.optim import Optimizer, Schedule
from tinygrad_llm.training import nan_policy
from tinygrad_llm.training.evaluate import Evaluate, as_metrics
from tinygrad_llm.training.loop_settings import (
    IGNORED,
    Batch,
    Figures,
    Loader,
    LoopSettings,
    StepReport,
    TrainingResult,
)
from tinygrad_llm.training.progress import Progress, Save, TrainingState
from tinygrad_llm.training.report.callback import Callback, tell
from tinygrad_llm.training.report.recorder import Recorder
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.precision import Precision
from tinygrad_llm.training.steps.world import OneProcess
from tinygrad_llm.training.stopping import StopSignals

# Methods that a step is made of, besides the loss: one that is recorded does not call them.
_PARTS_OF_A_STEP = ("count_targets", "backward", "first_gradient", "clip")


class Trainer:
    """Trains a model.

    Args:
        model: anything with parameters; `compute_loss` says what is minimized.
        optimizer: over the model's parameters.
        loader: gives batches, tuples of arrays.
        settings: how long, how often, and what to do about NaN.
        schedule: sets the optimizer's learning rate; None leaves it as it is.
        evaluate: called with the model at intervals; returns an `Evaluation` or a table of
            numbers with "loss", by which the best checkpoint is chosen. None for no evaluation.
        save: called as ``save(step, state, best_step)`` to write a checkpoint. None for none.
        recorder: writes the log. None for none.
        callbacks: are told what happens.
        stepper: how a step is computed: `EagerStep` or `steps.captured.CapturedStep`.
        precision: `Precision`, of bfloat16 on a CPU too, or `ScaledLoss` for weights in float16.
        world: `OneProcess`, or `steps.ranks.Ranks` for several.

    Attributes:
        step: optimizer steps done.
        progress: best loss, tokens seen, and what else a checkpoint keeps.

    Raises:
        ConfigError: the parts do not fit each other.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loader: Loader,
        settings: LoopSettings,
        schedule: Schedule | None = None,
        *,
        evaluate: Evaluate | None = None,
        save: Save | None = None,
        recorder: Recorder | None = None,
        callbacks: Sequence[Callback] = (),
        stepper: EagerStep | None = None,
        precision: Precision | None = None,
        world: OneProcess | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.loader = loader
        self.settings = settings
        self.schedule = schedule
        self.evaluate = evaluate
        self.save = save
        self.recorder = recorder or Recorder()
        self.callbacks = list(callbacks)
        self.stepper = stepper or EagerStep()
        self.precision = precision or Precision()
        self.world = world or OneProcess()
        self.step = 0
        self.progress = Progress()
        self._saved_step = -1
        self._stop = StopSignals()
        self.world.attach(optimizer)
        changed = [n for n in _PARTS_OF_A_STEP if getattr(type(self), n) is not getattr(Trainer, n)]
        self.stepper.attach(self, changed)

    # ---- the parts of a step: override what should be different ------------------------------

    def compute_loss(self, batch: Batch) -> Tensor:
        """The mean loss of one micro-batch, a scalar Tensor."""
        return loss_of(self.model, *batch)

    def compute_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is minimized, and the mean that is reported in its place: here the same."""
        loss = self.compute_loss(batch)
        return loss, loss

    def count_targets(self, batch: Batch) -> int:
        """How many targets the mean of `compute_loss` runs over: its weight among the others."""
        targets = batch[-1] if is_array(batch[-1]) else np.asarray(batch[-1])
        return int((targets != IGNORED).sum())

    def backward(self, batches: Sequence[Batch]) -> tuple[float, int]:
        """Gradients of the mean loss over several micro-batches; returns loss and targets.

        The mean over all targets is the mean of the micro-batches' means, weighted by their
        numbers of targets: accumulation gives what one large batch would, and so do several
        processes with parts of it.
        """
        self.stepper.set_aside()
        counts = [self.count_targets(batch) for batch in batches]
        total = max(1, int(self.world.total(sum(counts))))
        mean = 0.0
        with self.world.own_random_numbers(), self.precision.computing():
            for i, (batch, count) in enumerate(zip(batches, counts, strict=True)):
                if i == len(batches) - 1:  # only now are the gradients complete, one by one
                    self.world.watch()
                loss, reported = self.compute_losses(batch)
                share = count / total
                first = self.first_gradient(share)
                loss.backward(None if first == 1.0 else np.asarray(first, loss.dtype))
                mean += float(reported.item()) * share
        self.world.finish()
        return self.world.total(mean), total

    def first_gradient(self, share: float) -> float:
        """What the backward pass of a micro-batch starts from, given its share of all targets."""
        return share * self.precision.scale

    def update(self) -> None:
        """Change the weights by the gradients."""
        self.stepper.update(self)

    def clip(self) -> float:
        """Limit the gradient's norm; returns what it was."""
        if self.precision.scaled:
            self.precision.unscale(self.world.gradients())
        return self.world.clip(self.settings.clip or float("inf"))

    def compute_gradients(self, batches: Sequence[Batch]) -> Figures:
        """Clipped gradients of a step; returns loss, targets, and the norm before clipping."""
        return self.stepper.compute(self, batches)

    def train_step(self) -> StepReport:
        """One optimizer step."""
        random_state = default_generator().state()
        batches = [self.loader.next_batch() for _ in range(self.settings.accumulate)]
        loss, tokens, norm = self.compute_gradients(batches)
        self.precision.note(norm)
        rate = self.optimizer.lr
        healthy = bool(np.isfinite(loss) and np.isfinite(norm))
        if healthy:
            self.update()
            self.progress.skipped_in_a_row = 0
        elif self.settings.on_nan == "stop" and not self.precision.scaled:
            default_generator().set_state(random_state)
            nan_policy.name_guilty_op(lambda: self.backward(batches), self.step, loss, norm)
        else:
            self.progress.note_skipped()
            nan_policy.refuse_endless_skipping(self.progress.skipped_in_a_row, self.step)
        self.step += 1
        if self.schedule is not None:
            self.schedule.step()
        return StepReport(self.step, loss, rate, norm, tokens, skipped=not healthy)

    # ---- the loop ----------------------------------------------------------------------------

    def fit(self) -> TrainingResult:
        """Train until the last step, a signal, or early stopping; saves at the end.

        Raises:
            NumericsError: a NaN or an infinity: in a step, if ``on_nan`` is "stop", or in a weight.
            CheckpointError: a checkpoint cannot be written.
        """
        self.world.begin(self)
        self.model.train()
        result = TrainingResult(first_step=self.step)
        self._tell("on_start")
        try:
            with StopSignals() as self._stop, self.precision.computing():
                self._run(result)
        finally:
            self.recorder.close()
            self._tell("on_end", result)
        return result

    def _run(self, result: TrainingResult) -> None:
        if self.step == 0 and self._due(self.settings.eval_every):
            self._evaluate()
        result.stopped_by = self.progress.out_of_patience(self.settings.patience)
        while self.step < self.settings.steps and not result.stopped_by:
            started = time.perf_counter()
            report = self.train_step()
            self._after_step(report, time.perf_counter() - started)
            reason = self._stop.reason or self.progress.out_of_patience(self.settings.patience)
            result.stopped_by = self.world.agree_to_stop(reason)
        result.finish(self.step, self.progress, self.recorder)
        if self._saved_step != self.step:
            self.save_checkpoint()

    def _after_step(self, report: StepReport, seconds: float) -> None:
        last = self.step == self.settings.steps
        self.progress.note_step(report.loss, report.tokens, report.skipped)
        self.recorder.note_time(report.tokens, seconds)
        self._tell("on_step", report)
        if last or self._due(self.settings.log_every):
            self._tell("on_log", *self.recorder.write_step(report, self.progress))
        improved = (last or self._due(self.settings.eval_every)) and self._evaluate()
        self._tell("after_step", report)
        if improved or self._due(self.settings.checkpoint_every):
            self.save_checkpoint()

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _evaluate(self) -> bool:
        """Evaluate, log it, and tell whether the loss is the best so far."""
        if self.evaluate is None or not self.settings.eval_every:
            return False
        metrics = as_metrics(self.evaluate(self.model))
        improved = self.progress.note_evaluation(self.step, metrics)
        self._tell("on_evaluation", self.recorder.write_evaluation(self.step, metrics))
        return improved

    def _tell(self, event: str, *what: object) -> None:
        if unheard := tell(self.callbacks, event, self, *what):
            self._stop.reason = unheard

    # ---- saving and resuming -----------------------------------------------------------------

    def state(self) -> TrainingState:
        """All that decides how the run goes on, the weights excepted."""
        scale = self.precision.state()
        return {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state(),
            "generator": default_generator().state(),
            "trainer": self.progress.to_dict(),
            **({} if scale is None else {"loss_scale": scale}),
        }

    def set_state(self, state: TrainingState) -> None:
        """Go on from what `state` returned; the weights must be loaded already.

        Learning rate, decay and schedule stay this trainer's own: a resumed run may have others.

        Raises:
            CheckpointError, DataError: the state belongs to another model or other data.
        """
        saved, own = state["optimizer"], self.optimizer.state_dict()["settings"]
        settings = {**saved["settings"], "groups": own["groups"]}
        with self.world.loading_state():
            self.optimizer.load_state_dict({**saved, "settings": settings})
        self.stepper.forget()
        if "loss_scale" in state:
            self.precision.set_state(state["loss_scale"])
        self.loader.set_state(state["loader"])
        default_generator().set_state(state["generator"])
        self.progress = Progress.from_dict(state["trainer"])
        self.step = self._saved_step = int(state["step"])
        if self.schedule is not None:
            self.schedule.load_state_dict({**self.schedule.state_dict(), "count": self.step})
        self.recorder.cut_after(self.step)

    def save_checkpoint(self) -> None:
        """Write a checkpoint of this moment."""
        with self.world.whole_state():
            if self.save is not None:
                state = self.state()
                nan_policy.refuse_to_save(self.model, state["optimizer"], self.step)
                self.recorder.sync()
                self._tell("on_checkpoint", self.save(self.step, state, self.progress.best_step))
        self._saved_step = self.step
