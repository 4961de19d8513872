"""Buckets of gradients and their sums, with ranks that are played by one process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tests.distributed.played_ranks import BATCH, SIZE, Equals, backward, optimizer_of, small_gpt
from tinygrad_llm.distributed import Alone, GradientSum, ShardedUpdate, even_bounds, make_buckets
from tinygrad_llm.errors import DistributedError
from tinygrad_llm.optim import AdamW


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
