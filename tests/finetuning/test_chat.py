"""The chat command: which models it opens, what it says of them, and what it prints."""

import io
import json
import sys
from pathlib import Path

import pytest

from tinygrad_llm.commands import chat
from tinygrad_llm.data.templates import CHAT
from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.finetuning.adapter import load_adapter, save_adapter
from tinygrad_llm.finetuning.conversation import save_assistant
from tinygrad_llm.finetuning.tuning_folder import TuningFolder
from tinygrad_llm.nn import apply_lora


@pytest.fixture
def talk(gpt, tokenizer, tmp_path, monkeypatch, capsys):
    """Says lines to a program started with flags; returns status, what it said, its errors."""
    monkeypatch.chdir(tmp_path)
    save_assistant("runs/assistant", gpt, tokenizer, CHAT)

    def with_lines(lines, *flags):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        status = chat.main([*flags])
        said = capsys.readouterr()
        return status, said.out, said.err

    return with_lines


def test_single_questions_never_fill_the_context(talk):
    questions = [f"What is the plural of number {i}?" for i in range(20)]
    status, said, _ = talk(questions, "--max-new-tokens", "6")
    assert status == 0
    assert said.count("model>") == 20
    assert said.count("Each question stands alone") == 1
    assert "context full" not in said


def test_a_whole_conversation_says_once_that_it_is_full(talk):
    _, said, _ = talk(["call this number"] * 9, "--max-new-tokens", "6", "--history", "9")
    assert "stands alone" not in said
    assert said.count("(context full: from here on the oldest questions are left out)") == 1


def test_the_seed_is_said_and_gives_the_same_answers(talk):
    _, said, _ = talk(["Say hello", "Win"], "--max-new-tokens", "9")
    seed = said.partition("seed ")[2].partition(".")[0]
    again = talk(["Say hello", "Win"], "--max-new-tokens", "9", "--seed", seed)[1]
    assert again == said
    assert talk([], "--seed", "7")[1].count("seed 7.") == 1


def test_without_a_model_it_says_what_to_run_first(talk, gpt, tokenizer):
    status, _, error = talk([], "runs/none")
    assert status == 2
    assert "runs/none: there is no tuned model. Make one: " in error
    assert error.rstrip().endswith("finetune instructions")
    gpt.save_pretrained("runs/mine/best")
    tokenizer.save("runs/mine/best")
    for folder in ("last", "checkpoints"):
        (chat.Path("runs/mine") / folder).mkdir()
    assert "Or talk to an untuned one: " in talk([], "runs/none")[2]


def test_a_run_that_was_never_tuned_says_so(talk, gpt, tokenizer):
    gpt.save_pretrained("runs/mine/best")
    tokenizer.save("runs/mine/best")
    status, said, _ = talk(["Hello"], "runs/mine")
    assert status == 0
    assert said.startswith("(runs/mine was never tuned to answer: it continues the text.")
    assert "finetune instructions --base runs/mine)" in said


def test_commands_are_explained_and_misspelt_ones_answered(talk):
    _, said, _ = talk(["/help", "/rest", "/save", "/temperature hot"])
    for form, what in chat.COMMANDS.items():
        assert f"  {form:<16}{what}\n" in said
    assert "Not understood: '/rest'. Did you mean /reset?" in said
    assert "Write /save FILE." in said
    assert "Write /temperature X." in said


def test_an_adapter_that_does_not_fit_is_named(talk, gpt, tokenizer):
    other = type(gpt)(type(gpt.config)(tokenizer.vocab_size, 64, n_layer=2, n_head=2, n_embd=16))
    apply_lora(other)
    save_adapter(other, "other.safetensors")
    status, _, error = talk([], "--adapter", "other.safetensors")
    assert status == 2
    assert "other.safetensors: the adapter is for another model: " in error
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        load_adapter(gpt, "none.safetensors")


def test_an_older_assistant_has_no_history(talk):
    file = chat.Path("runs/assistant/assistant.json")
    body = json.loads(file.read_text(encoding="utf-8"))
    del body["history"]
    file.write_text(json.dumps(body), encoding="utf-8")
    assert "stands alone" not in talk([])[1]


def test_a_fine_tuning_that_was_stopped_is_finished_first(talk):
    Path("runs/half").mkdir(parents=True)
    with TuningFolder("runs/half", {}, ("assistant.json",)) as folder:
        folder.begin("checksum")
        status, _, error = talk([], "runs/half")
    assert status == 2
    assert "runs/half: its fine-tuning was stopped before it wrote a model." in error
    assert "--resume" in error


def test_an_answer_of_no_tokens_is_refused(talk):
    status, _, error = talk([], "--max-new-tokens", "0")
    assert status == 2
    assert "--max-new-tokens: expected at least 1, got 0" in error
