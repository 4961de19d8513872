"""What ends a run early leaves a checkpoint that is good, and says so in a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygrad_llm.commands.program import in_one_sentence
from tinygrad_llm.errors import ConfigError, NumericsError, OutputError
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.run.room import require_room
from tinygrad_llm.training.run.versions import changed_versions, versions
from tinygrad_llm.training.settings.config import TrainConfig
from tinygrad_llm.training.stopping import CLOSED_OUTPUT, EXIT_CODES, FULL_OUTPUT, StopSignals

TRAIN = [sys.executable, "-m", "tinygrad_llm", "train", "--preset", "tiny", "--no-plot"]


class At(Callback):
    """Does something in one step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_step(self, trainer, report):
        if report.step == self.step:
            self.what(trainer)


# ---- signals ---------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="not on Windows")
def test_a_closed_terminal_saves_like_sigterm(runs, weights_of):
    whole = runs.fit("whole")
    hang_up = At(7, lambda trainer: signal.raise_signal(signal.SIGHUP))
    stopped = runs.fit("cut", callbacks=[hang_up])
    assert (stopped.result.stopped_by, stopped.step) == ("SIGHUP", 7)
    assert (runs.folder / "cut/last").resolve().name == "step-00000007"
    assert weights_of(runs.fit("cut", resume=True)) == weights_of(whole)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="not on Windows")
def test_what_the_process_ignores_stays_ignored():
    """As below nohup, or in the background of a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
        assert signals.reason is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- the output ------------------------------------------------------------------------------


def test_a_closed_output_ends_the_run_after_its_step(runs, weights_of):
    whole = runs.fit("whole")

    def nobody_reads(trainer):
        raise BrokenPipeError(32, "Broken pipe")

    stopped = runs.fit("cut", callbacks=[At(7, nobody_reads)])
    assert (stopped.result.stopped_by, stopped.step) == (CLOSED_OUTPUT, 7)
    again = runs.fit("cut", resume=True)
    assert weights_of(again) == weights_of(whole)
    logs = [(runs.folder / name / "log.jsonl").read_bytes() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_full_disk_in_a_callback_is_no_closed_output(runs):
    def full(trainer):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        runs.fit(callbacks=[At(3, full)])


def test_a_full_output_ends_the_run_after_its_step(runs):
    def takes_nothing(trainer):
        raise OutputError("standard output: cannot be written (No space left on device).")

    stopped = runs.fit(callbacks=[At(7, takes_nothing)])
    assert (stopped.result.stopped_by, stopped.step) == (FULL_OUTPUT, 7)


# Trains; as soon as the first argument exists, nothing more can be printed.
FILLS_UP = """
import os, sys, threading, time
from tinygrad_llm.__main__ import main

def fill():
    while not os.path.lexists(sys.argv[1]):
        time.sleep(0.01)
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

threading.Thread(target=fill, daemon=True).start()
sys.exit(main(sys.argv[2:]))
"""
needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@needs_dev_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["explain"], ["train", "--help"]])
def test_a_full_output_is_one_sentence(words, unbuffered):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*TRAIN[:3], *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output: cannot be written (No space left on device)." in done.stderr


@needs_dev_full
def test_an_output_that_fills_up_ends_a_training_with_a_checkpoint(tmp_path):
    out = tmp_path / "run"
    flags = ["--steps", "100000", "--eval-every", "3", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", FILLS_UP, str(out / "last"), *TRAIN[3:], *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "its disk is full. The checkpoint of step" in said
    assert (out / "last/training_state.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
def test_head_ends_a_training_quietly_with_a_checkpoint(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*TRAIN, "--steps", "100000", "--eval-every", "3", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in process.stdout:
        if line.startswith(b"step 0:"):
            break
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == EXIT_CODES[CLOSED_OUTPUT]
    assert said == ""
    assert (out / "last/training_state.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
def test_what_is_flushed_at_the_end_into_a_closed_pipe_is_no_error():
    process = subprocess.Popen(
        [*TRAIN[:3], "explain"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (EXIT_CODES[CLOSED_OUTPUT], b"")


def test_letters_that_the_output_lacks_end_no_training(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("größer → kleiner, " * 400, encoding="utf-8")
    flags = ["--data", str(text), "--steps", "6", "--sample-every", "3", "--prompt", "→"]
    done = subprocess.run(
        [*TRAIN, *flags, "--out", str(tmp_path / "run")],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--- the model at step 3 writes ---\n?" in done.stdout.replace(b"\r\n", b"\n")


# ---- weights that are no numbers -------------------------------------------------------------


@pytest.mark.parametrize("where", ["weights", "optimizer"])
def test_weights_that_are_not_finite_push_out_no_checkpoint(runs, where):
    def spoil(trainer):
        if where == "weights":
            next(trainer.model.parameters()).data[0, 0] = np.inf
        else:
            next(iter(trainer.optimizer.buffers[0].moments.values()))[0] = np.nan

    with pytest.raises(NumericsError, match=f"step 10: {where}: .* is not saved"):
        runs.fit(callbacks=[At(10, spoil)], on_nan="skip", keep=1, eval_every=0)
    runs.close()
    kept = runs.folder / "run/checkpoints"
    assert [path.name for path in kept.iterdir()] == ["step-00000005"]
    assert runs.fit(resume=True).step == 20


# ---- errors of the system, and sizes ---------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "runs/x"), "name: runs/x: No space left on"),
        (MemoryError("Unable to allocate 9 GiB"), "name: not enough memory. Unable to allocate"),
    ],
)
def test_errors_of_the_system_are_a_sentence(error, sentence, capsys):
    def fail():
        raise error

    assert in_one_sentence("name", fail) == 2
    assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_layer": 10**9},
        {"n_embd": 10**7, "n_head": 1},
        {"context_length": 10**13},
        {"accumulate": 10**12},
        {"batch_size": 10**12},
    ],
)
def test_what_no_machine_holds_is_refused_before_anything_is_made(sizes):
    with pytest.raises(ConfigError, match=r"of memory, this machine has .* smaller numbers"):
        require_room(TrainConfig(**sizes))


def test_ordinary_sizes_have_room():
    require_room(TrainConfig())


def test_another_number_of_processes_is_told_when_a_run_goes_on():
    assert changed_versions(versions(), 1) == []
    (said,) = changed_versions(versions(), 2)
    assert said.startswith("processes: 1 -> 2 (")
    (said,) = changed_versions({k: v for k, v in versions().items() if k != "processes"}, 4)
    assert said.startswith("processes: 1 -> 4 (")


def test_names_that_no_file_of_settings_can_hold_are_refused():
    with pytest.raises(ConfigError, match="prompt: expected text that UTF-8 can hold"):
        TrainConfig(prompt="\udcff")


# ---- how Python is started -------------------------------------------------------------------


def test_the_package_works_without_docstrings():
    """``python -OO`` strips them, and the derivations of the ops are docstrings."""
    program = "import tinygrad_llm as tg; x = tg.tensor([3.0]); print(tg.functional.gelu(x).shape)"
    done = subprocess.run(
        [sys.executable, "-OO", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1,)\n", "")


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_during_the_imports_shows_no_traceback(tmp_path):
    """NumPy is replaced by a module that waits, so the signal comes within the imports."""
    sign = tmp_path / "importing"
    waits = f"import pathlib, time\npathlib.Path({str(sign)!r}).touch()\ntime.sleep(60)\n"
    (tmp_path / "numpy.py").write_text(waits, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    process = subprocess.Popen(
        TRAIN[:3] + ["env"], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (-signal.SIGINT, b"")
