"""Buckets and parts of the optimizer's state, with ranks that are played by one process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.distributed import (
    Alone,
    GradientSum,
    ShardedUpdate,
    Traffic,
    Work,
    even_bounds,
    make_buckets,
)
from tinygrad_llm.distributed.communicator import Communicator
from tinygrad_llm.errors import DistributedError
from tinygrad_llm.nn import GPT, GPTConfig
from tinygrad_llm.optim import AdamW, decay_groups

SIZE = 4


class Equals(Communicator):
    """Rank 0 of ranks that all hold the same arrays: a sum is a multiple. Keeps a diary."""

    def __init__(self, size=SIZE):
        self.size, self.traffic, self.diary = size, Traffic(size), []

    def _note(self, name, x, change=None):
        self.diary.append((name, x.size))
        return Work(lambda: None, lambda: True, change)

    def _all_reduce(self, x):
        x *= self.size
        return self._note("all_reduce", x)

    def _reduce_scatter(self, x, bounds):
        own = slice(bounds[0], bounds[1])
        x[own] *= self.size
        x[bounds[1] :] = np.nan  # undefined
        return self._note("reduce_scatter", x)

    def _all_gather(self, x, bounds):
        return self._note("all_gather", x)

    def _broadcast(self, x):
        return self._note("broadcast", x)


def small_gpt(dtype="float32"):
    tg.manual_seed(0)
    return GPT(GPTConfig(40, 16, 3, 2, 32)).to(dtype)


BATCH = np.random.default_rng(0).integers(0, 40, (2, 2, 16))


def optimizer_of(model):
    return AdamW(decay_groups(model), lr=1e-2)


def backward(model, optimizer, sums=None):
    optimizer.zero_grad()
    loss = model.loss(*BATCH)
    if sums is not None:
        sums.watch()
    loss.backward()
    if sums is not None:
        sums.finish()


@given(st.integers(0, 5000), st.integers(1, 9), st.sampled_from([1, 16]))
def test_parts_cover_everything_evenly(n, size, unit):
    bounds = even_bounds(n, size, unit)
    lengths = np.diff(bounds)
    assert bounds[0] == 0
    assert bounds[-1] == n
    assert (lengths >= 0).all()
    assert all(b % unit == 0 for b in bounds[:-1])
    assert lengths.max() - lengths.min() <= 2 * unit


@pytest.mark.parametrize("n_bytes", [1, 10_000, 10**9])
def test_buckets_are_whole_parameters_of_one_group(n_bytes):
    optimizer = optimizer_of(small_gpt())
    buckets = make_buckets(optimizer.buffers, SIZE, n_bytes)
    covered = [i for b in buckets for i in range(b.start, b.stop)]
    assert covered == list(range(optimizer.buffers[0].data.size))
    for bucket in buckets:
        assert len({slot.group for slot in bucket.slots}) == 1
        assert len(bucket.slots) == 1 or (bucket.stop - bucket.start) * 4 <= n_bytes


@pytest.mark.parametrize("scattered", [False, True])
def test_gradients_are_sums_in_every_step(scattered):
    model = small_gpt()
    optimizer = optimizer_of(model)
    backward(model, optimizer)
    expected = [g.copy() for g in optimizer.gradients()][0]
    world = Equals()
    sums = GradientSum(optimizer, world, scattered, n_bytes=20_000)
    for _ in range(3):
        backward(model, optimizer, sums)
        grad = optimizer.gradients()[0]
        for bucket in sums.buckets:
            part = bucket.owned(0) if scattered else slice(bucket.start, bucket.stop)
            np.testing.assert_allclose(grad[part], SIZE * expected[part], rtol=1e-6)


@pytest.mark.parametrize("scattered", [False, True])
def test_a_held_gradient_is_no_place_for_the_sums_of_later_steps(scattered):
    model = small_gpt()
    optimizer = optimizer_of(model)
    sums = GradientSum(optimizer, Equals(), scattered, n_bytes=20_000)
    sharded = ShardedUpdate(sums) if scattered else None
    held = []
    for _ in range(3):
        backward(model, optimizer, sums)
        if sharded:
            sharded.clip(1.0)
            sharded.step()
        held += [(p.grad, p.grad.copy()) for p in model.parameters()]
    for gradient, values in held:
        np.testing.assert_array_equal(gradient, values)


def test_sums_begin_while_the_backward_pass_runs():
    model = small_gpt()
    optimizer = optimizer_of(model)
    world = Equals()
    sums = GradientSum(optimizer, world, n_bytes=20_000)
    backward(model, optimizer, sums)
    world.diary.clear()
    sums_at_embedding = []
    loss = model.loss(*BATCH)
    optimizer.zero_grad()
    sums.watch()
    first = model.token_embedding.weight.gradient_sink.arrived
    model.token_embedding.weight.gradient_sink.arrived = lambda p: (
        sums_at_embedding.append(len(world.diary)),
        first(p),
    )
    loss.backward()
    before_finish = len(world.diary)
    sums.finish()
    n = len(sums.buckets)
    assert sums_at_embedding[-1] >= n - 3, "all but the first layers' were under way"
    assert before_finish == n, "none was left for the end"
    assert len(world.diary) == n


def test_bytes_of_a_step_are_those_of_the_formula():
    """2 (N - 1) / N of 4 bytes per parameter, with or without sharding."""
    for scattered in (False, True):
        model = small_gpt()
        optimizer = optimizer_of(model)
        world = Equals()
        sums = GradientSum(optimizer, world, scattered, n_bytes=20_000)
        sharded = ShardedUpdate(sums) if scattered else None
        backward(model, optimizer, sums)
        before = world.traffic.sent
        backward(model, optimizer, sums)
        (sharded or optimizer).step()
        n_bytes = 4 * model.num_parameters()
        assert world.traffic.sent - before == 2 * (SIZE - 1) / SIZE * n_bytes


def test_a_parameter_without_gradient_is_left_alone():
    model = small_gpt()
    model.final_norm.bias.requires_grad = False
    optimizer = optimizer_of(model)
    extra = tg.nn.Parameter(tg.tensor(np.ones(5, np.float32)))
    optimizer = AdamW([*model.named_parameters(), ("unused", extra)], lr=0.1)
    sums = GradientSum(optimizer, Equals(), n_bytes=20_000)
    for _ in range(2):
        backward(model, optimizer, sums)
        optimizer.step()
    assert extra.grad is None
    assert (extra.data == 1).all()


def test_a_gradient_of_an_earlier_step_is_not_summed():
    """A parameter that this rank does not reach in a later step contributes nothing."""
    a, b = (tg.nn.Parameter(tg.tensor(np.ones(16, np.float32))) for _ in range(2))
    optimizer = AdamW([("a", a), ("b", b)], lr=0.1)
    sums = GradientSum(optimizer, Equals())
    for loss_of in (lambda: (a * b).sum(), lambda: a.sum()):
        optimizer.zero_grad()
        sums.watch()
        loss_of().backward()
        sums.finish()
    assert (a.grad == SIZE).all()
    assert (b.grad == 0).all(), "there may be contributions of other ranks, so it is not None"


def test_another_graph_is_noticed():
    model = small_gpt()
    optimizer = optimizer_of(model)
    sums = GradientSum(optimizer, Equals(), n_bytes=20_000)
    backward(model, optimizer, sums)
    optimizer.zero_grad()
    sums.watch()
    loss = model.loss(*BATCH) + (model.blocks[2].feed_forward.project.bias * 2.0).sum()
    with pytest.raises(DistributedError, match=r"'blocks.2.feed_forward.project.bias'.* 2 times"):
        loss.backward()


def test_ranks_with_other_parameters_are_refused():
    class Other(Equals):
        def share(self, value):
            return [*value, "more"] if value and isinstance(value[0], str) else value

    model = small_gpt()
    optimizer = optimizer_of(model)
    with pytest.raises(DistributedError, match=r"other parameters than rank 0 \(more\)"):
        backward(model, optimizer, GradientSum(optimizer, Other()))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_one_rank_s_part_is_updated_as_without_sharding(dtype):
    """On the part it owns: same moments, master weights and weights, step for step."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    plain, part = small_gpt(dtype), small_gpt(dtype)
    one, other = optimizer_of(plain), optimizer_of(part)
    whole_bytes = sum(
        a.nbytes
        for b in one.buffers
        for a in (*b.moments.values(), *([b.master] if b.has_master else []))
    )
    sums = GradientSum(other, Equals(), scattered=True, n_bytes=20_000)
    sharded = ShardedUpdate(sums)
    assert sharded.state_bytes() == pytest.approx(whole_bytes / SIZE, rel=0.1)
    assert not other.buffers[0].moments, "nothing is kept twice"
    for _ in range(3):
        backward(plain, one)
        one.buffers[0].grad *= SIZE
        one.step()
        other.buffers[0].grad[...] = 0
        backward(part, other, sums)
        sharded.step()
        for bucket, own in zip(sums.buckets, sharded.parts, strict=True):
            place, buffer = bucket.owned(0), one.buffers[0]
            assert (own.master == buffer.master[place]).all()
            assert (own.moments["second_moment"] == buffer.moments["second_moment"][place]).all()
            assert (own.data == buffer.data[place]).all()
        part.load_state_dict(plain.state_dict())  # the other ranks' parts
        for bucket, own in zip(sums.buckets, sharded.parts, strict=True):
            if own.has_master:
                own.master[...] = one.buffers[0].master[bucket.owned(0)]


