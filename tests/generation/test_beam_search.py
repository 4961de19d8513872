"""Beam search against looking at every continuation there is."""

import itertools

import numpy as np
import pytest
from generation_model import CONTEXT, tiny_gpt

import tinygrad_llm as tg
from tinygrad_llm import errors
from tinygrad_llm.commands.generate import room_for_beams
from tinygrad_llm.generation.beam_search import beam_search
from tinygrad_llm.generation.sampling import log_softmax

MODEL = tiny_gpt(4, vocab=5).eval()
PROMPT = [1, 3]


def every_continuation(n, stop_ids=()):
    """All texts of up to n new tokens that end with a stop id or at the length."""
    found = {}
    for tail in itertools.product(range(5), repeat=n):
        end = next((i for i, t in enumerate(tail) if t in stop_ids), n - 1) + 1
        found[tail[:end]] = None
    for tail in found:
        ids = [*PROMPT, *tail]
        logprobs = log_softmax(MODEL([ids]).numpy()[0])
        found[tail] = sum(logprobs[len(PROMPT) + i - 1, t] for i, t in enumerate(tail))
    return found


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("stop_ids", [(), (2,), (0, 4)])
def test_wide_beams_find_the_best_of_all(penalty, stop_ids):
    scores = {
        tail: logprob / len(tail) ** penalty
        for tail, logprob in every_continuation(4, stop_ids).items()
    }
    wanted = sorted(scores.values(), reverse=True)[:3]
    found = beam_search(MODEL, PROMPT, 4, n_beams=125, length_penalty=penalty, stop_ids=stop_ids)
    np.testing.assert_allclose([beam.score for beam in found[:3]], wanted, rtol=1e-9)
    best = tuple(found[0].ids[len(PROMPT) :].tolist())
    assert scores[best] == pytest.approx(wanted[0])


def plain_beam_search(n, n_beams, penalty, stop_ids):
    """No cache, all candidates sorted, every beam followed to the end."""
    beams, done = [(0.0, [])], []
    for length in range(1, n + 1):
        grown = []
        for total, tail in beams:
            logprobs = log_softmax(MODEL([[*PROMPT, *tail]]).numpy()[0, -1])
            grown += [(total + logprobs[t], [*tail, t]) for t in range(5)]
        grown.sort(reverse=True)
        allowed = grown[: n_beams * (len(stop_ids) + 1)]
        ended = [g for g in allowed if length == n or g[1][-1] in stop_ids]
        done += [(total / len(tail) ** penalty, tail) for total, tail in ended]
        beams = [g for g in allowed if g not in ended][:n_beams]
    return sorted(done, reverse=True)[:n_beams]


@pytest.mark.parametrize("n_beams", [1, 2, 3, 6])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("stop_ids", [(), (0,), (2,), (3,), (1, 4)])
def test_narrow_beams_equal_the_plain_search(n_beams, penalty, stop_ids):
    wanted = plain_beam_search(6, n_beams, penalty, stop_ids)
    got = beam_search(MODEL, PROMPT, 6, n_beams, penalty, stop_ids)
    np.testing.assert_allclose([b.score for b in got], [score for score, _ in wanted], rtol=1e-9)
    assert [b.ids[len(PROMPT) :].tolist() for b in got] == [tail for _, tail in wanted]


def test_one_beam_is_greedy_and_more_are_no_worse():
    greedy = tg.generate(MODEL, PROMPT, 8, temperature=0)
    one = beam_search(MODEL, PROMPT, 8, n_beams=1)
    assert np.array_equal(one[0].ids, greedy)
    many = beam_search(MODEL, [PROMPT], 8, n_beams=6)
    assert len(many) == 6
    assert many[0].score >= one[0].score
    assert [b.score for b in many] == sorted((b.score for b in many), reverse=True)


def test_arguments_that_make_no_sense():
    with pytest.raises(errors.GenerationError, match="one prompt"):
        beam_search(MODEL, [[1], [2]], 3)
    with pytest.raises(errors.GenerationError, match="context_length=12"):
        beam_search(MODEL, [1] * CONTEXT, 1)


@pytest.mark.parametrize(
    ("n_prompt", "wanted", "room"),
    [
        (5, None, (27, 5)),  # 200, or what is left
        (32, None, (8, 24)),
        (900, None, (8, 24)),
        (5, 20, (20, 5)),
        (13, 30, (30, 2)),
        (1, 31, (31, 1)),
    ],
)
def test_beams_of_the_command_fit_into_the_context(n_prompt, wanted, room):
    assert room_for_beams(n_prompt, 32, wanted) == room
    assert room_for_beams(n_prompt, 1000, None) == (min(200, 1000 - n_prompt), n_prompt)


def test_beams_that_leave_no_room_for_a_prompt_are_refused():
    with pytest.raises(errors.ConfigError, match="--tokens 32: .*31 at most"):
        room_for_beams(1, 32, 32)
