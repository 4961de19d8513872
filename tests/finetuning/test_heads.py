"""Every loss goes through the head that the model has: tied, plain, biased, LoRA, or its own."""

import numpy as np
import pytest

from tinygrad_llm import functional as F
from tinygrad_llm import nn
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.finetuning.classification import language_loss
from tinygrad_llm.finetuning.collate import IGNORE, pack
from tinygrad_llm.finetuning.instruction import masked_loss, packed_loss

ROWS = [[1, 2, 3, 4, 5], [6, 7, 8]]
INPUTS = np.array([[1, 2, 3, 4], [6, 7, 0, 0]])
TARGETS = np.array([[2, 3, 4, 5], [7, 8, IGNORE, IGNORE]])


class Softer(nn.Module):
    """A head that is no Linear layer."""

    def __init__(self, n_embd, vocab_size):
        self.inner = nn.Linear(n_embd, vocab_size)
        self.temperature = nn.Parameter([2.0])

    def forward(self, x):
        return self.inner(x) / self.temperature


def with_head(gpt, kind):
    """The model with a head of that kind, whose parameters are all far from 0."""
    c, v = gpt.config.n_embd, gpt.config.vocab_size
    heads = {
        "tied": lambda: None,
        "linear": lambda: nn.Linear(c, v, bias=False),
        "bias": lambda: nn.Linear(c, v),
        "hooked": lambda: nn.Linear(c, v),
        "lora": lambda: nn.LoRALinear(nn.Linear(c, v, bias=False).requires_grad_(False), rank=2),
        "own": lambda: Softer(c, v),
    }
    gpt.head = heads[kind]()
    for i, p in enumerate(gpt.head.parameters() if gpt.head else []):
        p.data += Generator(i).normal(p.shape, 0.3)
    if kind == "hooked":
        gpt.head.register_forward_hook(lambda module, args, out: out * 0.5)
    return gpt.eval()


def of_batch(gpt):
    return masked_loss(gpt, INPUTS, TARGETS)


def of_packed_rows(gpt):
    return packed_loss(gpt, pack([r[:-1] for r in ROWS], [r[1:] for r in ROWS], 8, fill=0))


def of_messages(gpt):
    ids = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
    return language_loss(gpt, gpt.hidden(ids), ids, np.array([5, 3]))


@pytest.mark.parametrize("loss_of", [of_batch, of_packed_rows, of_messages])
@pytest.mark.parametrize("kind", ["tied", "linear", "bias", "hooked", "lora", "own"])
def test_the_loss_is_that_of_the_heads_own_logits(gpt, kind, loss_of):
    model = with_head(gpt, kind)
    expected = F.cross_entropy(model(INPUTS), TARGETS, IGNORE)
    expected.backward()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = {name: p.grad.copy() for name, p in learned.items()}
    assert any(name.startswith("head") for name in learned) == (kind != "tied")
    model.zero_grad()
    loss = loss_of(model)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, p in learned.items():
        assert p.grad is not None, name
        np.testing.assert_allclose(p.grad, gradients[name], rtol=1e-3, atol=1e-6, err_msg=name)
