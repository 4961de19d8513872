"""A run that is stopped and resumed ends with the bits of one that was not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.training.report.callback import Callback

LOG = "log.jsonl"


class StopAt(Callback):
    """Acts as SIGTERM after some step."""

    def __init__(self, step):
        self.step = step

    def after_step(self, trainer, report):
        if report.step == self.step:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    stops=st.lists(st.integers(1, 19), min_size=1, max_size=3, unique=True).map(sorted),
    changes=st.fixed_dictionaries(
        {
            "order": st.sampled_from(["shuffle", "crops"]),
            "accumulate": st.sampled_from([1, 2]),
            "schedule": st.sampled_from(["cosine", "linear", "constant"]),
            "recompute": st.booleans(),
            "log_every": st.sampled_from([1, 3]),
        }
    ),
)
def test_stops_anywhere_change_no_bit(runs, weights_of, stops, changes):
    for name in ("whole", "cut"):
        shutil.rmtree(runs.folder / name, ignore_errors=True)
    whole = runs.fit("whole", **changes)
    cut = runs.fit("cut", callbacks=[StopAt(stops[0])], **changes)
    assert cut.step == stops[0]
    for stop in stops[1:]:
        cut = runs.fit("cut", resume=True, callbacks=[StopAt(stop)])
    cut = runs.fit("cut", resume=True)
    assert cut.step == 20
    assert weights_of(cut) == weights_of(whole)
    assert cut.optimizer.state_dict()["settings"] == whole.optimizer.state_dict()["settings"]
    logs = [(runs.folder / name / LOG).read_bytes() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_two_runs_with_one_seed_are_equal_and_another_seed_is_not(runs, weights_of):
    first, again, other = (runs.fit("a"), runs.fit("b"), runs.fit("c", seed=7))
    assert weights_of(first) == weights_of(again)
    assert weights_of(first) != weights_of(other)


def test_resuming_a_finished_run_does_nothing(runs, weights_of):
    first = runs.fit()
    again = runs.fit(resume=True)
    assert again.result.first_step == again.result.last_step == 20
    assert weights_of(first) == weights_of(again)


def test_resume_without_a_checkpoint_begins(runs):
    trainer = runs.fit(resume=True, **{k: v for k, v in runs.settings().items() if k != "out"})
    assert trainer.step == 20
    assert any("no checkpoint yet" in said for said in runs.said)


def test_an_existing_run_is_not_touched_without_a_word(runs):
    runs.fit()
    with pytest.raises(ConfigError, match=r"holds a run already.*--resume.*--overwrite"):
        runs.trainer()


def test_longer_run_continues_and_says_what_changed(runs):
    runs.fit()
    trainer = runs.fit(resume=True, steps=30, learning_rate=5e-3, keep=5)
    assert trainer.step == 30
    said = "\n".join(runs.said)
    assert "steps: 20 -> 30 (the weights will differ" in said
    assert "learning_rate: 0.01 -> 0.005 (the weights will differ" in said
    assert "keep: 2 -> 5 (harmless)" in said
    assert trainer.schedule.peaks == [0.005, 0.005]


@pytest.mark.parametrize(("name", "value"), [("n_embd", 32), ("tokenizer", "bpe")])
def test_what_cannot_change_is_refused(runs, name, value):
    runs.fit(steps=5)
    with pytest.raises(ConfigError, match=rf"cannot change within a run \({name}: .* -> "):
        runs.trainer(resume=True, **{name: value})


def test_changed_text_is_refused(runs, tmp_path):
    runs.text = Path(shutil.copy(runs.text, tmp_path / "text.txt"))
    runs.fit(steps=5)
    runs.text.write_text(runs.text.read_text(encoding="utf-8")[::-1], encoding="utf-8")
    with pytest.raises(CheckpointError, match="not the one this run began with"):
        runs.trainer(resume=True)


def test_two_processes_cannot_share_a_folder(runs):
    runs.trainer()
    with pytest.raises(ConfigError, match="another process is training there"):
        runs.trainer(resume=True)
    runs.close()
    runs.trainer(resume=True)
