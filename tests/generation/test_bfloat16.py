"""Generation from rounded weights: near the scores of float32, each weight packed once."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.generation.beam_search import beam_search
from tinygrad_llm.generation.generate import stream
from tinygrad_llm.generation.sampling import Sampling

pytestmark = pytest.mark.usefixtures("matrix_units_on")


@pytest.fixture
def model():
    tg.manual_seed(0)
    return tg.nn.GPT(tg.nn.GPTConfig(300, 64, n_layer=2, n_head=2, n_embd=64))


@pytest.fixture
def packed(monkeypatch):
    """The shapes that were packed, in order."""
    numkong = pytest.importorskip("numkong")
    shapes, pack = [], numkong.dots_pack
    monkeypatch.setattr(numkong, "dots_pack", lambda x: shapes.append(x.shape) or pack(x))
    return shapes


def scores(model, precision, prompts=((5, 9, 7),)):
    with tg.float32_matmul_precision(precision):
        steps = stream(model, [list(p) for p in prompts], 6, Sampling(temperature=0))
        return np.stack([step.logits for step in steps])


@pytest.mark.parametrize("prompts", [((5, 9, 7),), ((5, 9, 7), (1, 2, 3)), ((1,), (2, 3, 4))])
def test_scores_stay_near_those_of_float32(model, prompts):
    exact, rounded = (scores(model, name, prompts) for name in ("highest", "medium"))
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 1e-2


def test_a_weight_is_packed_once(model, packed):
    with tg.float32_matmul_precision("medium"):
        steps = stream(model, [[5, 9, 7]], 6, Sampling(temperature=0))
        next(steps)
        next(steps)
        after_two = len(packed)
        list(steps)
    assert after_two == len(packed) > 0


def test_weights_that_change_between_tokens_are_seen(model):
    with tg.float32_matmul_precision("medium"):
        steps = stream(model, [[5, 9, 7]], 3, Sampling(temperature=0))
        next(steps)
        next(steps)
        with tg.no_grad():
            model.token_embedding.weight.mul_(0.0)  # the tied head
        assert not next(steps).logits.any()


def test_beams(model, packed):
    with tg.float32_matmul_precision("medium"):
        best = beam_search(model, [5, 9, 7], max_new_tokens=4, n_beams=2)
    assert len(best) == 2
    assert packed
