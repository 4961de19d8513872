"""How a conversation is written as text, and which of its tokens a model learns to write.

A template puts marks before and after what each role says. The marks may be special tokens; what
is said is always read as ordinary text, so nobody can end a turn by typing a special token. Marks
that are plain text, as those of `ALPACA`, can be typed by anybody: `CHAT` is for strangers. Marks
and contents are encoded one by one, hence the mask of the answer is exact to the token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tinygrad_llm.errors import ConfigError, DataError

END_OF_TEXT = "<|endoftext|>"
ROLES = ("system", "user", "input", "assistant")


class Encoder(Protocol):
    """What is needed of a tokenizer here."""

    special_tokens: dict[str, int]

    @property
    def end_of_text_id(self) -> int | None: ...

    def encode_ordinary(self, text: str) -> list[int]: ...

    def encode(
        self, text: str, *, allowed_special: frozenset[str], disallowed_special: tuple[()]
    ) -> list[int]: ...


@dataclass(frozen=True)
class Turn:
    """What one role says: "system", "user", "input" (belongs to the user's turn), "assistant"."""

    role: str
    content: str


@dataclass(frozen=True)
class Segment:
    """A piece of the rendered text.

    Attributes:
        text: the piece.
        is_mark: it comes from the template, and may contain special tokens.
        is_answer: the model learns to write it: the assistant's words and the end after them.
    """

    text: str
    is_mark: bool
    is_answer: bool


@dataclass(frozen=True)
class Template:
    """Marks around the turns.

    Attributes:
        name: for messages and files.
        before: role -> mark before its content.
        after: role -> mark after its content; the assistant's is learned.
        system: what the system says where a conversation does not begin with it; may be empty.

    Raises:
        ConfigError: no mark for the user or for the assistant's answer, or an unknown role.
    """

    name: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    system: str = ""

    def __post_init__(self) -> None:
        for role in ("user", "assistant"):
            if not self.before.get(role):
                raise ConfigError(
                    f"template {self.name!r}: no mark before the role {role!r}. Without it a "
                    "model cannot tell where the question ends and the answer begins."
                )
        unknown = (set(self.before) | set(self.after)) - set(ROLES)
        if unknown:
            raise ConfigError(
                f"template {self.name!r}: unknown roles {sorted(unknown)}; known: {ROLES}."
            )

    def render(self, turns: Sequence[Turn], ask: bool = False) -> list[Segment]:
        """The segments of a conversation; joined they are its text.

        Args:
            turns: in order. Without a system turn at the beginning, `system` is put there.
            ask: end with the mark after which the assistant is to answer.

        Raises:
            DataError: no turn, an unknown role, an empty answer, or no answer at all where none
                is asked for.
        """
        self._check(turns, ask)
        said = list(turns)
        if self.system and said[0].role != "system":
            said.insert(0, Turn("system", self.system))
        return self._segments(said, ask)

    def _segments(self, turns: Sequence[Turn], ask: bool) -> list[Segment]:
        """The segments of the turns as they stand."""
        segments: list[Segment] = []
        for turn in turns:
            answer = turn.role == "assistant"
            segments.append(Segment(self.before.get(turn.role, ""), True, False))
            segments.append(Segment(turn.content, False, answer))
            segments.append(Segment(self.after.get(turn.role, ""), True, answer))
        if ask:
            segments.append(Segment(self.before["assistant"], True, False))
        return [segment for segment in segments if segment.text]

    def text(self, turns: Sequence[Turn], ask: bool = False) -> str:
        """The conversation as text; see `render`."""
        return "".join(segment.text for segment in self.render(turns, ask))

    def encode(
        self, turns: Sequence[Turn], tokenizer: Encoder, ask: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Token ids of a conversation, and for each whether it belongs to an answer.

        Special tokens that the tokenizer does not have are written as ordinary text, except
        ``<|endoftext|>``, which is left out.

        Raises:
            DataError: see `render`.
            TokenizerError: a character or word that the tokenizer does not know.
        """
        return _encode(self.render(turns, ask), tokenizer)

    def encode_part(
        self, turns: Sequence[Turn], tokenizer: Encoder, ask: bool = False
    ) -> list[int]:
        """Token ids of turns within a conversation: no words of the system are put before them.

        Parts that follow each other have together the ids of the whole: no token crosses a turn.
        """
        return _encode(self._segments(turns, ask), tokenizer)[0]

    def _check(self, turns: Sequence[Turn], ask: bool) -> None:
        if not turns:
            raise DataError(f"template {self.name!r}: the conversation has no turn.")
        for turn in turns:
            if turn.role not in ROLES:
                raise DataError(
                    f"template {self.name!r}: unknown role {turn.role!r}; known: {ROLES}."
                )
            if turn.role == "assistant" and not turn.content.strip():
                raise DataError(f"template {self.name!r}: an answer of the assistant is empty.")
        if not ask and all(turn.role != "assistant" for turn in turns):
            raise DataError(
                f"template {self.name!r}: the conversation has no answer to learn from. Pass "
                "ask=True if the model is to write it."
            )


def _encode(segments: Sequence[Segment], tokenizer: Encoder) -> tuple[list[int], list[bool]]:
    """See `Template.encode`."""
    ids: list[int] = []
    is_answer: list[bool] = []
    names = frozenset(tokenizer.special_tokens)
    for segment in segments:
        if segment.is_mark:
            has_end = tokenizer.end_of_text_id is not None
            mark = segment.text if has_end else segment.text.replace(END_OF_TEXT, "")
            new = tokenizer.encode(mark, allowed_special=names, disallowed_special=())
        else:
            new = tokenizer.encode_ordinary(segment.text)
        ids.extend(new)
        is_answer.extend([segment.is_answer] * len(new))
    return ids, is_answer


ALPACA = Template(
    name="alpaca",
    before={"user": "### Instruction:\n", "input": "### Input:\n", "assistant": "### Response:\n"},
    after={"system": "\n\n", "user": "\n\n", "input": "\n\n", "assistant": END_OF_TEXT},
    system="Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.",
)

CHAT = Template(
    name="chat",
    before={"system": "<|system|>\n", "user": "<|user|>\n", "assistant": "<|assistant|>\n"},
    after={"system": "\n", "user": "\n", "input": "\n", "assistant": END_OF_TEXT},
)

CHAT_SPECIAL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")

TEMPLATES = {template.name: template for template in (ALPACA, CHAT)}
