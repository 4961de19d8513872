"""One run, however many processes compute it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tinygrad_llm.data import BatchLoader, TokenDataset
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile


def arrays_of(out, name="model.safetensors"):
    file = SafetensorsFile(out / "last" / name)
    return {key: file.read(key) for key in file}


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def assert_same_run(one, other, rounding=1e-9):
    """Losses, weights and optimizer agree within rounding."""
    for mine, theirs in zip(log_of(one), log_of(other), strict=True):
        assert mine == pytest.approx(theirs, rel=rounding, abs=rounding)
    for name in ("model.safetensors", "training_state.safetensors"):
        ours, theirs = arrays_of(one, name), arrays_of(other, name)
        assert ours.keys() == theirs.keys()
        for key, array in ours.items():
            np.testing.assert_allclose(array, theirs[key], rtol=1e-6, atol=rounding, err_msg=key)


@pytest.fixture
def alone(launch, page, tmp_path_factory):
    """The run on one process, computed once: 50 steps in float64, so that rounding is 1e-16."""
    out = tmp_path_factory.getbasetemp() / "alone"
    if not out.exists():
        launch.train(1, page, out)
    return out


@pytest.mark.parametrize(
    ("n", "shard"),
    [
        (2, False),
        pytest.param(4, False, marks=pytest.mark.slow),
        pytest.param(2, True, marks=pytest.mark.slow),
        (4, True),
    ],
)
def test_fifty_steps_equal_those_of_one_process(launch, page, tmp_path, alone, n, shard):
    launch.train(n, page, tmp_path / "run", **({"shard_optimizer": True} if shard else {}))
    assert_same_run(alone, tmp_path / "run")


@pytest.fixture
def half_way_on_two(launch, page, tmp_path_factory):
    """A run on two processes as it was after 25 steps; computed once."""
    out = tmp_path_factory.getbasetemp() / "half way"
    if not out.exists():
        launch.train(2, page, out, shard_optimizer=True)
        for folder in (out / "checkpoints").glob("step-*"):
            if folder.name > "step-00000025":
                shutil.rmtree(folder)
    return out


@pytest.mark.parametrize(("m", "shard"), [(1, False), (4, True)])
def test_saved_on_two_resumed_on_another_number(
    launch, page, tmp_path, alone, half_way_on_two, m, shard
):
    out = tmp_path / "run"
    shutil.copytree(half_way_on_two, out, symlinks=True)
    said = launch.train(m, page, out, resume=True, **({"shard_optimizer": True} if shard else {}))
    assert "Going on after step 25" in said
    assert_same_run(alone, out)


@pytest.mark.slow
def test_float32_and_clipping_and_crops(launch, page, tmp_path):
    """In float32 losses agree to its rounding, which Adam makes visible in the weights."""
    changes = {"dtype": "float32", "order": "crops", "clip": 0.1}
    launch.train(1, page, tmp_path / "one", **changes)
    launch.train(4, page, tmp_path / "four", shard_optimizer=True, **changes)
    pairs = zip(log_of(tmp_path / "one"), log_of(tmp_path / "four"), strict=True)
    for mine, theirs in pairs:
        assert mine == pytest.approx(theirs, rel=2e-3)


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("n", [2, 4])
def test_the_ranks_batches_together_are_the_batches_of_one_process(n, crops):
    dataset = TokenDataset(np.arange(1000), 8)

    def loader(rank, size):
        return BatchLoader(
            dataset, 8 // size, seed=3, random_crops=crops, rank=rank, world_size=size
        )

    whole, parts = loader(0, 1), [loader(r, n) for r in range(n)]
    for _ in range(40):  # over the end of two epochs
        inputs, targets = whole.next_batch()
        pieces = [part.next_batch() for part in parts]
        assert (inputs == np.concatenate([x for x, _ in pieces])).all()
        assert (targets == np.concatenate([y for _, y in pieces])).all()
        assert all(part.state() == whole.state() for part in parts)


def test_bfloat16_on_the_cpu_by_two_processes(matrix_units_on, launch, page, tmp_path):
    """Said once; stopped half way and resumed, it ends with the same bits."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes = {"dtype": "bfloat16", "steps": 20, "eval_every": 0, "checkpoint_every": 10}
    said = launch.train(2, page, whole, **changes)
    assert said.count("bfloat16 on the CPU: products by") == 1
    shutil.copytree(whole, cut, symlinks=True)
    shutil.rmtree(cut / "checkpoints" / "step-00000020")
    assert "Going on after step 10" in launch.train(2, page, cut, resume=True, **changes)
    for name, array in arrays_of(whole).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays_of(cut)[name])
