"""``model.json``, which describes a model of one's own: read, and built without believing it.

Sizes in it may be anything, in a file that is damaged or made to do harm. So the weights' file is
opened first, and the model may not have many more numbers than stand there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import saved_folder
from tinygrad_llm.backend.checksums import Files
from tinygrad_llm.backend.random import default_generator
from tinygrad_llm.errors import CheckpointError, ConfigError, TinygradLLMError
from tinygrad_llm.nn import init
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.registry import Kind
from tinygrad_llm.pretrained.config_file import CONFIG_NAME, OWN_NAME, read_json
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile
from tinygrad_llm.pretrained.sources import WEIGHTS_NAME

FORMAT, VERSION = "tinygrad_llm model", 1
# A class may give a layer its values twice, or replace what its base class has made.
_TIMES, _BESIDES = 4, 1 << 16
# What the code of a class raises where a setting has another type or size than it thought of.
_FROM_SETTINGS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_own(folder: Path) -> dict[str, Any]:
    """The content of ``model.json``.

    Raises:
        CheckpointError: it is missing or damaged, or of another version.
    """
    path = folder / OWN_NAME
    body = read_json(path)
    kinds = {"model": str, "config": dict, "parts": dict}
    if body.get("format") != FORMAT or not all(
        isinstance(body.get(key), kind) for key, kind in kinds.items()
    ):
        raise CheckpointError(f"{path}: is damaged, or no model of this package.")
    if body.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: has version {body.get('version')!r:.80}, this package reads {VERSION}. "
            "Update it."
        )
    return body


def weights_of(body: Mapping[str, Any]) -> Files:
    """The weights' checksum, which ``model.json`` carries where there is no ``checksums.json``."""
    weights = body.get("weights")
    if not isinstance(weights, dict) or not {"bytes", "sha256"} <= weights.keys():
        return {}
    return {WEIGHTS_NAME: weights}


def saved_settings(folder: Path) -> tuple[str, Mapping[str, Any]] | None:
    """The registered name and the configuration of a model of one's own; None of a plain GPT.

    Raises:
        CheckpointError: as `read_own`.
    """
    saved_folder.verify(folder, (CONFIG_NAME, OWN_NAME))
    if not (folder / OWN_NAME).is_file():
        return None
    body = read_own(folder)
    return body["model"], body["config"]


def build(kind: Kind, config: Any) -> Module:
    """A new model of the class; the numbers that follow from `tg.manual_seed` stay as they are."""
    random = default_generator()
    place = random.place()
    try:
        return kind.build(config)
    finally:
        random.go_to(place)


def build_for(weights: SafetensorsFile, kind: Kind, settings: Mapping[str, Any]) -> Module:
    """A new model of the class, to be filled from a file.

    Raises:
        CheckpointError: the settings ask for a much larger model than the file holds.
        ConfigError: the class does not take the settings.
    """
    file = weights.path.with_name(OWN_NAME)
    there = sum(math.prod(weights.shape(name)) for name in weights)
    refusal = (
        f"{file}: the settings ask for a much larger model than {WEIGHTS_NAME} holds, which has "
        f"{there:,} numbers. Check that both files are of one model."
    )
    try:
        with init.at_most(_TIMES * there + _BESIDES, refusal):
            return build(kind, kind.config_of(settings))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    except _FROM_SETTINGS as error:
        if isinstance(error, TinygradLLMError):
            raise
        raise ConfigError(
            f"{file}: {kind.model.__name__} cannot be built with these settings "
            f"({error!r:.200}). Check them, or use the class as it was."
        ) from error
