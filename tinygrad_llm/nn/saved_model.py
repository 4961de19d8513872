"""Saving and loading models of one's own: a name, a configuration and numbers; never code.

    model.json          the registered name, the configuration, the class of each part
    model.safetensors   parameters and buffers by their names
    tokenizer files     if one was given
    checksums.json      of all of these

A plain GPT is written as transformers reads it (`GPT.save_pretrained`); both functions take both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinygrad_llm.backend import parse_device, saved_folder
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.backend.files import reading_errors, write_atomic
from tinygrad_llm.backend.saved_folder import reading, saving, settle
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.gpt_config import GPTConfig
from tinygrad_llm.nn.gpt import GPT
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.own_file import FORMAT, VERSION, build, build_for, read_own, weights_of
from tinygrad_llm.nn.registry import Kind, kind_named, kind_of
from tinygrad_llm.nn.same_parts import differing_parts, listed, part_names
from tinygrad_llm.pretrained.config_file import CONFIG_NAME, OWN_NAME
from tinygrad_llm.pretrained.plausible import is_plausible, warn_of
from tinygrad_llm.pretrained.rewritten import SIGNATURE
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile, write_safetensors
from tinygrad_llm.pretrained.sources import MODEL_FILES, WEIGHTS_NAME


class SavedTokenizer(Protocol):
    """What is needed of a tokenizer here."""

    @property
    def end_of_text_id(self) -> int | None: ...

    def save(self, folder: Path) -> object:
        """Write its files."""


def save_model(
    model: Module, folder: str | os.PathLike[str], tokenizer: SavedTokenizer | None = None
) -> None:
    """Write a model, and its tokenizer, to a folder that `load_model` reads.

    The files appear together or not at all, and with their checksums: see `saved_folder.saving`.

    Args:
        model: of a class with `register_model`, or a plain GPT.
        folder: made if need be.
        tokenizer: saved beside it, so that ``tinygrad-llm generate FOLDER`` can write.

    Raises:
        ConfigError: the class is not registered, or would not build this model again.
        CheckpointError: a file cannot be written, or a GPT has parts of one's own and its class no
            name.
    """
    kind = check_saveable(model)
    with saving(folder, "model") as staged:
        if isinstance(model, GPT) and kind.model is GPT:
            end = None if tokenizer is None else tokenizer.end_of_text_id
            special = None if tokenizer is None else {"eos_token_id": end, "bos_token_id": end}
            model.save_pretrained(staged, special)
        else:
            _write(model, kind, staged)
        if tokenizer is not None:
            tokenizer.save(staged)


def check_saveable(model: Module) -> Kind:
    """Whether the class, and its configuration, would build this very model again.

    Returns:
        what the model is saved as.

    Raises:
        ConfigError, CheckpointError: they would not; says which parts differ.
    """
    kind = kind_of(model) or (kind_of(GPT) if isinstance(model, GPT) else None)
    name = type(model).__name__
    if kind is None:
        raise ConfigError(
            f'save_model: {name} has no name to be saved by. Put @tg.nn.register_model("a-name", '
            f"ItsConfig) above the class, which is then built by {name}(ItsConfig(...))."
        )
    if isinstance(model, GPT) and kind.model is GPT:
        model.check_plain()
        return kind
    config = getattr(model, "config", None)
    if not isinstance(config, kind.config):
        raise ConfigError(
            f"save_model: {name}.config must be a {kind.config.__name__}, got "
            f"{type(config).__name__}. Set self.config = config in __init__."
        )
    _check_json(kind, config)
    found = differing_parts(model, build(kind, config))
    if found:
        raise ConfigError(
            f"save_model: {name}(config) would not build this model again: {listed(found)}. Make "
            f"these parts in the __init__ of {name}, from the configuration."
        )
    return kind


def load_model(
    folder: str | os.PathLike[str],
    model_class: type[Module] | None = None,
    device: str = "cpu",
    verify: bool = True,
) -> Module:
    """Read what `save_model` wrote; the model is in evaluation mode.

    Nothing in the folder is run or imported: its name must be registered, or the class given.

    Args:
        folder: as saved; of a plain GPT too.
        model_class: the class to build, in place of the one of the saved name.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        verify: compare the files with their checksums, if they were saved with some.

    Raises:
        ConfigError: no class of the name is registered, or it does not take the configuration.
        CheckpointError: files are missing or damaged, or of another model.
        DeviceError: the device is unknown or absent.
    """
    parse_device(device)
    path = Path(folder)
    settle(path)
    with reading_errors(path, CheckpointError):
        is_own = (path / OWN_NAME).is_file()
    if not is_own:
        if model_class is not None and model_class is not GPT:
            raise CheckpointError(
                f"{path}: there is no {OWN_NAME}, so no {model_class.__name__} was saved here."
            )
        return GPT.from_pretrained(folder, device, verify=verify)
    with reading(path):
        body = read_own(path)
        saved_folder.verify(path, MODEL_FILES, weights_of(body), skip=not verify)
        kind = _kind_for(path, body, model_class)
        weights = SafetensorsFile(path / WEIGHTS_NAME)
        model = build_for(weights, kind, body["config"])
        _check_parts(path, body["parts"], part_names(model))
        _fill(model, weights)
    return model.to(device).eval()


def load_gpt(
    folder_or_name: str | os.PathLike[str], device: str = "cpu", verify: bool = True
) -> GPT:
    """`load_model` for what needs a GPT, of any subclass, such as fine-tuning; or one by name.

    Raises:
        ConfigError, CheckpointError, DeviceError: as `load_model`, and for a model that is no GPT.
    """
    return as_gpt(load_model(folder_or_name, device=device, verify=verify))


def as_gpt(model: Module) -> GPT:
    """The model, for what needs a GPT or a subclass.

    Raises:
        ConfigError: it is another one.
    """
    if not isinstance(model, GPT):
        raise ConfigError(
            f"{type(model).__name__}: this needs tg.nn.GPT or a subclass of it (hidden, logits); "
            "fine-tune another model with a loop of your own."
        )
    return model


def _write(model: Module, kind: Kind, folder: Path) -> None:
    body = {
        "format": FORMAT,
        "version": VERSION,
        "model": kind.name,
        "class": f"{kind.model.__module__}.{kind.model.__qualname__}",
        "config": asdict(model.config),  # type: ignore[attr-defined]
        "parts": part_names(model),
    }
    with saving(folder, "model", instead_of=(CONFIG_NAME,)) as staged:
        arrays = {name: t.data for name, t in model.state_dict().items()}
        write_safetensors(staged / WEIGHTS_NAME, arrays, SIGNATURE)
        write_atomic(staged / OWN_NAME, (json.dumps(body, indent=1) + "\n").encode("utf-8"))


def _check_parts(folder: Path, saved: Mapping[str, str], built: Mapping[str, str]) -> None:
    found = [
        f"{path} ({built.get(path, 'none')}, saved was {saved.get(path, 'none')})"
        for path in {**saved, **built}
        if saved.get(path) != built.get(path)
    ]
    if found:
        raise CheckpointError(
            f"{folder}: the class has changed since it was saved: {listed(found)}. Use it as it "
            "was, or load the numbers that still fit with load_state_dict(..., strict=False)."
        )


def _check_json(kind: Kind, config: Any) -> None:
    try:
        again = kind.config_of(json.loads(json.dumps(asdict(config))))
    except TypeError as error:
        again, why = None, f" ({error})"
    else:
        why = ""
    if again != config:
        raise ConfigError(
            f"save_model: {kind.config.__name__} does not come back from JSON as it was{why}. Use "
            "numbers, text, booleans, lists and None in its fields."
        )


def _kind_for(folder: Path, body: Mapping[str, Any], model_class: type[Module] | None) -> Kind:
    if model_class is None:
        try:
            return kind_named(body["model"])
        except ConfigError as error:
            raise ConfigError(
                f"{folder}: holds a {body['model']!r}, saved from {body.get('class')}; {error}"
            ) from error
    kind = kind_of(model_class)
    if kind is None and issubclass(model_class, GPT):
        kind = Kind(body["model"], model_class, GPTConfig)
    if kind is None:
        raise ConfigError(
            f"load_model: which configuration does {model_class.__name__} take? Put "
            f'@tg.nn.register_model("{body["model"]}", ItsConfig) above the class.'
        )
    return kind


def _fill(model: Module, file: SafetensorsFile) -> None:
    """Read the numbers, in the file's type; half precision becomes float32."""
    arrays = {name: file.read(name) for name in file}
    warn_of(file.path, (name for name in file if not is_plausible(arrays[name])))
    wide = {a.dtype for a in arrays.values() if is_float(a.dtype) and a.dtype.itemsize > 2}
    model.to(np.dtype("float64") if np.dtype("float64") in wide else np.dtype("float32"))
    model.load_state_dict(arrays)
