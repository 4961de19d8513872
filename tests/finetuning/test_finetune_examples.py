"""The four example programs, at a tiny size, as a user calls them."""

import importlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinygrad_llm.data.templates import CHAT
from tinygrad_llm.finetuning.conversation import save_assistant

EXAMPLES = Path(__file__).parents[2] / "examples"


def program(task):
    return importlib.import_module(f"tinygrad_llm.commands.finetune.{task}").main


@pytest.fixture
def base(_gpt, tokenizer, tmp_path, monkeypatch):
    """A folder with a tiny untrained model, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    _gpt.save_pretrained(tmp_path / "base")
    tokenizer.save(tmp_path / "base")
    return "base"


def test_finetune_spam_reports_both_sets_draws_and_predicts(base, capsys):
    main = program("spam")
    flags = ["--base", base, "--epochs", "1", "--trainable", "head", "lora"]
    assert main(flags) == 0
    said = capsys.readouterr().out
    for kind in ("balanced", "full"):
        assert f"=== {kind} set" in said
        for file in ("confusion.png", "thresholds.png", "training.png", "classifier.json"):
            assert (Path("runs/spam") / kind / file).stat().st_size > 50
    tables = said[said.index("balanced set, 24 test messages (made up") :]
    for row in ("majority", "bag of words", "GPT, head", "GPT, lora", "  threshold"):
        assert tables.count(row) >= 2, row
    assert " wrong:" in said
    assert main(["--predict", "Win a prize", "home " * 200]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Filter: runs/spam/full, spam from a probability of ")
    assert [line.index("p(spam)") for line in lines[1:]] == [6, 6], "in columns"
    assert "only its first 64 tokens" in lines[2]


def test_finetune_spam_reads_other_files_and_names_what_is_wrong(base, capsys, tmp_path):
    main = program("spam")
    file = tmp_path / "set.csv"
    cases = {
        "": "0 messages",
        "label,text\nham,hello\n": "at least two",
        "label,text\nham,hello\nmaybe,hi\n": "unknown",
        "one,two\nham,hello\n": "columns",
    }
    for content, message in cases.items():
        file.write_text(content, encoding="utf-8")
        assert main(["--data", str(file), "--base", base]) == 2
        error = capsys.readouterr().err
        assert error.startswith("tinygrad-llm finetune spam: ")
        assert message in error
    assert main(["--epoch", "3", "--base", base, "--max-lenght", "3"]) == 2
    assert "Did you mean --max-length?" in capsys.readouterr().err
    assert main(["--predict", "x", "--out", "nowhere"]) == 2
    assert "holds no classifier" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [[], ["--trainable", "lora", "--packing"]])
def test_finetune_instructions_shows_scores_before_and_after(base, capsys, extra):
    main = program("instructions")
    flags = ["--base", base, "--epochs", "2", "--max-new-tokens", "8", "--answers", "10"]
    assert main([*flags, *extra]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line[:6].strip()}
    assert float(rows["after"][1]) < float(rows["before"][1]), "the held-out loss falls"
    assert "10. " in said
    assert "knows no facts" in said
    out = Path("runs/assistant")
    body = json.loads((out / "responses.json").read_text(encoding="utf-8"))
    assert len(body["responses"]) == 10
    assert (out / "training.png").stat().st_size > 5000
    assert main(["--score", str(out / "responses.json")]) == 0
    assert "rouge_l=" in capsys.readouterr().out


def test_finetune_preferences_raises_the_margin(base, capsys):
    main = program("preferences")
    assert main(["--base", base, "--first-epochs", "1", "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    margins = [
        float(line.split("margin")[1].split()[0]) for line in said.splitlines() if "margin" in line
    ]
    assert margins[-1] > margins[0]
    assert said.count("    before DPO  ") == said.count("    after DPO   ") == 5
    assert "DPO teaches no more than that" in said
    assert "chat runs/preferences --temperature 0" in said
    assert Path("runs/preferences/model.safetensors").exists()


@pytest.fixture
def assistant(_gpt, tokenizer, tmp_path):
    return str(save_assistant(tmp_path / "assistant", _gpt, tokenizer, CHAT))


def chat_command(folder, *flags):
    return [sys.executable, str(EXAMPLES / "chat.py"), folder, "--max-new-tokens", "6", *flags]


def test_chat_through_a_pipe(assistant, tmp_path):
    lines = [
        "Say hello",
        "/save talk.json",
        "/reset",
        "/system Be kind",
        "/temperature 0",
        "/help",
        "/dance",
        "/save no/such/folder.json",
        "",
        "call " * 200,
        "And now?",
        "/quit",
        "not read",
    ]
    done = subprocess.run(
        chat_command(assistant),
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout
    assert out.count("model>") == 3
    expected = [
        "(written to talk.json)",
        "(forgotten)",
        "'Be kind'",
        "(temperature 0)",
        "Not understood: '/dance'",
        "cannot be written",
        "tokens were not read",
    ]
    assert [said for said in expected if said not in out] == []
    assert "not read\n" not in out.split("/quit")[-1]
    body = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert body["messages"][0] == {"role": "user", "content": "Say hello"}


def test_chat_in_a_terminal(assistant):
    """A pseudo-terminal: the prompt appears, the answer streams, Ctrl-D ends."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        chat_command(assistant), stdin=slave, stdout=slave, stderr=slave, close_fds=True
    ) as process:
        os.close(slave)
        seen = _read_until(master, "you> ")
        os.write(master, b"Say hello\n")
        seen += _read_until(master, "you> ")
        os.write(master, b"/reset\n")
        seen += _read_until(master, "you> ")
        os.write(master, b"\x04")
        assert process.wait(20) == 0
    os.close(master)
    assert "model> " in seen
    assert "(forgotten)" in seen


def _read_until(terminal, text, seconds=60):
    seen, end = "", time.monotonic() + seconds
    while text not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096).decode("utf-8", errors="replace")
    assert text in seen, seen
    return seen


def test_chat_with_no_model_says_so(tmp_path):
    done = subprocess.run(
        chat_command(str(tmp_path / "none")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        input="",
        encoding="utf-8",
    )
    assert done.returncode == 2
    assert done.stderr.startswith("tinygrad-llm chat: ")
