"""Names that are not where they are looked for, and Python's own functions on a tensor."""

import math

import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import ShapeError


def test_numbers_are_rounded_by_python():
    t = tg.tensor(2.567)
    assert (round(t), round(t, 1), math.trunc(t)) == (3, pytest.approx(2.6), 2)
    assert [part.item() for part in divmod(tg.tensor(7), 2)] == [3, 1]
    with pytest.raises(ShapeError, match="one element"):
        round(tg.ones(2))


def test_places_as_an_index():
    mask = tg.tensor([[True, False], [False, True]])
    rows, columns = mask.nonzero(as_tuple=True)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [0, 1])
    assert tg.nonzero(mask).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("name", "place"), [("Linear", "nn"), ("layer_norm", "functional"), ("AdamW", "optim")]
)
def test_a_name_that_is_elsewhere_says_where(name, place):
    with pytest.raises(AttributeError, match=rf"'{name}': it is tg\.{place}\.{name}\."):
        getattr(tg, name)


@pytest.mark.parametrize(
    ("owner", "name", "near"),
    [
        (tg.functional, "soft_max", "softmax"),
        (tg.functional, "layernorm", "layer_norm"),
        (tg.nn, "Liner", "Linear"),
        (tg.nn, "relu", "ReLU"),
        (tg.optim, "Adamw", "AdamW"),
        (tg.ones(1), "reshpae", "reshape"),
        (tg.nn.Linear(1, 1), "foward", "forward"),
    ],
)
def test_a_misspelt_name_is_answered_everywhere(owner, name, near):
    with pytest.raises(AttributeError, match=rf"Did you mean ([\w.]+\.)?{near}\?"):
        getattr(owner, name)
