"""Byte-level byte-pair encoding, as in GPT-2: any text can be written, and none is unknown."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers import file_format, gpt2_files
from tinygrad_llm.tokenizers.base import Tokenizer
from tinygrad_llm.tokenizers.byte_map import from_visible, to_visible
from tinygrad_llm.tokenizers.byte_pair import Merge, byte_tokens, merge_piece
from tinygrad_llm.tokenizers.fast_pairs import learn_merges, merge_long_piece
from tinygrad_llm.tokenizers.pre_split import FAST_PATTERN, cut_long_spaces, split_pieces
from tinygrad_llm.tokenizers.special_tokens import check_names, split, well_formed
from tinygrad_llm.tokenizers.texts import as_texts

if TYPE_CHECKING:
    import tiktoken

LONG_PIECE = 500  # bytes; words and numbers are shorter


class BPETokenizer(Tokenizer):
    """Byte-level BPE with GPT-2's pre-split.

    Ids: the 256 bytes in GPT-2's order, then one token per merge, then the special tokens. With
    GPT-2's own merges these are GPT-2's ids. Where Hugging Face's library trained a tokenizer,
    special tokens come first.

    `encode` runs in tiktoken with this tokenizer's ranks. `encode_readable` does the same in
    Python that can be read (`pre_split.split_pieces`, `byte_pair.merge_piece`), and
    `byte_pair.learn_merges_readable` is training in a dozen lines.

    Args:
        merges: pairs of tokens in the order in which they were learned.
        special_tokens: appended after the merges.
        first: special tokens whose ids come before those of the bytes.

    Raises:
        TokenizerError: a merge of tokens that do not exist yet, or one that comes twice.
    """

    kind = "bpe"

    def __init__(
        self, merges: Iterable[Merge], special_tokens: Sequence[str] = (), first: Sequence[str] = ()
    ) -> None:
        self.merges = list(merges)
        self.first = check_names(first)
        self.ranks = _ranks(self.merges, len(self.first))
        self.last = check_names(special_tokens)
        names = check_names([*self.first, *self.last])
        n_ordinary = len(self.ranks)
        ids = [
            *range(len(self.first)),
            *range(len(self.first) + n_ordinary, len(names) + n_ordinary),
        ]
        self.special_tokens = dict(zip(names, ids, strict=True))
        before, after = ([name.encode("utf-8") for name in n] for n in (self.first, self.last))
        self._bytes = [*before, *self.ranks, *after]

    @classmethod
    def train(
        cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()
    ) -> BPETokenizer:
        """Learn the merges from one or more texts.

        Spellings of special tokens in the texts are left out of the counts.

        Args:
            texts: a string, or an iterable of strings that is read once.
            vocab_size: tokens in all: 256 bytes + merges + special tokens.
            special_tokens: for instance ``["<|endoftext|>"]``.

        Raises:
            TokenizerError: ``vocab_size`` is smaller than the bytes and special tokens need, or
                something in ``texts`` is not a string.

        Warns:
            UserWarning: the texts are too small for that many merges; the tokenizer is smaller.
        """
        names = check_names(special_tokens)
        n_merges = vocab_size - 256 - len(names)
        if n_merges < 0:
            raise TokenizerError(
                f"BPETokenizer.train: vocab_size is {vocab_size}, but 256 bytes and {len(names)} "
                f"special tokens need at least {256 + len(names)}."
            )
        pieces: Counter[str] = Counter()
        for text in as_texts(texts):
            for part, is_special in split(well_formed(text), names):
                pieces.update([] if is_special else split_pieces(part))
        counted = {piece.encode("utf-8"): count for piece, count in pieces.items()}
        merges = learn_merges(counted, n_merges)
        if len(merges) < n_merges:
            warnings.warn(
                f"BPETokenizer.train: no pair is left to merge after {len(merges)} of {n_merges} "
                f"merges; the vocabulary has {256 + len(merges) + len(names)} tokens instead of "
                f"{vocab_size}. Give more text, or ask for a smaller vocab_size.",
                stacklevel=2,
            )
        return cls(merges, names)

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    @cached_property
    def _fast(self) -> tiktoken.Encoding | None:
        """A tiktoken encoding with these ranks; None where tiktoken cannot be imported."""
        try:
            import tiktoken
        except ImportError:
            return None
        return tiktoken.Encoding(
            "tinygrad_llm", pat_str=FAST_PATTERN, mergeable_ranks=self.ranks, special_tokens={}
        )

    def encode_ordinary(self, text: str) -> list[int]:
        if self._fast is None:
            return self._ordinary_readable(text)
        ids: list[int] = []
        for part in cut_long_spaces(text):
            ids.extend(self._fast.encode_ordinary(part))
        return ids

    def encode_readable(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = "all",
    ) -> list[int]:
        """The same ids as `encode`, by this package's own Python: slower, made to be read."""
        return self._encode_with(self._ordinary_readable, text, allowed_special, disallowed_special)

    def _ordinary_readable(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in split_pieces(well_formed(text)):
            content = piece.encode("utf-8")
            merge = merge_piece if len(content) < LONG_PIECE else merge_long_piece
            ids.extend(merge(content, self.ranks))
        return ids

    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        return self._bytes[token_id]

    def with_special_tokens(self, names: Sequence[str]) -> BPETokenizer:
        """A tokenizer with more special tokens; the ids of all others stay as they are.

        A model has to grow its embedding and head to the new `vocab_size`.

        Raises:
            TokenizerError: a name is empty, comes twice, or is a special token already.
        """
        return BPETokenizer(self.merges, [*self.last, *check_names(names)], self.first)

    def save(self, folder: str | Path) -> Path:
        """Write the own file, and GPT-2's files, with which transformers opens the folder."""
        with file_format.saving(Path(folder)) as staged:
            path = super().save(staged)
            gpt2_files.write(staged, self.merges, self.ranks, self.special_tokens)
        return Path(folder) / path.name

    def to_dict(self) -> dict[str, object]:
        merges = [f"{to_visible(left)} {to_visible(right)}" for left, right in self.merges]
        first = {"first": list(self.first)} if self.first else {}
        return {"special_tokens": list(self.last), **first, "merges": merges}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> BPETokenizer:
        try:
            merges, names = parse_merges(content["merges"]), content["special_tokens"]
            return cls(merges, names, content.get("first", ()))
        except (KeyError, TypeError, AttributeError) as error:
            raise TokenizerError(f"BPE tokenizer file: {error!r} is missing or wrong.") from error


def parse_merges(lines: Iterable[str]) -> list[Merge]:
    """Merges from lines such as ``"Ġ t"``.

    Raises:
        TokenizerError: a line that is not two tokens in GPT-2's visible characters.
    """
    merges = []
    for number, line in enumerate(lines):
        try:
            left, right = line.split(" ")
            merges.append((from_visible(left), from_visible(right)))
        except (ValueError, KeyError):
            raise TokenizerError(
                f"merge {number}: expected two tokens of GPT-2's visible characters with one "
                f"space between, got {line!r:.80}."
            ) from None
    return merges


def _ranks(merges: Sequence[Merge], first_id: int) -> dict[bytes, int]:
    """Each token's bytes -> its id, checked merge by merge."""
    ranks = {token: first_id + i for i, token in enumerate(byte_tokens())}
    for number, (left, right) in enumerate(merges):
        if left not in ranks or right not in ranks or left + right in ranks:
            reason = "comes twice" if left + right in ranks else "joins a token not made before"
            raise TokenizerError(
                f"merge {number} ({left!r} + {right!r}) {reason}. The merges are damaged or out "
                "of order; they must be in the order in which they were learned."
            )
        ranks[left + right] = first_id + len(ranks)
    return ranks
