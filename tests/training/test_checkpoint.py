"""Checkpoints are whole or absent, and damage is noticed before anything is parsed."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import struct

import numpy as np
import pytest

from tinygrad_llm.backend.checksums import STATE_NAME, read_sealed, sealed
from tinygrad_llm.errors import CheckpointError, TinygradLLMError
from tinygrad_llm.training.run import checkpoint
from tinygrad_llm.training.run.checkpoint import (
    join_arrays,
    read_state,
    split_arrays,
    verify,
    write_checkpoint,
)
from tinygrad_llm.training.run.folder import RunFolder

FILES = [
    "config.json",
    "model.safetensors",
    "tinygrad_llm_tokenizer.json",
    "training_state.json",
    "training_state.safetensors",
]


@pytest.fixture
def folder(tmp_path):
    """A RunFolder that is closed at the end."""
    run = RunFolder(tmp_path / "run", keep=2)
    yield run
    run.close()


def write_nothing(folder):
    (folder / "model.safetensors").write_bytes(b"weights")


# ---- damage ----------------------------------------------------------------------------------


def truncate(path, rng):
    size = path.stat().st_size
    os.truncate(path, rng.randrange(size))
    return f"{path.name} truncated"


def flip(path, rng):
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 1, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    changed = bytes(content) != path.read_bytes()
    path.write_bytes(content)
    return f"{path.name} flipped" if changed else None


def remove(path, rng):
    path.unlink()
    return f"{path.name} removed"


def append(path, rng):
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 9)))
    return f"{path.name} longer"


def zero(path, rng):
    """As after a power loss: the length is there, the data is not."""
    content = path.read_bytes()
    start = rng.randrange(len(content))
    if not content[start:].strip(b"\0"):
        return None
    path.write_bytes(content[:start] + b"\0" * (len(content) - start))
    return f"{path.name} zeroed"


def swap_shapes(path, rng):
    """Two tensors of a safetensors file exchange their shapes and places."""
    path = path.with_name(rng.choice(["model.safetensors", "training_state.safetensors"]))
    content = path.read_bytes()
    n = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + n])
    names = [name for name in header if name != "__metadata__"]
    a, b = rng.sample(names, 2)
    if header[a]["shape"] == header[b]["shape"]:
        header[a]["shape"] = [*header[a]["shape"], 1]
    header[a], header[b] = header[b], header[a]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + n :])
    return f"{path.name}: {a} and {b} swapped"


DAMAGES = [truncate, flip, flip, remove, append, zero, swap_shapes]


def test_a_thousand_damages_are_errors_or_the_fallback(runs, weights_of):
    """Each time the newest checkpoint is damaged at random; the one before it must be loaded."""
    trainer = runs.fit(steps=10, keep=2, eval_every=0)
    run = runs.folder / "run"
    good = run / "checkpoints" / "step-00000010"
    assert sorted(path.name for path in good.iterdir()) == FILES
    pristine = runs.folder / "pristine"
    shutil.copytree(good, pristine)
    expected = {"step": 5}
    reader = RunFolder(run)
    rng = random.Random(20)
    outcomes: dict[str, int] = {}
    for _ in range(1000):
        kind = rng.choice(DAMAGES)
        what = kind(good / rng.choice(FILES), rng)
        said: list[str] = []
        folder, state = reader.load_newest(said.append)
        if what is None:
            assert state["step"] == 10
            continue
        assert state["step"] == expected["step"], what
        assert folder.name == "step-00000005"
        assert len(said) == 1, what
        assert "Going back to the checkpoint before it" in said[0]
        assert "step-00000010" in said[0]
        outcomes[kind.__name__] = outcomes.get(kind.__name__, 0) + 1
        shutil.rmtree(run / "checkpoints" / "damaged-step-00000010")
        shutil.copytree(pristine, good)
    reader.close()
    assert sum(outcomes.values()) > 900
    assert min(outcomes.values()) > 80
    resumed = runs.trainer(resume=True)
    assert resumed.step == 10
    assert weights_of(resumed) == weights_of(trainer)


def test_all_damaged_is_an_error_that_lists_them(runs):
    runs.fit(steps=10)
    for path in (runs.folder / "run" / "checkpoints").glob("*/model.safetensors"):
        os.truncate(path, 100)
    with pytest.raises(CheckpointError, match=r"no checkpoint is intact.*bytes, .* were written"):
        runs.trainer(resume=True)


def test_fallback_computes_the_same_bits(runs, weights_of):
    whole = runs.fit("whole")
    runs.fit("cut")
    os.truncate(runs.folder / "cut/checkpoints/step-00000020/model.safetensors", 1000)
    again = runs.fit("cut", resume=True)
    assert again.result.first_step == 15
    assert weights_of(again) == weights_of(whole)
    logs = [(runs.folder / name / "log.jsonl").read_bytes() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_damaged_best_is_set_aside_and_said(runs):
    trainer = runs.fit(keep=1, learning_rate=1.0, min_learning_rate=1.0, steps=60)
    best = trainer.progress.best_step
    assert best < 60, "the settings should make the loss rise again"
    os.truncate(runs.folder / f"run/checkpoints/step-{best:08d}/model.safetensors", 10)
    runs.trainer(resume=True)
    assert any("It was the best checkpoint" in said for said in runs.said)


# ---- writing ---------------------------------------------------------------------------------


def test_state_goes_around(tmp_path):
    state = {"step": 3, "deep": [{"m": np.arange(6.0).reshape(2, 3)}, None, "x"], "rate": 0.1}
    write_checkpoint(tmp_path / "c", write_nothing, state)
    back = read_state(tmp_path / "c")
    np.testing.assert_array_equal(back["deep"][0]["m"], state["deep"][0]["m"])
    assert back["deep"][1:] == [None, "x"]
    assert (back["step"], back["rate"]) == (3, 0.1)


@pytest.mark.parametrize("name", ["step", "optimizer", "trainer", "config", "versions"])
def test_an_entry_of_another_type_is_damage_although_the_checksum_fits(tmp_path, name):
    write_checkpoint(tmp_path / "c", write_nothing, {name: "seven"})
    with pytest.raises(CheckpointError, match=f"is damaged: {name} of another type"):
        read_state(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("loader", []),
        ("loader", {}),
        ("trainer", None),
        ("optimizer", None),
        ("text", 7),
        ("text", None),
        ("generator", {}),
    ],
)
def test_a_run_does_not_go_on_with_entries_that_none_saves(runs, name, entry):
    runs.fit(steps=5)
    (path,) = (runs.folder / "run" / "checkpoints").glob(f"*/{STATE_NAME}")
    state = read_sealed(path)
    if entry is None:
        del state[name]
    else:
        state[name] = entry
    path.write_bytes(sealed(state))
    with pytest.raises(TinygradLLMError):
        runs.trainer(resume=True)


def test_what_cannot_be_saved_is_named():
    with pytest.raises(CheckpointError, match=r"state 'a\.0': cannot be saved, it is a set"):
        split_arrays({"a": [{1, 2}]})
    with pytest.raises(CheckpointError, match="the array 'm' is missing"):
        join_arrays({"m": {"array": "m"}}, {})


@pytest.mark.parametrize("moment", ["model", "arrays", "state", "rename"])
def test_full_disk_leaves_the_old_one(folder, monkeypatch, moment):
    """The disk is full at each stage: the old checkpoint stays, no leftovers do."""
    folder.save(1, write_nothing, {"x": np.ones(3)}, None)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {"arrays": "write_safetensors", "state": "_write_state", "rename": "_put_in_place"}
    if moment != "model":
        monkeypatch.setattr(checkpoint, target[moment], full)
    write = full if moment == "model" else write_nothing
    with pytest.raises(CheckpointError, match=r"No space left on device.*Earlier .* intact"):
        folder.save(2, write, {"x": np.ones(3)}, None)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000001"]
    assert folder.load_newest(print)[1]["x"].tolist() == [1, 1, 1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_device_that_says_full_by_itself(tmp_path):
    def write(folder):
        with open("/dev/full", "wb") as file:
            file.write(b"x" * 100_000)

    with pytest.raises(CheckpointError, match="No space left on device"):
        write_checkpoint(tmp_path / "c", write, {})
    assert list(tmp_path.iterdir()) == []


def test_killed_between_write_and_rename_leaves_no_checkpoint(folder):
    """Power loss at the worst moment: what is under a temporary name is ignored and removed."""
    folder.save(1, write_nothing, {}, None)
    leftover = folder.checkpoints / ".step-00000002.999.tmp"
    shutil.copytree(folder.folder_of(1), leftover)
    folder.close()
    again = RunFolder(folder.path)
    assert again.steps() == [1]
    assert not leftover.exists()
    again.close()


def test_rotation_keeps_the_newest_and_the_best(folder):
    for step in range(1, 9):
        folder.save(step, write_nothing, {"trainer": {"best_step": 3}}, 3 if step >= 3 else None)
    assert folder.steps() == [8, 7, 3]
    assert (folder.path / "best").resolve().name == "step-00000003"
    assert (folder.path / "last").resolve().name == "step-00000008"


def test_best_is_never_overwritten_by_worse(runs):
    trainer = runs.fit(keep=1, learning_rate=1.0, min_learning_rate=1.0, steps=60)
    best = trainer.progress.best_step
    state = verify(runs.folder / "run" / "best")
    assert state["step"] == best < 60
    lines = (runs.folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    losses = {r["step"]: r["validation_loss"] for r in map(json.loads, lines) if len(r) == 4}
    assert min(losses, key=losses.get) == best


def test_transformers_files_are_there(runs):
    runs.fit(steps=5)
    config = json.loads((runs.folder / "run/last/config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt2"
    assert config["vocab_size"] > 50
    from safetensors.numpy import load_file

    tensors = load_file(runs.folder / "run/last/model.safetensors")
    assert tensors["transformer.h.0.attn.c_attn.weight"].shape == (16, 48)


def test_unknown_version_is_named(runs, tmp_path):
    write_checkpoint(tmp_path / "c", write_nothing, {})
    path = tmp_path / "c" / "training_state.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="has version 2, this package reads version 1"):
        verify(tmp_path / "c")
