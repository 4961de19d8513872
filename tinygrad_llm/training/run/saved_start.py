"""Training on from a saved model (``init_from``): its size, its tokenizer, its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygrad_llm.errors import ConfigError
from tinygrad_llm.generation.open_checkpoint import find_checkpoint
from tinygrad_llm.nn.own_file import saved_settings
from tinygrad_llm.nn.registry import kind_named
from tinygrad_llm.pretrained import SIZES, gpt2_config, read_config
from tinygrad_llm.training.settings.config import TrainConfig

# Settings that a saved model has decided already.
_DECIDED = ("vocab_size", "n_layer", "n_head", "n_embd", "qkv_bias", "tie_weights")
_WITHIN_A_RUN = r"best|last|checkpoints|step-\d+"  # folders that name no run


def start_of(init_from: str) -> str | Path:
    """The name of a published model, or the folder of the checkpoint that is meant.

    Raises:
        CheckpointError: there is none.
    """
    is_name = init_from in SIZES and not Path(init_from).is_dir()
    return init_from if is_name else find_checkpoint(Path(init_from))


def saved_config(init_from: str) -> tuple[str, Any]:
    """The registered name and the configuration of the model that is meant, without its weights.

    Raises:
        CheckpointError: there is none, or its configuration is damaged.
    """
    start = start_of(init_from)
    if not isinstance(start, Path):
        return "gpt", gpt2_config(start)
    own = saved_settings(start)
    if own is None:
        return "gpt", read_config(start)
    name, values = own
    return name, kind_named(name).config_of(values)


def as_saved(chosen: Mapping[str, object]) -> dict[str, object]:
    """The chosen settings, with what the model of ``init_from`` decides filled in.

    Its size and its tokenizer are the saved model's. The context length may be smaller: the run
    then trains on shorter windows.

    Raises:
        ConfigError: a setting was chosen that differs from the model's.
        CheckpointError: there is no such model.
    """
    start = str(chosen.get("init_from") or "")
    if not start:
        return dict(chosen)
    kind, have = saved_config(start)
    decided = {name: getattr(have, name) for name in _DECIDED if hasattr(have, name)}
    decided["model"] = kind
    other = [name for name in decided if chosen.get(name, decided[name]) != decided[name]]
    if other:
        listed = "; ".join(f"{name}: {decided[name]}, not {chosen[name]}" for name in other)
        raise ConfigError(
            f"--init-from {start}: a saved model keeps its size ({listed}). Leave these settings "
            "out of flags, preset and file, or leave --init-from out to begin a model of that size."
        )
    context = min(have.context_length, TrainConfig.context_length)
    tokenizer = str(start_of(start))
    return {"context_length": context, "tokenizer": tokenizer, **chosen, **decided}


def name_of(init_from: str) -> str:
    """A name for folders: ``runs/novel/best`` -> ``novel``, ``gpt2`` -> ``gpt2``."""
    parts = [part for part in Path(init_from).parts if not re.fullmatch(_WITHIN_A_RUN, part)]
    return parts[-1] if parts else "saved"
