"""Models written out as in Raschka's book (book_model.py) compute what ours do."""

import numpy as np
import pytest
from book_model import CONFIG, Attention, Model, OneHead, SideBySide, generate_greedily

import tinygrad_llm as tg
from tinygrad_llm import nn


@pytest.fixture(autouse=True)
def _seed():
    tg.manual_seed(123)


@pytest.fixture
def batch():
    return tg.tensor(np.random.default_rng(0).normal(size=(2, 6, 12)).astype(np.float32))


def our_gpt(model):
    """The same weights in our GPT."""
    c = CONFIG
    ours = nn.GPT(
        nn.GPTConfig(
            c["vocab_size"],
            c["context_length"],
            c["n_layers"],
            c["n_heads"],
            c["emb_dim"],
            qkv_bias=False,
            tie_weights=False,
        )
    )
    state = {
        "token_embedding.weight": model.tok_emb.weight,
        "head.weight": model.out_head.weight,
        "position_embedding.weight": model.pos_emb.weight,
        "final_norm.weight": model.final_norm.scale,
        "final_norm.bias": model.final_norm.shift,
    }
    for i, block in enumerate(model.trf_blocks):
        att, wide = block.att, block.ff.layers
        parts = {
            "norm1.weight": block.norm1.scale,
            "norm1.bias": block.norm1.shift,
            "norm2.weight": block.norm2.scale,
            "norm2.bias": block.norm2.shift,
            "attention.qkv.weight": np.concatenate(
                [layer.weight.numpy() for layer in (att.W_query, att.W_key, att.W_value)]
            ),
            "attention.projection.weight": att.out_proj.weight,
            "attention.projection.bias": att.out_proj.bias,
            "feed_forward.expand.weight": wide[0].weight,
            "feed_forward.expand.bias": wide[0].bias,
            "feed_forward.project.weight": wide[2].weight,
            "feed_forward.project.bias": wide[2].bias,
        }
        state.update({f"blocks.{i}.{name}": value for name, value in parts.items()})
    ours.load_state_dict(state)
    return ours


def test_the_causal_mask_is_a_buffer(batch):
    head = OneHead(12, 4, 8, 0.0)
    np.testing.assert_array_equal(head.mask.numpy(), np.triu(np.ones((8, 8)), 1))
    assert list(head.state_dict()) == ["W_query.weight", "W_key.weight", "W_value.weight", "mask"]
    y = head(batch)
    later = tg.tensor(batch.numpy().copy())
    later[:, 3:] = 0.0
    np.testing.assert_array_equal(head(later).numpy()[:, :3], y.numpy()[:, :3])
    assert np.abs(head(later).numpy()[:, 3:] - y.numpy()[:, 3:]).max() > 0.01


def test_heads_side_by_side_equal_ours(batch):
    heads = SideBySide(12, 4, 8, 0.0, num_heads=3)
    ours = nn.MultiHeadAttentionWrapper(12, 4, 8, num_heads=3)
    for mine, yours in zip(ours.heads, heads.heads, strict=True):
        mine.load_state_dict(
            {
                "query.weight": yours.W_query.weight,
                "key.weight": yours.W_key.weight,
                "value.weight": yours.W_value.weight,
            }
        )
    np.testing.assert_allclose(heads(batch).numpy(), ours(batch).numpy(), atol=1e-6)


def test_gradients_of_the_attention_are_slopes(batch):
    report = tg.gradcheck(Attention(12, 12, 8, 0.0, num_heads=3), [batch[:, :4].numpy()])
    assert report.error < 1e-6


def test_the_model_equals_ours_in_logits_and_gradients():
    model = Model(CONFIG).eval()
    ours = our_gpt(model)
    ids = np.random.default_rng(1).integers(0, 29, (3, 8))
    logits = model(tg.tensor(ids))
    np.testing.assert_allclose(logits.numpy(), ours(ids).numpy(), atol=2e-5)
    targets = tg.tensor(np.roll(ids, -1, axis=1))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    reference = ours.loss(ids, targets)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    reference.backward()
    pairs = [
        (model.tok_emb.weight, ours.token_embedding.weight),
        (model.trf_blocks[0].norm1.scale, ours.blocks[0].norm1.weight),
        (model.trf_blocks[1].att.out_proj.weight, ours.blocks[1].attention.projection.weight),
        (model.trf_blocks[0].ff.layers[0].weight, ours.blocks[0].feed_forward.expand.weight),
    ]
    for book, own in pairs:
        np.testing.assert_allclose(book.grad, own.grad, atol=2e-6)


def test_the_model_is_counted_trained_and_generates_as_in_the_book():
    model = Model(CONFIG)
    total = sum(p.numel() for p in model.parameters())
    assert total == model.num_parameters()
    optimizer = tg.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    ids = tg.tensor([[i % 5 for i in range(n, n + 9)] for n in range(4)])
    losses = []
    model.train()
    for _ in range(40):
        optimizer.zero_grad()
        logits = model(ids[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 3
    assert losses[-1] < 0.3
    model.eval()
    out = generate_greedily(model, tg.tensor([[0, 1, 2]]), 6, CONFIG["context_length"])
    assert out.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
