"""The fine-tunings of a tiny GPT, on the CPU, or on the stand-in GPU, where steps are replayed."""

import contextlib
from dataclasses import replace

import numpy as np

import tinygrad_llm as tg
from tests.replayed_gpu import Replay, gpu_with_kernels
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.finetuning.classification import TextClassifier, choose_trainable, fit_classifier
from tinygrad_llm.finetuning.collate import IGNORE
from tinygrad_llm.finetuning.instruction import InstructionSet, fit_instructions
from tinygrad_llm.finetuning.labelled_texts import LabelledTexts
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.preference import PreferenceSet, fit_preferences, with_reference
from tinygrad_llm.training.report import recorder

VOCABULARY = 17
LENGTHS = (3, 4, 4, 6, 7, 8)  # two in a batch: one of 4 tokens, one of 6 that becomes 8, one of 8
UNPADDED = (3, 4, 4, 4, 7, 8)  # dropout draws by position, so other elements where there are more
# Sums in another order; in float16 also weights that are rounded up here and down there.
ROUNDING = {"float32": 1e-4, "float16": 5e-3}


@contextlib.contextmanager
def replaying_gpu(monkeypatch):
    """Inside, the stand-in GPU with kernels; gives the recordings that are made there."""
    from tinygrad_llm import kernels

    made = []

    def record(launch):
        made.append(Replay(launch))
        return made[-1]

    monkeypatch.setattr(kernels, "capture", record)
    monkeypatch.setattr(recorder, "device_bytes", lambda: 0)  # the stand-in has no memory pool
    with gpu_with_kernels(monkeypatch):
        yield made


def rows(lengths):
    rng = np.random.default_rng(0)
    return [rng.integers(0, VOCABULARY, n).tolist() for n in lengths]


def answers(inputs):
    """Targets, of which the second half counts."""
    return [[IGNORE] * (len(row) // 2) + row[len(row) // 2 :] for row in inputs]


def small_gpt(device, dtype, **more):
    tg.manual_seed(0)
    more = {"qkv_bias": False, **more}  # whose gradient is but rounding, as in composed.py
    config = tg.nn.GPTConfig(VOCABULARY, 8, n_layer=1, n_head=1, n_embd=8, **more)
    return tg.nn.GPT(config, Generator(3)).to(device).to(dtype)


def lengths_for(dropout=0.0, **others):
    return UNPADDED if dropout else LENGTHS


def classify(
    settings, world, device, dtype, which="all", pooling="mean", balance=False, weight=0.0, **more
):
    gpt = small_gpt(device, dtype, **more)
    model = TextClassifier(gpt, 2, pooling, more.get("dropout", 0.0), Generator(1))
    choose_trainable(model, which, 2, generator=Generator(2))
    data = LabelledTexts(rows(lengths_for(**more)), np.array([0, 1, 0, 0, 0, 1]))
    return model, fit_classifier(model, data, data, settings, balance, weight, communicator=world)


def instruct(settings, world, device, dtype, packing=False, lora=(), **more):
    model = small_gpt(device, dtype, **more)
    if lora:
        tg.nn.apply_lora(model, 2, targets=lora, generator=Generator(2))
    inputs = rows(lengths_for(**more))
    data = InstructionSet(inputs, answers(inputs))
    return model, fit_instructions(model, data, data, settings, packing, communicator=world)


def prefer(settings, world, device, dtype, **more):
    model = small_gpt(device, dtype, **more)
    pairs = rows([n for length in LENGTHS for n in (length, length - 1)])
    data = with_reference(PreferenceSet(pairs, answers(pairs)), model)
    return model, fit_preferences(model, data, data, settings, 0.5, communicator=world)


SETTINGS = FitSettings(epochs=2, batch_size=2, learning_rate=1e-2, pool=0)


def run(kind, device, dtype="float32", graph=True, world=None, **more):
    """History and weights."""
    with np.errstate(over="ignore", invalid="ignore"):
        model, history = kind(replace(SETTINGS, graph=graph), world, device, dtype, **more)
    weights = [p.numpy().astype(np.float32) for p in model.parameters()]
    return history, weights


def assert_same_run(one, other, rtol):
    losses, others = ([loss for _, loss in history.losses] for history, _ in (one, other))
    np.testing.assert_allclose(others, losses, rtol, atol=rtol)
    for name in one[0].evaluations[0]:
        np.testing.assert_allclose(other[0].column(name), one[0].column(name), rtol, atol=rtol)
    for a, b in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(b, a, rtol, atol=10 * rtol)
