"""Scores of given texts, against one pass per token."""

import math

import numpy as np
import pytest
from generation_model import CONTEXT, VOCAB, tiny_gpt

from tinygrad_llm import errors
from tinygrad_llm.generation import scoring
from tinygrad_llm.generation.sampling import log_softmax
from tinygrad_llm.tokenizers import CharTokenizer

MODEL = tiny_gpt(5).eval()
TEXT = np.random.default_rng(0).integers(0, VOCAB, 40).tolist()


def one_by_one(ids, contexts):
    """log p of each token from a pass over exactly the given number of tokens before it."""
    out = []
    for t, n in enumerate(contexts, start=1):
        out.append(log_softmax(MODEL([ids[t - n : t]]).numpy()[0, -1])[ids[t]])
    return out


def test_stride_one_sees_the_fullest_context():
    contexts = [min(t, CONTEXT) for t in range(1, len(TEXT))]
    got = scoring.token_logprobs(MODEL, TEXT, stride=1)
    np.testing.assert_allclose(got, one_by_one(TEXT, contexts), rtol=1e-9)


@pytest.mark.parametrize("stride", [1, 4, 5, CONTEXT])
@pytest.mark.parametrize("length", [2, CONTEXT, CONTEXT + 1, CONTEXT + 2, 40])
def test_every_token_is_scored_once_with_enough_context(stride, length):
    contexts, scored = [], 0
    while scored < length - 1:
        end = min(scored + (stride if scored else CONTEXT), length - 1)
        start = max(0, end - CONTEXT)
        contexts += [t + 1 - start for t in range(scored, end)]
        scored = end
    assert all(n >= min(t, CONTEXT - stride + 1) for t, n in enumerate(contexts, start=1))
    got = scoring.token_logprobs(MODEL, TEXT[:length], stride)
    np.testing.assert_allclose(got, one_by_one(TEXT, contexts), rtol=1e-9)


def test_perplexity_and_bits_per_byte(monkeypatch):
    logprobs = scoring.token_logprobs(MODEL, TEXT, 3)
    monkeypatch.setattr(scoring, "_ROWS", 4)
    got = scoring.perplexity(MODEL, TEXT, 3, n_bytes=100)
    assert got.tokens == len(TEXT) - 1
    assert got.value == pytest.approx(math.exp(-logprobs.mean()))
    assert got.bits_per_byte == pytest.approx(-logprobs.mean() * len(TEXT) / math.log(2) / 100)


@pytest.mark.parametrize("length", [2, 3, 10, 30])
def test_bits_per_byte_of_a_model_that_knows_nothing(length):
    """16 tokens of a byte each, all equally probable: 4 bits, however short the text."""
    model = tiny_gpt(0, vocab=16)
    for p in model.parameters():
        p.data[...] = 0
    got = scoring.perplexity(model, np.arange(length) % 16, n_bytes=length)
    assert got.bits_per_byte == pytest.approx(4)
    assert got.tokens == length - 1


def test_next_tokens():
    tokenizer = CharTokenizer.train(["abcdefgh"])
    model = tiny_gpt(6, vocab=tokenizer.vocab_size)
    prompt = "abcd" * 10
    found = scoring.next_tokens(model, tokenizer, prompt, k=100)
    assert len(found) == tokenizer.vocab_size
    assert sum(c.probability for c in found) == pytest.approx(1)
    model.eval()
    logits = model([tokenizer.encode(prompt)[-CONTEXT:]]).numpy()[0, -1]
    assert found[0].id == logits.argmax()
    assert found[0].text == tokenizer.decode([found[0].id])


def test_choice_between_answers():
    tokenizer = CharTokenizer.train(["abcdefgh :Q\nA"])
    model = tiny_gpt(7, vocab=tokenizer.vocab_size)
    ranked = scoring.choose_answer(model, tokenizer, "ab", ["cd", "e", "fgh"])
    by_answer = dict(ranked)
    ids = tokenizer.encode("abfgh")
    assert by_answer["fgh"] == pytest.approx(scoring.token_logprobs(model, ids)[-3:].mean())
    assert [score for _, score in ranked] == sorted(by_answer.values(), reverse=True)


def test_few_shot_prompt():
    prompt = scoring.few_shot_prompt([("1+1", "2"), ("2+2", "4")], "3+3", "Add.")
    assert prompt == "Add.\n\nQ: 1+1\nA: 2\n\nQ: 2+2\nA: 4\n\nQ: 3+3\nA:"


def test_comparison():
    other = tiny_gpt(8)
    got = scoring.compare(MODEL, other, TEXT)
    a, b = scoring.token_logprobs(MODEL, TEXT), scoring.token_logprobs(other, TEXT)
    np.testing.assert_allclose(got.differences, b - a)
    assert got.better == (b > a).mean()
    assert got.second.mean_loss == pytest.approx(-b.mean())


def test_texts_that_cannot_be_scored():
    for ids, stride in (([1], 1), (TEXT, 0), (TEXT, CONTEXT + 1)):
        with pytest.raises(errors.DataError):
            scoring.token_logprobs(MODEL, ids, stride)


@pytest.mark.parametrize(
    ("value", "shown"), [(8.589, "8.59"), (1e6, "1.00e+06"), (3e97, "3.00e+97")]
)
def test_a_perplexity_fits_its_line(value, shown):
    assert scoring.shown_perplexity(value) == shown
