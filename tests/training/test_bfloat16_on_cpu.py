"""A run in bfloat16 on the CPU: float32 weights, products of rounded operands; its checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.training.test_resume import StopAt
from tinygrad_llm.backend import precision
from tinygrad_llm.training.lr_finder import find_learning_rate
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.run import assemble

WIDE = {"n_embd": 32, "n_head": 2}  # shorter sums are not worth rounding


@pytest.fixture
def as_on_gpu(monkeypatch):
    """While `on` is called with True the weights of a run are in its type, as on a GPU."""

    def on(there: bool) -> None:
        of_cpu = precision.weights_type
        kind = (lambda dtype, device: dtype) if there else of_cpu
        monkeypatch.setattr(assemble, "weights_type", kind)

    return on


class Watch(Callback):
    """Notes the precision at every event."""

    def __init__(self):
        self.seen = {}

    def on_step(self, trainer, report):
        self.seen["step"] = tg.get_float32_matmul_precision()

    def on_evaluation(self, trainer, record):
        self.seen["evaluation"] = tg.get_float32_matmul_precision()

    def after_step(self, trainer, report):
        self.seen["sample"] = tg.get_float32_matmul_precision()


def last_loss(trainer):
    return trainer.result.evaluation["loss"]


def test_weights_stay_float32_and_the_setting_ends_with_the_run(matrix_units_on, runs):
    watch = Watch()
    trainer = runs.fit(dtype="bfloat16", callbacks=[watch], **WIDE)
    assert {p.data.dtype for p in trainer.model.parameters()} == {np.dtype("float32")}
    assert watch.seen == dict.fromkeys(("step", "evaluation", "sample"), "medium")
    assert tg.get_float32_matmul_precision() == "highest"
    plain = runs.fit("plain", **WIDE)
    assert last_loss(trainer) != last_loss(plain)
    assert last_loss(trainer) == pytest.approx(last_loss(plain), rel=0.01)


def test_steps_outside_of_fit_compute_alike(matrix_units_on, runs):
    whole = runs.fit(dtype="bfloat16", steps=3, **WIDE)
    by_hand = runs.trainer("other", dtype="bfloat16", steps=3, **WIDE)
    by_hand.model.train()
    for _ in range(3):
        by_hand.train_step()
    for p, q in zip(whole.model.parameters(), by_hand.model.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    find_learning_rate(by_hand, steps=10)
    assert tg.get_float32_matmul_precision() == "highest"


def test_a_resumed_run_ends_with_the_same_bits(matrix_units_on, runs, weights_of):
    changes = {"dtype": "bfloat16", "accumulate": 2, **WIDE}
    whole = runs.fit("whole", **changes)
    runs.fit("cut", callbacks=[StopAt(7)], **changes)
    cut = runs.fit("cut", resume=True)
    assert cut.result.first_step == 7
    assert weights_of(cut) == weights_of(whole)


def test_a_run_goes_from_one_type_to_the_other_and_back(matrix_units_on, runs):
    runs.fit(dtype="bfloat16", steps=5, **WIDE)
    runs.fit(resume=True, dtype="float32", steps=10)
    last = runs.fit(resume=True, dtype="bfloat16", steps=15)
    assert last.step == 15
    said = "\n".join(runs.said)
    assert "dtype: 'bfloat16' -> 'float32' (the weights will differ" in said
    assert "dtype: 'float32' -> 'bfloat16'" in said


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_checkpoint_of_a_gpu_loses_nothing_on_the_cpu(matrix_units_on, runs, as_on_gpu, dtype):
    as_on_gpu(True)
    there = runs.fit(dtype="bfloat16", steps=5, **WIDE)
    masters = there.optimizer.state_dict()["arrays"]
    as_on_gpu(False)
    here = runs.trainer(resume=True, dtype=dtype, steps=10)
    for name, p in here.model.named_parameters():
        assert p.data.dtype == np.float32
        np.testing.assert_array_equal(p.data, masters[f"master.{name}"])
    here.fit()
    assert here.step == 10


def test_a_checkpoint_of_the_cpu_goes_on_on_a_gpu(matrix_units_on, runs, as_on_gpu):
    here = runs.fit(dtype="bfloat16", steps=5, **WIDE)
    as_on_gpu(True)
    there = runs.trainer(resume=True, steps=10)
    for p, q in zip(here.model.parameters(), there.model.parameters(), strict=True):
        assert q.data.dtype.name == "bfloat16"
        np.testing.assert_array_equal(p.data.astype(q.data.dtype), q.data)
    there.fit()
    assert there.step == 10


def test_without_the_packages_the_run_is_that_of_float32(packages_missing, runs, weights_of):
    with pytest.warns(UserWarning, match="has no effect") as found:
        mixed = runs.fit("mixed", dtype="bfloat16", steps=5, **WIDE)
    assert len(found) == 1
    assert weights_of(mixed) == weights_of(runs.fit("plain", steps=5, **WIDE))
