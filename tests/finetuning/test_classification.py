import copy
import json

import numpy as np
import pytest

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import CheckpointError, ConfigError, DataError
from tinygrad_llm.finetuning.classification import (
    TextClassifier,
    choose_trainable,
    class_weights,
    fit_classifier,
    language_loss,
    logits_of,
)
from tinygrad_llm.finetuning.classifier_folder import Classifier
from tinygrad_llm.finetuning.collate import pad
from tinygrad_llm.finetuning.labelled_texts import encode_labelled, encode_texts
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.nn import merge_lora, unmerge_lora

NAMES = ("ham", "spam")


def toy_messages(n, seed):
    """Spam holds "prize" somewhere: a rule that a tiny model learns."""
    rng = np.random.default_rng(seed)
    words = ["call", "home", "dinner", "number", "text", "late", "station", "you"]
    texts, labels = [], []
    for i in range(n):
        chosen = list(rng.choice(words, size=rng.integers(2, 9)))
        if i % 2:
            chosen.insert(rng.integers(0, len(chosen)), "prize")
        texts.append(" ".join(chosen))
        labels.append(NAMES[i % 2])
    return texts, labels


@pytest.fixture
def classifier(gpt):
    return TextClassifier(gpt, 2, "last", dropout=0.0, generator=Generator(1)).eval()


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_padding_does_not_change_logits(gpt, tokenizer, pooling):
    module = TextClassifier(gpt, 3, pooling, generator=Generator(1)).eval()
    rows = encode_texts(["Win", "See you at the station tonight", "Are you late?"], tokenizer, 60)
    alone = np.concatenate([module([row], np.array([len(row)])).numpy() for row in rows])
    ids, lengths = pad(rows, fill=7, length=50)
    np.testing.assert_allclose(module(ids, lengths).numpy(), alone, atol=2e-6)
    other_fill, _ = pad(rows, fill=3, length=50)
    np.testing.assert_allclose(module(other_fill, lengths).numpy(), alone, atol=2e-6)
    np.testing.assert_allclose(logits_of(module, rows), alone, atol=2e-6)


def test_reading_at_the_last_column_would_be_wrong(gpt, tokenizer):
    """The control of the test above: the last column is a pad token, not the message's end."""
    module = TextClassifier(gpt, 2, "last", generator=Generator(1)).eval()
    ids, lengths = pad(encode_texts(["Win a prize"], tokenizer, 60), fill=7, length=30)
    right = module(ids, lengths).numpy()
    assert np.abs(module(ids, np.array([30])).numpy() - right).max() > 1e-3


@pytest.mark.parametrize("which", ["all", "lora"])
def test_learns_a_rule_and_keeps_the_best_weights(gpt, tokenizer, which):
    module = TextClassifier(gpt, 2, "mean", dropout=0.0, generator=Generator(1))
    if which == "lora":
        choose_trainable(module, "lora", rank=2, generator=Generator(2))
        assert module.num_parameters(trainable_only=True) < 0.12 * module.num_parameters()
    train, validation = (
        encode_labelled(*toy_messages(n, s), tokenizer, NAMES, 60) for n, s in ((160, 1), (60, 2))
    )
    epochs = {"all": 12, "lora": 24}[which]  # two ranks beside frozen random weights learn slowly
    settings = FitSettings(epochs=epochs, batch_size=8, learning_rate=3e-3)
    lines = []
    history = fit_classifier(module, train, validation, settings, report=lines.append)
    best = history.evaluations[history.best]
    assert best["accuracy"] > 0.9
    assert best["loss"] == min(history.column("loss")[1:])
    accuracy = (logits_of(module, validation.rows).argmax(-1) == validation.labels).mean()
    assert accuracy == best["accuracy"], "the best weights are put back"
    assert len(lines) == epochs + 1
    assert not module.training


