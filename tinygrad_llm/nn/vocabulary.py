"""Room for new tokens in a model that exists already.

tokenizer = tokenizer.with_special_tokens(["<|user|>", "<|assistant|>"])
tg.nn.extend_vocabulary(model, tokenizer.vocab_size)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinygrad_llm.backend import to_device, to_numpy
from tinygrad_llm.backend.random import Generator, default_generator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.nn.gpt import GPT
from tinygrad_llm.nn.parameter import Parameter

_NOISE = 0.01  # of the spread of the old rows: enough to tell the new tokens apart


def extend_vocabulary(model: GPT, vocab_size: int, generator: Generator | None = None) -> GPT:
    """Give the embedding (and an untied head) rows for new tokens; the model is changed.

    A new row is the mean of the old ones and a little noise. The mean keeps the probabilities of
    the old tokens about as they were, since the new token's score then is no outlier; rows drawn
    at random can take nearly all of the probability.

    Args:
        model: a GPT. Make optimizers after this call.
        vocab_size: the new size.
        generator: of the noise, by default the one of `tg.manual_seed`.

    Returns:
        the model.

    Source: Hewitt, "Initializing new word embeddings for pretrained language models", 2021.

    Raises:
        ConfigError: the vocabulary would shrink.
    """
    old = model.config.vocab_size
    if vocab_size < old:
        raise ConfigError(
            f"extend_vocabulary: the model has {old} tokens already, more than {vocab_size}; "
            "tokens can only be added."
        )
    random = generator or default_generator()
    _add_rows(model.token_embedding.weight, vocab_size - old, random)
    model.token_embedding.num_embeddings = vocab_size
    if model.head is not None:
        _add_rows(model.head.weight, vocab_size - old, random)
        model.head.out_features = vocab_size
    model.config = replace(model.config, vocab_size=vocab_size)
    return model


def _add_rows(weight: Parameter, n: int, random: Generator) -> None:
    rows = to_numpy(weight.data)  # (V, C)
    noise = random.normal((n, rows.shape[1]), _NOISE * float(rows.std()))
    new = (rows.mean(axis=0, dtype=np.float64) + noise).astype(rows.dtype)  # (n, C)
    weight.replace_data(to_device(np.concatenate([rows, new]), weight.device))
