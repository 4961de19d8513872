"""The residual sum: the same bits whether the next norm adds it up or somebody reads it before."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.autograd.modes import Observer
from tinygrad_llm.nn.residual import ResidualSum


class Ops(Observer):
    """Names of all ops, forward."""

    def __init__(self):
        self.names = []

    def after_forward(self, node, arrays, out):
        self.names.append(node.name)


def loss_and_gradients(dtype, dropout, read_every_block, **more):
    tg.manual_seed(3)
    model = nn.GPT(nn.GPTConfig(31, 16, n_layer=3, n_head=2, n_embd=24, dropout=dropout)).to(dtype)
    for name, value in more.items():
        setattr(model, name, value)
    if read_every_block:
        for block in model.blocks:
            block.register_forward_hook(lambda module, args, out: out.data.sum() and None)
    ids = np.random.default_rng(0).integers(0, 31, (2, 16))
    with Ops() as ops:
        loss = model.loss(ids, ids)
    loss.backward()
    return [loss.data, *(p.grad for p in model.parameters())], ops.names


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norms_addition_has_the_bits_of_a_plain_one(dtype, dropout):
    fused, ops = loss_and_gradients(dtype, dropout, read_every_block=False)
    plain, more_ops = loss_and_gradients(dtype, dropout, read_every_block=True)
    assert (ops.count("add"), ops.count("add_layer_norm"), ops.count("layer_norm")) == (1, 6, 1)
    assert (more_ops.count("add"), more_ops.count("add_layer_norm")) == (4, 3)
    for a, b in zip(fused, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_recomputed_blocks_keep_their_input_only_and_give_the_same_bits():
    kept, _ = loss_and_gradients("float64", 0.2, False)
    again, ops = loss_and_gradients("float64", 0.2, False, checkpoint_blocks=True)
    assert "checkpoint" in ops
    for a, b in zip(kept, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_gradients_through_stacked_blocks(rng):
    first, second, norm = (
        make.to("float64")
        for make in (
            nn.TransformerBlock(4, 2, dropout=0.2),
            nn.TransformerBlock(4, 1),
            nn.LayerNorm(4),
        )
    )
    tg.gradcheck(lambda x: norm(second(first(x))), [rng.normal(size=(2, 3, 4))])


def test_it_is_a_tensor_like_any_other(rng):
    x, update = (tg.tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in "xu")
    total = ResidualSum(x, update)
    assert total.requires_grad
    assert total.shape == (2, 3)
    assert total.summands is None  # reading the shape has added it up
    np.testing.assert_array_equal(total.numpy(), x.data + update.data)
    (total * 2).sum().backward()
    np.testing.assert_array_equal(update.grad, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(ResidualSum(np.ones(3), x[0]).numpy(), 1 + x.data[0])


@pytest.mark.parametrize("reader", ["norm", "sum"])
def test_it_belongs_in_the_graph_or_not_from_the_beginning(rng, reader):
    norm = nn.LayerNorm(3).to("float64").requires_grad_(False)
    read = norm if reader == "norm" else lambda total: total.sum()
    x, update = (tg.tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in "xu")
    with tg.no_grad():
        outside = ResidualSum(x, update)
    assert not outside.requires_grad
    assert not read(outside).requires_grad
    inside = ResidualSum(x, update)
    with tg.no_grad():
        read(inside)
    (inside * inside).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * (x.data + update.data))


def test_values_set_before_the_norm_comes_are_those_of_the_sum(rng):
    norm = nn.LayerNorm(3).to("float64")
    x, update = (tg.tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in "xu")
    plain, put_off = x + update, ResidualSum(x, update)
    results = []
    for total in (plain, put_off):
        total.data = np.zeros((2, 3))
        y = norm(total)
        (y * y * y + total).sum().backward()
        results.append([y.data, total.data, x.grad])
        x.grad = None
    for a, b in zip(*results, strict=True):
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)


def test_a_recorded_sum_cannot_be_cut_off(rng):
    x, update = (tg.tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in "xu")
    total = ResidualSum(x, update)
    with pytest.raises(tg.errors.GraphError, match="detach"):
        total.requires_grad = False


def test_hooks_see_the_whole_gradient_or_are_refused(rng):
    norm = nn.LayerNorm(3).to("float64")
    x, update = (tg.tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in "xu")
    total = ResidualSum(x, update).retain_grad()
    (norm(total) * x.data + total).sum().backward()
    np.testing.assert_array_equal(total.grad, update.grad)
    late = ResidualSum(x, update)
    norm(late)
    with pytest.raises(tg.errors.GraphError, match="forward hook of the block"):
        late.retain_grad()


def test_a_trace_with_numbers_sees_each_sum_where_it_is_written():
    def names_and_loss(**options):
        tg.manual_seed(3)
        model = nn.GPT(nn.GPTConfig(31, 16, n_layer=2, n_head=2, n_embd=24))
        ids = np.random.default_rng(0).integers(0, 31, (2, 16))
        with tg.trace(**options) as trace:
            loss = model.loss(ids, ids)
            loss.backward()
        return trace.ops, loss.item()

    written, loss = names_and_loss(values=True)
    sums = [op for op in written if op.name == "add" and op.scope.startswith("blocks")]
    assert [op.scope for op in sums] == ["blocks.0", "blocks.0", "blocks.1", "blocks.1"]
    # into the next norm, and on along the stream; after the last block there is only a norm
    assert [len(op.arrived) for op in sums] == [2, 2, 2, 1]
    run, same_loss = names_and_loss()
    assert [op.name for op in run].count("add_layer_norm") == 4
    assert loss == same_loss
