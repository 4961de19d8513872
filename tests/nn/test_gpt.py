"""GPT against an independent forward pass, its gradients, initial values, counts and errors."""

import sys
import threading

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import DTypeError, IndexRangeError, ShapeError

SMALL = nn.GPTConfig(vocab_size=11, context_length=6, n_layer=2, n_head=2, n_embd=8)
IDS = np.array([[1, 2, 3, 4, 5], [0, 10, 2, 2, 7]])
TARGETS = np.array([[2, 3, 4, 5, 6], [10, 2, 2, 7, 1]])


def small(**changes):
    return nn.GPT(nn.GPTConfig(**{**SMALL.to_dict(), **changes}))


def normalize(x, weight, bias):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return y * weight + bias


def oracle_logits(state, ids, n_layer, n_head):
    """GPT-2's forward pass in plain float64 NumPy, from a dict of arrays; ids (T,)."""
    w = {name: np.asarray(value, dtype=np.float64) for name, value in state.items()}
    n = len(ids)
    x = w["token_embedding.weight"][ids] + w["position_embedding.weight"][:n]
    for i in range(n_layer):
        p = {k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if f"blocks.{i}." in k}
        h = normalize(x, p["norm1.weight"], p["norm1.bias"])
        q, k, v = np.split(h @ p["attention.qkv.weight"].T + p["attention.qkv.bias"], 3, axis=1)
        heads = []
        for a, b, c in zip(*(np.split(m, n_head, axis=1) for m in (q, k, v)), strict=True):
            s = a @ b.T / np.sqrt(a.shape[1])
            s = np.exp(np.where(np.tri(n, dtype=bool), s, -1e30))
            heads.append(s / s.sum(-1, keepdims=True) @ c)
        h = np.concatenate(heads, axis=1)
        x = x + h @ p["attention.projection.weight"].T + p["attention.projection.bias"]
        h = normalize(x, p["norm2.weight"], p["norm2.bias"])
        h = h @ p["feed_forward.expand.weight"].T + p["feed_forward.expand.bias"]
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + h @ p["feed_forward.project.weight"].T + p["feed_forward.project.bias"]
    x = normalize(x, w["final_norm.weight"], w["final_norm.bias"])
    return x @ w.get("head.weight", w["token_embedding.weight"]).T


def scrambled(model):
    """The model in float64 with weights large enough that a mistake shows."""
    rng = np.random.default_rng(1)
    for p in model.to("float64").parameters():
        p.data[...] = rng.normal(size=p.shape) * 0.5
    return model