@pytest.mark.parametrize("assign", [False, True])
def test_weights_loaded_between_steps_are_kept(assign):
    """The master weights of the own part follow what is loaded or assigned."""
    pytest.importorskip("ml_dtypes")
    model = small_gpt("bfloat16")
    optimizer = AdamW(model, lr=0.0, weight_decay=0.0)
    sums = GradientSum(optimizer, Equals(), scattered=True)
    sharded = ShardedUpdate(sums)
    backward(model, optimizer, sums)
    sharded.step()
    weight = model.token_embedding.weight
    wanted = np.full(weight.shape, 3, weight.dtype)
    if assign:
        weight.data = wanted
    else:
        model.load_state_dict({**model.state_dict(), "token_embedding.weight": wanted})
    backward(model, optimizer, sums)
    sharded.step()
    assert (weight.data == 3).all()


def test_clipping_uses_the_norm_over_all_ranks():
    model = small_gpt()
    optimizer = optimizer_of(model)
    world = Equals(2)
    sums = GradientSum(optimizer, world, scattered=True)
    sharded = ShardedUpdate(sums)
    backward(model, optimizer, sums)
    own = np.concatenate(sharded.own_gradients())
    norm = sharded.clip(0.01)
    assert norm == pytest.approx(np.sqrt(2 * np.sum(own.astype(np.float64) ** 2)), rel=1e-6)
    clipped = np.concatenate(sharded.own_gradients())
    np.testing.assert_allclose(clipped, own * (0.01 / norm), rtol=1e-4)


def test_alone_everything_is_done_at_once():
    world, x = Alone(), np.arange(5.0)
    for work in (world.all_reduce(x), world.reduce_scatter(x, [0, 5]), world.broadcast(x)):
        assert work.test()
        work.wait()
    assert (x == np.arange(5.0)).all()
    assert world.total(3)[0] == 3
    assert world.share("a") == "a"
    assert world.collect(1) == [1]
    assert world.traffic.sent == 0
