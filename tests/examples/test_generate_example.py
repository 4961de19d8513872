"""``tinygrad-llm generate`` and ``few-shot``, run as a person would, on a tiny model."""

import io
import math
import sys

import pytest

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.commands import few_shot, generate
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.generation.generate_text import stream_text
from tinygrad_llm.generation.open_checkpoint import find_checkpoint
from tinygrad_llm.generation.sampling import Sampling
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer

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


@pytest.mark.parametrize("flag", ["--temperature", "--top-p", "--min-p", "--seed", "--stop"])
def test_a_value_out_of_range_is_named_before_a_model_is_loaded(flag, capsys, monkeypatch):
    monkeypatch.setattr(generate, "open_checkpoint", None)
    assert generate.main(["runs/any", flag, "" if flag == "--stop" else "-1"]) == 2
    error = capsys.readouterr().err
    assert error.count("generate:") == 1
    assert flag in error or "stop_strings" in error


@pytest.mark.filterwarnings("ignore:.*numbers that are not finite")
def test_scores_that_are_no_numbers_are_said_once_on_a_line_of_their_own(tmp_path, capfd):
    tokenizer = CharTokenizer.train([LETTERS])
    model = nn.GPT(nn.GPTConfig(tokenizer.vocab_size, 64, 1, 2, 16))
    model.final_norm.weight.data[0] = math.nan
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    for flags in ([], ["--temperature", "0"], ["--top-k", "3"], ["--top-p", "0.5"], ["--explain"]):
        assert generate.main([str(tmp_path), "--prompt", "Hello", *flags]) == 2
        said = capfd.readouterr()
        assert "tinygrad-llm generate: the scores of a model must be finite" in said.err
        assert "the weight 'final_norm.weight' has 1 NaN" in said.err
        assert said.out in ("Hello\n", "")
    for flags in (["--beams", "2", "--tokens", "4"], ["--perplexity"]):
        assert generate.main([str(tmp_path), "--prompt", "Hello", *flags]) == 2
        assert "the scores of a model must be finite" in capfd.readouterr().err


def test_what_stands_in_a_file_is_no_special_token(tmp_path, capsys):
    tokenizer = BPETokenizer([], ["<|endoftext|>"])
    tg.manual_seed(0)
    nn.GPT(nn.GPTConfig(tokenizer.vocab_size, 64, 1, 2, 16)).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "a.txt").write_text("a<|endoftext|>b", encoding="utf-8")
    assert generate.main([str(tmp_path), "--perplexity", "--text", str(tmp_path / "a.txt")]) == 0
    assert "14 tokens" in capsys.readouterr().out
    assert generate.main([str(tmp_path), "--perplexity", "--prompt", "a<|endoftext|>b"]) == 0
    assert "2 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("prompt", ["", "abc"])
def test_beams_show_no_start_and_no_end_token(tmp_path, capsys, prompt):
    tokenizer = BPETokenizer([], ["<|endoftext|>"])
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(tokenizer.vocab_size, 64, 1, 2, 16))
    model.token_embedding.weight.data[tokenizer.end_of_text_id] *= 40
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    flags = ["--beams", "3", "--tokens", "5", "--prompt", prompt]
    assert generate.main([str(tmp_path), *flags]) == 0
    out = capsys.readouterr().out
    assert out.count("per token]") == 3
    assert "<|endoftext|>" not in out
    assert out.count(f"per token] {prompt}") == 3


def test_a_folder_without_a_checkpoint_is_called_what_it_is(tmp_path, run_folder):
    for name, said in {
        "spam/full/classifier.json": "holds a classifier.*finetune spam --out .*spam --predict",
        "shards/a.tokens": "holds a text as tokens.*train --data .*shards",
        "stopped/finetuning.json": "was stopped before it wrote a model",
        "begun/config.toml": "no checkpoint yet.*train --out .*begun --resume",
        "other/notes.txt": "there is no checkpoint: neither config.json",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
        with pytest.raises(CheckpointError, match=said):
            find_checkpoint(tmp_path / path.relative_to(tmp_path).parts[0])
    with pytest.raises(CheckpointError, match="holds 1 runs; name one of them: .*generate .*small"):
        find_checkpoint(run_folder.parent)


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
