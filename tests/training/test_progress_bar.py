"""The progress bar on terminals of any width, and the lines that take its place elsewhere."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from types import SimpleNamespace

import pytest

from tinygrad_llm.training.report import timed_lines
from tinygrad_llm.training.report.bar import clock, fitted, texts_of
from tinygrad_llm.training.report.progress_bar import ProgressBar

FIGURES = ["10,234 tokens/s", "1.2 GB", "MFU 31.0%"]


@pytest.mark.parametrize("left", [0, 48, 3599, 86399, 90000 * 24])
@pytest.mark.parametrize("loss", [0.04, 3.2145, 11.5])
def test_no_word_is_cut_at_any_width(left, loss):
    texts = texts_of("120/100000", left, loss, FIGURES)
    for room in range(4, 200):
        line = fitted(room, texts, lambda width: "=" * width)
        assert len(line) <= room
        text = line.rpartition("|")[2].strip()
        assert text in texts
        if room >= 19:
            assert line.startswith("|==")
            assert clock(left) in line
            assert f"{loss:.1f}"[:2] in text.removeprefix(clock(left))
        if room >= 39:
            assert f"loss {loss:.3f}" in line
    assert fitted(100, texts, lambda width: "=" * width).endswith("MFU 31.0%")


def test_what_matters_least_is_left_out_first():
    texts = texts_of("120/1000", 200, 3.2145, FIGURES)
    line = fitted(75, texts, lambda width: "=" * width)
    assert line.endswith("| 3:20 left  loss 3.215  120/1000  10,234 tokens/s  1.2 GB")
    assert fitted(39, texts, lambda width: "=" * width).endswith("=| 3:20 left  loss 3.215")


@pytest.mark.parametrize(
    ("seconds", "text"), [(8, "0:08"), (200, "3:20"), (7500, "2h05"), (100 * 3600, "4d04")]
)
def test_a_clock_is_short(seconds, text):
    assert clock(seconds) == text


class Run:
    """A trainer's events, by hand."""

    def __init__(self, bar, steps=40):
        self.bar, self.step, self.evaluate = bar, 0, object()
        self.settings = SimpleNamespace(steps=steps, eval_every=20)
        self.progress = SimpleNamespace(best_step=0)

    def start(self):
        self.bar.on_start(self)
        self.validated()

    def validated(self):
        record = {"step": self.step, "validation_loss": 5.0, "validation_perplexity": 148.4}
        self.bar.on_evaluation(self, record)

    def go(self, steps, every=10):
        for _ in range(steps):
            self.step += 1
            self.bar.on_step(self, SimpleNamespace(loss=4.0))
            if self.step % every == 0:
                record = {"loss": 3.5, "step": self.step}
                self.bar.on_log(self, record, {"tokens_per_second": 1e4, "memory_bytes": 1e9})
            if self.step % 20 == 0:
                self.validated()

    def end(self):
        self.bar.on_end(self, None)


@pytest.fixture
def terminal(monkeypatch):
    """Makes stdout and stderr a terminal of some columns; returns what ends and reads it."""
    master, slave = pty.openpty()
    stream = os.fdopen(slave, "w", encoding="utf-8")
    monkeypatch.setenv("TERM", "xterm")
    shown = []

    def drain():  # while the test runs: a terminal that nobody reads is soon full
        try:
            while piece := os.read(master, 1 << 16):
                shown.append(piece)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=drain, daemon=True)

    def of(columns):
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        reader.start()

        def read():
            monkeypatch.undo()
            stream.close()
            reader.join(20)
            os.close(master)
            return b"".join(shown).decode("utf-8")

        return read

    return of


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_on_a_terminal_no_line_is_longer_than_it(terminal, columns):
    read = terminal(columns)
    run = Run(ProgressBar())
    run.start()
    run.go(25)
    run.bar.print("a text that the model wrote, of several words, more than fit")
    run.go(15)
    run.end()
    shown = read()
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", shown)]
    assert max(map(len, lines)) <= columns
    drawn = [line for line in lines if line.startswith("|")]
    assert any("loss 3.5" in line and "0:00" in line for line in drawn)
    words = " ".join(lines)
    assert "a text that the model wrote, of several words, more than fit" in words
    assert re.search(r"\r +\r$", shown), "the bar is taken away"


def test_a_second_bar_has_a_line_of_its_own(terminal):
    read = terminal(60)
    first, second = Run(ProgressBar()), Run(ProgressBar())
    for run in (first, second):
        run.start()
        run.go(10)
    second.end()
    first.go(30)
    first.end()
    assert "|" in read()


@pytest.mark.parametrize(("columns", "term"), [(0, "xterm"), (80, "dumb")])
def test_a_terminal_that_cannot_redraw_gets_lines(terminal, monkeypatch, columns, term):
    read = terminal(columns)
    monkeypatch.setenv("TERM", term)
    run = Run(ProgressBar())
    run.start()
    run.go(20)
    run.end()
    shown = read()
    assert "step 10/40  loss 3.500  10,000 tokens/s  1.0 GB  0 s left\r\n" in shown
    assert "|" not in shown


class Clock:
    """Stands for the time module."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    time = Clock()
    monkeypatch.setattr(timed_lines, "time", time)
    monkeypatch.setattr("tinygrad_llm.training.report.progress_bar.time", time)
    return time


def test_lines_come_by_the_clock(time, capsys):
    run = Run(ProgressBar(seconds_between=10), steps=10_000)
    run.bar.on_start(run)
    time.now += 60
    run.validated()
    for _ in range(19):  # 4 seconds each, and no record of the log for a long time
        time.now += 4
        run.go(1, every=1000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 0: validating"
    assert [line.split()[1] for line in lines[2:]] == ["3/10000", "6/10000", "9/10000"] + [
        f"{n}/10000" for n in (12, 15, 18)
    ]
    assert lines[2].endswith("11 h 06 min left"), "the validation before is no step's time"


def test_a_validation_that_was_short_is_not_announced_again(time, capsys):
    run = Run(ProgressBar())
    run.bar.on_start(run)
    time.now += 2
    run.validated()
    run.go(40)
    assert capsys.readouterr().out.count("validating") == 1


def test_without_progress_validations_alone_are_shown(capsys):
    run = Run(ProgressBar(enabled=False))
    run.start()
    run.go(40)
    run.end()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("validation loss 5.0000" in line for line in lines)
