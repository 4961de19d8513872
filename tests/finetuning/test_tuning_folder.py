"""What the fine-tuning programs do with their folder: resume, refuse, replace, leave nothing."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_llm.errors import NumericsError
from tinygrad_llm.finetuning import tuning_folder
from tinygrad_llm.finetuning.progress import TuningBar

SPAM = ["--sets", "balanced", "--epochs", "2", "--trainable", "lora", "head"]
INSTRUCTIONS = ["--epochs", "2", "--max-new-tokens", "4", "--answers", "2", "--trainable", "lora"]
PREFERENCES = ["--first-epochs", "1", "--epochs", "1"]
PROGRAMS = {"spam": SPAM, "instructions": INSTRUCTIONS, "preferences": PREFERENCES}


@pytest.fixture
def base(_gpt, tokenizer, tmp_path, monkeypatch):
    """A run's folder with a tiny untrained model, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    _gpt.save_pretrained(tmp_path / "base" / "best")
    tokenizer.save(tmp_path / "base" / "best")
    return "base"


def start(task, *flags):
    main = importlib.import_module(f"tinygrad_llm.commands.finetune.{task}").main
    return main([*flags])


def interrupt_at(monkeypatch, number):
    """Ctrl-C comes in the given step, counted over all stages."""
    steps = []

    def on_step(bar, trainer, report):
        steps.append(report.step)
        if len(steps) == number:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TuningBar, "on_step", on_step)
    return steps


def files(folder):
    kinds = (".safetensors", ".json")
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.suffix in kinds and p.name != "finetuning.json"
    }


@pytest.mark.parametrize("task", PROGRAMS)
def test_interrupted_and_resumed_it_leaves_the_same_files(base, capsys, monkeypatch, task):
    flags = ["--base", base, *PROGRAMS[task]]
    whole = interrupt_at(monkeypatch, 0)
    assert start(task, *flags, "--out", "whole") == 0
    said = capsys.readouterr().out
    for number, more in ((4, flags), (len(whole) - 5, ["--resume"])):
        interrupt_at(monkeypatch, number)
        assert start(task, *more, "--out", "cut") == 130
        shown = capsys.readouterr().err
        assert "Stopped by Ctrl-C. Saved in cut/checkpoints: " in shown
        assert f"finetune {task} --out cut --resume" in shown
    again = interrupt_at(monkeypatch, 0)
    assert start(task, "--out", "cut", "--resume") == 0
    assert len(again) < len(whole), "nothing is done twice"
    assert files("cut") == files("whole")
    assert capsys.readouterr().out.splitlines()[-1] == said.splitlines()[-1].replace("whole", "cut")
    assert not Path("cut/checkpoints").exists()
    assert start(task, "--out", "cut", "--resume") == 0
    assert "this fine-tuning is finished" in capsys.readouterr().out
    assert files("cut") == files("whole")


def test_what_is_there_is_not_replaced_unasked(base, capsys, monkeypatch):
    flags = ["--base", base, *PREFERENCES, "--out", "tuned"]
    interrupt_at(monkeypatch, 3)
    assert start("preferences", *flags) == 130
    capsys.readouterr()
    cases = {
        "holds a run already: checkpoints of both-answers (step 3)": [],
        "cannot change within a run (epochs: 1 -> 2)": ["--resume", "--epochs", "2"],
        "exclude each other": ["--resume", "--overwrite"],
        "lies in --out": ["--overwrite", "--base", "tuned/inner"],
    }
    Path("tuned/inner").symlink_to(Path("base/best").absolute())
    before = files("tuned")
    for sentence, more in cases.items():
        assert start("preferences", *flags, *more) == 2
        assert sentence in capsys.readouterr().err
        assert files("tuned") == before
    interrupt_at(monkeypatch, 0)
    assert start("preferences", *flags, "--overwrite", "--yes") == 0
    assert "--overwrite deletes the run there" in capsys.readouterr().out
    assert start("preferences", *flags) == 2
    assert "holds a run already: config.json" in capsys.readouterr().err


def test_a_failed_start_leaves_no_folder(base, capsys):
    assert start("preferences") == 2
    assert "tinygrad-llm finetune instructions" in capsys.readouterr().err
    assert start("spam", "--data", "none.tsv", "--base", base) == 2
    assert start("instructions", "--base", "nowhere") == 2
    assert start("instructions", "--base", base, "--too-long", "error", "--seed", "-1") == 2
    assert not Path("runs").exists()


