"""A model with more rows than its tokenizer has tokens never chooses one that has no text."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import errors, nn
from tinygrad_llm.commands import generate as generate_command
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import CHAT
from tinygrad_llm.finetuning import Conversation
from tinygrad_llm.finetuning.responses import respond
from tinygrad_llm.generation.beam_search import beam_search
from tinygrad_llm.generation.generate import generate
from tinygrad_llm.generation.generate_text import generate_text, stream_text
from tinygrad_llm.generation.scoring import next_tokens
from tinygrad_llm.tokenizers import BPETokenizer
from tinygrad_llm.training.report.samples import sample_text

TOKENIZER = BPETokenizer.train("the cat sat on the mat", 262, ["<|endoftext|>"])
SIZE = TOKENIZER.vocab_size


@pytest.fixture(scope="module")
def padded():
    """Its last rows are the most probable ones."""
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(SIZE + 58, 64, 1, 2, 16)).eval()
    model.token_embedding.weight.data[SIZE:] *= 30
    return model


WRITERS = {
    "stream_text": lambda m: "".join(stream_text(m, TOKENIZER, "the", 20, seed=1)),
    "generate_text": lambda m: generate_text(m, TOKENIZER, ["the", "a cat"], 20, seed=1),
    "a conversation": lambda m: "".join(
        Conversation(m, TOKENIZER, CHAT, max_new_tokens=8).ask("cat?")
    ),
    "answers": lambda m: respond(m, TOKENIZER, CHAT, [Instruction("a", "", "b")], 8),
    "the next token": lambda m: next_tokens(m, TOKENIZER, "the", 400),
    "a sample in training": lambda m: sample_text(m, TOKENIZER, "the", 20, 1),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_way_to_write_chooses_tokens_alone(padded, write):
    assert write(padded)


def test_ids_stay_below_the_given_size(padded):
    ids = TOKENIZER.encode("the cat")
    assert generate(padded, ids, 20, seed=1).max() >= SIZE
    for settings in ({"temperature": 0.0}, {}, {"top_k": 300}, {"top_p": 0.9}):
        assert generate(padded, ids, 20, seed=1, vocab_size=SIZE, **settings).max() < SIZE
    beams = beam_search(padded, ids, 5, 3, vocab_size=SIZE)
    assert max(beam.ids.max() for beam in beams) < SIZE
    with pytest.raises(errors.GenerationError, match="vocab_size must be at least 1, got 0"):
        generate(padded, ids, 1, vocab_size=0)


def test_the_numbers_are_those_of_a_model_without_the_padding(padded):
    small = nn.GPT(nn.GPTConfig(SIZE, 64, 1, 2, 16)).eval()
    small.load_state_dict(
        {n: t.numpy()[:SIZE] if "token_e" in n else t for n, t in padded.state_dict().items()}
    )
    ids = TOKENIZER.encode("the cat")
    expected, logprobs = generate(small, ids, 9, seed=3, return_logprobs=True)
    found = generate(padded, ids, 9, seed=3, return_logprobs=True, vocab_size=SIZE)
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_allclose(found[1], logprobs, rtol=1e-5)


@pytest.mark.parametrize("flags", [[], ["--beams", "3"], ["--explain"]])
def test_the_command(padded, tmp_path, capsys, flags):
    padded.save_pretrained(tmp_path)
    TOKENIZER.save(tmp_path)
    assert generate_command.main([str(tmp_path), "--prompt", "the", "--tokens", "6", *flags]) == 0
    assert "the" in capsys.readouterr().out
