"""A fine-tuned classifier as a folder, and as a function from texts to classes.

Its files:

    config.json  model.safetensors  tokenizer files      the GPT body, as every model folder
    classifier.json                                      classes, threshold, how the head reads
    classifier_head.safetensors                          the head's weight and bias
    checksums.json                                       of all of these
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm import tokenizers
from tinygrad_llm.backend import saved_folder, strict_json
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.backend.saved_folder import reading, saving
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.finetuning.classification import POOLINGS, TextClassifier, probabilities_of
from tinygrad_llm.finetuning.labelled_texts import encode_texts
from tinygrad_llm.generation.open_checkpoint import in_type
from tinygrad_llm.hints import command
from tinygrad_llm.nn import init, remove_lora
from tinygrad_llm.nn.saved_model import load_gpt, save_model
from tinygrad_llm.pretrained import SafetensorsFile, write_safetensors
from tinygrad_llm.tokenizers import Tokenizer

SETTINGS_NAME, HEAD_NAME = "classifier.json", "classifier_head.safetensors"
FORMAT, VERSION = "tinygrad_llm classifier", 1


@dataclass
class Classifier:
    """A trained `TextClassifier` with all that belongs to it.

    Attributes:
        module: the network.
        tokenizer: of the GPT.
        class_names: name of each class; the last one is the positive class.
        max_length: texts are cut to so many tokens.
        threshold: with two classes, the second one is called from this probability on.
    """

    module: TextClassifier
    tokenizer: Tokenizer
    class_names: tuple[str, ...]
    max_length: int
    threshold: float = 0.5

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """p(class) of each text: (N, K)."""
        return probabilities_of(self.module, encode_texts(texts, self.tokenizer, self.max_length))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The name of each text's class."""
        return [self.class_names[k] for k in self.decide(self.probabilities(texts))]

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Class numbers (N,) from probabilities (N, K): by threshold, or the most likely."""
        if len(self.class_names) == 2:
            return (probabilities[:, 1] >= self.threshold).astype(np.int64)
        return probabilities.argmax(axis=-1)

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than what the classifier reads of it."""
        return len(self.tokenizer.encode_ordinary(text)) > self.max_length

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the folder, whole or not at all. LoRA layers are folded into the weights, for good.

        Raises:
            CheckpointError: a file cannot be written.
            ConfigError: a setting that `load` would refuse.
        """
        settings: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "class_names": list(self.class_names),
            "pooling": self.module.pooling,
            "max_length": int(self.max_length),
            "threshold": float(self.threshold),
        }
        context = self.module.gpt.config.context_length
        if (wrong := _wrong_in(settings)) is not None or self.max_length > context:
            wrong = wrong or f"max_length is {self.max_length}, the model sees {context} tokens."
            raise ConfigError(f"Classifier.save: {wrong}")
        head = {f"head.{n}": p.data for n, p in self.module.head.named_parameters()}
        remove_lora(self.module.gpt)
        with saving(folder, "model") as staged:
            save_model(self.module.gpt, staged)
            self.tokenizer.save(staged)
            write_safetensors(staged / HEAD_NAME, head)
            write_atomic(staged / SETTINGS_NAME, (json.dumps(settings, indent=1) + "\n").encode())
        return Path(folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        device: str = "cpu",
        dtype: str | None = None,
        verify: bool = True,
    ) -> Classifier:
        """Open what `save` wrote.

        Args:
            folder: that it was written to.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            dtype, verify: as for `open_checkpoint`.

        Raises:
            CheckpointError: no such folder, a file missing or damaged, or a head of another size.
        """
        folder = Path(folder)
        with reading(folder):
            saved_folder.verify(folder, (SETTINGS_NAME, HEAD_NAME), skip=not verify)
            settings = _read_settings(folder / SETTINGS_NAME)
            gpt = in_type(load_gpt(folder, device, verify), dtype)
            stored = SafetensorsFile(folder / HEAD_NAME)
            tokenizer = tokenizers.load(folder)
        context = gpt.config.context_length
        if settings["max_length"] > context:
            raise CheckpointError(
                f"{folder / SETTINGS_NAME}: is damaged: max_length is {settings['max_length']}, "
                f"but the model sees {context} tokens at most."
            )
        names = tuple(settings["class_names"])
        with init.no_init():
            module = TextClassifier(gpt, len(names), settings["pooling"])
        module.load_state_dict({n: stored.read(n) for n in stored}, strict=False)
        missing = [n for n in ("head.weight", "head.bias") if n not in stored]
        if missing:
            raise CheckpointError(f"{folder / HEAD_NAME}: {', '.join(missing)} is missing.")
        return cls(
            module.eval(),
            tokenizer,
            names,
            int(settings["max_length"]),
            float(settings["threshold"]),
        )


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = strict_json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: is missing; the folder holds no classifier. Train one: "
            f"{command('finetune', 'spam')}"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}).") from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is damaged: expected the format {FORMAT!r}.")
    if settings.get("version") != VERSION:
        raise CheckpointError(f"{path}: is of another version; expected version {VERSION}.")
    if (wrong := _wrong_in(settings)) is not None:
        raise CheckpointError(f"{path}: is damaged: {wrong}")
    return settings


def _wrong_in(settings: dict[str, Any]) -> str | None:
    """A sentence about the first setting that cannot be."""
    for name, (expected, fits) in _SETTINGS.items():
        if not fits(settings.get(name)):
            return f"{name} must be {expected}, got {settings.get(name)!r:.80}."
    return None


def _are_names(found: object) -> bool:
    return (
        isinstance(found, list)
        and len(found) >= 2
        and all(isinstance(name, str) for name in found)
        and len(set(found)) == len(found)
    )


def _is_share(found: object) -> bool:
    return type(found) in (int, float) and 0 <= found <= 1  # type: ignore[operator]


# Name -> what it must be, in words and as a check.
_SETTINGS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "class_names": ("two or more different names", _are_names),
    "pooling": (f"one of {', '.join(POOLINGS)}", lambda found: found in POOLINGS),
    "max_length": ("a number of tokens", lambda found: type(found) is int and found > 0),
    "threshold": ("a probability", _is_share),
}
