"""How a conversation is written down as one text: Alpaca's headings, chat markers, or your own.

    template       what stands around the parts of a turn
    ---------      ------------------------------------------------------------------
    alpaca         "### Instruction:", "### Input:", "### Response:" (Stanford Alpaca, 2023)
    chat           "<|system|>", "<|user|>", "<|assistant|>" (as Phi-3, 2024)

Markers, the user's words and the answer are turned into tokens piece by piece. So the border
between prompt and answer always lies between two tokens, in training as in generation. Markers
that the tokenizer knows as special tokens become single ids; the user's words never do, whatever
they spell, so nobody can fake an answer of the assistant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.tokenizers import Tokenizer

CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
_FIELDS = ("system", "instruction", "input", "response")


@dataclass(frozen=True)
class Turn:
    """One question and its answer; ``answer`` None where it is still to be written."""

    instruction: str
    input: str = ""
    answer: str | None = None


@dataclass(frozen=True)
class Template:
    """What stands before each part of a conversation.

    Attributes:
        name: for messages and files.
        system: the system text where the caller gives none.
        before_system, before_instruction, before_input, before_response: the markers. A part that
            is empty is left out with its marker; the instruction and the response never are.
    """

    name: str
    system: str
    before_system: str
    before_instruction: str
    before_input: str
    before_response: str

    @property
    def markers(self) -> tuple[str, ...]:
        """The visible words of the markers, which have no place in an answer."""
        parts = (self.before_system, self.before_instruction, self.before_response)
        return tuple(p.strip() for p in parts if len(p.strip()) > 2)


ALPACA = Template(
    name="alpaca",
    system="Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.",
    before_system="",
    before_instruction="\n\n### Instruction:\n",
    before_input="\n\n### Input:\n",
    before_response="\n\n### Response:\n",
)
CHAT = Template(
    name="chat",
    system="",
    before_system="<|system|>\n",
    before_instruction="<|user|>\n",
    before_input="\n",
    before_response="\n<|assistant|>\n",
)
TEMPLATES = {t.name: t for t in (ALPACA, CHAT)}


@dataclass(frozen=True)
class Encoded:
    """A conversation as tokens.

    Attributes:
        ids: all tokens (N,).
        is_answer: for each token whether it belongs to an answer (its end token included): these
            are the tokens the loss counts.
    """

    ids: list[int]
    is_answer: list[bool]


def get_template(name_or_text: str) -> Template:
    """One of `TEMPLATES` by name, or your own: a text with {instruction} and {response} in it.

    ``"{system}\\nQ: {instruction} {input}\\nA: {response}"``: what stands before each field is
    its marker. {system} and {input} may be left out.

    Raises:
        ConfigError: an unknown name, an unknown field, no {instruction}, or no {response} at the
            end.
    """
    if name_or_text in TEMPLATES:
        return TEMPLATES[name_or_text]
    pieces = re.split(r"\{(\w+)\}", name_or_text)
    texts, fields = pieces[::2], pieces[1::2]
    if not fields:
        raise ConfigError(
            f"template: {name_or_text!r} is none of {', '.join(TEMPLATES)}, and no template of "
            "your own either: that has the fields {instruction} and {response}."
        )
    order = [f for f in _FIELDS if f in fields]
    if "response" not in fields or texts[-1].strip():
        raise ConfigError(
            f"template: {name_or_text!r} must end with {{response}}; without a place for the "
            "answer there is nothing to learn."
        )
    if "instruction" not in fields or fields != order:
        raise ConfigError(
            "template: expected the fields {system} {instruction} {input} {response}, each once "
            f"and in this order, {{system}} and {{input}} optional; got {fields}."
        )
    before = dict(zip(fields, texts, strict=False))
    return Template("custom", "", *(before.get(f, "\n") for f in _FIELDS))


def encode_conversation(
    turns: Sequence[Turn], template: Template, tokenizer: Tokenizer, system: str | None = None
) -> Encoded:
    """A conversation as tokens, with the answers marked.

    After each answer stands the end-of-text token, by which the model says that it is done. If
    the last turn has no answer, the tokens end where the model is to go on.

    Args:
        system: replaces the template's own system text; "" for none.

    Raises:
        DataError: no turns, an empty instruction, or a missing answer before the last turn.
    """
    if not turns:
        raise DataError("conversation: expected at least one turn, got none.")
    writer = _Writer(tokenizer)
    system = template.system if system is None else system
    if system:
        writer.marker(template.before_system)
        writer.text(system)
    for number, turn in enumerate(turns):
        if not turn.instruction.strip():
            raise DataError(f"conversation: turn {number} has an empty instruction.")
        writer.marker(template.before_instruction)
        writer.text(turn.instruction)
        if turn.input.strip():
            writer.marker(template.before_input)
            writer.text(turn.input)
        writer.marker(template.before_response)
        if turn.answer is not None:
            writer.answer(turn.answer)
        elif number < len(turns) - 1:
            raise DataError(
                f"conversation: turn {number} has no answer; only the last may lack one."
            )
    return Encoded(writer.ids, writer.is_answer)


class _Writer:
    """Collects tokens piece by piece."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.is_answer: list[bool] = []

    def marker(self, text: str) -> None:
        """Part of the template: special tokens count as such."""
        text = text if self.ids else text.lstrip()
        self._add(self.tokenizer.encode(text, allowed_special="all"), False)

    def text(self, text: str) -> None:
        """Somebody's words: never special tokens."""
        self._add(self.tokenizer.encode_ordinary(text), False)

    def answer(self, text: str) -> None:
        """The words to learn, and the end token."""
        end = self.tokenizer.end_of_text_id
        self._add(self.tokenizer.encode_ordinary(text) + ([] if end is None else [end]), True)

    def _add(self, ids: list[int], is_answer: bool) -> None:
        self.ids.extend(ids)
        self.is_answer.extend([is_answer] * len(ids))