@pytest.mark.parametrize("tie", [True, False])
def test_logits_equal_an_independent_forward_pass(tie):
    model = scrambled(small(tie_weights=tie))
    got = model(IDS).data
    assert got.shape == (2, 5, 11)
    for row, ids in zip(got, IDS, strict=True):
        want = oracle_logits(model.state_dict(), ids, SMALL.n_layer, SMALL.n_head)
        np.testing.assert_allclose(row, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tie", [True, False])
def test_loss_is_the_cross_entropy_of_the_logits(tie):
    model = scrambled(small(tie_weights=tie))
    targets = TARGETS.copy()
    targets[0, :2] = -100
    logits = model(IDS).data
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    kept = [(b, t) for b in range(2) for t in range(5) if targets[b, t] >= 0]
    want = -np.mean([logp[b, t, targets[b, t]] for b, t in kept])
    assert model.loss(IDS, targets).item() == pytest.approx(want, rel=1e-9)


class OwnHead(nn.Module):
    """A head that is no plain Linear layer."""

    def __init__(self):
        self.layer = nn.Linear(8, 11)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("head", ["tied", "linear", "own"])
def test_loss_leaves_out_the_ignored_id_of_the_caller(head):
    model = small(tie_weights=head != "linear")
    if head == "own":
        model.head = OwnHead()
    model = scrambled(model)
    targets = TARGETS.copy()
    targets[0, :2] = 7
    logits = tg.functional.log_softmax(model(IDS)).data
    kept = [(b, t) for b in range(2) for t in range(5) if targets[b, t] != 7]
    assert len(kept) == 7
    want = -np.mean([logits[b, t, targets[b, t]] for b, t in kept])
    assert model.loss(IDS, targets, ignore_index=7).item() == pytest.approx(want, rel=1e-9)


DROPOUTS = [
    "dropout",
    "blocks.0.attention.attention_dropout",
    "blocks.0.attention.residual_dropout",
    "blocks.1.feed_forward.dropout",
]


@pytest.mark.parametrize("place", DROPOUTS)
def test_each_dropout_acts_in_training_alone(place):
    model = scrambled(small(dropout=0.5))
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    assert len(layers) == 1 + 3 * SMALL.n_layer
    assert all(layer.p == 0.5 for layer in layers.values())
    kept = model.eval()(IDS).data
    for name, layer in layers.items():
        layer.p = 0.5 if name == place else 0.0
    np.testing.assert_array_equal(model(IDS).data, kept)
    dropped = [model.train()(IDS).data for _ in range(2)]
    assert (dropped[0] != kept).any(axis=-1).mean() > 0.5
    assert (dropped[0] != dropped[1]).any()


class Loss(nn.Module):
    """A model's loss as a module, for gradcheck."""

    def __init__(self, model):
        self.model = model

    def forward(self):
        return self.model.loss(IDS, TARGETS)


@pytest.mark.parametrize(
    "changes", [{}, {"tie_weights": False}, {"dropout": 0.2}, {"qkv_bias": False}]
)
def test_gradient_of_every_parameter(changes):
    model = small(n_layer=1, n_embd=4, **changes)
    report = tg.gradcheck(Loss(scrambled(model)), [])
    assert len(report.entries) == len(list(model.parameters()))
    assert report.error < 1e-6


def test_checkpointed_blocks_give_the_same_loss_and_gradients():
    tg.manual_seed(0)
    model = small(dropout=0.3)
    results = []
    for model.checkpoint_blocks in (False, True):
        tg.manual_seed(9)
        loss = model.loss(IDS, TARGETS)
        loss.backward()
        results.append([loss.item(), *(p.grad.copy() for p in model.parameters())])
        model.zero_grad()
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_models_made_in_several_threads_are_those_made_alone():
    """Each GPT makes its layers without values and then draws them; a switch may come between."""
    barrier = threading.Barrier(4)
    models = [None] * 4

    def make(i):
        barrier.wait(10)
        models[i] = nn.GPT(SMALL, tg.Generator(i))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(5):
            threads = [threading.Thread(target=make, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not nn.init.is_skipping()
            for i, model in enumerate(models):
                alone = nn.GPT(SMALL, tg.Generator(i)).state_dict()
                for name, value in model.state_dict().items():
                    np.testing.assert_array_equal(value, alone[name])
    finally:
        sys.setswitchinterval(before)


def test_state_dict_names():
    names = list(small().state_dict())
    assert names[:2] == ["token_embedding.weight", "position_embedding.weight"]
    assert names[-2:] == ["final_norm.weight", "final_norm.bias"]
    assert [n for n in names if n.startswith("blocks.1.")] == [
        f"blocks.1.{part}.{kind}"
        for part in (
            "norm1",
            "attention.qkv",
            "attention.projection",
            "norm2",
            "feed_forward.expand",
            "feed_forward.project",
        )
        for kind in ("weight", "bias")
    ]
    assert list(small(tie_weights=False).state_dict())[-1] == "head.weight"


@pytest.mark.parametrize(
    ("qkv_bias", "tie", "count"),
    [
        (True, True, 124_439_808),
        (True, False, 163_037_184),
        (False, True, 124_412_160),
        (False, False, 163_009_536),
    ],
)
def test_published_parameter_counts(qkv_bias, tie, count):
    config = nn.GPTConfig(50257, 1024, 12, 12, 768, qkv_bias=qkv_bias, tie_weights=tie)
    assert nn.num_parameters_of(config) == count
    with nn.init.no_init():  # memory that is never touched is never used
        assert nn.GPT(config).num_parameters() == count


@pytest.mark.slow
def test_a_full_size_gpt2_runs_and_starts_at_the_loss_of_a_uniform_guess():
    model = nn.GPT(nn.GPTConfig(50257, 1024, 12, 12, 768))
    ids = np.random.default_rng(0).integers(0, 50257, (1, 64))
    assert model.loss(ids, np.roll(ids, -1, axis=1)).item() == pytest.approx(np.log(50257), abs=0.3)


def test_initial_values_are_gpt2s_and_follow_the_seed():
    config = nn.GPTConfig(500, 64, 8, 4, 64, tie_weights=False)
    tg.manual_seed(1)
    model = nn.GPT(config)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert (p.data == 0).all(), name
        elif "norm" in name:
            assert (p.data == 1).all(), name
        else:
            residual = name.endswith(("projection.weight", "project.weight"))
            std = 0.02 / 4 if residual else 0.02
            assert p.data.std() == pytest.approx(std, rel=0.05), name
            assert abs(p.data.mean()) < 0.1 * std, name
    tg.manual_seed(1)
    again = nn.GPT(config)
    own = nn.GPT(config, generator=tg.Generator(1))
    for p, q, r in zip(model.parameters(), again.parameters(), own.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        np.testing.assert_array_equal(p.data, r.data)


def test_ids_may_be_arrays_lists_or_tensors_of_any_integer_type():
    model = small()
    want = model(IDS).data
    for ids in (IDS.tolist(), tg.tensor(IDS), IDS.astype(np.int32), IDS.astype(np.uint16)):
        np.testing.assert_array_equal(model(ids).data, want)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[1, 11]], IndexRangeError, "11"),
        ([[-1, 2]], IndexRangeError, "-1"),
        ([1, 2], ShapeError, "one row as"),
        ([[[1]]], ShapeError, r"\(B, T\)"),
        ([[]], ShapeError, "at least one"),
        ([[1, 2], [3]], ShapeError, "different lengths"),
        ([[1.0, 2.0]], DTypeError, "integers"),
        ([[1] * 7], ShapeError, "context_length=6"),
    ],
)
def test_bad_ids(ids, error, message):
    with pytest.raises(error, match=message):
        small()(ids)


def test_bad_targets():
    model = small()
    with pytest.raises(ShapeError, match="targets must have the shape of ids"):
        model.loss(IDS, TARGETS[:, :3])
    with pytest.raises(IndexRangeError, match="11"):
        model.loss([[1]], [[11]])


def test_a_replaced_head_is_used_and_trained(rng):
    model = small()
    model.head = nn.Linear(8, 2)
    assert model(IDS).shape == (2, 5, 2)
    model.loss(IDS, TARGETS % 2).backward()
    assert model.head.bias.grad is not None
    logits = model(IDS)
    want = tg.functional.cross_entropy(logits, TARGETS % 2).item()
    assert model.loss(IDS, TARGETS % 2).item() == pytest.approx(want, rel=1e-5)
