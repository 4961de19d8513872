"""Generation: cached equals uncached, rows do not disturb each other, and the window slides."""

import numpy as np
import pytest
from generation_model import CONTEXT, VOCAB, tiny_gpt
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm import errors
from tinygrad_llm.generation import generate as generate_module
from tinygrad_llm.generation.beam_search import beam_search
from tinygrad_llm.generation.generate import stream, window_start
from tinygrad_llm.generation.generate_text import generate_text, stream_text
from tinygrad_llm.generation.sampling import Sampling, log_softmax
from tinygrad_llm.generation.scoring import choose_answer, next_tokens, token_logprobs
from tinygrad_llm.tokenizers import CharTokenizer

MODEL = tiny_gpt()
PROMPT = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=CONTEXT + 4)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.7, 2.0]),
        "top_k": st.integers(1, VOCAB),
        "top_p": st.floats(0.3, 1),
        "min_p": st.floats(0, 0.5),
        "repetition_penalty": st.floats(0.8, 2),
        "slide": st.integers(1, CONTEXT + 2),
        "stop_ids": st.lists(st.integers(0, VOCAB - 1), max_size=2),
    },
)


def greedy_by_hand(model, prompt, n):
    """The book's loop: the whole window through the model, the best token to the end."""
    model.eval()
    ids = list(prompt)
    for _ in range(n):
        logits = model([ids[-CONTEXT:]]).numpy()[0, -1]
        ids.append(int(logits.argmax()))
    model.train()
    return ids


def _lists(out):
    return [list(row) for row in out]


def test_greedy_equals_the_plain_loop_also_past_the_context():
    for prompt in ([5], [3, 1, 4, 1, 5], list(range(CONTEXT)), list(range(CONTEXT + 5))):
        wanted = greedy_by_hand(MODEL, prompt, 20)
        assert tg.generate(MODEL, prompt, 20, temperature=0).tolist() == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(PROMPT, min_size=1, max_size=4), SETTINGS, st.integers(0, 2**64 - 1))
def test_cached_and_uncached_are_equal(prompts, options, seed):
    cached = tg.generate(MODEL, prompts, 15, seed=seed, **options)
    uncached = tg.generate(MODEL, prompts, 15, seed=seed, use_cache=False, **options)
    assert _lists(cached) == _lists(uncached)


@pytest.mark.parametrize("rows_at_once", [1, 2, 7])
def test_long_prompts_are_read_in_parts(monkeypatch, rows_at_once):
    prompts = [list(range(CONTEXT + 3)), [5], [1, 2, 3, 4, 5, 6]]
    wanted = tg.generate(MODEL, prompts, 10, temperature=0, use_cache=False)
    monkeypatch.setattr(generate_module, "PREFILL_ROWS", rows_at_once)
    got = tg.generate(MODEL, prompts, 10, temperature=0)
    assert _lists(got) == _lists(wanted)


@settings(max_examples=30, deadline=None)
@given(st.lists(PROMPT, min_size=1, max_size=4), st.integers(0, 1000))
def test_a_row_does_not_depend_on_the_others(prompts, seed):
    batch = tg.generate(MODEL, [*prompts, [1]], 10, seed=seed)
    alone = tg.generate(MODEL, prompts[0], 10, seed=seed)
    assert list(batch[0][: len(alone)]) == list(alone)
    greedy = tg.generate(MODEL, prompts, 10, temperature=0)
    for row, prompt in zip(greedy, prompts, strict=True):
        assert list(row) == list(tg.generate(MODEL, prompt, 10, temperature=0))


def test_seeds():
    draw = {"max_new_tokens": 12, "temperature": 1.5}
    a = tg.generate(MODEL, [1, 2], seed=7, **draw)
    assert np.array_equal(a, tg.generate(MODEL, [1, 2], seed=7, **draw))
    assert not np.array_equal(a, tg.generate(MODEL, [1, 2], seed=8, **draw))
    tg.manual_seed(5)
    b = [tg.generate(MODEL, [1, 2], **draw) for _ in range(2)]
    tg.manual_seed(5)
    assert np.array_equal(b[0], tg.generate(MODEL, [1, 2], **draw))
    assert not np.array_equal(b[0], b[1])
    same = tg.generate(MODEL, [[1, 2], [1, 2]], seed=7, **draw)
    assert np.array_equal(same[0], a)  # the first row draws as it does alone
    second = (7 + 0x9E3779B97F4A7C15) % 2**64
    assert np.array_equal(same[1], tg.generate(MODEL, [1, 2], seed=second, **draw))
    assert not np.array_equal(same[0], same[1])


