import numpy as np
import pytest

from tinygrad_llm.data import spam
from tinygrad_llm.errors import DataError
from tinygrad_llm.finetuning.baselines import BagOfWordsBaseline, MajorityBaseline, split_words
from tinygrad_llm.finetuning.metrics import score

MESSAGES = spam.load()
TEXTS, LABELS = [m.text for m in MESSAGES], spam.class_ids(MESSAGES)


def test_majority_always_answers_the_same():
    model = MajorityBaseline().fit(["a", "b", "c"], [1, 1, 0])
    assert model.predict(["x", "y"]).tolist() == [1, 1]
    assert model.probabilities(["x"]) == pytest.approx(2 / 3)


def test_bag_of_words_ends_in_the_minimum_of_its_loss():
    model = BagOfWordsBaseline(l2=1e-3, steps=2000).fit(TEXTS, LABELS)
    x, y = model.features(TEXTS).astype(np.float64), LABELS

    def loss(w, b):
        z = x @ w + b
        return np.mean(np.logaddexp(0, z) - y * z) + 0.5e-3 * w @ w

    w, b = model.weight.astype(np.float64), model.bias
    at_minimum = loss(w, b)
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert loss(w + 0.05 * rng.normal(size=w.shape), b + 0.05 * rng.normal()) > at_minimum
    error = model.probabilities(TEXTS) - y
    np.testing.assert_allclose(x.T @ error / len(y) + 1e-3 * w, 0, atol=1e-5)


def test_bag_of_words_finds_made_up_spam_it_has_not_seen():
    train, validation, test = spam.split(MESSAGES)
    fit = [*train, *validation]
    model = BagOfWordsBaseline().fit([m.text for m in fit], spam.class_ids(fit))
    s = score(spam.class_ids(test), model.predict([m.text for m in test]))
    assert s.f1 > 0.9
    words = list(model.columns)
    telling = {words[i] for i in np.argsort(-model.weight)[:30]}
    assert telling & {"free", "win", "prize", "text", "call", "!"}


def test_unknown_words_and_empty_texts_get_the_bias():
    model = BagOfWordsBaseline(steps=50).fit(TEXTS, LABELS)
    p = model.probabilities(["", "qqqq zzzz"])
    assert p[0] == p[1] == pytest.approx(1 / (1 + np.exp(-model.bias)), rel=1e-5)


def test_numbers_count_by_their_length():
    assert split_words("Call 07099 NOW!") == ["call", "#5", "now", "!"]


@pytest.mark.parametrize(("texts", "labels"), [([], []), (["a"], [0, 1]), (["a", "b"], [1, 1])])
def test_sets_without_two_classes_are_refused(texts, labels):
    with pytest.raises(DataError):
        BagOfWordsBaseline().fit(texts, labels)
