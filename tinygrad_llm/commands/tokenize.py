"""``tinygrad-llm tokenize FILES --out DIR``: text files to token shards.

Train on them with: tinygrad-llm train --data DIR
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tinygrad_llm import tokenizers
from tinygrad_llm.commands.flags import count
from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.data.shard_folder import Learned
from tinygrad_llm.data.tokenizing import tokenize_files
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.hints import command
from tinygrad_llm.terminal import say
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer, Tokenizer
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT

DESCRIPTION = """Turn text files into token shards.

Train on them with:

    tinygrad-llm train --data DIR
"""
LEARN_FROM_BYTES = 20_000_000
VOCAB_SIZE = 8192


def main(argv: Sequence[str] | None = None) -> int:
    """Tokenize."""
    parser = command_parser("tokenize", DESCRIPTION)
    parser.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 text files and folders")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the shards")
    parser.add_argument(
        "--tokenizer",
        default="bpe",
        metavar="NAME",
        help="bpe or char (learned from the files), gpt2, or a saved tokenizer's folder "
        "(default: bpe)",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help=f"tokens of a bpe tokenizer that is learned (default: {VOCAB_SIZE})",
    )
    parser.add_argument(
        "--workers", type=count, metavar="N", help="processes (default: one per usable core)"
    )
    parser.add_argument(
        "--shard-mb",
        type=count,
        default=16,
        metavar="N",
        help="about how many MB of text go into a shard (default: 16)",
    )
    a = parse(parser, argv)
    if a.vocab_size is not None and a.tokenizer != "bpe":
        raise ConfigError(f"--vocab-size: the tokenizer {a.tokenizer!r} has a size of its own.")
    tokenizer = _tokenizer(a.tokenizer, a.vocab_size or VOCAB_SIZE)
    done = tokenize_files(a.files, a.out, tokenizer, a.workers, a.shard_mb << 20)
    say(
        f"{_counted(done.documents, 'document')}, {done.tokens:,} tokens in "
        f"{_counted(done.shards, 'shard')} (there already: {done.reused}), written to "
        f"{one_line(a.out)}.\n"
        f"Next:\n  {command('train', '--data', a.out)}"
    )
    return 0


def _tokenizer(name: str, vocab_size: int) -> Tokenizer | Learned:
    """The tokenizer that is asked for, or how it is learned from the files.

    Raises:
        ConfigError: no such tokenizer.
    """
    if name == "gpt2":
        return tokenizers.gpt2()
    if name == "char":
        learn = partial(CharTokenizer.train, special_tokens=(END_OF_TEXT,))
        return Learned("char", learn, tokenizers.load)
    if name == "bpe":
        learn_bpe = partial(
            BPETokenizer.train, vocab_size=vocab_size, special_tokens=(END_OF_TEXT,)
        )
        asked = f"bpe of {vocab_size} tokens"
        return Learned(asked, learn_bpe, tokenizers.load, LEARN_FROM_BYTES)
    if not Path(name).exists():
        raise ConfigError(f"--tokenizer: expected bpe, char, gpt2 or a folder, got {name!r}.")
    return tokenizers.load(name)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
