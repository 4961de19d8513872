"""A tiny GPT with weights large enough that its choices differ, in float64."""

import tinygrad_llm as tg
from tinygrad_llm import nn

VOCAB, CONTEXT = 31, 12


def tiny_gpt(seed: int = 0, vocab: int = VOCAB, context: int = CONTEXT) -> nn.GPT:
    """In training mode with dropout, which generation must switch off."""
    tg.manual_seed(seed)
    model = nn.GPT(nn.GPTConfig(vocab, context, 2, 2, 8, dropout=0.3)).to("float64")
    for p in model.parameters():
        p.data *= 8
    return model
