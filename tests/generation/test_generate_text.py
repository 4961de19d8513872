"""Text out of a stream: whole characters, stop strings, the end-of-text token."""

import numpy as np
import pytest
from generation_model import tiny_gpt
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm import errors, nn
from tinygrad_llm.generation.generate import generate
from tinygrad_llm.generation.generate_text import generate_text, stream_text, until_stop
from tinygrad_llm.generation.sampling import Sampling
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer


def bytes_tokenizer():
    """256 bytes and an end-of-text token: most characters take several tokens."""
    return BPETokenizer.train(["ä" * 3], 257, special_tokens=("<|endoftext|>",))


def speaking(text_ids, vocab):
    """A model without blocks' influence that says the given tokens, one after the other."""
    model = nn.GPT(nn.GPTConfig(vocab, 64, 1, 1, 64))
    for p in model.parameters():
        p.data[...] = 0
    model.final_norm.weight.data[...] = 1
    model.token_embedding.weight.data[...] = 0
    positions = np.random.default_rng(0).normal(size=(64, 64))
    model.position_embedding.weight.data[...] = positions
    for position, token in enumerate(text_ids):
        model.token_embedding.weight.data[token] += 1e-3 * positions[position]
    return model


def test_pieces_are_whole_characters_and_together_the_text():
    tokenizer = bytes_tokenizer()
    wanted = "zä€\N{SMILING CAT FACE WITH OPEN MOUTH}!"
    model = speaking(tokenizer.encode(wanted), tokenizer.vocab_size)
    greedy = Sampling(temperature=0)
    pieces = list(stream_text(model, tokenizer, "q", len(wanted.encode()), greedy))
    assert "".join(pieces) == wanted
    assert [len(piece) for piece in pieces] == [1] * len(wanted)


def test_text_cut_within_a_character_ends_with_the_replacement():
    tokenizer = bytes_tokenizer()
    model = speaking(tokenizer.encode("a€"), tokenizer.vocab_size)
    assert "".join(stream_text(model, tokenizer, "q", 3, Sampling(temperature=0))) == "a\ufffd"


@pytest.mark.parametrize("make", [lambda: WordTokenizer, lambda: CharTokenizer])
def test_stream_is_the_decoded_continuation(make):
    text = "the cat sat on the mat , and the dog ran . it was late"
    tokenizer = make().train([text])
    model = tiny_gpt(3, vocab=tokenizer.vocab_size)
    prompt = "the cat"
    out = "".join(stream_text(model, tokenizer, prompt, 20, seed=4))
    ids = generate(model, tokenizer.encode(prompt), 20, seed=4, stop_ids=_end(tokenizer)).tolist()
    if ids[-1] == tokenizer.end_of_text_id:
        ids = ids[:-1]
    assert prompt + out == tokenizer.decode(ids)


def _end(tokenizer):
    return [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]


def test_batch_of_texts_equals_each_alone():
    tokenizer = CharTokenizer.train(["hello world, how are you?"])
    model = tiny_gpt(2, vocab=tokenizer.vocab_size)
    prompts = ["he", "world", "h"]
    how = Sampling(temperature=0)
    batch = generate_text(model, tokenizer, prompts, 30, how, stop_strings=["o", "re"])
    alone = [
        "".join(stream_text(model, tokenizer, p, 30, how, stop_strings=["o", "re"]))
        for p in prompts
    ]
    assert batch == alone
    assert generate_text(model, tokenizer, "he", 30, how, stop_strings=["o", "re"]) == alone[0]


def test_end_of_text_is_not_part_of_the_text():
    tokenizer = bytes_tokenizer()
    ids = [*tokenizer.encode("ab"), tokenizer.end_of_text_id, *tokenizer.encode("cd")]
    model = speaking(ids, tokenizer.vocab_size)
    assert "".join(stream_text(model, tokenizer, "q", 10, Sampling(temperature=0))) == "ab"


def test_empty_prompt_starts_at_end_of_text_where_there_is_one():
    tokenizer = bytes_tokenizer()
    model = speaking(tokenizer.encode("xy"), tokenizer.vocab_size)
    assert "".join(stream_text(model, tokenizer, "", 2, Sampling(temperature=0))) == "xy"
    chars = CharTokenizer.train(["abc"])
    if chars.end_of_text_id is None:
        with pytest.raises(errors.GenerationError, match="empty"):
            stream_text(tiny_gpt(vocab=chars.vocab_size), chars, "", 2)


@given(
    st.text("abc", max_size=40),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 40), max_size=8),
)
def test_stop_strings_however_the_text_is_cut(text, stops, cuts):
    cuts = sorted({0, len(text), *(c for c in cuts if c <= len(text))})
    pieces = [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    wanted = text
    for n in range(1, len(text) + 1):  # letter by letter
        complete = [stop for stop in stops if text[:n].endswith(stop)]
        if complete:
            wanted = text[: n - max(len(stop) for stop in complete)]
            break
    assert "".join(until_stop(iter(pieces), stops)) == wanted


def test_stop_string_is_held_back_only_while_it_is_undecided():
    pieces = until_stop(iter(["say E", "N", "x E", "ND now"]), ["END"])
    assert list(pieces) == ["say ", "ENx "]


def test_arguments_that_make_no_sense():
    tokenizer = CharTokenizer.train(["abc"])
    model = tiny_gpt(vocab=tokenizer.vocab_size)
    for stops in ("END", [""]):
        with pytest.raises(errors.GenerationError, match="stop_strings"):
            stream_text(model, tokenizer, "a", 2, stop_strings=stops)
