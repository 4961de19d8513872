"""A conversation with a tuned model: history, answers token by token, and a full context.

A model sees at most ``context_length`` tokens, answer included. When a conversation outgrows that,
its oldest questions are forgotten, each with its answer; what the system says is kept. If the
newest question alone is too long, only its end is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tinygrad_llm.backend import saved_folder, strict_json
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.backend.saved_folder import reading, saving
from tinygrad_llm.data.templates import ALPACA, TEMPLATES, Template, Turn
from tinygrad_llm.errors import CheckpointError, DataError, GenerationError
from tinygrad_llm.generation.generate import stream
from tinygrad_llm.generation.next_scores import context_of
from tinygrad_llm.generation.open_checkpoint import open_checkpoint
from tinygrad_llm.generation.sampling import Sampling
from tinygrad_llm.nn import Module
from tinygrad_llm.nn.saved_model import save_model
from tinygrad_llm.tokenizers import StreamDecoder, Tokenizer

ASSISTANT_NAME = "assistant.json"
FORMAT = "tinygrad_llm assistant"


class Conversation:
    """Asks a model and remembers what was said.

    Args:
        model: tuned on the template.
        tokenizer: of the model.
        template: how turns are written.
        system: what the system says; None for the template's own words.
        max_new_tokens: longest answer; room for it is kept in the context.
        sampling: how tokens are chosen.
        seed: of the random choices.
        history: how many earlier questions the model sees at most; None for as many as fit. A
            model that was tuned on single questions does best with 0.

    Attributes:
        turns: questions and answers in turn.
        system, sampling, seed, history: as given; may be changed at any time.
        forgotten: how many questions the last prompt left out because the context was full.
        cut: how many tokens of the newest question did not fit.
        finished: whether the model ended its last answer itself.

    Raises:
        GenerationError: the context has no room for an answer of that length, or history is
            negative.
    """

    def __init__(
        self,
        model: Module,
        tokenizer: Tokenizer,
        template: Template = ALPACA,
        system: str | None = None,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        seed: int = 0,
        history: int | None = None,
    ) -> None:
        room = context_of(model) - max_new_tokens
        if max_new_tokens < 1 or room < 1:
            raise GenerationError(
                f"conversation: max_new_tokens must be from 1 to "
                f"{context_of(model) - 1}, so that some of the context of "
                f"{context_of(model)} tokens is left for the question; got "
                f"{max_new_tokens}."
            )
        if history is not None and history < 0:
            raise GenerationError(f"conversation: history must be 0 or more, got {history}.")
        self.model, self.tokenizer, self.template = model, tokenizer, template
        self.system, self.max_new_tokens, self._room = system, max_new_tokens, room
        self.sampling, self.seed = sampling or Sampling(0.7, top_k=40), seed
        self.turns: list[Turn] = []
        self.history = history
        self.forgotten, self.cut, self.finished = 0, 0, True

    def ask(self, question: str) -> Iterator[str]:
        """The answer, piece by piece as it is made; afterwards both are part of the history.

        If the caller stops listening (Ctrl-C), what was said so far is remembered.

        Raises:
            DataError: the question is empty.
        """
        if not question.strip():
            raise DataError("conversation: the question is empty.")
        prompt = self._prompt(Turn("user", question.strip()))
        end = self.tokenizer.end_of_text_id
        stops = () if end is None else (end,)
        decoder, said = StreamDecoder(self.tokenizer), ""
        self.finished = False
        seed = self.seed + len(self.turns)
        try:
            for step in stream(
                self.model,
                [prompt],
                self.max_new_tokens,
                self.sampling,
                seed,
                stops,
                vocab_size=self.tokenizer.vocab_size,
            ):
                token = int(step.tokens[0])
                if token == end:
                    self.finished = True
                    break
                piece = decoder.push(token)
                said += piece
                yield piece
            rest = decoder.finish()
            said += rest
            yield rest
        finally:
            if said.strip():
                self.turns += [Turn("user", question.strip()), Turn("assistant", said.strip())]

    def reset(self) -> None:
        """Forget everything said so far."""
        self.turns = []
        self.forgotten = self.cut = 0

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the history as JSON.

        Raises:
            DataError: the file cannot be written.
        """
        body = {
            "template": self.template.name,
            "system": self.template.system if self.system is None else self.system,
            "messages": [{"role": t.role, "content": t.content} for t in self.turns],
        }
        text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
        try:
            write_atomic(Path(path), text.encode("utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}).") from error
        return Path(path)

    def _prompt(self, question: Turn) -> list[int]:
        """Token ids of the history and the question, so that an answer still fits."""
        system = self.template.system if self.system is None else self.system
        says = [Turn("system", system)] if system or self.system is not None else []
        before = self._encode(says)
        newest = self._encode([question], ask=True)
        first = 0 if self.history is None else max(0, len(self.turns) - 2 * self.history)
        starts = range(first, len(self.turns), 2)
        room = self._room - len(before) - len(newest)
        parts = [newest]
        for start in reversed(starts):  # from the newest back, so that a long history costs nothing
            part = self._encode(self.turns[start : start + 2])
            room -= len(part)
            if room < 0:
                break
            parts.append(part)
        ids = before + [i for part in reversed(parts) for i in part]
        self.forgotten = len(starts) - (len(parts) - 1)
        self.cut = max(0, len(ids) - self._room)
        return ids[-self._room :]

    def _encode(self, turns: list[Turn], ask: bool = False) -> list[int]:
        return self.template.encode_part(turns, self.tokenizer, ask)


class Assistant(NamedTuple):
    """A model that may have been tuned to answer.

    Attributes:
        model, tokenizer: what was in the folder.
        template: that it was tuned in; None for a model that was never tuned.
        history: earlier questions that it saw in training; None for as many as fit.
    """

    model: Module
    tokenizer: Tokenizer
    template: Template | None
    history: int | None


def save_assistant(
    folder: str | os.PathLike[str],
    model: Module,
    tokenizer: Tokenizer,
    template: Template,
    history: int | None = 0,
) -> Path:
    """A model folder that also says how the model was tuned; written whole or not at all.

    Args:
        folder: where to.
        model, tokenizer: what is saved.
        template: in which the examples were written.
        history: earlier questions before that which is answered, in the examples: 0 for single
            questions, None for whole conversations.

    Raises:
        CheckpointError: a file cannot be written, or the model has LoRA layers (see
            `nn.remove_lora`).
    """
    body = {"format": FORMAT, "template": template.name, "history": history}
    with saving(folder, "model") as staged:
        save_model(model, staged, tokenizer)
        write_atomic(staged / ASSISTANT_NAME, (json.dumps(body) + "\n").encode("utf-8"))
    return Path(folder)


def load_assistant(
    source: str | Path, device: str = "cpu", dtype: str | None = None, verify: bool = True
) -> Assistant:
    """A model, its tokenizer, and how it was tuned, if it was.

    Args:
        source: a folder of `save_assistant`, or what `open_checkpoint` takes: a run's folder, of
            which the best checkpoint is taken, or a name such as "gpt2".
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        dtype, verify: as for `open_checkpoint`.

    Raises:
        CheckpointError: there is no such model, or the folder is damaged.
        TokenizerError: the tokenizer is missing or damaged.
        DeviceError: the device is unknown or absent.
    """
    path = Path(source) / ASSISTANT_NAME
    with reading(source):
        model, tokenizer = open_checkpoint(source, device, dtype, verify)
        saved_folder.verify(source, (ASSISTANT_NAME,), skip=not verify)
        if not path.is_file():
            return Assistant(model, tokenizer, None, None)
        template, history = _tuning(path)
    return Assistant(model, tokenizer, template, history)


def _tuning(path: Path) -> tuple[Template, int | None]:
    """The template and the history that an ``assistant.json`` names."""
    try:
        body: Any = strict_json.loads(path.read_text(encoding="utf-8"))
        template, history = TEMPLATES[body["template"]], body.get("history")
        if history is not None and (type(history) is not int or history < 0):
            raise ValueError(f"history: expected a number or null, got {history!r}")
        return template, history
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: is damaged ({error!r}).") from error
