"""Entering an op: its name, and the proof without which nothing takes it."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.registry import OPS, REGISTRY, refuse_unproven
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.proof import check_op


class Cube(tg.Function):
    """y = x^3, so dx = 3 x^2 dy."""

    fresh = True

    def forward(ctx, x):
        ctx.save(x)
        return x * x * x

    def backward(ctx, dy):
        (x,) = ctx.saved
        return 3 * x * x * dy


PROOF = {
    "samples": lambda rng: [tg.sample(rng.normal(size=3))],
    "wrong": {"exponent kept": lambda ctx, dy: 3 * ctx.saved[0] ** 3 * dy},
}


@pytest.fixture(autouse=True)
def registry():
    """The registry as it was."""
    before = dict(REGISTRY), dict(OPS)
    yield
    for table, entries in zip((REGISTRY, OPS), before, strict=True):
        table.clear()
        table.update(entries)


def test_a_proof_may_follow_later():
    tg.register("cube", family="test", one_variable=True)(Cube)
    tg.prove("cube", **PROOF)
    proof = check_op(REGISTRY["cube"])
    assert proof.passed
    assert proof.planted == 4
    assert REGISTRY["cube"].one_variable
    assert Cube.name == "cube"


def test_a_proof_may_stand_in_register():
    tg.register("cube", family="test", composed=lambda x: x * x * x, **PROOF)(Cube)
    assert check_op(REGISTRY["cube"]).passed
    x = tg.tensor([2.0])
    np.testing.assert_array_equal(REGISTRY["cube"].composed(x).numpy(), [8])


def test_an_op_without_proof_is_refused():
    tg.register("cube", family="test")(Cube)
    assert REGISTRY["cube"].composed is None
    np.testing.assert_array_equal(Cube.apply(tg.tensor([2.0])).numpy(), [8])
    for use in (lambda: check_op(REGISTRY["cube"]), lambda: tg.explain("cube"), refuse_unproven):
        with pytest.raises(ConfigError, match=r"op 'cube' has no proof.*Write prove\('cube'"):
            print(use())


@pytest.mark.parametrize("left_out", ["samples", "wrong"])
def test_half_a_proof_is_none(left_out):
    half = {**PROOF, left_out: None}
    with pytest.raises(ConfigError, match=r"register\('cube'\): give samples, and at least one"):
        tg.register("cube", family="test", **half)(Cube)
    assert "cube" not in REGISTRY
    tg.register("cube", family="test")(Cube)
    with pytest.raises(ConfigError, match=r"prove\('cube'\): give samples, and at least one"):
        tg.prove("cube", **half)


def test_only_what_is_registered_can_be_proven():
    with pytest.raises(ConfigError, match="there is no op called 'cubic'"):
        tg.prove("cubic", **PROOF)


def test_a_name_is_given_once():
    with pytest.raises(ConfigError, match="the name 'tanh' is taken by"):
        tg.register("tanh", family="test", **PROOF)(Cube)


def test_an_op_needs_a_docstring():
    with pytest.raises(ConfigError, match="the class needs a docstring with the derivation"):
        tg.register("bare", family="test")(type("Bare", (tg.Function,), {}))


def test_a_registered_op_is_a_function():
    tg.register("cube", family="test")(Cube)
    x = tg.tensor([2.0], requires_grad=True)
    tg.functional.cube(x).sum().backward()
    assert x.grad.tolist() == [12]
    assert tg.functional.cube.__doc__ == Cube.__doc__
    assert tg.nn.functional.cube([2.0]).tolist() == [8]
    assert "cube" in dir(tg.functional)
    with pytest.raises(tg.errors.LeftOutError, match=r"Use tg\.functional\.cube\(x\)"):
        x.cube()
    del REGISTRY["cube"]
    with pytest.raises(AttributeError, match=r"tg\.functional has no attribute 'cube'"):
        tg.functional.cube(x)


def test_a_registered_op_is_a_method_if_asked():
    tg.register("cube", family="test", method=True)(Cube)
    assert tg.tensor([2.0]).cube().tolist() == [8]
    with pytest.raises(AttributeError, match=r"Did you mean Tensor\.|no attribute"):
        tg.tensor([2.0]).cubed()


def test_every_op_of_the_registry_is_a_function():
    for name in REGISTRY:
        assert callable(getattr(tg.functional, name)), name
    x = tg.tensor([1.0, 4.0], requires_grad=True)
    tg.functional.sqrt(x).sum().backward()
    assert x.grad.tolist() == [0.5, 0.25]
    assert tg.functional.mean([[1.0, 3.0]], dim=1).tolist() == [2]
    assert tg.functional.subtract(x, 1.0).tolist() == [0, 3]


def test_a_name_that_is_taken_is_refused():
    other = type("Softmax", (Cube,), {"__doc__": "y = x."})
    with pytest.raises(
        ConfigError, match=r"'softmax' is taken by tinygrad_llm\.ops\.softmax\.Softmax"
    ):
        tg.register("softmax", family="test")(other)
    with pytest.raises(ConfigError, match="Tensor has a 'view' of its own"):
        tg.register("view", family="test", method=True)(Cube)
    with pytest.raises(ConfigError, match="one word"):
        tg.register("a cube", family="test")(Cube)
    tg.register("cube", family="test")(Cube)
    tg.register("cube", family="test")(Cube)  # a notebook's cell, run again
