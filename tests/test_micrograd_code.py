"""micrograd's examples, call for call with our package's names."""

import numpy as np
import pytest

import tinygrad_llm as tg


@pytest.fixture(autouse=True)
def _seed():
    tg.manual_seed(1337)


def test_micrograds_expression():
    a = tg.tensor(-4.0, dtype="float64", requires_grad=True)
    b = tg.tensor(2.0, dtype="float64", requires_grad=True)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    assert f"{g.data:.4f}" == f"{g:.4f}" == "24.7041"
    g.backward()
    assert f"{a.grad:.4f}" == "138.8338"
    assert f"{b.grad:.4f}" == "645.5773"


class Neuron:
    def __init__(self, nin, draw, nonlin=True):
        self.w = [tg.tensor(draw.uniform(-1, 1), requires_grad=True) for _ in range(nin)]
        self.b = tg.tensor(0.0, requires_grad=True)
        self.nonlin = nonlin

    def __call__(self, x):
        act = sum((wi * xi for wi, xi in zip(self.w, x, strict=True)), self.b)
        return act.relu() if self.nonlin else act

    def parameters(self):
        return [*self.w, self.b]


def test_micrograds_neurons_learn():
    draw = np.random.default_rng(4)
    first, last = [Neuron(2, draw) for _ in range(8)], Neuron(8, draw, nonlin=False)
    parameters = [p for neuron in (*first, last) for p in neuron.parameters()]
    xs, ys = [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)], [-1.0, 1.0, 1.0, -1.0]
    losses = []
    for _ in range(60):
        scores = [last([neuron(x) for neuron in first]) for x in xs]
        total = sum((1 + -y * score).relu() for y, score in zip(ys, scores, strict=True))
        for p in parameters:
            p.grad = None
        total.backward()
        for p in parameters:
            p.data -= 0.05 * p.grad
        losses.append(total.item())
    assert losses[0] > 2
    assert losses[-1] < 0.5
