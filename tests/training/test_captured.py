"""Captured steps, replayed call by call on the stand-in GPU, against steps run by Python."""

import types
from dataclasses import replace

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.replayed_gpu import Replay, gpu_with_kernels
from tinygrad_llm.errors import ConfigError, DTypeError, KernelError, ShapeError
from tinygrad_llm.optim.flat import FlatBuffer
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.lr_finder import find_learning_rate
from tinygrad_llm.training.steps import recorded
from tinygrad_llm.training.steps.captured import CapturedStep
from tinygrad_llm.training.steps.dropout_keys import DropoutKeys
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.prefetch import Prefetcher
from tinygrad_llm.training.trainer import Trainer

pytest.importorskip("triton")
pytest.importorskip("ml_dtypes")
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


@pytest.fixture
def gpu(monkeypatch):
    with gpu_with_kernels(monkeypatch) as synchronizations:
        yield synchronizations


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
