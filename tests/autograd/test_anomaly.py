"""Anomaly mode: the first op that made a NaN, and writes that nobody recorded."""

import numpy as np
import pytest

import tinygrad_llm as tg


def leaf(*shape, seed=0):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def test_anomaly_names_the_first_op_and_its_ranges():
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        with pytest.raises(tg.errors.NumericsError, match=r"forward of op 'log'.*range \[0, 1\]"):
            (x.log() * 0.0).sum()
        with pytest.raises(tg.errors.NumericsError, match="backward of op 'sqrt'"):
            x.sqrt().sum().backward()


def test_anomaly_allows_a_mask_of_minus_infinity():
    x = leaf(2, 2)
    with tg.detect_anomaly():
        x.masked_fill(np.eye(2, dtype=bool), -np.inf).exp().sum().backward()
    assert np.isfinite(x.grad).all()


def test_anomaly_sees_plain_numpy_writes():
    x = leaf(3)
    with tg.detect_anomaly():
        y = x.exp()
        y.data[0] = 9.0
        with pytest.raises(tg.errors.GraphError, match="overwritten"):
            y.sum().backward()
