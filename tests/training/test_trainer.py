"""The loop: accumulation, NaN policy, early stopping, callbacks, parts overridden."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import ConfigError, NumericsError
from tinygrad_llm.nn import GPT, GPTConfig
from tinygrad_llm.optim import SGD
from tinygrad_llm.training.evaluate import Evaluation
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.stopping import StopSignals
from tinygrad_llm.training.trainer import Trainer

QUIET = {"eval_every": 0, "checkpoint_every": 0, "dropout": 0.0}


def grads_of(trainer):
    return {name: p.grad.copy() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradient_is_that_of_the_large_batch(runs, parts):
    large = runs.trainer("large", batch_size=8, **QUIET)
    small = runs.trainer("small", batch_size=8 // parts, accumulate=parts, **QUIET)
    large.backward([large.loader.next_batch()])
    small.backward([small.loader.next_batch() for _ in range(parts)])
    for name, expected in grads_of(large).items():
        error = np.abs(grads_of(small)[name] - expected).max()
        assert error <= 1e-5 * max(1e-3, np.abs(expected).max()), name


def test_accumulated_training_is_that_of_the_large_batch(runs):
    large = runs.fit("large", batch_size=8, **QUIET)
    small = runs.fit("small", batch_size=2, accumulate=4, **QUIET)
    for (name, a), (_, b) in zip(
        large.model.named_parameters(), small.model.named_parameters(), strict=True
    ):
        np.testing.assert_allclose(a.data, b.data, atol=2e-3, err_msg=name)
    assert small.result.tokens == large.result.tokens


def test_accumulation_weighs_micro_batches_by_their_targets(runs):
    """Where targets are left out, the mean is over the targets, not over the micro-batches."""
    trainer = runs.trainer(**QUIET, dtype="float64")
    inputs, targets = trainer.loader.next_batch()  # (4, T)
    targets = targets.copy()
    targets[0, 3:] = -100
    whole, _ = trainer.backward([(inputs, targets)])
    expected = grads_of(trainer)
    trainer.optimizer.zero_grad()
    parts = [(inputs[:1], targets[:1]), (inputs[1:], targets[1:])]
    loss, count = trainer.backward(parts)
    assert loss == pytest.approx(whole, rel=1e-12)
    assert count == targets.size - 13
    for name, grad in grads_of(trainer).items():
        np.testing.assert_allclose(grad, expected[name], rtol=1e-9, atol=1e-15, err_msg=name)


class BreakAt(Callback):
    """Puts an infinity into a weight after a step."""

    def __init__(self, step):
        self.step = step

    def after_step(self, trainer, report):
        if report.step == self.step:
            trainer.model.final_norm.weight.data[0] = np.inf


def test_nan_stops_and_names_the_op(runs):
    trainer = runs.trainer(callbacks=[BreakAt(7)], **QUIET)
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            NumericsError,
            match=r"step 8: the loss is .*First cause: .* of op '.*Lower the learning",
        ),
    ):
        trainer.fit()
    assert trainer.step == 7


class SometimesNan(Trainer):
    """Some batches have a loss that overflows."""

    bad_steps = (3, 4, 11)

    def compute_loss(self, batch):
        loss = super().compute_loss(batch)
        return loss * float("inf") if self.step in self.bad_steps else loss


def test_nan_steps_are_skipped_and_counted(runs):
    with np.errstate(all="ignore"):
        trainer = runs.fit(kind=SometimesNan, on_nan="skip", **QUIET)
    assert trainer.result.skipped_steps == 3
    assert all(np.isfinite(p.data).all() for p in trainer.model.parameters())
    lines = (runs.folder / "run/log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["skipped_steps"] == 3


class AlwaysNan(SometimesNan):
    bad_steps = range(5, 1000)


def test_endless_skipping_stops(runs):
    with np.errstate(all="ignore"), pytest.raises(NumericsError, match="20 steps in a row"):
        runs.fit(kind=AlwaysNan, on_nan="skip", steps=100, **QUIET)


def test_early_stopping(runs):
    trainer = runs.fit(learning_rate=0.3, min_learning_rate=0.3, steps=200, patience=3)
    assert trainer.step < 200
    assert trainer.result.stopped_by.startswith("early stopping")
    assert trainer.progress.best_step == trainer.step - 15


def test_callbacks_hear_everything_in_order(runs):
    heard = []

    class Listener(Callback):
        def on_start(self, trainer):
            heard.append("start")

        def on_step(self, trainer, report):
            heard.append(f"step {report.step}")

        def on_log(self, trainer, record, timing):
            heard.append(f"log {record['step']}")

        def on_evaluation(self, trainer, record):
            heard.append(f"evaluation {record['step']}")

        def after_step(self, trainer, report):
            heard.append(f"after {report.step}")

        def on_checkpoint(self, trainer, folder):
            heard.append(folder.name)

        def on_end(self, trainer, result):
            heard.append(f"end {result.last_step}")

    runs.fit(callbacks=[Listener()], steps=2, eval_every=2, checkpoint_every=1)
    assert heard == [
        "start",
        "evaluation 0",
        "step 1",
        "after 1",
        "step-00000001",
        "step 2",
        "log 2",
        "evaluation 2",
        "after 2",
        "step-00000002",
        "end 2",
    ]


def test_another_task_needs_only_a_loss_and_a_loader():
    """What fine-tuning does: another loss, another evaluation, no text."""
    tg.manual_seed(0)
    model = GPT(GPTConfig(11, 6, 1, 1, 8))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 11, (32, 6))
    labels = (ids[:, -1] > 5).astype(np.int64)

    class Loader:
        def next_batch(self):
            return ids, labels

        def state(self):
            return {}

        def set_state(self, state):
            pass

    class Classifier(Trainer):
        def compute_loss(self, batch):
            inputs, wanted = batch
            logits = self.model(inputs)[:, -1, :2]
            return tg.functional.cross_entropy(logits, wanted)

    def accuracy(model):
        with tg.no_grad():
            right = model(ids).numpy()[:, -1, :2].argmax(-1) == labels
        return {"loss": 1 - right.mean(), "accuracy": right.mean()}

    trainer = Classifier(
        model, SGD(model, lr=0.5), Loader(), LoopSettings(60, eval_every=60), evaluate=accuracy
    )
    result = trainer.fit()
    assert result.evaluation["accuracy"] > 0.9
    assert result.tokens == 60 * 32


def test_recompute_gives_the_same_bits(runs, weights_of):
    plain, again = runs.fit("a"), runs.fit("b", recompute=True)
    assert weights_of(plain) == weights_of(again)


def test_loss_falls_below_the_start(runs):
    trainer = runs.fit(steps=100)
    first = json.loads((runs.folder / "run/log.jsonl").read_text("utf-8").splitlines()[0])
    assert trainer.result.best_loss < first["validation_loss"] - 1.0


def test_settings_that_make_no_sense():
    for bad in ({"steps": 0}, {"accumulate": 0}, {"clip": -1.0}, {"on_nan": "ignore"}):
        with pytest.raises(ConfigError):
            LoopSettings(**{"steps": 10, **bad})


def test_perplexity_of_a_huge_loss_is_a_number():
    assert np.isfinite(Evaluation(1e6, 10).perplexity)


def test_signals_are_handled_as_before_also_when_entered_twice():
    before = signal.getsignal(signal.SIGTERM)
    signals = StopSignals()
    with signals:
        with signals:
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signals._note
    assert signals.reason == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == before
