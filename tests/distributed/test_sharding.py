"""Parts of the optimizer's state, with ranks that are played by one process."""

from __future__ import annotations

import numpy as np
import pytest

from tests.distributed.played_ranks import SIZE, Equals, backward, optimizer_of, small_gpt
from tinygrad_llm.distributed import GradientSum, ShardedUpdate
from tinygrad_llm.optim import AdamW


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
