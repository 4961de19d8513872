"""Parts of one's own in a GPT: right ones simply work, wrong ones are refused with a sentence."""

import copy
import pickle  # noqa: S403

import numpy as np
import pytest
from own_parts import OneKeyHead, ParallelBlock, RotaryAttention, TakesXAlone, own_gpt

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError, DTypeError, GraphError, ShapeError
from tinygrad_llm.optim import AdamW, decay_groups

IDS = np.random.default_rng(0).integers(0, 31, (2, 12))


def test_a_gpt_of_own_parts_learns_and_its_gradient_is_right():
    model = own_gpt().eval()
    tg.gradcheck(lambda *p: model.loss(IDS[:1, :5], IDS[:1, 1:6]), list(model.parameters())[1:9])
    optimizer = AdamW(decay_groups(model.train()), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model.loss(IDS[:, :-1], IDS[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_recomputed_blocks_give_the_same_gradients():
    kept, again = own_gpt(), own_gpt()
    again.checkpoint_blocks = True
    for model in (kept, again):
        tg.manual_seed(1)
        model.loss(IDS[:, :-1], IDS[:, 1:]).backward()
    for a, b in zip(kept.parameters(), again.parameters(), strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [RotaryAttention, OneKeyHead])
def test_cached_logits_are_those_without_a_cache(make):
    model = own_gpt(attention=make).eval()
    cache = model.new_cache(2)
    parts = [model(IDS[:, a:b], cache=cache).data for a, b in ((0, 5), (5, 6), (6, 12))]
    np.testing.assert_allclose(np.concatenate(parts, 1), model(IDS).data, rtol=1e-9, atol=1e-9)


def test_a_whole_block_of_ones_own():
    model = own_gpt()
    model.blocks[1] = ParallelBlock(8, 2).to("float64")
    model.eval()
    cache = model.new_cache(2)
    parts = [model(IDS[:, a:b], cache=cache).data for a, b in ((0, 7), (7, 12))]
    np.testing.assert_allclose(np.concatenate(parts, 1), model(IDS).data, rtol=1e-9, atol=1e-9)
    model.loss(IDS, IDS).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_masks_reach_them_and_hide_the_padding():
    model = own_gpt().eval()
    ids, padding = nn.left_pad([[3, 4, 5, 6], [7, 8]])
    mask = np.arange(4) >= padding[:, None]
    got = model(ids, mask=mask).data[1, -1]
    np.testing.assert_allclose(got, model([[7, 8]]).data[0, -1], rtol=1e-9)  # rotary: relative


def test_moving_copying_state_dicts_and_lora():
    model = own_gpt("float32")
    names = set(model.state_dict())
    assert {"blocks.0.norm1.weight", "blocks.1.feed_forward.gate.weight"} <= names
    assert not any("position_embedding" in name for name in names)
    other = own_gpt("float32")
    other.load_state_dict(model.state_dict())
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    for twin in (other, copy.deepcopy(model), again):
        np.testing.assert_array_equal(twin.eval()(IDS).data, model.eval()(IDS).data)
    assert model.to("cpu").to("bfloat16")(IDS).dtype.name == "bfloat16"
    model.to("float32").train()
    before = model.eval()(IDS).data
    changed = nn.apply_lora(model, 2, targets=["attention.qkv", "feed_forward.gate"])
    assert len(changed) == 4
    np.testing.assert_allclose(model(IDS).data, before, rtol=1e-5, atol=1e-6)


def test_other_embeddings_and_heads():
    class Scaled(nn.Embedding):
        def forward(self, ids):
            return super().forward(ids) * 8**0.5

    class Capped(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(8, 31)

        def forward(self, hidden):
            return (self.linear(hidden) / 5).tanh() * 5

    model = own_gpt("float32")
    model.token_embedding, model.head = Scaled(31, 8), Capped()
    assert np.abs(model(IDS).data).max() <= 5
    assert float(model.loss(IDS, IDS).data) == pytest.approx(
        float(nn.functional.cross_entropy(model(IDS), IDS).data), rel=0.2
    )  # dropout is on
    model.head = None  # tied
    model.loss(IDS, IDS).backward()
    assert model.token_embedding.weight.grad is not None


def test_an_own_forward_is_what_the_loss_is_of():
    class Sharp(nn.GPT):
        def forward(self, ids, cache=None):
            return super().forward(ids, cache) * 3

    tg.manual_seed(0)
    model = Sharp(nn.GPTConfig(31, 16, 1, 1, 8))
    want = nn.functional.cross_entropy(model(IDS), IDS)
    assert model.loss(IDS, IDS).item() == pytest.approx(want.item())


class Wrong(nn.Module):
    """A part whose result is made by a function of x."""

    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("part", ["norm1", "attention", "norm2", "feed_forward"])
@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        (lambda x: x[:, -1:], ShapeError, r"given, \(2, 12, 8\), got \(2, 1, 8\)"),
        (lambda x: x[..., :4], ShapeError, r"got \(2, 12, 4\)"),
        (lambda x: x.data * 2, ConfigError, "must return a Tensor, got ndarray"),
        (lambda x: None, ConfigError, "must return a Tensor, got NoneType"),
        (lambda x: x.astype("float32"), DTypeError, "given, float64, got float32"),
    ],
)
def test_a_wrong_result_is_refused_at_first_use(part, function, error, says):
    model = own_gpt(**{part: lambda *_: Wrong(function)})
    with pytest.raises(error, match=rf"{part} \(Wrong\): .*{says}"):
        model(IDS)


@pytest.mark.parametrize(
    ("name", "part", "error", "says"),
    [
        ("token_embedding", nn.Embedding(31, 4), ShapeError, r"\(2, 12, 8\), got \(2, 12, 4\)"),
        ("token_embedding", Wrong(lambda ids: ids), ShapeError, "got ndarray"),
        ("position_embedding", Wrong(lambda p: tg.zeros(2, 2, 12, 8)), ShapeError, "embedding"),
        ("final_norm", Wrong(lambda x: x[:, 0]), ShapeError, r"final_norm \(Wrong\)"),
        ("head", Wrong(lambda x: x[:, 0]), ShapeError, r"head \(Wrong\): .*scores of shape"),
        ("head", Wrong(lambda x: x.data), ShapeError, "got ndarray"),
    ],
)
def test_the_parts_of_the_gpt_are_checked_too(name, part, error, says):
    model = own_gpt("float32")
    setattr(model, name, part)
    with pytest.raises(error, match=says):
        model(IDS)


def test_a_whole_block_is_checked_too():
    model = own_gpt()
    model.blocks[1] = Wrong(lambda x: x[:, :1])
    with pytest.raises(ShapeError, match=r"blocks.1 \(Wrong\): forward must return the shape"):
        model(IDS)


def test_a_tied_head_needs_a_table():
    model = own_gpt("float64")
    model.token_embedding = Wrong(lambda ids: tg.zeros(*ids.shape, 8, dtype="float64"))
    for use in (model, lambda ids: model.loss(ids, ids)):
        with pytest.raises(ConfigError, match=r"token_embedding \(Wrong\) has no weight.*head"):
            use(IDS)


def test_a_mask_for_an_attention_that_takes_none():
    model = own_gpt(attention=TakesXAlone)
    assert model(IDS).shape == (2, 12, 31)
    with pytest.raises(ConfigError, match=r"attention \(TakesXAlone\): there is a mask"):
        model(IDS, mask=np.ones((2, 12), bool))


def test_no_gradient_goes_into_a_cache():
    layer = own_gpt().new_cache(1).layers[0]
    k = tg.zeros(1, 2, 3, 4, dtype="float64", requires_grad=True)
    with pytest.raises(GraphError, match="no gradient goes through a cache"):
        layer.append(k, k)


def test_a_function_or_a_layer_of_the_book_can_be_a_part():
    model = own_gpt("float32", norm1=nn.Identity)
    model.blocks[0].norm2 = lambda x: x * 1.0
    model.blocks[0].attention = nn.MultiHeadAttentionWrapper(8, 4, 24, num_heads=2)
    model.loss(IDS, IDS).backward()
