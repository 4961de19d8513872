"""What a run leaves in its folder: nothing where nothing came of it, and nothing is lost."""

from __future__ import annotations

import pytest

from tinygrad_llm.errors import ConfigError, TinygradLLMError
from tinygrad_llm.training.run.assemble import make_trainer
from tinygrad_llm.training.run.folder import RunFolder
from tinygrad_llm.training.run.session import open_session


def test_a_start_that_fails_leaves_no_folder(tmp_path):
    run = RunFolder(tmp_path / "runs" / "deep" / "new")
    run.begin("[model]\n")
    (run.path / "log.jsonl").write_text('{"step": 0, "validation_loss": 4.0}\n', encoding="utf-8")
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_what_stood_in_the_folder_stays(tmp_path):
    for name in ("notes.txt", "config.toml"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    RunFolder(tmp_path).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml", "notes.txt"]
    assert (tmp_path / "config.toml").read_text(encoding="utf-8") == "config.toml"


@pytest.mark.parametrize("worth", ["log.jsonl", "checkpoints/step-00000003/x", "picture.png"])
def test_a_folder_that_holds_something_of_worth_stays_whole(tmp_path, worth):
    run = RunFolder(tmp_path / "run")
    run.begin("[model]\n")
    (run.path / worth).parent.mkdir(exist_ok=True)
    (run.path / worth).write_text('{"step": 3, "loss": 2.0}\n', encoding="utf-8")
    run.close()
    assert (run.path / worth).is_file()
    assert (run.path / "config.toml").is_file()


@pytest.mark.parametrize(
    "changes",
    [
        {"data": ["no/such/text"]},
        {"tokenizer": "wrods"},
        {"init_from": "nowhere"},
        {"device": "cuda:99"},
        {"context_length": 3000},
        {"n_head": 3},
    ],
)
def test_settings_that_fail_do_not_cost_the_run_that_they_would_replace(runs, changes):
    runs.fit(steps=5)
    before = contents(runs.folder)
    with pytest.raises(TinygradLLMError):
        replace(runs, **changes)
    assert contents(runs.folder) == before


def test_the_run_is_replaced_when_the_new_one_begins(runs):
    runs.fit(steps=5)
    replace(runs, seed=2)
    assert "what was learned up to step 5 (best validation loss" in runs.said[-1]
    assert contents(runs.folder) == {}


def test_a_refusal_keeps_the_run(runs):
    runs.fit(steps=5)
    before = contents(runs.folder)

    def refuse(sentence):
        raise ConfigError(sentence)

    with pytest.raises(ConfigError, match="--overwrite deletes the run there"):
        open_session(runs.settings(), False, True, runs.said.append, refuse)
    assert contents(runs.folder) == before


def replace(runs, **changes):
    """Begin another run in the place of the one that is there."""
    with open_session(runs.settings(**changes), False, True, runs.said.append) as session:
        text = session.load_text()
        make_trainer(session.config, text, session.load_model(text), session.run)


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
