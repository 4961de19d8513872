"""Captured steps, replayed call by call on the stand-in GPU, against steps run by Python."""

from dataclasses import replace

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.training.captured import make_trainer
from tinygrad_llm.optim.flat import FlatBuffer
from tinygrad_llm.training.lr_finder import find_learning_rate
from tinygrad_llm.training.steps import recorded
from tinygrad_llm.training.steps.captured import CapturedStep
from tinygrad_llm.training.steps.dropout_keys import DropoutKeys
from tinygrad_llm.training.steps.eager import EagerStep

pytest.importorskip("triton")
pytest.importorskip("ml_dtypes")


def run(kind, between=lambda trainer: None, **more):
    """Reports, weights and counts of two steps and of what is done between them."""
    trainer = make_trainer(kind, **more)
    reports = [trainer.train_step()]
    between(trainer)
    reports.append(trainer.train_step())
    steps = [slot.steps for buffer in trainer.optimizer.buffers for slot in buffer.slots]
    return reports, [p.numpy().copy() for p in trainer.model.parameters()], steps


def assert_equal(plain, replayed, rtol=1e-4, atol=1e-5):
    for a, b in zip(plain[0], replayed[0], strict=True):
        assert b.loss == pytest.approx(a.loss, rel=1e-5)
        assert b.gradient_norm == pytest.approx(a.gradient_norm, rel=1e-4)
        assert (a.tokens, a.learning_rate) == (b.tokens, b.learning_rate)
    assert plain[2] == replayed[2]
    for a, b in zip(plain[1], replayed[1], strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), rtol, atol)


def test_a_step_is_recorded_anew_where_the_gradients_had_to_move(gpu):
    held = []

    def hold_and_assign(trainer):
        for p in trainer.model.parameters():
            held.append((p.grad, p.grad.get()))
            p.grad = p.grad * 0 + 1  # which brings the flat gradient into use at once

    replayed = run(CapturedStep, hold_and_assign)
    assert held
    for gradient, values in held:
        np.testing.assert_array_equal(gradient.get(), values)
    assert_equal(run(EagerStep), replayed)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.2, "accumulate": 2},
        {"dropout": 0.2, "recompute": True},
        {"dtype": "bfloat16", "tie_weights": False},
    ],
    ids=str,
)
def test_replayed_steps_equal_plain_ones(gpu, options):
    assert_equal(run(EagerStep, **options), run(CapturedStep, **options))


def _keep_rates(monkeypatch):
    def enter(self, original=recorded._OnDevice.__enter__):
        rates = [group["lr"] for group in self.groups]
        original(self)
        for group, rate in zip(self.groups, rates, strict=True):
            group["lr"] = rate

    monkeypatch.setattr(recorded._OnDevice, "__enter__", enter)


def _keep_step(monkeypatch):
    def enter(self, original=recorded._OnDevice.__enter__):
        original(self)
        for group in self.groups:
            group["step_on_device"] = 1

    monkeypatch.setattr(recorded._OnDevice, "__enter__", enter)


def _keep_keys(monkeypatch):
    monkeypatch.setattr(DropoutKeys, "draw", lambda self: np.ones((self.used, 2), np.uint32))


def test_what_python_decides_anew_each_step_is_missed_when_it_is_recorded(gpu, monkeypatch):
    plain = run(EagerStep, dropout=0.2)
    for plant in (_keep_rates, _keep_step, _keep_keys):
        with monkeypatch.context() as patches:
            plant(patches)
            with pytest.raises(AssertionError):
                assert_equal(plain, run(CapturedStep, dropout=0.2))


def edit_weights(trainer):
    """What callbacks and programs do between two steps."""
    parameters = dict(trainer.model.named_parameters())
    trainer.model.load_state_dict({name: p.numpy() * 0.5 for name, p in parameters.items()})
    bias, weight = parameters["final_norm.bias"], parameters["blocks.0.attention.qkv.weight"]
    with tg.no_grad():
        bias.copy_(bias + 0.25)
    weight.data = weight.data * 2  # another array
    trainer.optimizer.zero_grad()


def test_weights_edited_between_replays_stay_edited(gpu, monkeypatch):
    plain = run(EagerStep, edit_weights, dtype="bfloat16")
    assert_equal(plain, run(CapturedStep, edit_weights, dtype="bfloat16"))
    monkeypatch.setattr(FlatBuffer, "gather", lambda self: None)
    with pytest.raises(AssertionError):
        assert_equal(plain, run(CapturedStep, edit_weights, dtype="bfloat16"))


def step_by_hand(trainer):
    """A step as `find_learning_rate` makes it."""
    trainer.optimizer.zero_grad()
    batches = [trainer.loader.next_batch() for _ in range(trainer.settings.accumulate)]
    trainer.backward(batches)
    trainer.clip()
    trainer.update()


def test_steps_by_hand_between_replays_count(gpu):
    plain = run(EagerStep, step_by_hand, accumulate=2)
    assert_equal(plain, run(CapturedStep, step_by_hand, accumulate=2))


def test_the_search_of_a_learning_rate_finds_what_it_finds_without_a_graph():
    plain, other = (
        find_learning_rate(make_trainer(kind, "cpu", accumulate=2), 1e-4, 1.0, steps=12)
        for kind in (EagerStep, CapturedStep)
    )
    assert plain == other


def replace_frozen_table(trainer):
    table = trainer.model.position_embedding.weight
    table.data = table.data * 3


def test_another_array_of_a_frozen_parameter_is_recorded_anew(gpu):
    options = {"frozen": ["position_embedding"]}
    plain = run(EagerStep, replace_frozen_table, **options)
    assert_equal(plain, run(CapturedStep, replace_frozen_table, **options))


def change_decay(trainer):
    trainer.optimizer.param_groups[0]["weight_decay"] = 0.9


def change_momentum(trainer):
    trainer.optimizer.param_groups[0]["betas"] = (0.2, 0.999)


def change_clip(trainer):
    trainer.settings = replace(trainer.settings, clip=1e-3)


@pytest.mark.parametrize("change", [change_decay, change_momentum, change_clip])
def test_a_changed_setting_holds_from_the_next_step_on(gpu, change):
    plain = run(EagerStep, change)
    assert_equal(plain, run(CapturedStep, change))


def test_a_step_is_recorded_once_and_again_when_other_parameters_learn(gpu):
    trainer = make_trainer(CapturedStep)
    trainer.train_step()
    first = trainer.stepper._recorded
    gpu.clear()
    for buffer in trainer.optimizer.buffers:
        buffer.gather()
    assert gpu == []  # what is looked for before each replay costs neither a copy nor a wait
    trainer.train_step()
    assert trainer.stepper._recorded is first
    trainer.model.final_norm.requires_grad_(False)  # the same arrays, but not all learn
    before = trainer.model.final_norm.weight.numpy().copy()
    trainer.train_step()
    assert trainer.stepper._recorded is not first
    np.testing.assert_array_equal(trainer.model.final_norm.weight.numpy(), before)


def test_recording_leaves_weights_and_moments_alone(gpu):
    trainer = make_trainer(CapturedStep)
    buffer = trainer.optimizer.buffers[0]
    kept = [buffer.data, *buffer.moments.values()]
    before = [array.get() for array in kept]
    batch = trainer.loader.next_batch()
    step = trainer.stepper.record(trainer, [batch])
    for a, b in zip(before, kept, strict=True):
        np.testing.assert_array_equal(a, b.get())
    step.compute([batch])
    assert all((a != b.get()).any() for a, b in zip(before, kept, strict=True))
