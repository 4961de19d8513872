"""``config.json`` in Hugging Face's GPT-2 form, and OpenAI's ``hparams.json``: in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.gpt_config import GPTConfig

CONFIG_NAME, HPARAMS_NAME = "config.json", "hparams.json"
OWN_NAME = "model.json"  # of a model of one's own: nn/own_file.py
_END_OF_TEXT_ID = 50256  # in GPT-2's vocabulary, and what transformers assumes by default

# Settings of Hugging Face's GPT-2 that change what is computed, with the one value that the GPT
# of this project has. (A setting that is absent has that value, too.)
_FIXED: dict[str, tuple[object, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def write_config(
    folder: Path, config: GPTConfig, extra: Mapping[str, object] | None = None
) -> None:
    """Write ``config.json``, which transformers opens as a GPT2LMHeadModel.

    Args:
        folder: an existing folder.
        config: the model's configuration.
        extra: entries to add or replace, such as ``{"eos_token_id": 7}``.

    Raises:
        CheckpointError: the file cannot be written.
    """
    content = {**_as_huggingface(config), **(extra or {})}
    path = folder / CONFIG_NAME
    try:
        write_atomic(path, (json.dumps(content, indent=2) + "\n").encode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}).") from error


def _as_huggingface(config: GPTConfig) -> dict[str, object]:
    end = _END_OF_TEXT_ID if config.vocab_size > _END_OF_TEXT_ID else None
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "tie_word_embeddings": config.tie_weights,
        "qkv_bias": config.qkv_bias,
        "bos_token_id": end,
        "eos_token_id": end,
    }


def read_config(folder: Path) -> GPTConfig:
    """The configuration that stands in a folder, from ``config.json`` or ``hparams.json``.

    Raises:
        CheckpointError: neither is there, it is damaged, or it describes another kind of model.
    """
    for name, convert in ((CONFIG_NAME, _from_huggingface), (HPARAMS_NAME, _from_hparams)):
        path = folder / name
        if path.is_file():
            content = read_json(path)
            try:
                return convert(path, content)
            except KeyError as error:
                raise CheckpointError(f"{path}: the entry {error} is missing.") from error
            except (ConfigError, TypeError) as error:
                raise CheckpointError(f"{path}: {error}") from error
    if (folder / OWN_NAME).is_file():
        raise CheckpointError(
            f"{folder}: holds a model that is no plain GPT. Open it with tg.nn.load_model(folder)."
        )
    raise CheckpointError(
        f"{folder}: there is no {CONFIG_NAME} (Hugging Face, this project) and no {HPARAMS_NAME} "
        "(OpenAI), so the model's size is not known. Check the path."
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: no such file, or it holds something else.
    """
    try:
        content = strict_json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged: no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: is damaged: expected a JSON object.")
    return content


def _from_huggingface(path: Path, content: Mapping[str, Any]) -> GPTConfig:
    for key, values in _FIXED.items():
        if content.get(key, values[0]) not in values:
            raise CheckpointError(
                f"{path}: {key} is {content[key]!r:.80}, but this GPT has {values[0]!r}. "
                "Only models of GPT-2's architecture can be loaded."
            )
    config = GPTConfig(
        vocab_size=content["vocab_size"],
        context_length=content["n_positions"],
        n_layer=content["n_layer"],
        n_head=content["n_head"],
        n_embd=content["n_embd"],
        dropout=content.get("resid_pdrop", 0.1),
        qkv_bias=content.get("qkv_bias", True),
        tie_weights=content.get("tie_word_embeddings", True),
    )
    if content.get("n_inner") not in (None, 4 * config.n_embd):
        raise CheckpointError(
            f"{path}: n_inner is {content['n_inner']!r:.80}, but this GPT's feed-forward layer is "
            f"4 * n_embd = {4 * config.n_embd} wide."
        )
    return config


def _from_hparams(path: Path, content: Mapping[str, int]) -> GPTConfig:
    return GPTConfig(
        vocab_size=content["n_vocab"],
        context_length=content["n_ctx"],
        n_layer=content["n_layer"],
        n_head=content["n_head"],
        n_embd=content["n_embd"],
    )
