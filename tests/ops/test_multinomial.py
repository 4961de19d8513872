"""multinomial: the ends of the interval that it draws from."""

import numpy as np
import pytest

import tinygrad_llm as tg


class Fixed:
    """A generator that draws one number."""

    def __init__(self, number):
        self.number = number

    def uniform(self, shape):
        return np.full(shape, self.number)


@pytest.mark.parametrize("number", [0.0, 0.5, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("weights", [[0, 1, 0], [0, 0.3, 0.4, 0.7, 0], [0, 1 / 3, 0], [0, 1e-300]])
def test_nothing_of_weight_zero_is_drawn_at_the_ends(weights, number):
    weights = tg.tensor(np.array(weights, float))
    for replacement in (True, False):
        drawn = tg.multinomial(weights, 1, replacement, generator=Fixed(number)).data
        assert weights.data[drawn].all()
