"""New tokens in a model that exists."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import errors, nn
from tinygrad_llm.generation.sampling import log_softmax


@pytest.mark.parametrize("tied", [True, False])
def test_old_tokens_keep_their_rows_and_nearly_their_probabilities(tmp_path, tied):
    tg.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(200, 8, 2, 2, 16, tie_weights=tied)).eval()
    before = model([[1, 2, 3]]).numpy()
    assert nn.extend_vocabulary(model, 203) is model
    after = model([[1, 2, 202]]).numpy()
    assert after.shape == (1, 3, 203)
    np.testing.assert_allclose(after[:, :2, :200], before[:, :2], rtol=1e-5, atol=1e-6)
    change = log_softmax(after[:, :2])[..., :200] - log_softmax(before[:, :2])
    assert abs(change).max() < 3 * 3 / 200
    model.loss([[200, 201, 202]], [[201, 202, 0]]).backward()
    assert np.abs(model.token_embedding.weight.grad[200:]).sum(axis=1).all()
    model.save_pretrained(tmp_path)
    assert nn.GPT.from_pretrained(tmp_path).config == model.config


def test_new_rows_differ_and_follow_the_seed():
    rows = []
    for _ in range(2):
        tg.manual_seed(1)
        model = nn.GPT(nn.GPTConfig(20, 8, 1, 2, 8))
        rows.append(nn.extend_vocabulary(model, 23).token_embedding.weight.numpy()[20:])
    assert np.array_equal(rows[0], rows[1])
    assert len(np.unique(rows[0], axis=0)) == 3


def test_a_vocabulary_cannot_shrink():
    model = nn.GPT(nn.GPTConfig(20, 8, 1, 2, 8))
    with pytest.raises(errors.ConfigError, match="20 tokens already"):
        nn.extend_vocabulary(model, 19)
