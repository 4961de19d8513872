"""Entropies of counting models and the evaluation, compared with slow and plain computations."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.data.sliding_window import TokenDataset
from tinygrad_llm.nn import GPT, GPTConfig
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer
from tinygrad_llm.training.baselines import counting_baselines
from tinygrad_llm.training.evaluate import Evaluator, bytes_per_token

ids_of = st.lists(st.integers(0, 6), min_size=2, max_size=60)


def plain(train, validation, v):
    """Both models as the formulas say, one token at a time."""
    c, pairs = Counter(train), Counter(zip(train, train[1:], strict=False))
    starts = Counter(train[:-1])
    kinds = Counter(a for a, _ in pairs)
    p1 = {b: (c[b] + 1) / (len(train) + v) for b in range(v)}

    def p2(a, b):
        n = kinds[a]
        return p1[b] if n == 0 else (pairs[a, b] + n * p1[b]) / (starts[a] + n)

    unigram = -sum(math.log(p1[b]) for b in validation) / len(validation)
    nats = [math.log(p2(a, b)) for a, b in zip(validation, validation[1:], strict=False)]
    for a in range(v):
        assert sum(p2(a, b) for b in range(v)) == pytest.approx(1)
    return unigram, -sum(nats) / len(nats)


@given(train=ids_of, validation=ids_of)
def test_counting_is_what_the_formulas_say(train, validation):
    found = counting_baselines(np.array(train, np.uint16), np.array(validation, np.uint16), 7)
    unigram, bigram = plain(train, validation, 7)
    assert found.unigram == pytest.approx(unigram)
    assert found.bigram == pytest.approx(bigram)


def test_bigram_of_a_cycle_is_nearly_certain():
    ids = np.arange(30_000) % 5
    found = counting_baselines(ids[:20_000], ids[20_000:], 5)
    assert found.unigram == pytest.approx(math.log(5), abs=1e-3)
    assert found.bigram < 1e-2


@pytest.fixture(scope="module")
def model():
    tg.manual_seed(3)
    return GPT(GPTConfig(13, 8, 1, 2, 16, dropout=0.3)).train()


def test_evaluation_is_the_mean_over_all_windows(model):
    ids = np.random.default_rng(0).integers(0, 13, 75)
    result = Evaluator(ids, 8, 4)(model)
    assert model.training
    dataset = TokenDataset(ids, 8)
    model.eval()
    losses = [model.loss(*(x[None] for x in dataset[i])).item() for i in range(len(dataset))]
    model.train()
    assert result.tokens == 8 * len(dataset) == 72
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(result.loss))


def test_evaluation_does_not_disturb_the_random_numbers(model):
    ids = np.random.default_rng(0).integers(0, 13, 75)
    before = tg.default_generator().state()
    Evaluator(ids, 8, 4, max_tokens=16)(model)
    assert tg.default_generator().state() == before


def test_selected_windows_are_spread_over_the_text():
    found = Evaluator(np.zeros(1001, np.int64), 10, 4, max_tokens=50)
    assert found.windows.tolist() == [0, 25, 50, 74, 99]


def test_bits_per_byte_do_not_depend_on_the_tokenizer():
    """A uniform model over bytes needs 8 bits for each, however the text is cut into tokens."""
    text = "naïve café — 東京 " * 20
    tokenizer = CharTokenizer.train(text)
    sizes = bytes_per_token(tokenizer)
    ids = np.array(tokenizer.encode(text))
    assert sizes[ids].sum() == len(text.encode("utf-8"))
    bpe = BPETokenizer.train(text, 270, ["<|endoftext|>"])
    assert bytes_per_token(bpe)[bpe.encode(text)].sum() == len(text.encode("utf-8"))
    assert bytes_per_token(bpe)[bpe.end_of_text_id] == 0

    class Uniform(GPT):
        def loss(self, inputs, targets):
            n_bytes = sizes[np.asarray(targets)].sum()
            return tg.tensor(8 * math.log(2) * n_bytes / targets.size, dtype="float64")

    model = Uniform(GPTConfig(tokenizer.vocab_size, 8, 1, 1, 8))
    assert Evaluator(ids, 8, 4, 0, sizes)(model).bits_per_byte == pytest.approx(8)
