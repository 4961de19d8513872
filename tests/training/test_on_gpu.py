"""The parts of a GPU's training step that can be tried without one."""

import json

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.stand_in_gpu import MODULE, DeviceArray, stand_in_gpu
from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.report import utilization as chips
from tinygrad_llm.training.steps.captured import CapturedStep
from tinygrad_llm.training.steps.dropout_keys import DropoutKeys
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.steps.loss_scale import LossScale
from tinygrad_llm.training.steps.precision import Precision, ScaledLoss
from tinygrad_llm.training.trainer import Trainer


def small_gpt(**more):
    tg.manual_seed(0)
    return tg.nn.GPT(tg.nn.GPTConfig(17, 8, n_layer=2, n_head=2, n_embd=16, **more))


def train(device, steps=3, dropout=0.0):
    model = small_gpt(dropout=dropout).to(device)
    optimizer = tg.optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        batch = tuple(tg.Tensor(rng.integers(0, 17, (2, 8)), device=device).data for _ in "xy")
        optimizer.zero_grad()
        loss = model.loss(*batch)
        loss.backward()
        tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()
        losses.append(loss)
    return model, losses


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_training_on_the_device_equals_training_on_the_cpu(monkeypatch, dropout):
    _, here = train("cpu", dropout=dropout)
    with stand_in_gpu(monkeypatch):
        model, there = train("cuda", dropout=dropout)
        assert all(isinstance(p.data, DeviceArray) for p in model.parameters())
        values = [loss.item() for loss in there]
    np.testing.assert_allclose([loss.item() for loss in here], values, rtol=1e-5)


def test_a_step_neither_waits_nor_copies(monkeypatch):
    with stand_in_gpu(monkeypatch) as events:
        model = small_gpt().to("cuda")
        optimizer = tg.optim.AdamW(model.parameters(), lr=1e-2)
        ids = tg.Tensor(np.ones((2, 8), np.int64), device="cuda").data
        for step in range(3):
            if step:
                events.clear()
            optimizer.zero_grad()
            loss = model.loss(ids, ids)
            loss.backward()
            tg.optim.clip_grad_norm(optimizer, 1.0)
            optimizer.step()
        assert events == []


def test_dropout_keys_hand_out_rows_and_then_draw_what_a_step_would():
    tg.manual_seed(5)
    expected = [default_generator().next_key() for _ in range(3)]
    tg.manual_seed(5)
    keys = DropoutKeys(np, default_generator())
    with keys:
        rows = [default_generator().next_key() for _ in range(3)]
    assert default_generator().keys_on_device is None
    assert all(np.shares_memory(row, keys.rows) for row in rows)
    assert keys.draw().tolist() == [list(k) for k in expected]


def test_loss_scale_backs_off_and_grows_and_gives_up():
    scale = LossScale(value=8.0, interval=2)
    assert not scale.update(float("inf"))
    assert scale.value == 4.0
    assert scale.update(1.0)
    assert scale.update(1.0)
    assert scale.value == 8.0
    other = LossScale()
    other.set_state(json.loads(json.dumps(scale.state())))
    assert other == scale
    scale.value = 1.5 * 2.0**-14
    with pytest.raises(tg.errors.NumericsError, match="bfloat16"):
        scale.update(float("nan"))


def test_flops_of_gpt2_are_llm_cs_number():
    config = tg.nn.GPTConfig(50257, 1024, 12, 12, 768)
    assert chips.flops_per_token(config) == pytest.approx(0.803e9, rel=0.01)


def test_utilization_is_never_nonsense():
    config = tg.nn.GPTConfig(50257, 1024, 12, 12, 768)
    h200 = chips.peak_flops("NVIDIA H200")
    assert chips.utilization(468_000, config, h200) == pytest.approx(0.38, abs=0.01)
    assert chips.peak_flops("Somebody's GPU") is None
    assert chips.utilization(1e5, config, None) is None
    assert chips.utilization(1e9, config, h200) is None


class Batches:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def next_batch(self):
        inputs, targets = self.rng.integers(0, 17, (2, 2, 8))
        targets[0, :3] = -100  # so micro-batches are weighted
        return inputs, targets

    def state(self):
        return {}


