"""Models written out as in Raschka's book, chapters 3 and 4: PyTorch's names, our package.

The classes say what the book's say, call for call; what they compute is compared with ours.
"""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn

CONFIG = {
    "vocab_size": 29,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,
}


class OneHead(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, qkv_bias=False):
        super().__init__()
        self.d_out = d_out
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", tg.triu(tg.ones(context_length, context_length), diagonal=1))

    def forward(self, x):
        b, num_tokens, d_in = x.shape
        keys = self.W_key(x)
        queries = self.W_query(x)
        values = self.W_value(x)
        scores = queries @ keys.transpose(1, 2)
        scores.masked_fill_(self.mask.bool()[:num_tokens, :num_tokens], -tg.inf)
        weights = tg.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)
        return self.dropout(weights) @ values


class SideBySide(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        self.heads = nn.ModuleList(
            [OneHead(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads)]
        )

    def forward(self, x):
        return tg.cat([head(x) for head in self.heads], dim=-1)


class Attention(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        assert d_out % num_heads == 0
        self.d_out = d_out
        self.num_heads = num_heads
        self.head_dim = d_out // num_heads
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", tg.triu(tg.ones(context_length, context_length), diagonal=1))

    def forward(self, x):
        b, num_tokens, d_in = x.shape
        keys = self.W_key(x).view(b, num_tokens, self.num_heads, self.head_dim)
        values = self.W_value(x).view(b, num_tokens, self.num_heads, self.head_dim)
        queries = self.W_query(x).view(b, num_tokens, self.num_heads, self.head_dim)
        keys = keys.transpose(1, 2)
        queries = queries.transpose(1, 2)
        values = values.transpose(1, 2)
        scores = queries @ keys.transpose(2, 3)
        scores.masked_fill_(self.mask.bool()[:num_tokens, :num_tokens], -tg.inf)
        weights = tg.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)
        weights = self.dropout(weights)
        context = (weights @ values).transpose(1, 2)
        context = context.contiguous().view(b, num_tokens, self.d_out)
        return self.out_proj(context)


class Norm(nn.Module):
    def __init__(self, emb_dim):
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(tg.ones(emb_dim))
        self.shift = nn.Parameter(tg.zeros(emb_dim))

    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)
        var = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * ((x - mean) / tg.sqrt(var + self.eps)) + self.shift


class Gelu(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        return (
            0.5 * x * (1 + tg.tanh(tg.sqrt(tg.tensor(2.0 / tg.pi)) * (x + 0.044715 * tg.pow(x, 3))))
        )


class Wide(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(cfg["emb_dim"], 4 * cfg["emb_dim"]),
            Gelu(),
            nn.Linear(4 * cfg["emb_dim"], cfg["emb_dim"]),
        )

    def forward(self, x):
        return self.layers(x)


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.att = Attention(
            d_in=cfg["emb_dim"],
            d_out=cfg["emb_dim"],
            context_length=cfg["context_length"],
            num_heads=cfg["n_heads"],
            dropout=cfg["drop_rate"],
            qkv_bias=cfg["qkv_bias"],
        )
        self.ff = Wide(cfg)
        self.norm1 = Norm(cfg["emb_dim"])
        self.norm2 = Norm(cfg["emb_dim"])
        self.drop_shortcut = nn.Dropout(cfg["drop_rate"])

    def forward(self, x):
        shortcut = x
        x = self.norm1(x)
        x = self.att(x)
        x = self.drop_shortcut(x)
        x = x + shortcut
        shortcut = x
        x = self.norm2(x)
        x = self.ff(x)
        x = self.drop_shortcut(x)
        return x + shortcut


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.tok_emb = nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = nn.Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.Sequential(*[Block(cfg) for _ in range(cfg["n_layers"])])
        self.final_norm = Norm(cfg["emb_dim"])
        self.out_head = nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)

    def forward(self, in_idx):
        batch_size, seq_len = in_idx.shape
        tok_embeds = self.tok_emb(in_idx)
        pos_embeds = self.pos_emb(tg.arange(seq_len, device=in_idx.device))
        x = self.drop_emb(tok_embeds + pos_embeds)
        x = self.trf_blocks(x)
        x = self.final_norm(x)
        return self.out_head(x)


def generate_greedily(model, idx, max_new_tokens, context_size):
    for _ in range(max_new_tokens):
        idx_cond = idx[:, -context_size:]
        with tg.no_grad():
            logits = model(idx_cond)
        probas = tg.softmax(logits[:, -1, :], dim=-1)
        idx_next = tg.argmax(probas, dim=-1, keepdim=True)
        idx = tg.cat((idx, idx_next), dim=1)
    return idx


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
