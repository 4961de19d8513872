"""What a run shows: TensorBoard, histograms, pictures, the learning-rate search, the commands."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_llm import __main__ as commands
from tinygrad_llm import hints
from tinygrad_llm.commands import env as cli_env
from tinygrad_llm.errors import ConfigError, DataError, MissingDependencyError
from tinygrad_llm.training.lr_finder import draw_search, find_learning_rate
from tinygrad_llm.training.report.histograms import Histograms, draw_histograms
from tinygrad_llm.training.report.log import LineLog, read_log
from tinygrad_llm.training.report.memory import peak_bytes, readable, resident_bytes
from tinygrad_llm.training.report.plot import curve, draw_loss, draw_runs
from tinygrad_llm.training.report.progress_bar import ProgressBar
from tinygrad_llm.training.report.tensorboard import TensorBoard
from tinygrad_llm.training.report.timed_lines import readable_time


def is_picture(path, least=8000):
    content = path.read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > least


# ---- the log ---------------------------------------------------------------------------------


def test_log_cuts_later_and_torn_lines(tmp_path):
    log = LineLog(tmp_path / "log.jsonl")
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 0.1 + step})
    log.close()
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 1, "lo')
    assert [r["step"] for r in read_log(tmp_path / "log.jsonl")] == [1, 2, 3]
    log.cut_after(2)
    log.write({"step": 3, "loss": 0.1 + 0.2})
    log.close()
    records = read_log(tmp_path / "log.jsonl")
    assert [r["step"] for r in records] == [1, 2, 3]
    assert records[-1]["loss"] == 0.1 + 0.2


def test_numbers_that_are_not_finite_are_null_and_a_gap_in_the_curve(tmp_path):
    log = LineLog(tmp_path / "log.jsonl")
    log.write({"step": 1, "loss": math.nan, "norms": [1.5, -math.inf], "by": {"a": math.inf}})
    log.close()
    line = (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    assert json.loads(line, parse_constant=pytest.fail) == {
        "step": 1,
        "loss": None,
        "norms": [1.5, None],
        "by": {"a": None},
    }
    steps, losses = curve(read_log(tmp_path / "log.jsonl"), "loss")
    assert steps == [1]
    assert np.isnan(losses).tolist() == [True]


def test_log_that_is_damaged_or_missing(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_log(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_text('{"step": 1}\nnonsense\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2: is no JSON"):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_log_on_a_full_disk_says_how_to_go_on():
    log = LineLog(Path("/dev/full"))
    with pytest.raises(DataError, match=r"No space left on device.*go on with --resume"):
        log.write({"step": 1})


@pytest.mark.parametrize("line", ["[]", "1", '{"loss": 2.0}', '{"step": "x"}', "[" * 9999])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(f'{{"step": 1}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2: "):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_the_log_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(DataError, match="not a file"):
        read_log(tmp_path / "log.jsonl")
    with pytest.raises(DataError, match="is no file"):
        LineLog(tmp_path / "log.jsonl").cut_after(3)


# ---- TensorBoard -----------------------------------------------------------------------------


def test_tensorboard_reads_back_what_the_log_says(runs):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = runs.folder / "run"
    board = TensorBoard(folder)
    runs.fit(callbacks=[board, Histograms(folder, 5, board)])
    events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "histograms": 0})
    events.Reload()
    logged = [r for r in read_log(folder / "log.jsonl") if "loss" in r]
    for field in ("loss", "learning_rate", "gradient_norm"):
        shown = {e.step: e.value for e in events.Scalars(f"train/{field}")}
        assert shown == {r["step"]: np.float32(r[field]) for r in logged}
    shown = [e.step for e in events.Scalars("validation/validation_loss")]
    assert shown == [0, 5, 10, 15, 20]
    assert events.Scalars("machine/tokens_per_second")[0].value > 0
    weights = events.Histograms("gradients/blocks.0.attention.qkv.weight")
    assert [h.step for h in weights] == [5, 10, 15, 20]
    assert sum(weights[0].histogram_value.bucket) == 16 * 48


def test_tensorboard_of_a_resumed_run_has_no_step_twice(runs):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = runs.folder / "run"
    runs.fit(callbacks=[TensorBoard(folder)])
    last = folder / "checkpoints" / "step-00000020" / "model.safetensors"
    last.write_bytes(b"")
    runs.fit(resume=True, callbacks=[TensorBoard(folder)])
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    steps = [e.step for e in events.Scalars("train/loss")]
    assert steps == list(range(2, 21, 2))


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(MissingDependencyError, match=re.escape(hints.install("tensorboard"))):
        TensorBoard(tmp_path)


# ---- pictures --------------------------------------------------------------------------------


def test_histograms_count_every_element_and_change_no_bit(runs, weights_of):
    plain = runs.fit("plain")
    folder = runs.folder / "run"
    watched = runs.fit(callbacks=[Histograms(folder, 5)])
    assert weights_of(plain) == weights_of(watched)
    records = read_log(folder / "histograms.jsonl")
    assert [r["step"] for r in records] == [5, 10, 15, 20]
    assert sum(records[0]["activations"]["block 0"]["counts"]) == 4 * 16 * 16
    names = {n for n, p in watched.model.named_parameters() if p.ndim >= 2}
    assert set(records[0]["gradients"]) == names
    assert not watched.model.blocks[0]._forward_hooks


def test_pictures(runs):
    pytest.importorskip("matplotlib")
    folder = runs.folder / "run"
    runs.fit(callbacks=[Histograms(folder, 5)])
    runs.fit("other", learning_rate=1e-3)
    assert is_picture(draw_loss(folder, runs.folder / "loss.png", {"bigram entropy": 2.5}))
    both = [folder, runs.folder / "other"]
    assert is_picture(draw_runs(both, runs.folder / "runs.png"), 20_000)
    assert is_picture(draw_histograms(folder, runs.folder / "h.png"), 20_000)
    out = runs.folder / "by-command.png"
    assert commands.main(["plot", *map(str, both), "--out", str(out)]) == 0
    assert is_picture(out, 20_000)
    assert is_picture(runs.folder / "by-command-histograms1.png", 20_000)
    assert not (folder / "histograms.png").exists()
    assert commands.main(["plot", str(folder), "--out", str(out)]) == 0
    assert is_picture(runs.folder / "by-command-histograms.png", 20_000)
    assert commands.main(["plot", str(folder)]) == 0
    assert is_picture(folder / "histograms.png", 20_000)


def test_picture_of_nothing(runs, capsys):
    assert commands.main(["plot", str(runs.folder / "nowhere")]) == 2
    assert "no log of a training run there" in capsys.readouterr().err


def test_picture_cannot_be_written(runs):
    pytest.importorskip("matplotlib")
    runs.fit(steps=5)
    with pytest.raises(DataError, match="the picture cannot be written"):
        draw_loss(runs.folder / "run", runs.folder / "no" / "folder.png")


# ---- the learning-rate search ----------------------------------------------------------------


def test_search_finds_a_rate_and_leaves_everything_as_it_was(runs, weights_of):
    trainer = runs.trainer("search")
    before = weights_of(trainer)
    found = find_learning_rate(trainer, 1e-5, 30.0, 80)
    assert 1e-4 < found.suggestion < 1.0
    assert found.suggestion < (found.exploded_at or 30.0)
    assert weights_of(trainer) == before
    trainer.fit()
    runs.close()
    untouched = runs.fit("untouched")
    assert weights_of(trainer) == weights_of(untouched)
    if "matplotlib" in sys.modules:
        assert is_picture(draw_search(found, runs.folder / "lr.png"))


def test_search_refuses_nonsense(runs):
    with pytest.raises(ConfigError, match="low=1, high=0.1"):
        find_learning_rate(runs.trainer(), 1, 0.1)


def test_a_search_in_float16_lets_the_scale_settle(runs):
    trainer = runs.trainer(dtype="float16")
    trainer.precision.loss_scale.value = 2.0**22  # overflows in the first steps
    with np.errstate(over="ignore", invalid="ignore"):
        found = find_learning_rate(trainer, 1e-5, 1e-3, 20)
    assert len(found.rates) == 20
    assert trainer.precision.scale == 2.0**22, "all is as it was"


# ---- commands and small things ---------------------------------------------------------------


def test_env_reports_what_a_bug_report_needs(capsys, monkeypatch):
    find = cli_env.importlib.util.find_spec
    monkeypatch.setattr(
        cli_env.importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )
    monkeypatch.setenv("TINYGRAD_LLM_MATRIX_UNITS", "off")
    assert commands.main(["env"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "python",
        "numpy",
        "cores",
        "threads",
        "Triton",
        "CuPy",
        "downloads",
        "MATRIX_UNITS",
    ):
        assert word in shown
    assert "products of bfloat16" in shown
    assert "bfloat16 instructions" in shown
    assert "none. TINYGRAD_LLM_MATRIX_UNITS is off, so" in shown
    assert f"missing torch: {hints.install('bench')}" in shown
    assert commands.main(["env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"]["bfloat16"]


def test_tokenize_then_train_on_the_shards(page, tmp_path, capsys, runs):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(3):
        content = page.read_text(encoding="utf-8")
        (texts / f"{number}.txt").write_text(content, encoding="utf-8")
    out = tmp_path / "shards"
    argv = ["tokenize", str(texts), "--out", str(out), "--workers", "1", "--vocab-size", "300"]
    assert commands.main(argv) == 0
    assert "3 documents" in capsys.readouterr().out
    assert commands.main(argv) == 0
    assert "(there already: 1)" in capsys.readouterr().out
    runs.text = out
    trainer = runs.fit(tokenizer="bpe")
    assert trainer.model.config.vocab_size == 300
    assert trainer.result.evaluation["loss"] < 5.5
    runs.fit("again", tokenizer="bpe", steps=10, seed=5)
    again = runs.fit("again", resume=True, steps=20)
    assert again.step == 20


def test_progress_lines_without_a_terminal(runs, capsys):
    runs.fit(callbacks=[ProgressBar({"bigram entropy": 2.5})])
    shown = capsys.readouterr().out
    assert "bigram entropy 2.500" in shown
    assert "(best so far)" in shown
    assert "tokens/s" in shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_readable_time(seconds, text):
    assert readable_time(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(12, "12 B"), (1234, "1 kB"), (312e6, "312 MB"), (1.44e9, "1.4 GB")]
)
def test_readable_bytes(n, text):
    assert readable(n) == text


def test_memory_is_measured():
    assert 10e6 < resident_bytes() <= 1.1 * peak_bytes()