def test_float16_trains_with_a_scaled_loss_and_recovers_from_overflow():
    tg.manual_seed(0)
    model = tg.nn.GPT(tg.nn.GPTConfig(17, 8, n_layer=1, n_head=2, n_embd=8)).to("float16")
    optimizer = tg.optim.AdamW(model.parameters(), lr=1e-2)
    settings = LoopSettings(12, clip=1.0, eval_every=0)
    scale = LossScale(2.0**20)  # overflows float16 at first
    trainer = Trainer(model, optimizer, Batches(), settings, precision=ScaledLoss(scale))
    with np.errstate(over="ignore", invalid="ignore"):
        reports = [trainer.train_step() for _ in range(12)]
    assert reports[0].skipped
    assert not reports[-1].skipped
    assert scale.value < 2.0**20
    state = trainer.state()
    assert state["loss_scale"]["value"] == scale.value


@pytest.mark.parametrize(
    ("settings", "stepper", "precision"),
    [
        ({}, CapturedStep, Precision),
        ({"graph": False}, EagerStep, Precision),
        ({"histograms_every": 5}, EagerStep, Precision),
        ({"dtype": "float64"}, EagerStep, Precision),
        ({"dtype": "float16"}, CapturedStep, ScaledLoss),
        ({"dtype": "float16", "graph": False}, EagerStep, ScaledLoss),
    ],
)
def test_parts_of_a_step_on_a_gpu(settings, stepper, precision):
    from tinygrad_llm.training.run.assemble import make_precision, make_stepper
    from tinygrad_llm.training.settings.config import TrainConfig

    config = TrainConfig(device="cuda", **settings)
    assert type(make_stepper(config)) is stepper
    assert type(make_precision(config)) is precision


LONG = tg.nn.GPTConfig(257, 64, n_layer=2, n_head=2, n_embd=64)
# Bounds on the mean difference of 200 losses, of which the last is near 3: float32 differs by
# the order of sums, bfloat16 by its 8 bits. With array code on a CPU, bfloat16 gave 6e-4 to 3.3e-3
# over five seeds; sums in any order and fused products may round differently.
BOUNDS = {"float32": 2e-3, "bfloat16": 2e-2}


class Periodic:
    """Text that can be learned: a sequence that repeats."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def next_batch(self):
        start = self.rng.integers(0, 257, (8, 1))
        ids = (start + 3 * np.arange(65) ** 2 // 7) % 257
        return ids[:, :-1], ids[:, 1:]

    def state(self):
        return {}


def losses_of(kind, device, dtype, steps=200):
    tg.manual_seed(1)
    model = tg.nn.GPT(LONG).to(device).to(dtype)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=1e-3)
    settings = LoopSettings(steps, eval_every=0)
    trainer = Trainer(model, optimizer, Periodic(), settings, stepper=kind())
    return np.array([trainer.train_step().loss for _ in range(steps)])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [EagerStep, CapturedStep])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_200_losses_on_a_gpu_agree_with_the_cpu(kind, dtype):
    on_cpu = losses_of(EagerStep, "cpu", "float32")
    on_gpu = losses_of(kind, "cuda", dtype)
    assert on_cpu[-1] < 0.7 * on_cpu[0]
    assert np.abs(on_cpu - on_gpu).mean() < BOUNDS[dtype]


@pytest.mark.gpu
def test_prefetched_batches_are_the_loaders_own():
    from tinygrad_llm.training.steps.prefetch import Prefetcher

    ahead, plain = Prefetcher(Periodic()), Periodic()
    for _ in range(10):
        for a, b in zip(ahead.next_batch(), plain.next_batch(), strict=True):
            np.testing.assert_array_equal(a.get(), b)


@pytest.mark.parametrize("held", [1, 2, 5])
def test_micro_batches_of_a_step_do_not_overwrite_each_other(monkeypatch, held):
    from tinygrad_llm.training.steps import prefetch

    with stand_in_gpu(monkeypatch):
        monkeypatch.setattr(prefetch, "cuda_module", lambda: MODULE)
        ahead, plain = prefetch.Prefetcher(Periodic(), held), Periodic()
        for _ in range(4):
            step = [ahead.next_batch() for _ in range(held)]
            for batch in step:
                for a, b in zip(batch, plain.next_batch(), strict=True):
                    np.testing.assert_array_equal(a.host, b)
