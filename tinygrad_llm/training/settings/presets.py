"""Named groups of settings, so that a first run needs no choices."""

from __future__ import annotations

from tinygrad_llm.errors import ConfigError

PRESETS: dict[str, dict[str, object]] = {
    # A few seconds: to see that everything works.
    "tiny": {
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 64,
        "context_length": 64,
        "batch_size": 8,
        "steps": 200,
        "warmup": 20,
        "tokenizer": "char",
        "eval_every": 100,
        "sample_every": 100,
        "checkpoint_every": 100,
        "learning_rate": 2e-3,
        "min_learning_rate": 2e-4,
        "eval_tokens": 8192,
        "dropout": 0.0,
    },
    # nanoGPT's settings for characters on a CPU (its README: validation loss 1.88).
    "char": {
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "context_length": 64,
        "batch_size": 12,
        "steps": 2000,
        "warmup": 100,
        "tokenizer": "char",
        "learning_rate": 1e-3,
        "min_learning_rate": 1e-4,
        "beta2": 0.99,
        "weight_decay": 0.1,
        "dropout": 0.0,
        "eval_every": 250,
        "sample_every": 500,
        "checkpoint_every": 500,
    },
    # The defaults, written out: two cores, 3 to 7 minutes, own byte-pair encoding on the
    # Python manual. So small a text is learned by heart with a large vocabulary: with 1024 tokens
    # the validation loss ends at the bigram entropy, with 320 a quarter below it.
    "small": {
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "context_length": 128,
        "batch_size": 16,
        "steps": 1000,
        "warmup": 100,
        "tokenizer": "bpe",
        "vocab_size": 320,
        "dropout": 0.05,
        "learning_rate": 2e-3,
        "min_learning_rate": 2e-4,
    },
    # nanoGPT's small Shakespeare model; an hour on a CPU, a minute on a GPU.
    "medium": {
        "n_layer": 6,
        "n_head": 6,
        "n_embd": 384,
        "context_length": 256,
        "batch_size": 32,
        "steps": 5000,
        "warmup": 100,
        "tokenizer": "char",
        "learning_rate": 1e-3,
        "min_learning_rate": 1e-4,
        "dropout": 0.2,
        "eval_every": 250,
        "sample_every": 500,
        "checkpoint_every": 500,
        "order": "crops",
    },
    # GPT-2, the smallest published size, trained as nanoGPT does: wants a GPU and much text.
    "124m": {
        "n_layer": 12,
        "n_head": 12,
        "n_embd": 768,
        "context_length": 1024,
        "batch_size": 12,
        "accumulate": 40,
        "steps": 600_000,
        "warmup": 2000,
        "tokenizer": "gpt2",
        "dtype": "bfloat16",
        "learning_rate": 6e-4,
        "min_learning_rate": 6e-5,
        "beta2": 0.95,
        "weight_decay": 0.1,
        "dropout": 0.0,
        "order": "crops",
        "eval_every": 1000,
        "sample_every": 1000,
        "checkpoint_every": 1000,
        "validation_fraction": 0.001,
        "eval_tokens": 200_000,
    },
}
PRESETS["355m"] = {
    **PRESETS["124m"],
    "n_layer": 24,
    "n_head": 16,
    "n_embd": 1024,
    "learning_rate": 3e-4,
    "min_learning_rate": 3e-5,
}
PRESETS["774m"] = {**PRESETS["355m"], "n_layer": 36, "n_head": 20, "n_embd": 1280}
PRESETS["1558m"] = {**PRESETS["355m"], "n_layer": 48, "n_head": 25, "n_embd": 1600}


def preset(name: str) -> dict[str, object]:
    """The settings of a preset.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}.")
    return dict(PRESETS[name])