def test_lora_merged_and_unmerged_give_equal_logits(gpt, tokenizer):
    module = TextClassifier(gpt, 2, generator=Generator(1))
    choose_trainable(module, "lora", rank=2, generator=Generator(2))
    data = encode_labelled(*toy_messages(24, 1), tokenizer, NAMES, 60)
    before = logits_of(module, data.rows)
    settings = FitSettings(epochs=2, batch_size=8, learning_rate=1e-2)
    fit_classifier(module, data, data, settings)
    learned = logits_of(module, data.rows)
    assert np.abs(learned - before).max() > 0.05
    merge_lora(module)
    np.testing.assert_allclose(logits_of(module, data.rows), learned, atol=1e-5)
    unmerge_lora(module)
    np.testing.assert_array_equal(logits_of(module, data.rows), learned)


@pytest.mark.parametrize(
    ("which", "expected"),
    [("head", {"head"}), ("last-block", {"head", "gpt.blocks.1", "gpt.final_norm"})],
)
def test_only_the_chosen_layers_change(classifier, tokenizer, which, expected):
    n = choose_trainable(classifier, which)
    assert n == classifier.num_parameters(trainable_only=True)
    before = {k: v.numpy().copy() for k, v in classifier.state_dict().items()}
    data = encode_labelled(*toy_messages(16, 1), tokenizer, NAMES, 60)
    fit_classifier(classifier, data, data, FitSettings(epochs=1, batch_size=8))
    after = classifier.state_dict()
    changed = {k for k in before if not np.array_equal(before[k], after[k].numpy())}
    assert {p for p in expected if any(k.startswith(p) for k in changed)} == expected
    assert all(k.startswith(tuple(expected)) for k in changed)


def test_class_weights_make_classes_count_alike():
    labels = np.array([0] * 9 + [1])
    weights = class_weights(labels, 2)
    assert weights[labels][labels == 0].sum() == pytest.approx(weights[labels][labels == 1].sum())
    assert weights[labels].mean() == pytest.approx(1)
    with pytest.raises(DataError, match="class 1 does not occur"):
        class_weights(np.zeros(4, int), 2)


def test_saved_and_opened_again_it_says_the_same(gpt, tokenizer, tmp_path):
    module = TextClassifier(gpt, 2, "mean", generator=Generator(1))
    choose_trainable(module, "lora", rank=2, generator=Generator(2))
    data = encode_labelled(*toy_messages(24, 1), tokenizer, NAMES, 60)
    settings = FitSettings(epochs=1, batch_size=8, learning_rate=1e-2)
    fit_classifier(module, data, data, settings)
    classifier = Classifier(module, tokenizer, NAMES, max_length=40, threshold=0.3)
    texts = ["Win a prize", "See you tonight", "", "home " * 60]
    expected = classifier.probabilities(texts)
    classifier.save(tmp_path / "filter")
    again = Classifier.load(tmp_path / "filter")
    np.testing.assert_allclose(again.probabilities(texts), expected, atol=1e-6)
    assert (again.class_names, again.max_length, again.threshold) == (NAMES, 40, 0.3)
    assert again.predict(texts) == classifier.predict(texts)
    assert again.is_cut(texts[3])
    assert not again.is_cut(texts[0])


