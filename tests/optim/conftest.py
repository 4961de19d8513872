"""Shared by the tests of optimizers."""

import numpy as np
import pytest

import tinygrad_llm as tg


@pytest.fixture
def rng():
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _seed():
    tg.manual_seed(0)
