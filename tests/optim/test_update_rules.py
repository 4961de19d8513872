"""AdamW and SGD against ten-line float64 references, over many steps, shapes and settings."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tests.stand_in_gpu import stand_in_gpu
from tinygrad_llm import nn
from tinygrad_llm.backend import array_module, to_numpy
from tinygrad_llm.errors import ConfigError, LeftOutError
from tinygrad_llm.optim import SGD, Adam, AdamW, blocks


def adamw(p, grads, lr, betas, eps, weight_decay):
    """PyTorch's AdamW, written from its documentation: p after each of the gradients."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        p = p - lr * weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p


def sgd(p, grads, lr, momentum, weight_decay, nesterov):
    """PyTorch's SGD, written from its documentation."""
    u = None
    for g in grads:
        g = g + weight_decay * p
        if momentum:
            u = g if u is None else momentum * u + g
            g = g + momentum * u if nesterov else u
        p = p - lr * g
    return p


def run(optimizer, parameters, grads):
    for step in grads:
        for p, g in zip(parameters, step, strict=True):
            p.grad = g.astype(p.dtype)
        optimizer.step()
        optimizer.zero_grad()


SHAPES = [(3, 5), (7,), (1,), (2, 2, 2), (17, 1)]


def case(rng, dtype, n_steps=12):
    parameters = [nn.Parameter(rng.normal(size=s).astype(dtype)) for s in SHAPES]
    grads = [[rng.normal(size=s) for s in SHAPES] for _ in range(n_steps)]
    return parameters, [p.data.copy() for p in parameters], grads


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("block", [4, 1 << 16])
@settings(max_examples=8, deadline=None)
@given(
    lr=st.sampled_from([1e-3, 0.1]),
    betas=st.sampled_from([(0.9, 0.999), (0.9, 0.95), (0.0, 0.5)]),
    eps=st.sampled_from([1e-8, 1e-3]),
    weight_decay=st.sampled_from([0.0, 0.01, 0.5]),
)
def test_adamw(dtype, rtol, block, lr, betas, eps, weight_decay):
    rng = np.random.default_rng(0)
    parameters, before, grads = case(rng, dtype)
    optimizer = AdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CPU_BLOCK", block)  # blocks that end within a parameter
        run(optimizer, parameters, grads)
    for i, p in enumerate(parameters):
        want = adamw(before[i].astype(float), [g[i] for g in grads], lr, betas, eps, weight_decay)
        np.testing.assert_allclose(p.data, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd(rng, momentum, nesterov, weight_decay):
    parameters, before, grads = case(rng, "float64")
    optimizer = SGD(parameters, 0.05, momentum, weight_decay, nesterov)
    run(optimizer, parameters, grads)
    for i, p in enumerate(parameters):
        want = sgd(before[i], [g[i] for g in grads], 0.05, momentum, weight_decay, nesterov)
        np.testing.assert_allclose(p.data, want, rtol=1e-12)


def test_groups_have_their_own_settings(rng):
    parameters, before, grads = case(rng, "float64")
    optimizer = AdamW(
        [{"params": parameters[1:], "weight_decay": 0.0}, {"params": parameters[:1], "lr": 0.5}],
        lr=0.01,
        weight_decay=0.3,
    )
    run(optimizer, parameters, grads)
    for i, p in enumerate(parameters):
        lr, decay = (0.01, 0.0) if i else (0.5, 0.3)
        want = adamw(before[i], [g[i] for g in grads], lr, (0.9, 0.999), 1e-8, decay)
        np.testing.assert_allclose(p.data, want, rtol=1e-12)


def test_a_parameter_without_gradient_is_skipped_and_keeps_its_own_step_count(rng):
    parameters, before, grads = case(rng, "float64", n_steps=6)
    optimizer = AdamW(parameters, lr=0.1, weight_decay=0.1)
    used = [[0, 1, 2, 3, 4], [0, 2, 4], [1, 2], [], [0, 3, 4], [0, 1, 2, 3, 4]]
    for step, indices in zip(grads, used, strict=True):
        for i in indices:
            parameters[i].grad = step[i].copy()
        optimizer.step()
        optimizer.zero_grad()
    for i, p in enumerate(parameters):
        mine = [g[i] for g, indices in zip(grads, used, strict=True) if i in indices]
        want = adamw(before[i], mine, 0.1, (0.9, 0.999), 1e-8, 0.1)
        np.testing.assert_allclose(p.data, want, rtol=1e-12)


def train(make, steps=3, dtype="float32"):
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(11, 4, 2, 2, 8, dropout=0.1)).to(dtype)
    optimizer = make(model)
    ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    for _ in range(steps):
        model.loss(ids, ids[:, ::-1]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_a_tied_gpt_learns_the_same_with_flat_arrays_as_with_plain_ones():
    class Plain:
        """The reference, on every parameter by itself."""

        def __init__(self, model):
            self.parameters, self.history = list(model.parameters()), []
            self.start = [p.data.copy() for p in self.parameters]

        def step(self):
            self.history.append([p.grad.copy() for p in self.parameters])
            for i, p in enumerate(self.parameters):
                grads = [g[i] for g in self.history]
                p.data = adamw(self.start[i], grads, 1e-2, (0.9, 0.999), 1e-8, 0.01)

        def zero_grad(self):
            for p in self.parameters:
                p.grad = None

    flat = train(lambda m: AdamW(m, lr=1e-2), dtype="float64")
    plain = train(Plain, dtype="float64")
    for (name, p), q in zip(flat.named_parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-7, atol=1e-9, err_msg=name)


def test_two_runs_with_one_seed_give_the_same_bits():
    a, b = (train(lambda m: AdamW(m.named_parameters(), lr=1e-2)) for _ in range(2))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_float32_master_weights(rng, dtype):
    start = np.ones(5, np.float32)
    grads = [np.full(5, 1.0)] * 50
    p = nn.Parameter(start, dtype=dtype)
    optimizer = AdamW([p], lr=1e-4, weight_decay=0.0)
    run(optimizer, [p], [[g] for g in grads])
    want = adamw(start.astype(float), grads, 1e-4, (0.9, 0.999), 1e-8, 0.0)
    assert p.dtype.name == dtype
    master = optimizer.state_dict()["arrays"]["master.0"]
    np.testing.assert_allclose(master, want, rtol=1e-6)
    np.testing.assert_array_equal(p.data, want.astype(np.float32).astype(p.dtype))
    assert (p.data < 1).all()  # 50 steps of 1e-4, each below bfloat16's resolution, add up


def adam(p, grads, lr, betas, eps, weight_decay):
    """PyTorch's Adam, written from its documentation."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p


@pytest.mark.parametrize("block", [4, 1 << 16])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_adam(rng, block, weight_decay):
    parameters, before, grads = case(rng, "float64")
    optimizer = Adam(parameters, lr=0.05, betas=(0.8, 0.9), weight_decay=weight_decay)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CPU_BLOCK", block)
        run(optimizer, parameters, grads)
    for i, p in enumerate(parameters):
        want = adam(before[i], [g[i] for g in grads], 0.05, (0.8, 0.9), 1e-8, weight_decay)
        np.testing.assert_allclose(p.data, want, rtol=1e-12, atol=1e-12)


def test_adam_leaves_the_gradients_as_they_are(rng):
    parameters, _, grads = case(rng, "float32")
    optimizer = Adam(parameters, weight_decay=0.3)
    for p, g in zip(parameters, grads[0], strict=True):
        p.grad = g.astype("float32")
    optimizer.step()
    for p, g in zip(parameters, grads[0], strict=True):
        np.testing.assert_array_equal(p.grad, g.astype("float32"))


def test_adam_does_not_decay_unless_told_and_its_state_fits_no_other():
    p = nn.Parameter([1.0])
    assert Adam([p]).param_groups[0]["weight_decay"] == 0
    with pytest.raises(tg.errors.CheckpointError, match="'Adam'"):
        AdamW([p]).load_state_dict(Adam([p]).state_dict())


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_arguments_of_pytorch(kind):
    p = nn.Parameter([1.0])
    kind([p], lr=0.1, foreach=True, fused=True, maximize=False)
    with pytest.raises(ConfigError, match="maximize must be False: minimize the negative loss"):
        kind([p], maximize=True)
    with pytest.raises(TypeError, match="momentun"):
        kind([p], momentun=0.9)
    with pytest.raises(ConfigError, match="add_param_group is left out.*all its groups"):
        kind([p]).add_param_group({"params": [p]})


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_step_with_a_closure_is_refused_before_it_changes_anything(kind):
    p = nn.Parameter([1.0])
    optimizer = kind([p], lr=0.1)
    (p * p).sum().backward()
    with pytest.raises(ConfigError, match=r"Write loss = closure\(\); optimizer\.step\(\)"):
        optimizer.step(lambda: (p * p).sum())
    assert p.data == 1
    optimizer.step(None)
    assert p.data < 1


def test_arguments_that_would_change_the_rule_are_refused():
    p = nn.Parameter([1.0])
    for kind in (Adam, AdamW):
        kind([p], amsgrad=False)
        with pytest.raises(ConfigError, match="amsgrad must be False: it is left out"):
            kind([p], amsgrad=True)
    with pytest.raises(ConfigError, match="dampening must be 0: it is left out"):
        SGD([p], momentum=0.9, dampening=0.1)


def test_optimizers_left_out_name_another():
    with pytest.raises(LeftOutError, match="Use AdamW"):
        tg.optim.RMSprop  # a look-up is enough
    with pytest.raises(AttributeError, match=r"Did you mean tg.optim.AdamW\?"):
        tg.optim.AdmaW


@pytest.mark.parametrize("kind", [AdamW, tg.optim.Adam])
@pytest.mark.parametrize("device", ["cpu", "stand-in"])
@pytest.mark.parametrize("size", [1e19, 1.9e19, 1e21, 3e38])
def test_one_enormous_gradient_does_not_freeze_its_parameter(kind, device, size, monkeypatch):
    with stand_in_gpu(monkeypatch) if device != "cpu" else contextlib.nullcontext():
        p = nn.Parameter(np.zeros(3, np.float32))
        if device != "cpu":
            p = nn.Parameter(p.to("cuda"))
        optimizer = kind([p], lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
        module = array_module(p.data)
        for gradient in ([size, -size, 1.0], *[[1.0, 1.0, 1.0]] * 2):
            p.grad = module.asarray(np.array(gradient, np.float32))
            optimizer.step()
        moments = optimizer.state_dict()["arrays"]
        assert all(np.isfinite(to_numpy(x)).all() for x in moments.values())
        first = 0.1 * np.array([-1.0, 1.0, -1.0])  # a first step is lr long, whatever the gradient
        assert (np.abs(to_numpy(p.data)) < 0.4).all()
        assert (np.sign(to_numpy(p.data)) == np.sign(first)).all()


def test_infinite_and_nan_gradients_are_not_taken_for_large_ones():
    p = nn.Parameter(np.zeros(3, np.float32))
    optimizer = AdamW([p])
    p.grad = np.array([np.inf, np.nan, 1e25], np.float32)
    with np.errstate(invalid="ignore"):
        optimizer.step()
    assert np.isnan(p.data[:2]).all()
    assert np.isfinite(p.data[2])


def test_without_weight_decay_an_infinite_parameter_stays_infinite():
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer = SGD([p], lr=0.1)
    for _ in range(2):
        p.grad = np.array([np.inf, 1.0], np.float32)
        optimizer.step()
    np.testing.assert_allclose(p.data, [-np.inf, 0.8])
