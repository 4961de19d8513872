"""The answers of a tuned model to questions it has not seen: written, scored, kept in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.checksums import own_checksum
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.control_characters import visible
from tinygrad_llm.data.documents import read_text
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import Template
from tinygrad_llm.errors import DataError
from tinygrad_llm.finetuning.instruction import with_system
from tinygrad_llm.finetuning.progress import counted
from tinygrad_llm.finetuning.text_metrics import TextScores, score_answers
from tinygrad_llm.generation.generate import generate
from tinygrad_llm.nn import GPT
from tinygrad_llm.tokenizers import Tokenizer

_BATCH = 16


@dataclass(frozen=True)
class Response:
    """One question, what should be answered, and what was.

    Attributes:
        finished: whether the model ended its answer itself.
    """

    instruction: str
    input: str
    reference: str
    answer: str
    finished: bool


def respond(
    model: GPT,
    tokenizer: Tokenizer,
    template: Template,
    examples: Sequence[Instruction],
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    system: str | None = None,
) -> list[Response]:
    """Let the model answer; greedily by default, so that scores do not depend on chance.

    Prompts of like length share a batch. A prompt that fills the context loses its beginning.
    """
    end = tokenizer.end_of_text_id
    room = max(1, model.config.context_length - max_new_tokens)
    asked = [with_system(e.turns()[:-1], system) for e in examples]  # without the answer
    prompts = [template.encode(turns, tokenizer, ask=True)[0][-room:] for turns in asked]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, tuple[str, bool]] = {}
    stops = () if end is None else (end,)
    for first in counted(range(0, len(order), _BATCH), "answering"):
        batch = order[first : first + _BATCH]
        rows = generate(
            model,
            [prompts[i] for i in batch],
            max_new_tokens,
            temperature,
            seed=seed,
            stop_ids=stops,
            vocab_size=tokenizer.vocab_size,
        )
        for i, row in zip(batch, rows, strict=True):
            answers[i] = _answer(row[len(prompts[i]) :].tolist(), tokenizer)
    return [Response(e.instruction, e.input, e.output, *answers[i]) for i, e in enumerate(examples)]


def _answer(ids: list[int], tokenizer: Tokenizer) -> tuple[str, bool]:
    """The text up to the end token, and whether that came."""
    finished = tokenizer.end_of_text_id in ids
    if finished:
        ids = ids[: ids.index(tokenizer.end_of_text_id)]  # type: ignore[arg-type]
    return tokenizer.decode(ids).strip(), finished


def score_responses(responses: Sequence[Response], template: Template) -> TextScores:
    """The mean scores of the answers against the references.

    Raises:
        DataError: no responses.
    """
    return score_answers(
        [r.answer for r in responses],
        [r.reference for r in responses],
        [r.finished for r in responses],
        template_marks(template),
    )


def template_marks(template: Template) -> list[str]:
    """The visible words of the template's marks, which have no place in an answer."""
    return [mark.strip() for mark in template.before.values() if mark.strip()]


def write_responses(path: Path, responses: Sequence[Response], about: dict[str, Any]) -> None:
    """Questions, references and answers as JSON; ``about`` says which model wrote them.

    Raises:
        DataError: the file cannot be written.
    """
    body = {**about, "responses": [vars(r) for r in responses]}
    body["sha256"] = own_checksum(body)
    try:
        write_atomic(path, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).") from error


def show(responses: Sequence[Response], width: int = 300) -> str:
    """Responses for people to read."""
    blocks = []
    for number, r in enumerate(responses, start=1):
        question = r.instruction + (f" [{r.input}]" if r.input else "")
        lines = [
            f"{number:2d}. {_one_line(question, width)}",
            f"    reference: {_one_line(r.reference, width)}",
            f"    model:     {_one_line(r.answer, width)}{'' if r.finished else ' ...(cut off)'}",
        ]
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def read_responses(path: Path) -> list[Response]:
    """What `write_responses` wrote.

    Raises:
        DataError: no such file, or something else in it.
    """
    text = read_text(path)
    try:
        body = strict_json.loads(text)
        intact = body.pop("sha256", None) in (None, own_checksum(body))
        found = [Response(**r) for r in body["responses"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is not a file of responses ({error!r:.120}).") from error
    if not intact:
        raise DataError(
            f"{path}: is damaged, or was edited: its checksum is another one. If the change was "
            'meant, remove its entry "sha256".'
        )
    for number, response in enumerate(found):
        _check_types(f"{path}, response {number}", response)
    return found


def _check_types(place: str, response: Response) -> None:
    for name, value in vars(response).items():
        kind = bool if name == "finished" else str
        if not isinstance(value, kind):
            raise DataError(f"{place}: {name} must be a {kind.__name__}, got {value!r:.60}.")


def _one_line(text: str, width: int) -> str:
    flat = visible(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: width - 1] + "…"
