"""What a captured step cannot do is an error that says what to do instead."""

import types

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.training.captured import Batches, make_trainer
from tinygrad_llm.errors import ConfigError, DTypeError, KernelError, ShapeError
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.steps import captured
from tinygrad_llm.training.steps.captured import CapturedStep
from tinygrad_llm.training.steps.prefetch import Prefetcher
from tinygrad_llm.training.trainer import Trainer

pytest.importorskip("triton")
pytest.importorskip("ml_dtypes")


def recorded_without_launches(batches):
    def record(launch):
        return types.SimpleNamespace(replay=lambda: np.zeros(3))

    trainer = make_trainer(CapturedStep, "cpu", accumulate=len(batches), record=record)
    return trainer.stepper.record(trainer, batches)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda a: a[:1], ShapeError, r"shape \(2, 4\) and type int64, got \(1, 4\).*graph=False"),
        (lambda a: a[..., None], ShapeError, r"got \(2, 4, 1\)"),
        (lambda a: a.astype(np.float64), DTypeError, r"type int64, got \(2, 4\) and float64"),
    ],
)
def test_a_batch_unlike_the_first_is_an_error(change, error, words):
    first = Batches().next_batch()
    step = recorded_without_launches([first])
    with pytest.raises(error, match="CapturedStep: all batches .*like the first.*" + words):
        step.compute([tuple(map(change, first))])
    with pytest.raises(ShapeError, match=r"1 micro-batches of 2 arrays each, got \[2, 2\]"):
        step.compute([first, first])


def test_each_shape_is_recorded_once_and_an_endless_variety_refused(monkeypatch):
    """Of three shapes two are kept: the one that was used last, and the one before."""
    monkeypatch.setattr(captured, "KEPT", 2)
    monkeypatch.setattr(captured, "SHAPES", 3)
    made = []

    def record(launch):
        made.append(launch)
        return types.SimpleNamespace(replay=lambda: np.zeros(3))

    trainer = make_trainer(CapturedStep, "cpu", record=record)
    batch = Batches().next_batch()

    def recordings_after(rows, columns=4):
        batches = [tuple(a[:rows, :columns] for a in batch)]
        trainer.stepper.compute(trainer, batches)
        return len(made)

    assert [recordings_after(rows) for rows in (2, 1, 2, 1)] == [1, 2, 2, 2]
    assert [recordings_after(1, 3), recordings_after(1), recordings_after(2)] == [3, 3, 4]
    assert recordings_after(1, 3) == 5  # its recording had given way
    with pytest.raises(ShapeError, match="in 4 different shapes.* at most 3.*--no-graph"):
        recordings_after(1, 2)
    trainer.stepper.forget()
    assert recordings_after(1, 2) == 6


def test_the_prefetcher_refuses_a_short_last_batch(gpu):
    class Shorter(Batches):
        rows = 2

        def next_batch(self):
            batch = tuple(a[: self.rows] for a in super().next_batch())
            self.rows -= 1
            return batch

    ahead = Prefetcher(Shorter())
    with pytest.raises(ShapeError, match=r"Prefetcher: .*expected .*\(2, 4\).*got \(1, 4\)"):
        ahead.next_batch()


def test_a_step_that_cannot_be_recorded_names_the_way_out(monkeypatch):
    from tinygrad_llm import kernels

    def refuse(launch):
        raise kernels.KernelError("capture: something waited")

    trainer = make_trainer(CapturedStep, "cpu", record=refuse)
    with pytest.raises(KernelError, match="something waited. .*--no-graph"):
        trainer.train_step()


def test_only_adamw_can_be_recorded():
    optimizer = tg.optim.SGD(model := tg.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="must be AdamW.*got SGD"):
        Trainer(model, optimizer, Batches(), LoopSettings(1, eval_every=0), stepper=CapturedStep())


def test_methods_that_a_graph_would_not_call_are_refused():
    class Clipped(Trainer):
        def clip(self):
            return super().clip()

    model = tg.nn.Linear(2, 2)
    settings = LoopSettings(1, eval_every=0)
    with pytest.raises(ConfigError, match="Clipped overrides clip, which a graph does not call"):
        Clipped(model, tg.optim.AdamW(model), Batches(), settings, stepper=CapturedStep())


def test_a_recording_without_the_kernel_is_refused():
    trainer = make_trainer(CapturedStep, "cpu")
    with tg.use_kernels("off"), pytest.raises(KernelError, match="only the kernel of"):
        trainer.train_step()
