"""The settings of a GPT: which make sense, and their way through JSON."""

import json

import pytest

from tinygrad_llm import nn
from tinygrad_llm.errors import ConfigError

SMALL = nn.GPTConfig(vocab_size=11, context_length=6, n_layer=2, n_head=2, n_embd=8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embd": 10, "n_head": 4}, "multiple of n_head"),
        ({"n_layer": 0}, "n_layer must be a positive integer"),
        ({"vocab_size": 2.0}, "vocab_size"),
        ({"dropout": 1.0}, "dropout"),
        ({"qkv_bias": 1}, "qkv_bias must be True or False"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ConfigError, match=message):
        nn.GPTConfig(**{**SMALL.to_dict(), **changes})


def test_configuration_goes_through_json_and_checks_names():
    assert nn.GPTConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
    with pytest.raises(ConfigError, match="Did you mean n_layer"):
        nn.GPTConfig.from_dict({**SMALL.to_dict(), "n_layers": 2})
    with pytest.raises(ConfigError, match="missing settings: n_embd"):
        nn.GPTConfig.from_dict({k: v for k, v in SMALL.to_dict().items() if k != "n_embd"})
    with pytest.raises(ConfigError, match="expected a GPTConfig"):
        nn.GPT({"vocab_size": 3})


def test_sizes_are_those_of_the_smallest_gpt2_by_default():
    config = nn.GPTConfig(65, 64)
    assert (config.n_layer, config.n_head, config.n_embd) == (12, 12, 768)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("block_size", "context_length"), ("n_layers", "n_layer")]
)
def test_other_programs_names_are_answered(theirs, ours):
    with pytest.raises(ConfigError, match=f"no setting '{theirs}'. Did you mean {ours}"):
        nn.GPTConfig(65, **{theirs: 8})