def test_forms_of_prompts():
    as_list = tg.generate(MODEL, [[1, 2], [3, 4]], 3, temperature=0)
    assert as_list.shape == (2, 5)
    assert as_list.dtype == np.int64
    for ids in (np.array([[1, 2], [3, 4]], np.int32), tg.tensor([[1, 2], [3, 4]])):
        assert np.array_equal(tg.generate(MODEL, ids, 3, temperature=0), as_list)
    assert np.array_equal(tg.generate(MODEL, np.array([1, 2]), 3, temperature=0), as_list[0])
    ragged = tg.generate(MODEL, [[1, 2], [3]], 3, temperature=0)
    assert [len(row) for row in ragged] == [5, 4]
    assert tg.generate(MODEL, [1, 2], 0).tolist() == [1, 2]


def test_stop_ids_end_a_row_and_fill_it_up():
    free = tg.generate(MODEL, [[1, 2], [7, 8]], 15, temperature=0)
    stop = int(free[0, 4])
    out = tg.generate(MODEL, [[1, 2], [7, 8]], 15, temperature=0, stop_ids=[stop])
    for row, whole in zip(out, free, strict=True):
        new = whole[2:].tolist()
        length = new.index(stop) + 1 if stop in new else len(new)
        assert row[2 : 2 + length].tolist() == new[:length]
        assert set(row[2 + length :].tolist()) <= {stop}
    ragged = tg.generate(MODEL, [[1, 2], [7]], 15, temperature=0, stop_ids=[stop])
    assert ragged[0][-1] == stop
    assert stop not in ragged[0][2:-1]


def test_logprobs_are_the_models(monkeypatch):
    ids, logprobs = tg.generate(MODEL, [4, 2], 6, seed=3, top_k=4, return_logprobs=True)
    logits = MODEL.eval()([ids.tolist()]).numpy()[0]
    MODEL.train()
    wanted = [log_softmax(logits[t])[ids[t + 1]] for t in range(1, 7)]
    np.testing.assert_allclose(logprobs, wanted, rtol=1e-9)


def test_streaming_yields_each_token_at_once_and_can_be_left():
    calls = []
    real = MODEL.hidden
    MODEL.hidden = lambda *args, **kwargs: calls.append(args[0].shape) or real(*args, **kwargs)
    try:
        steps = stream(MODEL, [[1, 2, 3], [4, 5, 6]], 50, Sampling(temperature=0))
        next(steps)
        assert calls == [(2, 3)]
        next(steps)
        assert calls == [(2, 3), (2, 1)]
        steps.close()
    finally:
        del MODEL.hidden
    assert all(module.training for module in MODEL.modules())


def test_rows_that_ended_are_not_computed_any_more():
    free = tg.generate(MODEL, [[1, 2], [7, 8]], 15, temperature=0)
    stop = next(int(t) for t in free[0, 2:] if t not in free[1, 2:])
    at = free[0, 2:].tolist().index(stop)
    steps = list(stream(MODEL, [[1, 2], [7, 8]], 15, Sampling(temperature=0), stop_ids=[stop]))
    assert [len(step.rows) for step in steps] == [2] * (at + 1) + [1] * (14 - at)


def test_a_short_row_goes_on_after_the_long_one_beside_it_has_ended():
    long, short = list(range(CONTEXT - 1)), [5]
    stop = int(tg.generate(MODEL, long, 1, temperature=0)[-1])
    alone = tg.generate(MODEL, short, 8, temperature=0, stop_ids=[stop])
    assert len(alone) == 9, "choose another prompt: this one ends early"
    batch = tg.generate(MODEL, [long, short], 8, temperature=0, stop_ids=[stop])
    assert batch[0].tolist() == [*long, stop]
    assert batch[1].tolist() == alone.tolist()


