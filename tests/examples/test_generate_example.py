"""``tinygrad-llm generate`` and ``few-shot``, run as a person would, on a tiny model."""

import io
import sys

import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.commands import few_shot, generate
from tinygrad_llm.generation.generate_text import stream_text
from tinygrad_llm.generation.sampling import Sampling
from tinygrad_llm.tokenizers import CharTokenizer, WordTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,!:\n"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run with one checkpoint below ``checkpoints/``, as training leaves it."""
    run = tmp_path_factory.mktemp("runs") / "small"
    tokenizer = CharTokenizer.train([LETTERS])
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(tokenizer.vocab_size, 64, 1, 2, 16))
    for step in (100, 200):
        model.save_pretrained(run / "checkpoints" / f"step-{step:08d}")
        tokenizer.save(run / "checkpoints" / f"step-{step:08d}")
        model.token_embedding.weight.data *= 1.5
    return run


@pytest.fixture
def call(run_folder, capsys):

    def call(*flags, model=run_folder):
        status = generate.main([str(model), *flags])
        return status, capsys.readouterr().out

    return call


def test_streams_the_text_of_the_newest_checkpoint(call, run_folder):
    status, out = call("--prompt", "Hello", "--tokens", "20", "--seed", "3")
    assert status == 0
    folder = run_folder / "checkpoints/step-00000200"
    model, tokenizer = nn.GPT.from_pretrained(folder), CharTokenizer.load(folder)
    pieces = stream_text(model, tokenizer, "Hello", 20, Sampling(0.8), seed=3)
    assert out == "Hello" + "".join(pieces) + "\n"


def test_explain_marks_what_was_taken(call):
    _, out = call("--prompt", "Hello", "--tokens", "2", "--explain", "--temperature", "0")
    assert out.count("goes on with") == 2
    first = out.split("goes on with")[1].splitlines()
    assert first[1].endswith("<- taken")
    assert out.count("%") == 20


def test_interactive_survives_a_bad_prompt(call, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n\N{SNOWMAN}\nyou\n"))
    status, out = call("--interactive", "--tokens", "3")
    assert status == 0
    assert "SNOWMAN" in out or "U+2603" in out
    assert out.count("prompt>") == 4


def test_beams_scores_and_comparison(call, run_folder, tmp_path):
    assert call("--beams", "2", "--tokens", "4", "--prompt", "a")[1].count("per token") == 2
    text = tmp_path / "text.txt"
    text.write_text("The cat sat.", encoding="utf-8")
    assert "11 tokens" in call("--perplexity", "--text", str(text))[1]
    other = run_folder / "checkpoints/step-00000100"
    status, out = call("--compare", str(other), "--text", str(text))
    assert status == 0
    assert "of 11 tokens" in out


@pytest.mark.parametrize(
    "flags",
    [("--temperature", "-1"), ("--text", "nowhere.txt"), ("--perplexity",), ("--tokens", "-3")],
)
def test_mistakes_are_one_sentence(call, capsys, flags):
    assert call(*flags)[0] == 2


def test_unknown_model(call, tmp_path, monkeypatch):
    assert call(model=tmp_path / "gone")[0] == 2
    assert call(model=tmp_path)[0] == 2
    monkeypatch.chdir(tmp_path)
    assert generate.main([]) == 2


def test_few_shot(run_folder, capsys):
    assert few_shot.main([str(run_folder), "--shots", "1"]) == 0
    out = capsys.readouterr().out
    assert "Review: What a lovely day we had at the lake!\nOpinion: good" in out
    assert "of 4" in out


def test_words_that_the_tokenizer_does_not_know_are_named(tmp_path, capsys):
    tokenizer = WordTokenizer.train("the cat sat on the mat")
    nn.GPT(nn.GPTConfig(tokenizer.vocab_size, 16, 1, 2, 16)).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    assert generate.main([str(tmp_path), "--prompt", "the dog sat", "--tokens", "2"]) == 0
    assert "read as <|unk|>: dog\n" in capsys.readouterr().err
    assert generate.main([str(tmp_path), "--prompt", "the cat sat", "--tokens", "2"]) == 0
    assert "<|unk|>:" not in capsys.readouterr().err
