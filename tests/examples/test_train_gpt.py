"""``tinygrad-llm train`` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinygrad_llm import hints

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "train_gpt.py"


@pytest.fixture(scope="module")
def main():
    from tinygrad_llm.commands import train

    return train.main


def test_tiny_preset_learns_and_writes_everything(main, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "run"
    assert main(["--preset", "tiny", "--steps", "120", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    unigram = float(re.search(r"unigram entropy +([\d.]+)", shown)[1])
    final = float(re.search(r"validation loss {2,}([\d.]+)", shown)[1])
    assert final < unigram, "worse than counting characters"
    assert "--- the model writes ---" in shown
    assert "--- the model at step 100 writes ---" in shown
    assert hints.command("generate", out / "best") in shown
    assert re.search(r"of training, [\d,]+ tokens/s", shown)
    names = {path.name for path in out.iterdir()}
    assert {"best", "last", "loss.png", "log.jsonl", "timing.jsonl", "config.toml"} <= names
    assert (out / "loss.png").stat().st_size > 5000
    lines = [json.loads(x) for x in (out / "log.jsonl").read_text("utf-8").splitlines()]
    assert lines[-1]["validation_loss"] == pytest.approx(final, abs=1e-4)
    assert {"step", "tokens", "loss", "learning_rate", "gradient_norm"} <= set(lines[1])


def test_config_file_that_a_run_wrote_repeats_it(main, tmp_path):
    if sys.version_info < (3, 11):
        pytest.skip("tomllib")
    first, again = tmp_path / "a", tmp_path / "b"
    assert main(["--preset", "tiny", "--steps", "12", "--no-plot", "--out", str(first)]) == 0
    assert main(["--config", str(first / "config.toml"), "--out", str(again)]) == 0
    assert (first / "log.jsonl").read_bytes() == (again / "log.jsonl").read_bytes()


def test_without_matplotlib_it_says_so_and_ends_well(main, tmp_path, capsys, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):  # another test may have imported both
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["--preset", "tiny", "--steps", "4", "--out", str(tmp_path / "r")]) == 0
    assert hints.install("plot") in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_says_how_to_go_on(tmp_path, number):
    out = tmp_path / "run"
    command = [sys.executable, str(SCRIPT), "--preset", "tiny", "--steps", "100000"]
    process = subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    log = out / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.is_file() and log.stat().st_size > 500) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, shown
    reason = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
    step = int(re.search(rf"Stopped by {reason} after (\d+) of 100000 steps", shown)[1])
    assert hints.command("train", "--out", out, "--resume") in shown
    assert (out / "last").resolve().name == f"step-{step:08d}"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--presett", "tiny"], "unknown flag --presett. Did you mean --preset?"),
        (["--data", "no/such/file"], "neither a file, a folder nor a known corpus"),
        (["--data", "{bytes}"], "is not UTF-8"),
        (["--data", "{short}", "--tokenizer", "char"], "Give more text"),
        (["--tokenizer", "nonsense"], "expected bpe, char, word, gpt2 or a folder"),
        (["--out", "/proc/nothing"], "cannot be created or written"),
        (["--init-from", "{short}"], "there is no such folder"),
        (["--device", "cuda:zero"], "device"),
    ],
)
def test_mistakes_are_one_sentence(main, tmp_path, capsys, argv, sentence):
    (tmp_path / "bytes").write_bytes(b"caf\xe9 " * 1000)
    (tmp_path / "short").write_text("too short", encoding="utf-8")
    paths = {name: str(tmp_path / name) for name in ("bytes", "short")}
    argv = [part.format(**paths) for part in argv]
    if "--out" not in argv:
        argv += ["--out", str(tmp_path / "run")]
    assert main(["--steps", "2", *argv]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("tinygrad-llm train: ")
    assert sentence in shown
    assert "Traceback" not in shown


def test_unknown_preset_lists_the_known(main, capsys):
    assert main(["--preset", "gigantic"]) == 2
    shown = capsys.readouterr().err
    assert "124m" in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(main, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main(["--preset", "tiny", "--out", str(tmp_path / "run")]) == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_progress_bar_on_a_terminal(tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
    command = [sys.executable, str(SCRIPT), "--preset", "tiny", "--steps", "20", "--no-plot"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode("utf-8")
    assert re.search(r"20/20 .*loss \d.*tokens/s .*\d+ MB", text)
