"""Learning-rate schedules: values by hand, groups, state, errors."""

import json
import math

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.optim import (
    SGD,
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    WarmupSchedule,
    lr_scheduler,
)


def optimizer(lr=1.0):
    return SGD([nn.Parameter([1.0])], lr=lr)


def rates(schedule, n):
    """The learning rate that each of n optimizer steps would see."""
    seen = []
    for _ in range(n):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.step()
    return seen


def test_constant_and_warmup():
    assert rates(ConstantSchedule(optimizer(0.3)), 3) == [0.3] * 3
    assert rates(WarmupSchedule(optimizer(), warmup=3), 5) == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_linear():
    schedule = LinearSchedule(optimizer(), max_steps=6, warmup=2, min_lr=0.2)
    want = [1 / 3, 2 / 3, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]
    assert rates(schedule, 8) == pytest.approx(want)


def nanogpt(it, lr, min_lr, warmup, decay):
    """get_lr as published in nanoGPT's train.py, in this test's words."""
    if it < warmup:
        return lr * (it + 1) / (warmup + 1)
    if it > decay:
        return min_lr
    ratio = (it - warmup) / (decay - warmup)
    return min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (lr - min_lr)


def test_cosine_equals_nanogpts():
    schedule = CosineSchedule(optimizer(6e-4), warmup=20, max_steps=100, min_lr=6e-5)
    want = [nanogpt(i, 6e-4, 6e-5, 20, 100) for i in range(120)]
    assert rates(schedule, 120) == pytest.approx(want)
    assert schedule.lr_at(60) == pytest.approx(want[60])
    assert schedule.lr == pytest.approx(6e-5)


def test_groups_keep_their_ratio():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    both = SGD([{"params": [a]}, {"params": [b], "lr": 0.1}], lr=1.0)
    schedule = CosineSchedule(both, max_steps=10, min_lr=0.5)
    for _ in range(12):
        first, second = (group["lr"] for group in both.param_groups)
        assert second == pytest.approx(first / 10)
        schedule.step()
    assert both.param_groups[1]["lr"] == pytest.approx(0.05)


def test_state_goes_through_json_and_survives_a_rate_changed_by_the_optimizers_state():
    schedule = CosineSchedule(optimizer(), max_steps=10, warmup=2)
    rates(schedule, 4)
    state = json.loads(json.dumps(schedule.state_dict()))
    later = CosineSchedule(optimizer(0.01), max_steps=10, warmup=2)
    later.load_state_dict(state)
    assert rates(later, 6) == rates(schedule, 6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CosineSchedule(optimizer(), max_steps=5, warmup=5), "greater than warmup"),
        (lambda: CosineSchedule(optimizer(), max_steps=5, min_lr=2.0), "min_lr"),
        (lambda: LinearSchedule(optimizer(), max_steps=5, min_lr=-0.1), "min_lr"),
        (lambda: WarmupSchedule(optimizer(), warmup=-1), "warmup"),
        (lambda: WarmupSchedule(optimizer(), warmup=1.5), "warmup"),
        (lambda: ConstantSchedule(nn.Linear(1, 1)), "expected an optimizer"),
    ],
)
def test_misuse_is_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_another_schedules_state_is_refused():
    cosine = CosineSchedule(optimizer(), max_steps=5)
    with pytest.raises(CheckpointError, match="'ConstantSchedule'"):
        cosine.load_state_dict(ConstantSchedule(optimizer()).state_dict())
    state = {**cosine.state_dict(), "peaks": [1.0, 2.0]}
    with pytest.raises(CheckpointError, match="2 parameter groups"):
        cosine.load_state_dict(state)


def test_schedules_under_pytorchs_names():
    assert rates(lr_scheduler.StepLR(optimizer(), step_size=2, gamma=0.5), 5) == [
        1,
        1,
        0.5,
        0.5,
        0.25,
    ]
    assert rates(lr_scheduler.ExponentialLR(optimizer(), 0.5), 4) == [1, 0.5, 0.25, 0.125]
    assert rates(lr_scheduler.LambdaLR(optimizer(), lambda t: 1 / (t + 1)), 3) == [1, 0.5, 1 / 3]
    linear = lr_scheduler.LinearLR(optimizer(), start_factor=0.5, total_iters=2)
    assert rates(linear, 4) == [0.5, 0.75, 1, 1]
    cosine = lr_scheduler.CosineAnnealingLR(optimizer(), T_max=4, eta_min=0.2)
    np.testing.assert_allclose(
        rates(cosine, 6), [0.2 + 0.4 * (1 + math.cos(math.pi * t / 4)) for t in range(6)]
    )


def test_each_group_falls_to_the_lowest_rate_itself():
    both = SGD(
        [{"params": [nn.Parameter([1.0])]}, {"params": [nn.Parameter([1.0])], "lr": 0.1}], lr=1.0
    )
    schedule = lr_scheduler.CosineAnnealingLR(both, T_max=2, eta_min=0.05)
    assert schedule.get_last_lr() == [1.0, 0.1]
    schedule.step()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.05, 0.05])
    assert schedule.lr_at(0) == 1.0


@pytest.mark.parametrize(
    ("schedule", "count"),
    [(lr_scheduler.StepLR, "step_size"), (lr_scheduler.CosineAnnealingLR, "T_max")],
)
def test_one_step_is_the_fewest(schedule, count):
    schedule(optimizer(), 1)
    with pytest.raises(ConfigError, match=f"{count} must be an integer of at least 1, got 0"):
        schedule(optimizer(), 0)


def test_a_linear_schedule_of_one_step():
    linear = lr_scheduler.LinearLR(optimizer(), start_factor=0.5, total_iters=1)
    assert rates(linear, 3) == [0.5, 1, 1]
    with pytest.raises(ConfigError, match="total_iters must be an integer of at least 1, got 0"):
        lr_scheduler.LinearLR(optimizer(), total_iters=0)


def test_pytorchs_names_refuse_and_hint():
    with pytest.raises(ConfigError, match="step_size must be an integer of at least 1, got 0"):
        lr_scheduler.StepLR(optimizer(), 0)
    with pytest.raises(ConfigError, match="lr_lambda must be a function"):
        lr_scheduler.LambdaLR(optimizer(), [lambda t: 1.0])
    with pytest.raises(tg.errors.LeftOutError, match="CosineSchedule"):
        lr_scheduler.OneCycleLR
    state = lr_scheduler.StepLR(optimizer(), 3).state_dict()
    assert json.loads(json.dumps(state))["settings"] == {"step_size": 3, "gamma": 0.1}
