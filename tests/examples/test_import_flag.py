"""`--import`: a model of one's own is trained, resumed, opened; a folder alone runs nothing."""

import json
import sys

import pytest

from tinygrad_llm import hints, nn
from tinygrad_llm.__main__ import main
from tinygrad_llm.commands.own_code import import_own
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn import registry

MODULE = """
from dataclasses import dataclass

import tinygrad_llm as tg
from tinygrad_llm import nn


@dataclass(frozen=True)
class OwnConfig:
    vocab_size: int
    context_length: int
    n_embd: int = 8


@nn.register_model("own-words", OwnConfig)
class OwnWords(nn.Module):
    def __init__(self, config):
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.n_embd)
        self.out = nn.Linear(config.n_embd, config.vocab_size)

    def forward(self, ids):
        return self.out(self.table(ids))


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2


@nn.register_model("own-gpt")
class OwnGPT(nn.GPT):
    def __init__(self, config):
        super().__init__(config)
        for block in self.blocks:
            block.norm1 = Doubled()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the user's with a module and a text; all is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    monkeypatch.setattr(hints, "_ALWAYS", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_parts_of_mine.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 60, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("own_parts_of_mine", None)


IMPORT = ["--import", "own_parts_of_mine.py"]
SMALL = ["--data", "text.txt", "--tokenizer", "char", "--n-layer", "1", "--n-head", "2"]
SMALL += ["--n-embd", "8", "--context-length", "8", "--batch-size", "2", "--sample-tokens", "5"]
SMALL += ["--eval-tokens", "64", "--no-plot", "--no-progress", "--out", "runs/a"]


@pytest.mark.parametrize("name", ["own-words", "own-gpt"])
def test_it_is_trained_resumed_and_writes(name, folder, capsys):
    words = ["train", *IMPORT, *SMALL, "--model", name]
    assert main([*words, "--steps", "4", "--sample-every", "2"]) == 0
    out = capsys.readouterr().out
    assert "the model at step 2 writes" in out
    assert "--import own_parts_of_mine.py" in out  # of the command to type next
    body = json.loads((folder / "runs/a/last/model.json").read_text(encoding="utf-8"))
    assert (body["model"], body["config"]["n_embd"]) == (name, 8)
    assert main([*words, "--steps", "6", "--resume"]) == 0
    assert "after step 4" in capsys.readouterr().out
    assert main(["generate", "runs/a", *IMPORT, "--tokens", "5", "--prompt", "the"]) == 0
    assert capsys.readouterr().out.startswith("the")
    assert main(["generate", "runs/a", *IMPORT, "--beams", "2", "--tokens", "4"]) == 0
    assert main(["generate", "runs/a", *IMPORT, "--perplexity", "--prompt", "the cat"]) == 0
    start = ["train", *IMPORT, *SMALL[:4], "--init-from", "runs/a", "--out", "runs/b", "--steps"]
    assert main([*start, "1", "--context-length", "8", "--no-plot", "--no-progress"]) == 0


def test_without_the_import_nothing_is_run_and_the_hint_says_what_to_type(folder, capsys):
    assert main(["train", *IMPORT, *SMALL, "--model", "own-words", "--steps", "1"]) == 0
    del registry._KINDS["own-words"], sys.modules["own_parts_of_mine"]
    assert main(["generate", "runs/a"]) == 2
    said = capsys.readouterr().err
    assert "saved from own_parts_of_mine.OwnWords" in said
    assert "--import" in said
    assert "own_parts_of_mine" not in sys.modules
    assert main(["train", *SMALL, "--model", "own-words", "--out", "runs/c"]) == 2
    assert "no model 'own-words' is registered here" in capsys.readouterr().err
    assert not (folder / "runs" / "c").exists()


def test_a_module_is_found_by_its_name_too(folder):
    assert import_own("own_parts_of_mine") is import_own("own_parts_of_mine.py")
    assert nn.Module in registry.kind_named("own-words").model.__mro__
    assert import_own("json") is json


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"there is no file broken_mine\.py and no module"),
        ("import no_such_thing_at_all", r"No module named 'no_such_thing.* line 1"),
        ("x = 1\n1 / 0", r"ZeroDivisionError: division by zero \(.*broken_mine.py, line 2\)"),
        ("def f(:", r"SyntaxError.*line 1"),
    ],
)
def test_what_cannot_be_imported_is_said_with_its_place(content, says, folder):
    if content is not None:
        (folder / "broken_mine.py").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        import_own("broken_mine.py")
    (folder / "json.py").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="the name of another module"):
        import_own("json.py")
