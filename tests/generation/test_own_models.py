"""Generating and judging text with parts, and models, that are not this project's."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import CacheIgnoredError, ConfigError, GenerationError
from tinygrad_llm.generation.beam_search import beam_search
from tinygrad_llm.generation.generate import generate
from tinygrad_llm.generation.scoring import perplexity, token_logprobs

sys.path.insert(0, str(Path(__file__).parents[1] / "nn"))
from own_parts import (
    AppendsTheLastOnly,
    AppendsTwice,
    IgnoresCache,
    OneKeyHead,
    RMSNorm,
    RotaryAttention,
    TakesXAlone,
    own_gpt,
)

PROMPTS = [[1, 2, 3, 4], [5], [7, 8, 9]]


def texts(model, **options):
    """Greedy continuations past the end of the context, of prompts that need padding."""
    return [t.tolist() for t in generate(model, PROMPTS, 30, temperature=0.0, **options)]


@pytest.mark.parametrize("attention", [RotaryAttention, OneKeyHead])
def test_an_attention_that_uses_the_cache_writes_the_same_text(attention):
    model = own_gpt(attention=attention)
    alone = [generate(model, p, 30, temperature=0.0, use_cache=False).tolist() for p in PROMPTS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert texts(model) == alone
        assert texts(model, use_cache=False) == alone


@pytest.mark.parametrize("attention", [IgnoresCache, TakesXAlone])
def test_an_attention_that_does_not_is_generated_from_without_one(attention):
    model, right = own_gpt(attention=attention), own_gpt(attention=RotaryAttention)
    with pytest.warns(UserWarning, match=rf"\({attention.__name__}\).*without a cache") as said:
        got = texts(model)
    assert got == texts(right)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # who asks for no cache is told nothing
        assert texts(model, use_cache=False) == got


def test_beams_without_a_cache_are_the_beams_with_one():
    model, right = own_gpt(attention=IgnoresCache), own_gpt(attention=RotaryAttention)
    with pytest.warns(UserWarning, match="without a cache"):
        got = beam_search(model, [1, 2, 3], 8, n_beams=3)
    want = beam_search(right, [1, 2, 3], 8, n_beams=3)
    assert [beam.ids.tolist() for beam in got] == [beam.ids.tolist() for beam in want]
    np.testing.assert_allclose([b.logprob for b in got], [b.logprob for b in want])


@pytest.mark.parametrize(
    ("attention", "says"),
    [
        (AppendsTwice, r"blocks.0.attention \(AppendsTwice\): .* must hold 3 .* holds 6"),
        (AppendsTheLastOnly, r"AppendsTheLastOnly\): .* must hold 3 positions, and holds 1"),
    ],
)
def test_a_wrong_use_of_the_cache_is_refused(attention, says):
    model = own_gpt(attention=attention)
    for write in (generate, beam_search):
        with pytest.raises(GenerationError, match=says):
            write(model, [1, 2, 3], 4)
    assert generate(model, [1, 2, 3], 4, use_cache=False).shape == (7,)


def test_one_layer_that_forgets_is_found():
    model = own_gpt()
    model.blocks[1].attention = IgnoresCache(8, 2).to("float64")
    with pytest.raises(CacheIgnoredError, match=r"blocks.1.attention \(IgnoresCache\): .* adds"):
        model.hidden([[1, 2]], cache=model.new_cache(1))


class Bigram(nn.Module):
    """Nothing but what is needed: a context length, and scores."""

    def __init__(self):
        self.config = SimpleNamespace(context_length=8, vocab_size=31)
        self.table = nn.Embedding(31, 31)

    def forward(self, ids):
        return self.table(ids)


class WithCache(Bigram):
    """A model that is no GPT, with a cache."""

    def __init__(self):
        super().__init__()
        self.attention, self.norm = RotaryAttention(31, 1), RMSNorm(31)
        self.appends = True

    def new_cache(self, batch, max_length=None, padding=None):
        return nn.KVCache(1, batch, 1, max_length or 8, 31, padding=padding)

    def forward(self, ids, cache=None):
        x = self.table(ids)
        layer = cache.layers[0] if cache is not None and self.appends else None
        mask = None if cache is None else cache.mask(x.shape[1])
        return x + self.attention(self.norm(x), mask=mask if self.appends else None, cache=layer)


class Rotated(WithCache):
    """With room for rotary pairs."""

    def __init__(self):
        super().__init__()
        self.attention = OneKeyHead(31, 1)


def test_a_model_with_a_forward_and_a_context_length_writes():
    tg.manual_seed(0)
    model = Bigram()
    got = generate(model, PROMPTS, 12, temperature=0.0)
    for prompt, text in zip(PROMPTS, got, strict=True):
        want = list(prompt)
        while len(want) < len(text):
            want.append(int(model.table.weight.data[want[-1]].argmax()))
        assert text.tolist() == want
    assert beam_search(model, [1, 2], 3)[0].ids.shape == (5,)
    ids = np.arange(20)
    rows = model.table.weight.data[ids[:-1]].astype(float)
    want = rows[np.arange(19), ids[1:]] - np.log(np.exp(rows).sum(-1))
    np.testing.assert_allclose(token_logprobs(model, ids), want, rtol=1e-5)
    assert perplexity(model, ids).value > 1


def test_a_model_of_ones_own_with_a_cache():
    tg.manual_seed(0)
    model = Rotated()
    assert texts(model) == texts(model, use_cache=False)
    model.appends = False
    with pytest.warns(UserWarning, match="Rotated.*adds nothing to it"):
        texts(model)


def test_an_own_forward_of_a_gpt_is_what_writes():
    class Reversed(nn.GPT):
        def forward(self, ids, cache=None):
            return -super().forward(ids, cache)

    tg.manual_seed(0)
    model = Reversed(nn.GPTConfig(31, 24, 1, 1, 8)).eval()
    want = [1, 2]
    for _ in range(5):
        want.append(int(model([want]).data[0, -1].argmax()))
    assert generate(model, [1, 2], 5, temperature=0.0).tolist() == want
    logits = model([want]).log_softmax().data[0]
    np.testing.assert_allclose(
        token_logprobs(model, want), logits[np.arange(6), want[1:]], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: delattr(m, "config"), "Bigram: expected a model with config.context_length"),
        (lambda m: setattr(m.config, "context_length", None), "got None"),
        (lambda m: setattr(m, "forward", lambda ids: m.table(ids).data), r"\(B, T, V\), got nd"),
        (lambda m: setattr(m, "forward", lambda ids: m.table(ids)[:, -1]), r"got \(1, 31\)"),
    ],
)
def test_what_is_missing_is_said(change, says):
    model = Bigram()
    change(model)
    for use in (generate, beam_search):
        with pytest.raises(ConfigError, match=says):
            use(model, [1, 2], 3)
    with pytest.raises(ConfigError, match=says):
        token_logprobs(model, [1, 2, 3])


def test_one_token_is_no_text_to_measure():
    model = tg.nn.GPT(tg.nn.GPTConfig(5, 4, n_layer=1, n_head=1, n_embd=4))
    with pytest.raises(tg.errors.DataError, match="the text has 1 token. Give 2 or more"):
        token_logprobs(model, [1])
    with pytest.raises(tg.errors.DataError, match="stride must be from 1 to 4, got 9"):
        token_logprobs(model, [1, 2], stride=9)