def test_modes_are_put_back_and_no_graph_is_kept():
    model = tiny_gpt(1)
    model.blocks[0].eval()
    before = [module.training for module in model.modules()]
    tg.generate(model, [1], 3)
    assert [module.training for module in model.modules()] == before
    assert all(p.grad is None for p in model.parameters())


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_window(length, context, slide):
    slide = min(slide, context)
    start = window_start(length, context, slide)
    assert length - start <= context
    assert start == 0 if length <= context else length - start > context - slide
    assert start % slide == 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "empty"),
        ([[]], "empty"),
        ([[1], []], "empty"),
        ("text", "Encode"),
        (3, "Encode"),
        ([1.5], "integers"),
        (np.zeros((1, 1, 1), int), "shape"),
        (np.zeros((0, 3), int), "empty"),
        ([[1], [[2]]], "integers"),
    ],
)
def test_prompts_that_make_no_sense(ids, message):
    with pytest.raises(errors.GenerationError, match=message):
        tg.generate(MODEL, ids, 3)


def test_other_arguments_that_make_no_sense():
    with pytest.raises(errors.GenerationError, match="max_new_tokens"):
        tg.generate(MODEL, [1], -1)
    with pytest.raises(errors.GenerationError, match="slide"):
        tg.generate(MODEL, [1], 1, slide=0)
    with pytest.raises(errors.GenerationError, match="seed"):
        tg.generate(MODEL, [1], 1, seed=-1)
    with pytest.raises(errors.IndexRangeError, match="31"):
        tg.generate(MODEL, [VOCAB], 1)


def diverged(dtype="float64"):
    model = tiny_gpt().to(dtype)
    model.final_norm.weight.data[1] = np.nan
    return model


WAYS = {
    "greedy": lambda model: tg.generate(model, [1, 2], 3, temperature=0),
    "drawn, one token": lambda model: tg.generate(model, [1, 2], 1, seed=0),
    "several rows": lambda model: tg.generate(model, [[1, 2], [3, 4]], 3, seed=0),
    "without a cache": lambda model: tg.generate(model, [1, 2], 3, use_cache=False),
    "top k": lambda model: tg.generate(model, [1, 2], 3, top_k=3),
    "top p": lambda model: tg.generate(model, [1, 2], 3, top_p=0.5),
    "min p": lambda model: tg.generate(model, [1, 2], 3, min_p=0.1),
    "penalty": lambda model: tg.generate(model, [1, 2], 3, repetition_penalty=1.2),
    "text": lambda model: generate_text(model, LETTERS, ["ab"], 3),
    "text in pieces": lambda model: list(stream_text(model, LETTERS, "ab", 3)),
    "beams": lambda model: beam_search(model, [1, 2], 3, 2),
    "scored": lambda model: token_logprobs(model, [1, 2, 3]),
    "answer chosen": lambda model: choose_answer(model, LETTERS, "ab", ["c", "d"]),
    "next tokens": lambda model: next_tokens(model, LETTERS, "ab"),
}
LETTERS = CharTokenizer.train("abcdefghijklmnopqrstuvwxyz ,.!?")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_diverged_model_is_an_error_that_names_the_weight(way):
    with pytest.raises(
        errors.NumericsError, match=r"got \d+ NaN .* 'final_norm.weight' has 1 NaN and 0 infinite"
    ):
        way(diverged())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_overflow_is_an_error_that_names_the_op():
    model = tiny_gpt().to("float32")
    model.final_norm.weight.data[...] = 3e38
    model.token_embedding.weight.data[...] *= 1e3
    with pytest.raises(
        errors.NumericsError, match="weights are finite. It began here: forward of op 'add_layer"
    ):
        tg.generate(model, [1, 2], 3)
    assert model.training


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_diverged_model_of_half_precision(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    with pytest.raises(errors.NumericsError, match="NaN"):
        tg.generate(diverged(dtype), [1, 2], 2)
