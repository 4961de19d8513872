"""``--dtype`` of the commands that open a model: one flag, and on a CPU one meaning of bfloat16."""

import importlib
import json
from pathlib import Path

import pytest

import tinygrad_llm as tg
from tinygrad_llm.backend import precision
from tinygrad_llm.data.templates import CHAT
from tinygrad_llm.finetuning.conversation import load_assistant, save_assistant

COMMANDS = ("generate", "chat", "few_shot")
TASKS = ("spam", "instructions", "preferences")


@pytest.fixture
def here(gpt, tokenizer, tmp_path, monkeypatch):
    """An empty working directory with a tiny assistant in it."""
    monkeypatch.chdir(tmp_path)
    save_assistant("runs/assistant", gpt, tokenizer, CHAT)
    return "runs/assistant"


def module(name):
    inner = f"finetune.{name}" if name in TASKS else name
    return importlib.import_module(f"tinygrad_llm.commands.{inner}")


@pytest.mark.parametrize("name", [*COMMANDS, *TASKS])
def test_every_command_takes_the_types_of_train(name):
    words = ["model"] if name == "few_shot" else []
    parser = module(name).build_parser()
    assert parser.parse(words).dtype is None
    for dtype in precision.RUN_TYPES:
        assert parser.parse([*words, "--torch-dtype", dtype]).dtype == dtype


@pytest.mark.parametrize(("name", "inner"), [("generate", "write"), ("chat", "talk")])
@pytest.mark.parametrize(
    ("flags", "weights", "products"),
    [
        (["--dtype", "bfloat16"], "float32", "medium"),
        (["--dtype", "float64"], "float64", "highest"),
        ([], "float32", "highest"),
    ],
)
def test_what_a_command_computes_in(here, monkeypatch, name, inner, flags, weights, products):
    seen = []

    def look(model, *_):
        model = getattr(model, "model", model)
        kinds = {p.data.dtype.name for p in model.parameters()}
        seen.append((kinds, tg.get_float32_matmul_precision()))

    command = module(name)
    monkeypatch.setattr(command, inner, look)
    assert command.main([here, *flags]) == 0
    assert seen == [({weights}, products)]
    assert tg.get_float32_matmul_precision() == "highest"


def test_without_the_packages_it_is_said_and_the_text_is_float32s(here, capsys, packages_missing):
    words = [here, "--tokens", "8", "--temperature", "0"]
    assert module("generate").main([*words, "--dtype", "bfloat16"]) == 0
    mixed = capsys.readouterr()
    assert mixed.err.startswith("bfloat16 has no effect on this CPU. ")
    assert mixed.err.count("needs the packages numkong and ml_dtypes") == 1
    assert module("generate").main(words) == 0
    plain = capsys.readouterr()
    assert (mixed.out, "bfloat16" in plain.err) == (plain.out, False)


def test_a_tuning_without_the_packages_says_it_once(here, capsys, recwarn, packages_missing):
    words = ["--base", here, "--sets", "balanced", "--trainable", "head", "--epochs", "1"]
    assert module("spam").main([*words, "--dtype", "bfloat16"]) == 0
    assert capsys.readouterr().out.count("bfloat16 has no effect on this CPU.") == 1
    assert not [w for w in recwarn if "precision" in str(w.message)]
    begun = json.loads(Path("runs/spam/finetuning.json").read_text(encoding="utf-8"))
    assert begun["settings"]["dtype"] == "bfloat16"
    assert module("spam").main(["--resume", "--dtype", "float32"]) == 0
    said = capsys.readouterr().out
    assert "changed: dtype: 'bfloat16' -> 'float32' (the weights will differ" in said


def test_a_model_is_opened_in_the_wanted_type(here):
    for dtype, kind in (("float64", "float64"), ("bfloat16", "float32"), (None, "float32")):
        model = load_assistant(here, dtype=dtype).model
        assert {p.data.dtype.name for p in model.parameters()} == {kind}
