"""A fine-tuning that is interrupted ends with the bits of one that is not."""

import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.finetuning.fitted import VOCABULARY, answers, rows
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.finetuning.classification import TextClassifier, choose_trainable, fit_classifier
from tinygrad_llm.finetuning.instruction import InstructionSet, fit_instructions
from tinygrad_llm.finetuning.labelled_texts import LabelledTexts
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.preference import PreferenceSet, fit_preferences, with_reference
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.run.folder import RunFolder

LENGTHS = (3, 4, 4, 6, 7, 8, 5, 5)
SETTINGS = FitSettings(epochs=4, batch_size=2, learning_rate=3e-2, evaluations=2, pool=2)


def gpt(n_embd=8):
    tg.manual_seed(0)
    config = tg.nn.GPTConfig(VOCABULARY, 9, n_layer=1, n_head=1, n_embd=n_embd, dropout=0.2)
    return tg.nn.GPT(config, Generator(3))


def classify(which, settings=SETTINGS, **more):
    model = TextClassifier(gpt(), 2, "mean", 0.2, Generator(1))
    choose_trainable(model, which, 2, generator=Generator(2))
    data = LabelledTexts(rows(LENGTHS), np.array([0, 1, 0, 0, 0, 1, 1, 0]))
    return model, fit_classifier(model, data, data, settings, True, 0.5, **more)


def instruct(packing, settings=SETTINGS, **more):
    model = gpt()
    inputs = rows(LENGTHS)
    data = InstructionSet(inputs, answers(inputs))
    return model, fit_instructions(model, data, data, settings, packing, **more)


def prefer(_, settings=SETTINGS, **more):
    model = gpt()
    pairs = rows([n for length in LENGTHS for n in (length, length - 1)])
    data = with_reference(PreferenceSet(pairs, answers(pairs)), model)
    return model, fit_preferences(model, data, data, settings, 0.5, **more)


KINDS = [
    (classify, "all"),
    (classify, "lora"),
    (classify, "head"),
    (instruct, False),
    (instruct, True),
    (prefer, None),
]


class StopAfter(Callback):
    """Sends a signal within a step, or dies between two checkpoints."""

    def __init__(self, step, how):
        self.step, self.how = step, how

    def on_step(self, trainer, report):
        if report.step == self.step:
            self.how()


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def die():
    raise RuntimeError("as if the power had failed: nothing more is written")


def end_of(model, history):
    generator = tg.backend.random.default_generator().state()
    weights = [p.numpy().tobytes() for p in model.parameters()]
    return weights, history.losses, history.evaluations, history.best, generator


@pytest.mark.parametrize(("kind", "how"), KINDS)
@pytest.mark.parametrize(
    ("step", "stop", "raised"), [(5, ctrl_c, KeyboardInterrupt), (7, die, RuntimeError)]
)
def test_the_same_bits_after_ctrl_c_and_after_a_crash(tmp_path, kind, how, step, stop, raised):
    undisturbed = end_of(*kind(how))
    run = RunFolder(tmp_path / "run")
    with pytest.raises(raised):
        kind(how, run=run, callbacks=[StopAfter(step, stop)])
    assert run.steps()[0] == (5 if stop is ctrl_c else 6)
    lines = []
    assert end_of(*kind(how, run=run, report=lines.append)) == undisturbed
    assert "Going on after step" in lines[0]
    done = end_of(*kind(how, run=run, callbacks=[StopAfter(1, die)]))
    assert done == undisturbed, "a finished one only gives back its weights"


def test_the_same_bits_in_bfloat16(matrix_units_on, monkeypatch, tmp_path):
    monkeypatch.setitem(globals(), "gpt", partial(gpt, n_embd=32))  # shorter sums are not rounded
    mixed = replace(SETTINGS, dtype="bfloat16")
    undisturbed = end_of(*instruct(False, mixed))
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        instruct(False, mixed, run=run, callbacks=[StopAfter(5, ctrl_c)])
    assert end_of(*instruct(False, mixed, run=run)) == undisturbed
    assert end_of(*instruct(False)) != undisturbed


def test_another_type_goes_on_where_the_weights_have_the_same(tmp_path):
    run, lines = RunFolder(tmp_path / "run"), []
    with pytest.raises(KeyboardInterrupt):
        instruct(False, run=run, callbacks=[StopAfter(5, ctrl_c)])
    with pytest.raises(CheckpointError, match=r"the type of its weights \(dtype, device\)"):
        instruct(False, replace(SETTINGS, dtype="float64"), run=run)
    instruct(False, replace(SETTINGS, dtype="bfloat16"), run=run, report=lines.append)
    assert lines[0].startswith("  changed: dtype: None -> 'bfloat16' (the weights will differ")
    assert "Going on after step 5" in lines[1]


def test_a_fit_without_a_folder_and_with_one_are_the_same(tmp_path):
    bare = end_of(*classify("all"))
    assert end_of(*classify("all", run=RunFolder(tmp_path))) == bare


def test_early_stopping_is_remembered(tmp_path):
    impatient = replace(SETTINGS, patience=1, epochs=30)
    run = RunFolder(tmp_path)
    model, history = classify("all", impatient, run=run)
    assert history.stopped_by.startswith("early stopping")
    again, same = classify(
        "all", impatient, run=run, callbacks=[StopAfter(len(history.losses), die)]
    )
    assert end_of(again, same) == end_of(model, history)
    assert same.stopped_by == history.stopped_by


def test_other_settings_data_and_models_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    classify("all", run=run)
    with pytest.raises(ConfigError, match=r"epochs: 4 -> 5"):
        classify("all", replace(SETTINGS, epochs=5), run=run)
    with pytest.raises(CheckpointError, match="model to start from"):
        classify("lora", run=run)
    with pytest.raises(CheckpointError, match="training set"):
        instruct(False, run=run)


def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path):
    undisturbed = end_of(*classify("all"))
    run = RunFolder(tmp_path)
    classify("all", run=run)
    newest = run.folder_of(run.steps()[0]) / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"!")
    lines = []
    assert end_of(*classify("all", run=run, report=lines.append)) == undisturbed
    assert "is damaged" in lines[0]