def test_an_error_before_the_first_checkpoint_leaves_no_folder(base, monkeypatch):
    def fail(bar, trainer):
        raise NumericsError("as if the weights were NaN")

    monkeypatch.setattr(TuningBar, "on_start", fail)
    for task, flags in PROGRAMS.items():
        assert start(task, "--base", base, *flags) == 2
    assert not Path("runs").exists()


def test_data_that_have_changed_are_refused(base, capsys, monkeypatch):
    rows = "".join(f"{'spam' if i % 3 else 'ham'},message number {i}\n" for i in range(60))
    Path("set.csv").write_text("label,text\n" + rows, encoding="utf-8")
    interrupt_at(monkeypatch, 2)
    assert start("spam", "--base", base, *SPAM, "--data", "set.csv") == 130
    Path("set.csv").write_text("label,text\n" + rows.replace("number", "No."), encoding="utf-8")
    assert start("spam", "--resume") == 2
    assert "the data set is not the one this run began with" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_a_second_process_is_refused(base, capsys):
    hold = (
        "import sys; from tinygrad_llm.training.run.folder import RunFolder as R; r = R('runs/x')"
    )
    code = f"{hold}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        assert start("spam", "--base", base, "--out", "runs/x") == 2
        assert "another process is training there" in capsys.readouterr().err
        other.communicate("")


def test_a_training_run_is_never_taken_for_a_fine_tuning(base, capsys):
    Path("runs/t/checkpoints/step-00000003").mkdir(parents=True)
    assert start("spam", "--base", base, "--out", "runs/t", "--overwrite", "--yes") == 2
    assert "holds a training run" in capsys.readouterr().err
    assert Path("runs/t/checkpoints/step-00000003").is_dir()


_FORMAT = {"format": tuning_folder.FORMAT, "version": tuning_folder.VERSION}
_WHOLE = {**_FORMAT, "settings": {}, "data": "", "versions": {}, "finished": False}


@pytest.mark.parametrize(
    "content",
    ["{", json.dumps({"format": "another"}), "[]", json.dumps(_FORMAT)]
    + [json.dumps({**_WHOLE, name: 7}) for name in ("settings", "data", "versions", "finished")],
)
def test_a_damaged_description_is_refused(base, capsys, content):
    Path("runs/spam").mkdir(parents=True)
    Path("runs/spam/finetuning.json").write_text(content, encoding="utf-8")
    assert start("spam", "--base", base, "--resume") == 2
    assert "is damaged" in capsys.readouterr().err


def test_what_no_fine_tuning_has_left_is_not_replaced(base, capsys):
    Path("theirs").mkdir()
    Path("theirs/config.json").write_text("{}", encoding="utf-8")
    for flags in ([], ["--overwrite", "--yes"]):
        assert start("preferences", "--base", base, *PREFERENCES, "--out", "theirs", *flags) == 2
        assert "holds config.json, which no fine-tuning of this program" in capsys.readouterr().err
    assert [path.name for path in Path("theirs").iterdir()] == ["config.json"]


def test_a_start_that_fails_leaves_the_finished_one_as_it_was(base, monkeypatch):
    flags = ["--base", base, *PREFERENCES, "--out", "tuned"]
    assert start("preferences", *flags) == 0
    before = {path: path.read_bytes() for path in Path("tuned").rglob("*") if path.is_file()}

    def fail(seed):
        raise NumericsError("as if the data were not there")

    module = importlib.import_module("tinygrad_llm.commands.finetune.preferences")
    monkeypatch.setattr(module, "polite_preferences", fail)
    assert start("preferences", *flags, "--overwrite", "--yes") == 2
    assert before == {p: p.read_bytes() for p in Path("tuned").rglob("*") if p.is_file()}


def test_stages_half_removed_are_removed_by_the_next_call(base):
    """Killed while a finished fine-tuning removed its checkpoints."""
    flags = ["--base", base, *PREFERENCES, "--out", "tuned"]
    assert start("preferences", *flags) == 0
    Path("tuned/checkpoints/both-answers/checkpoints/step-00000003").mkdir(parents=True)
    assert start("preferences", "--out", "tuned", "--resume") == 0
    assert not Path("tuned/checkpoints").exists()
