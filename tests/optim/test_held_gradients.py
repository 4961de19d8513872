"""An optimizer's memory for gradients: who holds one, and who computes one meanwhile."""

import gc

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.optim import SGD, AdamW, clip_grad_norm

IDS, OTHER_IDS = np.array([[1, 2, 3]]), np.array([[4, 0, 4]])

HOLDS = {
    "the array": lambda g: g,
    "a row": lambda g: g[0],
    "its transpose": lambda g: g.T,
    "a tensor": lambda g: tg.Tensor(g),
    "a list": lambda g: [g],
    "part of a part": lambda g: g.reshape(-1)[2:][::2],
}
FORGETS = {
    "optimizer": lambda model, optimizer: optimizer.zero_grad(),
    "model": lambda model, optimizer: model.zero_grad(),
    "by hand": lambda model, optimizer: [setattr(p, "grad", None) for p in model.parameters()],
}


def small_gpt():
    tg.manual_seed(0)
    return nn.GPT(nn.GPTConfig(7, 4, 1, 2, 4))


def values(held):
    held = held[0] if isinstance(held, list) else held
    return np.array(held)


def gradients(model):
    return {name: p.grad.copy() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", ["token_embedding.weight", "blocks.0.attention.qkv.weight"])
@pytest.mark.parametrize("forget", FORGETS)
@pytest.mark.parametrize("hold", HOLDS)
def test_a_held_gradient_stays_what_it_was(hold, forget, name):
    model = small_gpt()
    optimizer = SGD(model, lr=0.0)
    model.loss(OTHER_IDS, OTHER_IDS).backward()
    expected = gradients(model)
    model.zero_grad()
    model.loss(IDS, IDS).backward()
    held = HOLDS[hold](dict(model.named_parameters())[name].grad)
    before = values(held)
    for _ in range(2):
        FORGETS[forget](model, optimizer)
        model.loss(OTHER_IDS, OTHER_IDS).backward()
        assert_same(gradients(model), expected)
        optimizer.step()
    np.testing.assert_array_equal(values(held), before)
    assert_same(gradients(model), expected)
    assert all(np.shares_memory(p.grad, optimizer.buffers[0].grad) for p in model.parameters())


def test_a_gradient_that_outlives_its_optimizer_stays_too():
    p = nn.Parameter([1.0, 2.0])
    SGD([p], lr=1.0)
    (p * 3.0).sum().backward()
    held = p.grad
    gc.collect()
    p.zero_grad()
    (p * 5.0).sum().backward()
    assert (held.tolist(), p.grad.tolist()) == ([3.0, 3.0], [5.0, 5.0])


def test_two_optimizers_of_one_parameter_leave_a_held_gradient():
    p = nn.Parameter([1.0])
    optimizers = [SGD([p], lr=1.0) for _ in "12"]
    held = []
    for factor in (1.0, 2.0, 3.0, 4.0):
        (p * factor).sum().backward()
        optimizers[int(factor) % 2].step()
        held.append(p.grad)
        p.zero_grad()
    assert [g.item() for g in held] == [1.0, 2.0, 3.0, 4.0]
    assert p.item() == 1 - 1 - 2 - 3 - 4


def test_a_held_gradient_in_half_precision_keeps_the_sums_in_float32():
    p = nn.Parameter(np.ones(4), dtype="bfloat16")
    optimizer = SGD([p], lr=1.0)
    (p * 3.0).sum().backward()
    held = p.grad
    optimizer.zero_grad()
    for _ in range(300):
        (p * 1.0).sum().backward()
    assert (held == 3).all()
    assert (p.grad == 300).all()  # bfloat16 would stop at 256


def test_the_flat_gradient_stays_where_it_is_while_nobody_holds_a_part_of_it():
    model = small_gpt()
    optimizer = AdamW(model)
    flat = optimizer.buffers[0].grad
    place = flat.__array_interface__["data"]
    del flat
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(IDS, IDS).backward()
        clip_grad_norm(optimizer, 1.0)
        optimizer.step()
        for p in model.parameters():
            assert p.grad is p.gradient_sink.array
    assert optimizer.buffers[0].grad.__array_interface__["data"] == place


LOOKS = {
    "clip_grad_norm": lambda model, optimizer: clip_grad_norm(optimizer, float("inf")),
    "gradients": lambda model, optimizer: optimizer.gradients(),
    "a loss between": lambda model, optimizer: model.loss(IDS, IDS[:, ::-1]).backward(),
    "a loss between, and a look": lambda model, optimizer: (
        model.loss(IDS, IDS[:, ::-1]).backward(),
        optimizer.gradients(),
    ),
    "a loss that dies": lambda model, optimizer: model.loss(IDS, OTHER_IDS),
    "an assigned gradient": lambda model, optimizer: [
        setattr(p, "grad", np.ones(p.shape, np.float32)) for p in model.parameters()
    ],
}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("look", LOOKS)
def test_what_happens_between_two_losses_changes_no_gradient(look, order):
    def gradient(optimize):
        model = small_gpt()
        optimizer = SGD(model, lr=0.1) if optimize else None
        losses = [model.loss(IDS, IDS)]
        if optimize or look not in ("clip_grad_norm", "gradients"):
            LOOKS[look](model, optimizer or _Without())
        losses.append(model.loss(OTHER_IDS, OTHER_IDS))
        for i in order:
            losses[i].backward()
            if optimize:
                optimizer.gradients()
        return gradients(model)

    assert_same(gradient(optimize=True), gradient(optimize=False))


class _Without:
    def gradients(self):
        return []


def pairs_of_equal_arguments():
    for name, op in REGISTRY.items():
        for number, sample in enumerate(op.samples(np.random.default_rng(0))):
            floats = [
                i
                for i, a in enumerate(sample.args)
                if isinstance(a, np.ndarray) and a.dtype.kind == "f" and i not in sample.constant
            ]
            for i in floats:
                for j in floats:
                    if i < j and sample.args[i].shape == sample.args[j].shape:
                        yield pytest.param(op, number, i, j, id=f"{name}-{number}-{i}{j}")


@pytest.mark.parametrize(("op", "number", "i", "j"), list(pairs_of_equal_arguments()))
def test_a_parameter_that_is_two_arguments_of_an_op_gets_both_gradients(op, number, i, j):
    def gradient(optimize):
        sample = op.samples(np.random.default_rng(0))[number]
        args = list(sample.args)
        args[i] = args[j] = p = nn.Parameter(np.abs(args[i]) + 0.5)
        if optimize:
            SGD([p], lr=1.0)
        for _ in range(2):  # the second is added to the first
            y = op.function.apply(*args, **sample.kwargs)
            y = y if isinstance(y, tuple) else (y,)
            sum((part * part.detach()).sum() for part in y).backward()
        return p.grad

    np.testing.assert_allclose(gradient(optimize=True), gradient(optimize=False), rtol=1e-12)
