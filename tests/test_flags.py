"""Flags: other programs' spellings, wrong values, and what excludes each other."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tinygrad_llm.__main__ import main
from tinygrad_llm.commands import generate, train
from tinygrad_llm.commands.finetune import instructions
from tinygrad_llm.commands.program import ask_before_deleting
from tinygrad_llm.commands.spellings import INSTEAD, SAME, as_ours, named_flags
from tinygrad_llm.errors import ConfigError

FLAGS = {
    "train": set(train.build_parser()._option_string_actions),
    "generate": set(generate.build_parser()._option_string_actions),
    "finetune": set(instructions.build_parser()._option_string_actions),
}


def test_other_spellings_name_only_flags_that_exist():
    existing = FLAGS["train"] | FLAGS["generate"]
    assert set(SAME.values()) <= existing
    assert not set(SAME) & FLAGS["train"]
    for answers in INSTEAD.values():
        for answer in answers:
            assert named_flags(answer)
            assert any(named_flags(answer) <= known for known in FLAGS.values()), answer
    assert not (set(SAME) | set(INSTEAD)) & FLAGS["generate"]


@pytest.mark.parametrize(
    ("program", "typed", "meant"),
    [
        ("train", "--n_layer=4 --lr 1e-3", "--n-layer=4 --learning-rate 1e-3"),
        ("train", "--max_iters=9 --block_size 8", "--steps=9 --context-length 8"),
        ("train", "--plot=False --qkv_bias=True", "--no-plot --qkv-bias"),
        ("train", "--gradient_accumulation_steps=2", "--accumulate=2"),
        ("generate", "--start x --top_k=3", "--prompt x --top-k=3"),
        ("generate", "--max-new-tokens 4 -- --lr", "--tokens 4 -- --lr"),
        ("generate", "--lr 3", "--lr 3"),
    ],
)
def test_flags_of_other_programs_are_read_as_ours(program, typed, meant):
    assert as_ours(typed.split(), FLAGS[program]) == meant.split()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("train --bogus 1", "unknown flag --bogus. `--help`"),
        ("train --stepz 1", "Did you mean --steps?"),
        ("train --steps 1.5", "--steps: expected a whole number, got '1.5'"),
        ("train --learning-rate nan", "--learning-rate: expected a number, got 'nan'"),
        ("train --preset huge", "--preset: expected one of tiny, char, small"),
        ("train --compile=False", "--no-graph"),
        ("train --wandb_log=True", "--tensorboard"),
        ("train --num_train_epochs 3", "--steps"),
        ("train novel.txt", "A text is given by --data"),
        ("train run.toml", "--config run.toml"),
        ("train --resume --overwrite", "--resume and --overwrite exclude each other"),
        ("train --find-lr --resume", "--find-lr and --resume exclude each other"),
        ("train --find-lr --overwrite", "--find-lr and --overwrite exclude each other"),
        ("generate x --prompt a b", "in quotes"),
        ("generate --num_samples=3", "--seed"),
        ("generate --perplexity --compare x", "not allowed with --perplexity"),
        ("generate --beams 2 --explain", "not allowed with --beams"),
        ("generate --prompt a --text b", "not allowed with --prompt"),
        ("generate --beams 2 --temp 1", "--beams and --temperature exclude each other"),
        ("generate --interactive --prompt a", "--interactive and --prompt exclude each other"),
        ("generate --perplexity --tokens 3", "--perplexity and --tokens exclude each other"),
        ("generate --tokens 0", "--tokens: expected at least 1, got 0"),
        ("generate --beams 0", "--beams: expected 1 to 1000, got 0"),
        (f"finetune spam --epochs 1{'0' * 400}", "a whole number below 2**64"),
        (f"train --n-embd {10**400}", "a whole number below 2**64"),
        ("generate --import .", "there is no file ..py"),
        (f"generate --import {'n' * 5000}", "[4,883 letters]"),
        ("study --layers 1e9", "expected 1 to 64"),
        ("tokenize a --out b --workers 0", "--workers: expected at least 1"),
        ("generate --perplexity", "--text FILE or --prompt TEXT"),
        ("tokenize a --out b --vocab-size 9 --tokenizer char", "has a size of its own"),
        ("train --vocab-size 500 --tokenizer char --no-progress", "has a size of its own"),
        ("finetune instructions --model x", "--base"),
        ("finetune spam --steps 3", "--epochs"),
        ("finetune spam --epochs 0", "--epochs: expected at least 1, got 0"),
        ("finetune instructions --answers 0", "--answers: expected at least 1, got 0"),
        ("tokenize a --workers x --out b", "--workers: expected a whole number"),
        ("plot", "RUN"),
        ("env --jason", "Did you mean --json?"),
        ("gradcheck --no-gtp", "Did you mean --no-gpt?"),
        ("explain gelu tanh", "one word too many"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(typed, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(typed.split()) == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert shown.startswith(f"tinygrad-llm {typed.split()[0]}")
    assert len(shown.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_may_be_written_in_powers():
    arguments = train.build_parser().parse(["--steps", "1e4", "--eval-tokens", "10_000"])
    assert (arguments.steps, arguments.eval_tokens) == (10_000, 10_000)


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), ("", False), ("no", False)])
def test_a_terminal_is_asked_before_something_is_deleted(answer, goes_on, monkeypatch):
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    if goes_on:
        ask_before_deleting("runs/x: deletes.")
    else:
        with pytest.raises(ConfigError, match="nothing was deleted"):
            ask_before_deleting("runs/x: deletes.")


def test_without_a_terminal_the_sentence_is_printed(capsys):
    ask_before_deleting("runs/x: deletes.")
    assert capsys.readouterr().out.startswith("runs/x: deletes. There is no terminal")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ("", "--resume"),
        ("--preset tiny", "--resume --preset tiny"),
        ("--overwrite --yes", "--overwrite --yes"),
        ("--find-lr", "--find-lr"),
    ],
)
def test_make_train_resumes_unless_that_is_excluded(given, flags):
    words = ["make", "-n", "train", f"ARGS={given}", "VENV=/no/environment", "PYTHON=python3"]
    root = Path(__file__).parents[1]
    # This test may run below `make test`, which hands its own flags and variables on.
    clean = {
        name: value
        for name, value in os.environ.items()
        if "MAKE" not in name and name not in ("MFLAGS", "ARGS")
    }
    done = subprocess.run(words, cwd=root, env=clean, capture_output=True, text=True, check=True)
    last = done.stdout.splitlines()[-1].split()
    assert last[1:] == ["examples/train_gpt.py", *flags.split()]
    train.build_parser().parse(last[2:])