def test_the_threshold_decides():
    p = np.array([[0.8, 0.2], [0.6, 0.4]])
    decide = lambda t: Classifier(None, None, NAMES, 9, t).decide(p).tolist()  # noqa: E731
    assert (decide(0.5), decide(0.3), decide(0.1)) == ([0, 0], [0, 1], [1, 1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "classifier.json").unlink(),
        lambda f: (f / "classifier.json").write_text("{", encoding="utf-8"),
        lambda f: (f / "classifier.json").write_text('{"version": 9}', encoding="utf-8"),
        lambda f: (f / "classifier_head.safetensors").write_bytes(b"x" * 20),
        lambda f: (f / "model.safetensors").unlink(),
        lambda f: _set(f / "classifier.json", class_names=["a", "b", "c"]),
        lambda f: _set(f / "classifier.json", pooling="first"),
    ],
)
def test_a_damaged_folder_is_refused(classifier, tokenizer, tmp_path, damage):
    Classifier(classifier, tokenizer, NAMES, 40).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError):
        Classifier.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("class_names", [None, [], ["ham"], ["ham", "ham"], ["ham", 7], [["ham"], "spam"], "ham"]),
        ("threshold", [None, float("nan"), float("inf"), -3, 1.5, "0.5", True, [0.5]]),
        ("max_length", [None, 0, -1, 2.5, True, "40", 10**6, 10**30]),
        ("pooling", [None, [], 3]),
        ("version", [None, 2, "1"]),
    ],
)
def test_settings_of_anything_are_refused(classifier, tokenizer, tmp_path, name, values):
    Classifier(classifier, tokenizer, NAMES, 40).save(tmp_path)
    (tmp_path / "checksums.json").unlink(missing_ok=True)  # as in a folder of someone else
    settings = tmp_path / "classifier.json"
    for value in values:
        _set(settings, **{name: value})
        with pytest.raises(CheckpointError, match=name):
            Classifier.load(tmp_path)
    settings.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        Classifier.load(tmp_path)


def _set(path, **values):
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**body, **values}), encoding="utf-8")


def test_bad_input_is_named(gpt, classifier, tokenizer):
    with pytest.raises(DataError, match="at least one"):
        encode_labelled([], [], tokenizer, NAMES, 10)
    with pytest.raises(DataError, match="label 'maybe' is none of the classes ham, spam"):
        encode_labelled(["x"], ["maybe"], tokenizer, NAMES, 10)
    with pytest.raises(ConfigError, match="expected one of all"):
        choose_trainable(classifier, "some")
    with pytest.raises(ConfigError, match="pooling"):
        TextClassifier(gpt, 2, "first")
    one_class = encode_labelled(["a", "b"], ["ham", "ham"], tokenizer, NAMES, 10)
    with pytest.raises(DataError, match="does not occur"):
        fit_classifier(classifier, one_class, one_class, FitSettings())
    frozen = copy.deepcopy(classifier).requires_grad_(False)
    both = encode_labelled(["a", "b"], ["ham", "spam"], tokenizer, NAMES, 10)
    with pytest.raises(ConfigError, match="nothing to optimize"):
        fit_classifier(frozen, both, both, FitSettings())


def test_over_long_texts_are_cut_and_empty_ones_keep_a_token(tokenizer):
    rows = encode_texts(["home " * 500, ""], tokenizer, 30)
    assert [len(row) for row in rows] == [30, 1]


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"learning_rate": 0}, {"warmup": 1}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        FitSettings(**bad)


def test_language_loss_counts_the_real_tokens_only(classifier, tokenizer):
    rows = encode_texts(["Win a free prize", "See you"], tokenizer, 60)
    ids, lengths = pad(rows, fill=7, length=40)
    hidden = classifier.gpt.hidden(ids)
    nats = sum(classifier.gpt.loss([r[:-1]], [r[1:]]).item() * (len(r) - 1) for r in rows)
    expected = nats / sum(len(r) - 1 for r in rows)
    got = language_loss(classifier.gpt, hidden, ids, lengths).item()
    assert got == pytest.approx(expected, rel=1e-5)


def test_a_language_weight_keeps_the_language_model_alive(gpt, tokenizer):
    data = encode_labelled(*toy_messages(40, 1), tokenizer, NAMES, 60)
    losses = []
    for weight in (0.0, 0.5):
        module = TextClassifier(copy.deepcopy(gpt), 2, "mean", 0.0, Generator(1))
        settings = FitSettings(epochs=6, batch_size=8, learning_rate=3e-3)
        history = fit_classifier(module, data, data, settings, language_weight=weight)
        assert history.losses[0][1] < 2, "shown is the loss of the classes alone"
        ids, lengths = pad(data.rows, 0)
        hidden = module.gpt.hidden(ids)
        losses.append(language_loss(module.gpt, hidden, ids, lengths).item())
    assert losses[1] < losses[0] - 0.5
