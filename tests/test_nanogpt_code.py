"""nanoGPT's model and loop, call for call with our package's names."""

import inspect
import math
from dataclasses import dataclass

import numpy as np
import pytest

import tinygrad_llm as tg
import tinygrad_llm.nn as nn
from tinygrad_llm.nn import functional as F


@dataclass
class Config:
    block_size: int = 8
    vocab_size: int = 17
    n_layer: int = 2
    n_head: int = 3
    n_embd: int = 12
    dropout: float = 0.0
    bias: bool = True


class Norm(nn.Module):
    def __init__(self, ndim, bias):
        super().__init__()
        self.weight = nn.Parameter(tg.ones(ndim))
        self.bias = nn.Parameter(tg.zeros(ndim)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight, self.bias, 1e-5)  # the one call without its shape


class SelfAttention(nn.Module):
    def __init__(self, config, flash):
        super().__init__()
        assert config.n_embd % config.n_head == 0
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head = config.n_head
        self.n_embd = config.n_embd
        self.dropout = config.dropout
        self.flash = flash and hasattr(nn.functional, "scaled_dot_product_attention")
        if not self.flash:
            size = config.block_size
            self.register_buffer("bias", tg.tril(tg.ones(size, size)).view(1, 1, size, size))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        if self.flash:
            y = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=None,
                dropout_p=self.dropout if self.training else 0,
                is_causal=True,
            )
        else:
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            att = F.softmax(att, dim=-1)
            att = self.attn_dropout(att)
            y = att @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, config, flash):
        super().__init__()
        self.ln_1 = Norm(config.n_embd, bias=config.bias)
        self.attn = SelfAttention(config, flash)
        self.ln_2 = Norm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config, flash=True):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            dict(
                wte=nn.Embedding(config.vocab_size, config.n_embd),
                wpe=nn.Embedding(config.block_size, config.n_embd),
                drop=nn.Dropout(config.dropout),
                h=nn.ModuleList([Block(config, flash) for _ in range(config.n_layer)]),
                ln_f=Norm(config.n_embd, bias=config.bias),
            )
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))

    def get_num_params(self, non_embedding=True):
        n_params = sum(p.numel() for p in self.parameters())
        if non_embedding:
            n_params -= self.transformer.wpe.weight.numel()
        return n_params

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx, targets=None):
        device = idx.device
        b, t = idx.size()
        assert t <= self.config.block_size
        pos = tg.arange(0, t, dtype=tg.long, device=device)
        tok_emb = self.transformer.wte(idx)
        pos_emb = self.transformer.wpe(pos)
        x = self.transformer.drop(tok_emb + pos_emb)
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is not None:
            logits = self.lm_head(x)
            loss = F.cross_entropy(
                logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1
            )
        else:
            logits = self.lm_head(x[:, [-1], :])
            loss = None
        return logits, loss

    def crop_block_size(self, block_size):
        self.config.block_size = block_size
        self.transformer.wpe.weight = nn.Parameter(self.transformer.wpe.weight[:block_size])
        for block in self.transformer.h:
            if hasattr(block.attn, "bias"):
                block.attn.bias = block.attn.bias[:, :, :block_size, :block_size]

    def configure_optimizers(self, weight_decay, learning_rate, betas):
        param_dict = {pn: p for pn, p in self.named_parameters()}
        param_dict = {pn: p for pn, p in param_dict.items() if p.requires_grad}
        decay_params = [p for n, p in param_dict.items() if p.dim() >= 2]
        nodecay_params = [p for n, p in param_dict.items() if p.dim() < 2]
        optim_groups = [
            {"params": decay_params, "weight_decay": weight_decay},
            {"params": nodecay_params, "weight_decay": 0.0},
        ]
        fused_available = "fused" in inspect.signature(tg.optim.AdamW).parameters
        extra_args = dict(fused=True) if fused_available else dict()
        return tg.optim.AdamW(optim_groups, lr=learning_rate, betas=betas, **extra_args)

    @tg.no_grad()
    def generate(self, idx, max_new_tokens, temperature=1.0, top_k=None):
        for _ in range(max_new_tokens):
            fits = idx.size(1) <= self.config.block_size
            idx_cond = idx if fits else idx[:, -self.config.block_size :]
            logits, _ = self(idx_cond)
            logits = logits[:, -1, :] / temperature
            if top_k is not None:
                v, _ = tg.topk(logits, min(top_k, logits.size(-1)))
                logits[logits < v[:, [-1]]] = -float("Inf")
            probs = F.softmax(logits, dim=-1)
            idx_next = tg.multinomial(probs, num_samples=1)
            idx = tg.cat((idx, idx_next), dim=1)
        return idx


@pytest.fixture(autouse=True)
def _seed():
    tg.manual_seed(1337)


def counting(n):
    """Rows that count up modulo 5."""
    data = np.arange(200) % 5
    ix = tg.randint(len(data) - 8, (n,))
    x = tg.stack([tg.from_numpy(data[i : i + 8].astype(np.int64)) for i in ix.tolist()])
    y = tg.stack([tg.from_numpy(data[i + 1 : i + 9].astype(np.int64)) for i in ix.tolist()])
    return x, y


def test_the_two_ways_of_attention_agree():
    flash, slow = GPT(Config()), GPT(Config(), flash=False)
    missing, unexpected = slow.load_state_dict(flash.state_dict(), strict=False)
    assert missing == ["transformer.h.0.attn.bias", "transformer.h.1.attn.bias"]
    assert unexpected == []
    x, y = counting(3)
    pairs = [model(x, y) for model in (flash, slow)]
    np.testing.assert_allclose(pairs[0][0].numpy(), pairs[1][0].numpy(), atol=1e-6)
    for model, (_, loss) in zip((flash, slow), pairs, strict=True):
        loss.backward()
        assert loss.item() == pytest.approx(math.log(17), rel=0.02)
        assert model.transformer.wte.weight is model.lm_head.weight
    for p, q in zip(flash.parameters(), slow.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, atol=1e-7)


def test_training_and_generation():
    model = GPT(Config())
    assert model.get_num_params() == model.num_parameters() - 8 * 12
    optimizer = model.configure_optimizers(0.1, 1e-2, (0.9, 0.95))
    assert [len(g["params"]) for g in optimizer.param_groups] == [10, 18]
    model.train()
    for step in range(60):
        for param_group in optimizer.param_groups:
            param_group["lr"] = 1e-2 * min(1.0, (step + 1) / 10)
        x, y = counting(8)
        logits, loss = model(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert loss.item() < 0.2
    model.eval()
    out = model.generate(tg.tensor([[0, 1]]), 10, temperature=0.5, top_k=2)
    assert out.tolist() == [[i % 5 for i in range(12)]]


def test_a_shorter_context_cuts_positions_and_masks():
    model = GPT(Config(), flash=False)
    x, y = (ids[:, :4].contiguous() for ids in counting(2))
    whole = model(x, y)[0].numpy()
    model.crop_block_size(4)
    assert model.transformer.wpe.weight.shape == (4, 12)
    assert dict(model.named_buffers())["transformer.h.0.attn.bias"].shape == (1, 1, 4, 4)
    np.testing.assert_allclose(model(x, y)[0].numpy(), whole, atol=1e-6)
