import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import CHAT
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.finetuning.constructed import polite_preferences
from tinygrad_llm.finetuning.instruction import encode_instructions, fit_instructions
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.preference import (
    Preference,
    answer_log_probabilities,
    dpo_loss,
    encode_preferences,
    evaluate_preferences,
    fit_preferences,
    with_reference,
)

numbers = st.lists(st.floats(-30, 5), min_size=2, max_size=8).filter(lambda v: len(v) % 2 == 0)


@given(numbers, st.floats(0.05, 2.0))
def test_loss_and_gradient_are_those_of_the_paper(values, beta):
    """L = -log sigmoid(r_c - r_r);  dL/dlog_p_c = -beta sigmoid(r_r - r_c) / N."""
    log_p = Tensor(np.array(values), requires_grad=True)
    reference = np.linspace(-3, -1, len(values))
    loss, rewards = dpo_loss(log_p, reference, beta)
    r = beta * (np.array(values) - reference)
    margin = r[::2] - r[1::2]
    np.testing.assert_allclose(rewards.numpy(), r.reshape(-1, 2))
    assert loss.item() == pytest.approx(np.logaddexp(0, -margin).mean())
    loss.backward()
    pull = beta / (1 + np.exp(margin)) / len(margin)
    np.testing.assert_allclose(log_p.grad[::2], -pull, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(log_p.grad[1::2], pull, rtol=1e-6, atol=1e-12)


def test_log_probability_of_an_answer_is_the_sum_over_its_tokens(gpt, tokenizer):
    pair = Preference("Say hello", "Hello man", "Call the station, late prize")
    data = encode_preferences([pair], CHAT, tokenizer, 64)
    expected = []
    for answer in (pair.chosen, pair.rejected):
        turns = Instruction(pair.instruction, "", answer).turns()
        ids, is_answer = CHAT.encode(turns, tokenizer)
        with no_grad():
            z = gpt([ids]).numpy()[0].astype(np.float64)
        log_p = z - np.logaddexp.reduce(z, axis=-1)[:, None]
        expected.append(sum(log_p[t - 1, ids[t]] for t in range(len(ids)) if is_answer[t]))
    from tinygrad_llm.finetuning.preference import _collate

    got = answer_log_probabilities(gpt, *_collate(data, np.array([0, 1]))).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_policy_starts_as_the_reference(gpt, tokenizer):
    train, _ = polite_preferences()
    data = with_reference(encode_preferences(train[:20], CHAT, tokenizer, 64), gpt)
    measured = evaluate_preferences(gpt, data, beta=0.1)
    assert measured["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert measured["margin"] == pytest.approx(0, abs=1e-5)
    assert measured["accuracy"] == 0.5, "ties count half"


def test_dropout_is_off_while_the_policy_is_compared_with_the_reference(gpt, tokenizer):
    gpt.set_dropout(0.5)
    train, _ = polite_preferences()
    data = with_reference(encode_preferences(train[:8], CHAT, tokenizer, 64), gpt)
    history = fit_preferences(gpt, data, data, FitSettings(epochs=1, batch_size=8))
    assert history.losses[0][1] == pytest.approx(math.log(2), abs=1e-5)


def test_dpo_raises_the_margin_of_held_out_preferences(gpt, tokenizer):
    train, test = polite_preferences()
    people = {p.instruction for p in train} & {p.instruction for p in test}
    assert not people, "the test is about other people"
    both = [Instruction(p.instruction, "", a) for p in train for a in (p.chosen, p.rejected)]
    answers = encode_instructions(both, CHAT, tokenizer, 64)
    settings = FitSettings(epochs=1, batch_size=16, learning_rate=3e-3)
    fit_instructions(gpt, answers, answers, settings)
    pairs = [with_reference(encode_preferences(p, CHAT, tokenizer, 64), gpt) for p in (train, test)]
    history = fit_preferences(
        gpt, *pairs, FitSettings(epochs=2, batch_size=8, learning_rate=1e-3), beta=0.1
    )
    margins = history.column("margin")
    assert abs(margins[0]) < 1e-4
    assert margins[history.best] > 0.5
    after = history.evaluations[history.best]
    assert after["accuracy"] > 0.9
    assert after["chosen_reward"] > after["rejected_reward"]
    assert after["loss"] < 0.5 < history.column("loss")[0]


def test_bad_pairs_are_named(gpt, tokenizer):
    encode = lambda *pairs: encode_preferences(pairs, CHAT, tokenizer, 64)  # noqa: E731
    with pytest.raises(DataError, match="at least one pair"):
        encode()
    with pytest.raises(DataError, match="pair 0 needs two different answers"):
        encode(Preference("Say", "yes", "yes"))
    with pytest.raises(DataError, match="pair 1 needs two different answers"):
        encode(Preference("Say", "yes", "no"), Preference("Say", " ", "no"))
    with pytest.raises(DataError, match="more than 64"):
        encode(Preference("Say", "yes " * 90, "no"))
    data = encode(Preference("Say", "yes", "no"))
    with pytest.raises(ConfigError, match="with_reference"):
        fit_preferences(gpt, data, data, FitSettings())
    with pytest.raises(ConfigError, match="beta"):
        evaluate_preferences(gpt, with_reference(data, gpt), beta=0)
