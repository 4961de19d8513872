"""What a newcomer tries first: one sentence, an own text, a start from a saved model."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings

import pytest

from tinygrad_llm.__main__ import main
from tinygrad_llm.commands import generate, plot, train
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.generation.open_checkpoint import newest_run
from tinygrad_llm.tokenizers import load
from tinygrad_llm.training.report.summary import summarize
from tinygrad_llm.training.run.saved_start import as_saved, name_of
from tinygrad_llm.training.run.text import short_name

SENTENCE = "The quick brown fox jumps over the lazy dog."
TINY = ["--preset", "tiny", "--no-plot"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentence.txt").write_text(SENTENCE, encoding="utf-8")
    return tmp_path


def test_one_sentence_is_learned_by_heart(here, capsys):
    flags = ["--data", "sentence.txt", "--tokenizer", "char", "--validation-fraction", "0"]
    assert train.main([*TINY, *flags]) == 0
    shown = capsys.readouterr().out
    assert "best          the newest checkpoint: no validation compared them" in shown
    assert "validation loss" not in shown
    assert "<|endoftext|>" not in shown
    last = json.loads((here / "runs/sentence-char/log.jsonl").read_text("utf-8").splitlines()[-1])
    assert last["loss"] < 0.1
    assert generate.main(["--temperature", "0"]) == 0
    assert generate.main(["--temperature", "0", "--prompt", "The quick"]) == 0
    assert capsys.readouterr().out == f"{SENTENCE}\n{SENTENCE}\n"


def test_a_short_text_keeps_its_order_when_it_is_resumed(runs, weights_of, page):
    text = page.with_name("short.txt")
    text.write_text(page.read_text("utf-8")[:50], encoding="utf-8")
    short = {"data": [str(text)], "validation_fraction": 0.0}
    whole = runs.fit("whole", **short)
    runs.fit("cut", **short)
    shutil.rmtree(runs.folder / "cut/checkpoints/step-00000020")
    cut = runs.fit("cut", resume=True)
    assert weights_of(cut) == weights_of(whole)


@pytest.mark.parametrize("sizes", [(4, 2), (2, 4), (1, 60)])
def test_a_short_text_is_resumed_with_another_batch_size(runs, page, sizes):
    text = page.with_name("short.txt")
    text.write_text(page.read_text("utf-8")[:50], encoding="utf-8")
    first, second = sizes
    short = {"data": [str(text)], "validation_fraction": 0.0, "context_length": 16}
    begun = runs.fit("run", steps=5, batch_size=first, **short)
    went_on = runs.fit("run", steps=10, batch_size=second, resume=True)
    assert went_on.step == 10
    windows = [trainer.loader.state()["windows"] for trainer in (begun, went_on)]
    assert windows[0] != windows[1]


def test_shards_bring_a_tokenizer_of_a_size_of_its_own(here, capsys):
    assert main(["tokenize", "sentence.txt", "--out", "shards", "--tokenizer", "char"]) == 0
    assert train.main([*TINY, "--data", "shards", "--vocab-size", "500"]) == 2
    assert "that of the shards in shards, has a size of its own" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--tokenizer", "char"], ["--vocab-size", "300"]])
def test_shards_that_another_tokenizer_began_are_not_taken_for_those_asked_for(here, flags, capsys):
    begin = ["tokenize", "sentence.txt", "--out", "shards", "--workers", "1"]
    assert main([*begin, "--vocab-size", "290"]) == 0
    capsys.readouterr()
    assert main([*begin, *flags]) == 2
    assert "was begun with another tokenizer, bpe of 290 tokens" in capsys.readouterr().err
    assert load(here / "shards").vocab_size == 290
    assert main([*begin, "--vocab-size", "290"]) == 0


@pytest.mark.parametrize("name", ["empty.txt", "folder", "", "gone.txt"])
def test_nothing_to_tokenize_leaves_nothing(here, name, capsys):
    (here / "empty.txt").touch()
    (here / "folder").mkdir()
    assert main(["tokenize", name, "--out", "shards"]) == 2
    assert not (here / "shards").exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_warning_is_a_sentence_without_a_line_of_code(here, monkeypatch, capsys):
    monkeypatch.setattr("warnings.showwarning", lambda *what: sys.stderr.write(shown(*what)))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["tokenize", "sentence.txt", "--out", "shards", "--workers", "1"]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("tinygrad-llm tokenize: BPETokenizer.train: no pair is left")


def shown(message, category, file, line, *rest):
    return warnings.formatwarning(message, category, file, line)


@pytest.mark.parametrize("folder", [".", "..", "texts"])
def test_a_folder_lends_its_name(here, folder, monkeypatch):
    (here / "texts").mkdir()
    monkeypatch.chdir(here if folder == "texts" else here / "texts")
    assert short_name([folder]) == (here.name if folder == ".." else "texts")


def test_an_empty_name_is_no_text(here, capsys):
    assert train.main([*TINY, "--data", ""]) == 2
    assert "none of them empty" in capsys.readouterr().err


def test_too_short_a_text_names_flags_that_exist(here, capsys):
    assert train.main([*TINY, "--data", "sentence.txt"]) == 2
    shown = capsys.readouterr().err
    for flag in ("--context-length", "--validation-fraction"):
        assert flag in shown
        assert flag in train.build_parser()._option_string_actions
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--data", "gone.txt"],
        ["--data", "tiny-shakespear"],
        ["--tokenizer", "wrods"],
        ["--prompt", "\N{SNOWMAN}"],
        ["--attention-map", "\N{SNOWMAN}"],
        ["--init-from", "gone"],
        ["--device", "cuda:77"],
    ],
)
def test_a_failed_start_leaves_nothing(here, flags):
    assert train.main([*TINY, *flags]) == 2
    assert [path.name for path in here.iterdir()] == ["sentence.txt"]


def test_ctrl_c_before_the_first_step_leaves_nothing_and_says_so(here, monkeypatch, capsys):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "make_trainer", stopped)
    assert train.main(TINY) == 130
    assert "Nothing was saved yet." in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_learning_rate_that_is_too_high_is_one_sentence(here):
    command = [sys.executable, "-m", "tinygrad_llm", "train", *TINY, "--learning-rate", "100"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "RuntimeWarning" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "Nothing was saved yet." in ended.stderr


def test_an_early_stop_says_of_which_step_the_loss_is(runs):
    trainer = runs.fit(steps=7)
    trainer.result.evaluated_step = 5
    shown = summarize(trainer.result, runs.folder / "run", 7, {})
    assert "(at step 5)" in shown
    trainer.result.evaluated_step = 7
    assert "(at step" not in summarize(trainer.result, runs.folder / "run", 7, {})


def test_a_saved_model_decides_its_size(runs, weights_of):
    runs.fit("first", steps=5)
    start = str(runs.folder / "first")
    with pytest.raises(ConfigError, match=r"n_layer: 1, not 7; n_embd: 16, not 32"):
        as_saved({"init_from": start, "n_layer": 7, "n_embd": 32})
    settings = as_saved({"init_from": start})
    assert (settings["n_layer"], settings["n_embd"], settings["context_length"]) == (1, 16, 16)
    trainer = runs.fit("second", **{"tokenizer": settings["tokenizer"], "init_from": start})
    assert trainer.model.config.n_layer == 1
    assert f'init_from = "{start}"' in (runs.folder / "second/config.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("runs/novel", "novel"),
        ("runs/novel/best", "novel"),
        ("gpt2", "gpt2"),
        ("runs/novel/checkpoints/step-00000100", "novel"),
    ],
)
def test_a_run_from_a_saved_model_is_named_after_it(start, name):
    assert name_of(start) == name


def test_the_newest_run_with_a_language_model_is_taken(runs):
    for name in ("older", "newer", "spam"):
        runs.fit(name, steps=1)
    for age, name in enumerate(("spam", "newer", "older")):
        for file in (runs.folder / name).glob("checkpoints/*/config.json"):
            stamp = time.time() - 100 * age
            os.utime(file, (stamp, stamp))
    (runs.folder / "spam/classifier.json").write_text("{}", encoding="utf-8")
    (runs.folder / "failed/checkpoints").mkdir(parents=True)
    assert newest_run(runs.folder).name == "newer"
    with pytest.raises(CheckpointError):
        newest_run(runs.folder / "failed")


def test_plot_passes_over_what_is_no_run(runs, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    runs.fit("a/run", steps=4)
    runs.fit("b/run", steps=4)
    (tmp_path / "notes").mkdir()
    given = [str(tmp_path / name) for name in ("a/run", "notes", "b/run", "a/run")]
    assert plot.main(given) == 0
    shown = capsys.readouterr()
    assert shown.err == f"Passed over, no log of a training run: {tmp_path / 'notes'}\n"
    assert (tmp_path / "a/runs.png").stat().st_size > 5000
    assert len(plot.training_runs([tmp_path / "a/run"] * 2)) == 1


def test_generate_draws_anew_and_says_how_to_repeat(runs, capsys):
    runs.fit(steps=2)
    texts = []
    for _ in range(2):
        generate.main([str(runs.folder / "run"), "--tokens", "40"])
        shown = capsys.readouterr()
        texts.append(shown.out)
        seed = shown.err.split("--seed ")[1].rstrip("]\n")
        generate.main([str(runs.folder / "run"), "--tokens", "40", "--seed", seed])
        assert capsys.readouterr().out == texts[-1]
    assert texts[0] != texts[1]
