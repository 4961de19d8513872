"""Rows of zeros behind a table: where they are, that they stay zeros, and that nobody sees them."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.stand_in_gpu import stand_in_gpu
from tinygrad_llm import nn
from tinygrad_llm.autograd.padding import with_padding
from tinygrad_llm.distributed.buckets import GradientSum, make_buckets
from tinygrad_llm.distributed.communicator import Alone
from tinygrad_llm.distributed.sharding import ShardedUpdate
from tinygrad_llm.optim import SGD, AdamW, decay_groups

VOCABULARY, PADDED = 61, 64
IDS = np.array([[1, 2, 60, 3]])


def small_gpt():
    tg.manual_seed(0)
    return nn.GPT(nn.GPTConfig(VOCABULARY, 4, n_layer=1, n_head=2, n_embd=8))


def table_of(model):
    return model.token_embedding.weight


def padded_adamw(parameters, **settings):
    """AdamW whose tables have rows of zeros behind them, on NumPy arrays."""
    with tg.use_kernels("force"):
        return AdamW(parameters, **settings)


def behind(optimizer, name="token_embedding.weight"):
    """All that the optimizer keeps behind a table, by name: weights, gradients, moments."""
    (buffer,) = optimizer.buffers
    slot = next(slot for slot in buffer.slots if slot.name == name)
    flats = {"data": buffer.data, "grad": buffer.grad, "master": buffer.master, **buffer.moments}
    return {kind: flat[slot.stop : slot.next] for kind, flat in flats.items()}


def test_a_table_has_room_for_a_multiple_of_64_rows_where_kernels_run():
    model = small_gpt()
    optimizer = padded_adamw(model)
    table, flat = table_of(model), optimizer.buffers[0]
    for array, home in ((table.data, flat.data), (table.gradient_sink.array, flat.grad)):
        whole = with_padding(array)
        assert array.shape == (VOCABULARY, 8)
        assert whole.shape == (PADDED, 8)
        assert np.shares_memory(whole, home)
        np.testing.assert_array_equal(whole[:VOCABULARY], array)
        assert not whole[VOCABULARY:].any()
    assert sum(p.size for p in model.parameters()) == sum(p.size for p in small_gpt().parameters())
    assert model.state_dict()["token_embedding.weight"].shape == (VOCABULARY, 8)


def test_neighbours_do_not_stand_in_the_padding():
    model = small_gpt()
    optimizer = padded_adamw(model)
    for slot in optimizer.buffers[0].slots:
        slot.data[...] = slot.grad[...] = 7
    assert not any(part.any() for part in behind(optimizer).values())


@pytest.mark.parametrize(("rows", "room"), [(64, 64), (65, 65), (56, 56), (57, 64), (1000, 1024)])
def test_what_would_cost_more_than_an_eighth_is_left_alone(rows, room):
    p = nn.Parameter(np.ones((rows, 3), np.float32))
    optimizer = padded_adamw([p])
    assert with_padding(p.data).shape == (room, 3)
    assert optimizer.buffers[0].data.size == -(-room * 3 // 16) * 16


def test_on_a_cpu_there_is_no_padding():
    model = small_gpt()
    optimizer = AdamW(model)
    assert with_padding(table_of(model).data) is table_of(model).data
    assert optimizer.buffers[0].data.size == sum(-(-p.size // 16) * 16 for p in model.parameters())


def test_an_array_put_in_the_parameters_place_has_no_padding_until_it_is_taken_back():
    model = small_gpt()
    optimizer = padded_adamw(model)
    table = table_of(model)
    table.data = table.data.copy()
    assert with_padding(table.data) is table.data
    optimizer.buffers[0].gather()
    assert with_padding(table.data).shape == (PADDED, 8)


def test_the_padding_is_forgotten_with_its_optimizer():
    p = nn.Parameter(np.ones((61, 3), np.float32))
    optimizer = padded_adamw([p])
    del optimizer
    assert with_padding(p.data) is p.data


@pytest.mark.parametrize(
    ("kernels", "dtype"), [("off", "float32"), ("off", "bfloat16"), ("force", "bfloat16")]
)
def test_zeros_stay_zeros_over_200_steps_with_decay(kernels, dtype):
    if kernels == "force":
        pytest.importorskip("triton")
    rng = np.random.default_rng(0)
    table = nn.Embedding(VOCABULARY, 4).to(dtype)
    optimizer = padded_adamw(table, lr=0.1, weight_decay=0.5)
    with tg.use_kernels(kernels):
        for _ in range(200):
            table.weight.grad = rng.normal(size=(VOCABULARY, 4)).astype(table.weight.dtype)
            tg.optim.clip_grad_norm(optimizer, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    left = behind(optimizer, "weight")
    assert {part.size for part in left.values()} >= {(PADDED - VOCABULARY) * 4}
    assert not any(part.astype(np.float32).any() for part in left.values())


def test_zeros_stay_zeros_with_momentum():
    table = nn.Embedding(VOCABULARY, 4)
    with tg.use_kernels("force"):
        optimizer = SGD(table, lr=0.1, momentum=0.9, weight_decay=0.5)
    for _ in range(5):
        table.weight.grad = np.ones((VOCABULARY, 4), np.float32)
        optimizer.step()
    assert not any(part.any() for part in behind(optimizer, "weight").values())


def steps(model, optimizer, device, n=2):
    ids = tg.Tensor(IDS, device=device).data
    for _ in range(n):
        optimizer.zero_grad()
        model.loss(ids, ids).backward()
        tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()


def saved(model, optimizer):
    """Weights and optimizer as a checkpoint keeps them: on the host."""
    state = optimizer.state_dict()
    arrays = {name: tg.Tensor(array).numpy().copy() for name, array in state["arrays"].items()}
    weights = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    return weights, {"settings": state["settings"], "arrays": arrays}


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_checkpoint_passes_between_devices(monkeypatch, first, second):
    def made(device):
        model = small_gpt().to(device)
        return model, AdamW(decay_groups(model, 0.1), lr=0.01)

    alone = made("cpu")
    steps(*alone, "cpu", n=4)
    wanted_weights, wanted_state = saved(*alone)
    with stand_in_gpu(monkeypatch):
        begun, ended = made(first), made(second)
        steps(*begun, first)
        weights, state = saved(*begun)
        ended[0].load_state_dict(weights)
        ended[1].load_state_dict(state)
        steps(*ended, second)
        weights, state = saved(*ended)
    assert {k: a.shape for k, a in weights.items()} == {
        k: a.shape for k, a in wanted_weights.items()
    }
    for got, wanted in ((weights, wanted_weights), (state["arrays"], wanted_state["arrays"])):
        assert got.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_buckets_cover_the_padding_too(size):
    optimizer = padded_adamw(decay_groups(small_gpt(), 0.1))
    buckets = make_buckets(optimizer.buffers, size, 1000)
    assert buckets[0].start == 0
    assert buckets[-1].stop == optimizer.buffers[0].data.size
    for bucket, following in zip(buckets, buckets[1:], strict=False):
        assert bucket.stop == following.start
    for bucket in buckets:
        assert bucket.bounds[0] == 0
        assert bucket.bounds[-1] == bucket.stop - bucket.start


def test_a_sharded_optimizer_steps_saves_and_loads():
    def trained(sharded):
        model = small_gpt()
        optimizer = padded_adamw(decay_groups(model, 0.1), lr=0.01)
        sums = GradientSum(optimizer, Alone(), scattered=True)
        update = ShardedUpdate(sums) if sharded else optimizer
        for _ in range(2):
            optimizer.zero_grad()
            sums.watch()
            model.loss(IDS, IDS).backward()
            sums.finish()
            update.step()
        if not sharded:
            return saved(model, optimizer)
        with update.collected():
            weights, state = saved(model, optimizer)
        with update.loading():
            optimizer.load_state_dict(state)
        assert not behind(optimizer)["data"].any()
        return weights, state

    (weights, state), (wanted, wanted_state) = trained(True), trained(False)
    for got, expected in ((weights, wanted), (state["arrays"], wanted_state["arrays"])):
        assert got.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array, err_msg=name)
