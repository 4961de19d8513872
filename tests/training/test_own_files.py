"""A run touches only what is its own, and brings up to date what it could not finish before."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tinygrad_llm.errors import ConfigError
from tinygrad_llm.training.run import folder as folder_module
from tinygrad_llm.training.run.folder import RunFolder
from tinygrad_llm.training.run.session import open_session
from tinygrad_llm.training.settings.files import read_settings


def snapshot(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- what is not ours ------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("theirs", ["config.toml", "log.jsonl", "best/x", "checkpoints/theirs/x"])
def test_a_folder_that_is_no_run_is_refused_and_left_alone(runs, theirs, overwrite):
    path = runs.folder / "run" / theirs
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n", encoding="utf-8")
    before = snapshot(runs.folder)
    for resume in {False, not overwrite}:
        with pytest.raises(ConfigError, match=rf"holds {theirs.split('/')[0]}, which no training"):
            open_session(runs.settings(), resume, overwrite, runs.said.append)
        assert snapshot(runs.folder) == before


def test_overwriting_removes_the_run_and_nothing_else(runs):
    runs.fit(steps=5)
    run = runs.folder / "run"
    theirs = [run / "notes.txt", run / "checkpoints/theirs/x", run / ".other.123.tmp"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine", encoding="utf-8")
    (run / "checkpoints/damaged-step-00000003").mkdir()
    reader = RunFolder(run, replaces=True)
    reader.begin("")
    reader.close()
    assert sorted(p.name for p in run.iterdir()) == [
        ".lock", ".other.123.tmp", "checkpoints", "config.toml", "notes.txt",
    ]  # fmt: skip
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["theirs"]
    assert all(path.read_text(encoding="utf-8") == "mine" for path in theirs)


def test_what_a_killed_process_left_is_removed_by_the_next(runs):
    runs.fit(steps=5)
    run = runs.folder / "run"
    (run / ".best.123.tmp").symlink_to("checkpoints/step-00000005")
    for name in (".config.toml.k2v9_x.tmp", ".responses.json.9.0123456789ab.tmp"):
        (run / name).write_text("half", encoding="utf-8")
    (run / "checkpoints/.step-00000010.123.tmp").mkdir()
    os.rename(run / "checkpoints/step-00000005", run / "checkpoints/.step-00000005.9.old.tmp")
    runs.trainer(resume=True)
    hidden = [p.name for p in run.rglob(".*") if p.name != ".lock"]
    assert hidden == []
    assert (run / "checkpoints/step-00000005/training_state.json").is_file()


# ---- links, rotation, the best one -----------------------------------------------------------


def test_what_was_cut_off_after_the_last_checkpoint_is_made_up_for(runs, monkeypatch):
    """Killed between the rename of the last checkpoint and the links: nothing stays old."""
    runs.fit("whole", keep=1)
    with monkeypatch.context() as patched:
        real = RunFolder._arrange

        def cut_off(self, newest, best):
            if newest.name != "step-00000020":
                real(self, newest, best)

        patched.setattr(RunFolder, "_arrange", cut_off)
        runs.fit("cut", keep=1)
    assert (runs.folder / "cut/last").resolve().name == "step-00000015"
    runs.fit("cut", resume=True)
    seen = [
        {path.name: os.path.realpath(path).split("/")[-1] for path in place.iterdir()}
        for name in ("whole", "cut")
        for place in (runs.folder / name, runs.folder / name / "checkpoints")
    ]
    assert seen[:2] == seen[2:]


def test_a_link_that_cannot_be_set_is_told(runs, monkeypatch):
    def fail(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    runs.fit(steps=5)
    run = RunFolder(runs.folder / "run")
    monkeypatch.setattr(folder_module.os, "replace", fail)
    with pytest.warns(UserWarning, match=r"last: cannot be pointed to .*No space left on device"):
        run._link("last", run.folder_of(5))
    (run.path / "last").unlink()
    run._link("last", run.folder_of(5))  # where there are no links nobody misses them
    run.close()


def test_a_checkpoint_that_cannot_be_removed_ends_no_run(runs, monkeypatch):
    def fail(path, quietly=False):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(folder_module, "remove", fail)
    with pytest.warns(UserWarning, match="no longer needed and cannot be removed"):
        runs.fit(steps=15, keep=1, eval_every=0)


def test_a_checkpoint_on_another_disk_is_only_unlinked(runs):
    """Moved there by hand, and a link left in its place."""
    runs.fit(steps=5, keep=1, eval_every=0)
    step = runs.folder / "run/checkpoints/step-00000005"
    elsewhere = shutil.move(step, runs.folder / "elsewhere")
    step.symlink_to(elsewhere)
    runs.fit(resume=True, steps=10)
    assert [path.name for path in step.parent.iterdir()] == ["step-00000010"]
    assert os.path.isfile(os.path.join(elsewhere, "model.safetensors"))


def test_the_best_of_those_left_takes_the_place_of_a_damaged_one(runs):
    trainer = runs.fit(keep=2, learning_rate=1.0, min_learning_rate=1.0, steps=60)
    best = trainer.progress.best_step
    run = runs.folder / "run"
    os.truncate(run / f"checkpoints/step-{best:08d}/model.safetensors", 10)
    again = runs.trainer(resume=True)
    left = {step: state_of(run, step)["last_evaluation"]["loss"] for step in (55, 60)}
    assert again.progress.best_step == min(left, key=left.get)
    assert again.progress.best_loss == min(left.values())
    assert os.path.realpath(run / "best").endswith(f"step-{again.progress.best_step:08d}")
    assert any("It was the best checkpoint. The best one is now" in said for said in runs.said)


def test_where_no_validation_is_left_the_next_one_chooses(tmp_path):
    run, said = RunFolder(tmp_path / "run"), []
    state = {"step": 5, "trainer": {"best_step": 3, "best_loss": 1.0}}
    run.save(5, lambda folder: (folder / "x").write_bytes(b"x"), state, None)
    found = run.load_newest(said.append)[1]["trainer"]
    assert (found["best_step"], found["best_loss"]) == (None, None)
    assert "The next validation chooses a new one." in said[0]
    run.close()


def state_of(run, step):
    path = run / f"checkpoints/step-{step:08d}/training_state.json"
    return json.loads(path.read_text(encoding="utf-8"))["trainer"]


# ---- settings --------------------------------------------------------------------------------


def test_a_refused_resume_leaves_the_settings_alone(runs):
    runs.fit(steps=5)
    file = runs.folder / "run/config.toml"
    before = file.read_bytes()
    runs.text.with_name("other.txt").write_text("another text, " * 400, encoding="utf-8")
    with pytest.raises(Exception, match="not the one this run began with"):
        runs.trainer(resume=True, data=[str(runs.text.with_name("other.txt"))], steps=9)
    assert file.read_bytes() == before


def test_settings_that_somebody_edited_are_kept_and_told(runs):
    runs.fit(steps=5)
    file = runs.folder / "run/config.toml"
    edited = file.read_text(encoding="utf-8").replace("steps = 5", "steps = 99")
    file.write_text(edited, encoding="utf-8")
    assert runs.trainer(resume=True).settings.steps == 5
    assert any("config.toml: was changed since the checkpoint (steps = 99)" in s for s in runs.said)
    assert (runs.folder / "run/config.edited.toml").read_text(encoding="utf-8") == edited
    assert read_settings(file)["steps"] == 5


def test_comments_and_earlier_edits_are_kept_too(runs):
    runs.fit(steps=5)
    run = runs.folder / "run"
    for number, name in enumerate(("config.edited.toml", "config.edited-2.toml")):
        edited = (run / "config.toml").read_text(encoding="utf-8") + f"# my comment {number}\n"
        (run / "config.toml").write_text(edited, encoding="utf-8")
        runs.trainer(resume=True)
        runs.close()
        assert (run / name).read_text(encoding="utf-8") == edited
    runs.trainer(resume=True)
    assert len(list(run.glob("config.edited*"))) == 2
    assert sum("changed since the checkpoint (its comments)" in said for said in runs.said) == 2


def test_a_text_may_move(runs, weights_of):
    whole = runs.fit("whole")
    moved = shutil.copy(runs.text, runs.folder / "moved.txt")
    runs.fit("cut", steps=20, eval_every=5)
    shutil.rmtree(runs.folder / "cut/checkpoints/step-00000020")
    again = runs.fit("cut", resume=True, data=[str(moved)])
    assert again.result.first_step == 15
    assert weights_of(again) == weights_of(whole)
    assert any("harmless if the text is the same" in said for said in runs.said)
